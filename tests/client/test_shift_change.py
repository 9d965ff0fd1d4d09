"""What passes from one person to the next beside pages, between real devices."""

from __future__ import annotations

from pathlib import Path

import pytest

from client import shift_change
from client.courses import HandOffCourse, TaskCourse
from crypto.errors import InvalidError
from protocol.content import HandOff, Kind, Task, TaskState
from protocol.identifiers import ConversationId, UserName
from tests.client.devices import Running, ward
from tests.server import harness

NAMES = ("anna/phone", "ben/phone", "carl/phone")
BEN, CARL = UserName("ben"), UserName("carl")


def course(running: Running, conversation: ConversationId, title: str) -> TaskCourse | None:
    """Return where the task of a title stands on a device."""
    for shown in running.device.messages(conversation, limit=20):
        if isinstance(shown.content, Task) and shown.content.title == title:
            return shown.course if isinstance(shown.course, TaskCourse) else None
    return None


async def test_tasks_and_the_note_go_to_who_follows_and_are_the_others_until_accepted(
    tmp_path: Path,
) -> None:
    async with ward(tmp_path, harness.hospital(), *NAMES) as here:
        anna, ben, _ = (here[name] for name in NAMES)
        group = await here.talk("anna/phone", "ben/phone", "carl/phone")
        apart = await here.talk("anna/phone", "carl/phone")
        for where, title in ((group, "blood, bed 4"), (apart, "letter")):
            task = Task(title=title, assignee=anna.device.user)
            await anna.device.send(where, task)
        await anna.until(lambda: course(anna, group, "blood, bed 4"))
        await anna.until(lambda: course(anna, apart, "letter"))
        done = await shift_change.hand_off(
            anna.device, BEN, subject="Night to day", words="Bed 4 first"
        )
        assert (done.offered, done.kept, done.pages) == (("blood, bed 4",), ("letter",), 0)
        await ben.until(lambda: shift_change.waiting(ben.device).notes)
        await ben.until(lambda: shift_change.waiting(ben.device).tasks)
        ((_, note),) = shift_change.waiting(ben.device).notes
        assert isinstance(note.content, HandOff)
        assert "- blood, bed 4" in note.content.background
        assert "- letter" in note.content.background
        assert note.content.assessment == "Bed 4 first"
        # Offered is not taken: it is still shown as nobody's but ben's to take.
        offered = course(ben, group, "blood, bed 4")
        assert offered is not None
        assert (offered.state, offered.assignee) == (TaskState.OPEN, BEN)
        taken = await shift_change.take_over(ben.device)
        assert (len(taken.notes), len(taken.tasks), taken.pages) == (1, 1, ())
        await anna.until(lambda: _is_accepted(anna))
        now = course(anna, group, "blood, bed 4")
        assert now is not None
        assert (now.state, now.assignee) == (TaskState.TAKEN, BEN)
        assert shift_change.waiting(ben.device) == shift_change.Waiting(
            notes=(), tasks=(), pages=()
        )


def _is_accepted(running: Running) -> bool:
    for one in running.device.conversations():
        for message in running.device.store.messages.of_kind(
            one.conversation, Kind.HAND_OFF, limit=1
        ):
            shown = running.device.message(message.key)
            if shown is not None and isinstance(shown.course, HandOffCourse):
                return not shown.course.awaited
    return False


async def test_a_note_that_is_too_long_sends_nothing(tmp_path: Path) -> None:
    async with ward(tmp_path, harness.hospital(), "anna/phone", "ben/phone") as here:
        anna = here["anna/phone"]
        group = await here.talk("anna/phone", "ben/phone")
        await anna.device.send(group, Task(title="blood", assignee=anna.device.user))
        with pytest.raises(InvalidError):
            await shift_change.hand_off(anna.device, BEN, subject="x" * 5000, words="")
        found = course(anna, group, "blood")
        assert found is not None
        assert found.state is TaskState.TAKEN
