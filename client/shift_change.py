"""What passes from one person to the next at a shift change, beside pages: tasks and a note.

Pages are handed over by the relay, which knows of shifts. Tasks and the note are content: the one
who leaves offers each unfinished task to whoever follows, in the conversation where it stands, and
sends them a hand-off note that names all that is open. A task is whose it was until the next has
taken it, and the note says who has not accepted it yet.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from client.courses import HandOffCourse, TaskCourse
from client.duty import PageView
from client.views import Shown
from protocol.authenticated_data import Priority
from protocol.content import (
    HandOff,
    HandOffAcceptance,
    Kind,
    Reference,
    Task,
    TaskChange,
    TaskState,
)
from protocol.content.wire import FIELD_BYTES
from protocol.group_context import ConversationType
from protocol.identifiers import ConversationId, UserName
from protocol.oncall.page_state import ENDED, HELD

if TYPE_CHECKING:
    from client.device import Device

LOOKED_AT = 200
"""Tasks and notes of one conversation that are looked at, the newest: weeks of a busy ward."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOff:
    """What was passed on.

    Attributes:
        note: The hand-off note, as the thread shows it.
        offered: Titles of the tasks that whoever follows is asked to take.
        kept: Titles of those that stay: whoever follows is not in their conversation.
        pages: How many pages the relay hands over.
    """

    note: Shown | None
    offered: tuple[str, ...]
    kept: tuple[str, ...]
    pages: int


def _of_kind(host: Device, kind: Kind) -> Iterator[tuple[ConversationId, Shown]]:
    for one in host.conversations():
        if one.ended:
            continue
        for message in host.store.messages.of_kind(one.conversation, kind, limit=LOOKED_AT):
            shown = host.message(message.key)
            if shown is not None:
                yield one.conversation, shown


def _tasks(
    host: Device, wanted: Callable[[TaskCourse], bool]
) -> list[tuple[ConversationId, Shown, Task]]:
    return [
        (conversation, shown, shown.content)
        for conversation, shown in _of_kind(host, Kind.TASK)
        if isinstance(shown.content, Task)
        and isinstance(shown.course, TaskCourse)
        and wanted(shown.course)
    ]


def _reference(shown: Shown) -> Reference:
    return Reference(sender=shown.key.sender, message_id=shown.key.message_id)


async def hand_off(host: Device, to: UserName, *, subject: str, words: str) -> HandedOff:
    """Offer this person's unfinished tasks to whoever follows, and send them a hand-off note.

    Args:
        host: The device.
        to: Who follows.
        subject: The note's first line.
        words: What this person adds; may be empty.

    Raises:
        UnknownUserError: The relay knows no device of theirs.
        NotConnectedError: Their devices are not known here, and there is no connection.
        InvalidError: Subject or words are too long.
    """
    mine = _tasks(host, lambda c: c.state is TaskState.TAKEN and c.assignee == host.user)
    shared = [one for one in mine if to in {m.user for m in host.members(one[0])}]
    offered = tuple(task.title for _, _, task in shared)
    kept = tuple(one[2].title for one in mine if one not in shared)
    pages = [p for p in host.duty.pages() if p.status not in ENDED and p.mine in HELD]
    background = f"{_listed('Tasks', offered)}\n{_listed('Tasks that stay with me', kept)}"
    note = HandOff(
        subject=subject,
        situation=_cut(_listed("Pages", [f"{page.role}: {page.text}" for page in pages])),
        background=_cut(background),
        assessment=words,
        recommendation="",
        to=(to,),
    )
    for conversation, shown, _ in shared:
        change = TaskChange(target=_reference(shown), state=TaskState.OPEN, assignee=to)
        await host.send(conversation, change, priority=Priority.ROUTINE)
    sent = await host.send(await _between(host, to), note, priority=Priority.URGENT)
    return HandedOff(note=sent, offered=offered, kept=kept, pages=len(pages))


def _listed(what: str, lines: Collection[str]) -> str:
    return "\n".join([f"{what}: {len(lines)}", *(f"- {line}" for line in lines)])


def _cut(text: str) -> str:
    """Return what a note holds of a list: all of it stands in the conversations themselves."""
    return text.encode()[:FIELD_BYTES].decode(errors="ignore").rstrip()


async def _between(host: Device, to: UserName) -> ConversationId:
    """Return the direct conversation with a person; it is begun where there is none."""
    for one in host.conversations():
        if one.peer == to and not one.ended:
            return one.conversation
    return await host.start(ConversationType.DIRECT, [to])


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What waits for this person to take it over.

    Attributes:
        notes: Hand-off notes that name them, each with its conversation.
        tasks: Tasks that are offered to them, each with its conversation.
        pages: Pages whose people have gone off duty and that ask them.
    """

    notes: tuple[tuple[ConversationId, Shown], ...]
    tasks: tuple[tuple[ConversationId, Shown], ...]
    pages: tuple[PageView, ...]


def waiting(host: Device) -> Waiting:
    """Return what waits for this person to take it over."""
    notes = (
        (conversation, shown)
        for conversation, shown in _of_kind(host, Kind.HAND_OFF)
        if isinstance(shown.course, HandOffCourse) and host.user in shown.course.awaited
    )
    tasks = _tasks(host, lambda c: c.state is TaskState.OPEN and c.assignee == host.user)
    pages = (page for page in host.duty.pages() if page.leaving and page.alerting)
    return Waiting(
        notes=tuple(notes),
        tasks=tuple((conversation, shown) for conversation, shown, _ in tasks),
        pages=tuple(page for page in pages if host.user not in page.leaving),
    )


async def take_over(host: Device) -> Waiting:
    """Accept the notes and take the tasks that wait for this person; return what there was.

    Pages are answered one by one: each is a patient.

    Raises:
        NotMemberError: This device is no longer in one of the conversations.
    """
    found = waiting(host)
    for conversation, shown in found.tasks:
        change = TaskChange(target=_reference(shown), state=TaskState.TAKEN)
        await host.send(conversation, change, priority=Priority.ROUTINE)
    for conversation, shown in found.notes:
        accepted = HandOffAcceptance(target=_reference(shown))
        await host.send(conversation, accepted, priority=Priority.ROUTINE)
    return found
