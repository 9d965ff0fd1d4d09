"""The line mode: one line a command, one line an event; for screen readers, and for programs.

Commands are done one after another, and each has exactly one answer; what happens meanwhile comes
as events between them. With ``as_json`` both directions are JSON objects.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

from client import lock, targets
from client.clocks import now_ms
from client.duty import PageView
from client.errors import NotMemberError
from client.views import Change, ChangeKind, Roster, Shown
from client.words import (
    Card,
    ConversationId,
    ConversationType,
    PageEvent,
    PagePlace,
    PageStatus,
    Priority,
    Reaction,
    Reply,
    RoleName,
    TargetKind,
    Text,
    UserName,
)
from client_cli import actions, addressing, deeds
from client_cli.failures import in_words
from client_cli.line_reading import SHOWN, Facts, LineReading, number
from client_cli.line_words import NOTHING, parsed
from client_cli.output import CommandError, Exit
from client_cli.rows import MINUTE_MS, kind_word
from client_cli.seat import Seat
from client_cli.session import Settings, running

Write = Callable[[str], None]

WAIT_S = 30.0
"""Seconds that ``wait`` waits unless it is told otherwise."""

LOOK_S = 0.1
"""Seconds between two looks at what is waited for, where no change comes."""

ANSWERS = {
    "accept": PageEvent.ACCEPT,
    "decline": PageEvent.DECLINE,
    "not-mine": PageEvent.NOT_MINE,
    "done": PageEvent.FINISH,
}


_UNSEEN = (Card, Reaction)
"""What changes something else and is no message to people."""


class Ended(Exception):  # noqa: N818 - the end of the conversation, not a fault
    """The line mode ends.

    Attributes:
        lock: Whether the device is to be locked.
    """

    def __init__(self, *, lock: bool) -> None:
        super().__init__("lock" if lock else "quit")
        self.lock = lock


class LineMode(LineReading):
    """Commands and events over an open device."""

    def __init__(
        self, seat: Seat, write: Write, *, as_json: bool, clock: Callable[[], int]
    ) -> None:
        super().__init__(seat, clock=clock)
        self._write = write
        self._as_json = as_json
        self._count = 0
        self._changed = asyncio.Event()
        self._shut_out = ""

    async def run(self, lines: AsyncIterator[str]) -> bool:
        """Do commands until the last; return whether the device is to be locked."""
        # Begun here and not in the task: nothing that happens from now on is missed.
        following = asyncio.create_task(self._follow(self._seat.watch()))
        try:
            async for line in lines:
                if line.strip():
                    await self._one(line.strip())
        except Ended as ended:
            return ended.lock
        finally:
            following.cancel()
        return False

    async def _one(self, line: str) -> None:
        self._count += 1
        number: Any = self._count
        try:
            command = parsed(line, as_json=self._as_json)
            number = command.get("id", number)
            facts = await self._done(command)
        except Ended:
            self._say({"answer": number, "ok": True}, "Bye.")
            raise
        except Exception as error:
            # Whatever it was, whoever listens goes on: the next line is another command.
            failure = in_words(error)
            facts = {"error": str(failure), "kind": failure.name}
            self._say({"answer": number, "ok": False, **facts}, f"Not done: {failure}")
            return
        self._say({"answer": number, "ok": True, **facts}, _plain(facts))

    def _done(self, command: Facts) -> Awaitable[Facts]:
        """Do a command that ``COMMANDS`` has: the method of its name."""
        name = command["do"]
        if name in ANSWERS:
            return self._do_answer({**command, "with": name})
        doing: Callable[[Facts], Awaitable[Facts]]
        doing = getattr(self, f"_do_{name.replace('-', '_')}")
        return doing(command)

    def _say(self, facts: Facts, text: str) -> None:
        if self._as_json:
            self._write(json.dumps(facts, ensure_ascii=False))
        elif text:
            self._write(text)

    # -- events --------------------------------------------------------------------------------

    async def _follow(self, changes: AsyncIterator[Change]) -> None:
        async for change in changes:
            self._changed.set()
            for facts, text in self._events(change):
                self._say(facts, text)

    def _events(self, change: Change) -> list[tuple[Facts, str]]:
        where = change.conversation.hex() if change.conversation else None
        if change.kind is ChangeKind.MESSAGES:
            if not self._is_shown(change.conversation):
                return []
            found = (self._seat.message(key) for key in change.messages)
            return [
                self._message_event(shown)
                for shown in found
                if shown is not None and not isinstance(shown.content, _UNSEEN)
            ]
        if change.kind in (ChangeKind.PAGE, ChangeKind.ALERT):
            return [
                ({"event": "page", "page": self._page(page)}, self._page_text(page))
                for page in self._seat.duty.pages()
                if change.conversation in (None, page.conversation)
            ]
        if change.kind is ChangeKind.STATUS:
            return [({"event": "status", **self._status()}, self._new_reason())]
        return [({"event": change.kind.name.lower(), "conversation": where}, "")]

    def _new_reason(self) -> str:
        """Return why the relay does not let the device in, once; it goes on asking by itself."""
        why = self._seat.status.shut_out
        said, self._shut_out = self._shut_out, str(in_words(why)) if why else ""
        return "" if self._shut_out == said else self._shut_out

    def _is_shown(self, conversation: ConversationId | None) -> bool:
        """Tell whether a conversation is there for this person; a page of a later step is not."""
        try:
            return conversation is not None and bool(self._seat.summary(conversation))
        except NotMemberError:
            return False

    def _message_event(self, shown: Shown) -> tuple[Facts, str]:
        title = self._seat.summary(shown.key.conversation).title
        text = "" if shown.own else f"{title}: " + " / ".join(self._lines(shown))
        return {"event": "message", "message": self._message(shown)}, text

    # -- commands: acting ----------------------------------------------------------------------

    async def _do_start(self, command: Facts) -> Facts:
        users = await self._users(command["users"])
        default = "direct" if len(users) == 1 else "group"
        kind = _kind(str(command.get("kind", default)))
        conversation = await self._seat.start(
            kind, users, title=command.get("title", ""), patient=command.get("patient")
        )
        return {"conversation": conversation.hex(), "lines": [conversation.hex()]}

    async def _do_send(self, command: Facts) -> Facts:
        known = {one.conversation for one in self._seat.conversations()}
        where = await self._place(command["to"])
        shown = await self._seat.send(
            where,
            Text(text=command["text"]),
            priority=_priority(command),
            target=addressing.target(self._device, where, str(command.get("for", ""))),
            acknowledgement_asked=_flag(command.get("ask", False)),
        )
        sent = self._sent(shown)
        found: list[str] = []
        if shown is not None:
            begun = where not in known
            found = deeds.cautions(self._seat, shown, self._reading(), begun=begun)
        return {**sent, "cautions": found, "lines": [*sent.get("lines", ()), *found]}

    async def _do_reply(self, command: Facts) -> Facts:
        shown = self._shown(command["message"])
        content = Reply(to=actions.reference(shown), text=command["text"])
        sent = await self._seat.send(shown.key.conversation, content, priority=_priority(command))
        return self._sent(sent)

    async def _do_edit(self, command: Facts) -> Facts:
        shown = self._shown(command["message"])
        return self._sent(await deeds.edit(self._seat, shown, command["text"]))

    async def _do_react(self, command: Facts) -> Facts:
        shown, removed = self._shown(command["message"]), _flag(command.get("removed", False))
        return self._sent(await deeds.react(self._seat, shown, command["mark"], removed=removed))

    async def _do_retract(self, command: Facts) -> Facts:
        await self._seat.recall(self._shown(command["message"]).key)
        return {}

    async def _do_acknowledge(self, command: Facts) -> Facts:
        await self._seat.acknowledge(self._shown(command["message"]).key)
        return {}

    async def _do_do(self, command: Facts) -> Facts:
        """Do what a message asks for: take a task, read a value back, accept a hand-off."""
        shown = self._shown(command["message"])
        act, text = str(command.get("act") or ""), str(command.get("text", ""))
        return self._sent(await deeds.do(self._seat, shown, act, text))

    async def _do_new(self, command: Facts) -> Facts:
        given = command.get("fields", {})
        sent = await deeds.new(
            self._seat,
            self._conversation(command["in"]),
            command["what"],
            values=given if isinstance(given, dict) else deeds.fields(given),
            reading=self._reading(),
            priority=_priority(command),
        )
        return self._sent(sent)

    async def _do_mute(self, command: Facts) -> Facts:
        conversation, off = self._conversation(command["in"]), _flag(command.get("off", False))
        if "user" not in command:
            await self._seat.mute(conversation, muted=not off)
            return {}
        user = await self._user(command)
        minutes = 0 if off else int(number(command, "minutes", deeds.MUTE_MINUTES))
        now_ms = self._clock()
        await deeds.mute(self._seat, conversation, user, minutes=minutes, now_ms=now_ms)
        return {}

    async def _do_moderators(self, command: Facts) -> Facts:
        users = await self._users(command.get("users", ""))
        await deeds.moderate(self._seat, self._conversation(command["in"]), users)
        return {}

    async def _do_ask_access(self, command: Facts) -> Facts:
        users = await self._users(command["users"])
        asking = self._seat.emergency.ask
        await asking(users, about=command["about"], reason=command["reason"])
        return {}

    async def _do_vouch(self, command: Facts) -> Facts:
        user = await self._user(command)
        said = await self._seat.emergency.vouch(
            self._conversation(command["in"]),
            user,
            reason=str(command.get("reason", "")),
            stay_ms=int(number(command, "minutes", deeds.STAY_MINUTES) * MINUTE_MS),
        )
        return {"vouched": said.value, "lines": [deeds.SAID[said]]}

    async def _do_end_access(self, command: Facts) -> Facts:
        user = await self._user(command) if "user" in command else self._seat.user
        await self._seat.emergency.end(self._conversation(command["in"]), user)
        return {}

    async def _do_read(self, command: Facts) -> Facts:
        conversation = self._conversation(command["in"])
        shown = self._seat.messages(conversation, limit=1)
        if shown:
            await self._seat.mark_read(conversation, shown[-1].place)
        return {}

    async def _do_attach(self, command: Facts) -> Facts:
        place = await self._place(command["to"])
        path = _path(command)
        return self._sent(await self._seat.attach(place, path, on_progress=_quiet))

    async def _do_save(self, command: Facts) -> Facts:
        key = self._shown(command["message"]).key
        await self._seat.fetch(key, _path(command), on_progress=_quiet)
        return {"path": command["path"], "lines": [f"Saved as {command['path']}"]}

    async def _do_add(self, command: Facts) -> Facts:
        users = await self._users(command["users"])
        await self._seat.change_members(self._conversation(command["in"]), add=users)
        return {}

    async def _do_remove(self, command: Facts) -> Facts:
        users = await self._users(command["users"])
        await self._seat.change_members(self._conversation(command["in"]), remove=users)
        return {}

    async def _do_leave(self, command: Facts) -> Facts:
        await self._seat.leave(self._conversation(command["in"]))
        return {}

    async def _do_page(self, command: Facts) -> Facts:
        conversation = await self._seat.duty.page(
            RoleName(command["role"]),
            command["text"],
            priority=_priority(command, default="stat"),
            patient=command.get("patient"),
            turn=_turn(command),
        )
        return {"conversation": conversation.hex(), "lines": [f"Paging {command['role']}"]}

    async def _do_answer(self, command: Facts) -> Facts:
        word = str(command["with"])
        if word not in ANSWERS:
            raise CommandError(Exit.USAGE, "usage", f"Answers are: {', '.join(ANSWERS)}")
        page = self._asked(command.get("page"), ANSWERS[word])
        to = command.get("to")
        await self._seat.duty.answer(
            page.conversation, ANSWERS[word], to=RoleName(to) if to else None
        )
        return {"page": page.conversation.hex(), "lines": [f"{word}: {page.role}"]}

    async def _do_wait(self, command: Facts) -> Facts:
        """Wait until something holds; what held before counts too."""
        timeout_s = number(command, "timeout_s", WAIT_S)
        what = command["for"]
        if what in ("online", "settled"):
            waiting = self._seat.online if what == "online" else self._seat.settled
            await waiting(timeout_s)
            return {}
        holds = {"message": self._has_message, "page": self._has_page, "archived": self._archived}
        if what not in holds:
            text = "Waiting is for: online, settled, message, page, archived"
            raise CommandError(Exit.USAGE, "usage", text)
        return await self._until(lambda: holds[what](command), timeout_s)

    async def _do_lock(self, _: Facts) -> Facts:
        raise Ended(lock=True)

    async def _do_quit(self, _: Facts) -> Facts:
        raise Ended(lock=False)

    # -- parts ---------------------------------------------------------------------------------

    async def _until(self, look: Callable[[], Facts | None], timeout_s: float) -> Facts:
        end = time.monotonic() + timeout_s
        while (found := look()) is None:
            left = end - time.monotonic()
            if left <= 0:
                raise CommandError(Exit.UNDELIVERED, "timeout", "It did not happen in that time.")
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), min(left, LOOK_S))
            except TimeoutError:
                continue
        return found

    def _has_message(self, command: Facts) -> Facts | None:
        wanted = str(command.get("text", ""))
        for one in self._seat.conversations():
            if "in" in command and one.conversation != self._conversation(command["in"]):
                continue
            for shown in reversed(self._seat.messages(one.conversation, limit=SHOWN)):
                if wanted in shown.text and not isinstance(shown.content, Roster):
                    return {"message": self._message(shown)}
        return None

    def _has_page(self, command: Facts) -> Facts | None:
        status, text = command.get("status"), str(command.get("text", ""))
        for page in self._seat.duty.pages():
            settled = page.status.name.lower() == status if status else page.alerting
            if settled and text in page.text:
                return {"page": self._page(page)}
        return None

    def _archived(self, command: Facts) -> Facts | None:
        if "message" in command:
            shown = self._shown(command["message"])
            return {"message": self._message(shown)} if shown.archived else None
        waiting = [
            shown
            for one in self._seat.conversations()
            for shown in self._seat.messages(one.conversation, limit=SHOWN)
            if shown.own and not shown.archived and not isinstance(shown.content, Roster)
        ]
        return None if waiting else {}

    def _asked(self, typed: object, event: PageEvent) -> PageView:
        """Return the page that is answered: the one that is named, or the most urgent that fits."""
        fits = (PagePlace.ACCEPTED,) if event is PageEvent.FINISH else None
        for page in self._seat.duty.pages():
            named = typed is None or page.conversation.hex().startswith(str(typed))
            open_to = page.mine in fits if fits else page.mine is not None
            ended = page.status in (PageStatus.DONE, PageStatus.EXPIRED, PageStatus.UNANSWERED)
            if named and open_to and (typed is not None or not ended):
                return page
        raise CommandError(Exit.UNKNOWN, "no_page", "No page asks you for that.")

    async def _place(self, typed: str) -> ConversationId:
        """Return a conversation; one with a person is begun where there is none."""
        try:
            return self._conversation(typed)
        except CommandError as error:
            if error.name != "no_conversation":
                raise
        user = await addressing.person(self._device, typed)
        return await self._seat.start(ConversationType.DIRECT, [user])

    async def _users(self, typed: object) -> list[UserName]:
        names = typed.replace(",", " ").split() if isinstance(typed, str) else typed
        return await addressing.people(
            self._device, [str(name) for name in cast("list[Any]", names)]
        )

    async def _user(self, command: Facts) -> UserName:
        """Return the one person who is named."""
        users = await self._users(command["user"])
        if len(users) != 1:
            raise CommandError(Exit.USAGE, "usage", "Name one person.")
        return users[0]

    def _sent(self, shown: Shown | None) -> Facts:
        if shown is None:
            return {}
        return {
            "message": self._message(shown),
            "lines": [f"Sent: {addressing.key_text(shown.key)}"],
        }


def _priority(command: Facts, default: str = "routine") -> Priority:
    try:
        return Priority[str(command.get("priority", default)).upper()]
    except KeyError:
        text = "A priority is info, routine, urgent or stat."
        raise CommandError(Exit.USAGE, "usage", text) from None


def _turn(command: Facts) -> TargetKind:
    word = str(command.get("turn", "now"))
    if word not in targets.TURNS:
        raise CommandError(Exit.USAGE, "usage", "A turn is now, next or backup.")
    return targets.TURNS[word]


def _kind(word: str) -> ConversationType:
    name = word.upper().replace("-", "_")
    if name not in ConversationType.__members__:
        kinds = ", ".join(kind_word(kind) for kind in ConversationType)
        raise CommandError(Exit.USAGE, "usage", f"A conversation is one of: {kinds}")
    return ConversationType[name]


def _flag(value: object) -> bool:
    return value in (True, "yes", "true", "1")


def _path(command: Facts) -> Path:
    """Return a file that is named as a shell would name it: ``~`` is the home."""
    try:
        return Path(command["path"]).expanduser()
    except RuntimeError:
        raise CommandError(Exit.UNKNOWN, "file", "There is no such home directory.") from None


def _quiet(done: int, total: int) -> None:
    """Say nothing of a transfer's progress: a line an event would drown everything else."""


def _plain(facts: Facts) -> str:
    said = "\n".join(facts.get("lines", ["ok"]))
    # An empty line is nothing that a screen reader says.
    return said or next((text for key, text in NOTHING.items() if key in facts), "Nothing.")


async def lines_of(read: Callable[[], str]) -> AsyncIterator[str]:
    """Give lines as they come; a thread reads them, for a pipe, a terminal and a file alike."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[str] = asyncio.Queue()

    def reading() -> None:
        while True:
            line = read()
            loop.call_soon_threadsafe(queue.put_nowait, line)
            if not line:
                return

    threading.Thread(target=reading, daemon=True).start()
    while line := await queue.get():
        yield line


def main(home: Path, who: str | None, *, as_json: bool, pin_file: Path | None) -> int:
    """Open a device and do the line mode over standard input and output; return the exit status."""

    async def work() -> bool:
        options = Settings(home=home, who=who, pin_file=pin_file, as_json=as_json)
        async with running(options) as (device, living):
            mode = LineMode(device, _print, as_json=as_json, clock=now_ms)
            done = asyncio.create_task(mode.run(lines_of(sys.stdin.readline)))
            await asyncio.wait([done, living], return_when=asyncio.FIRST_COMPLETED)
            if not done.done():
                done.cancel()
                living.result()
            return await done

    return lock.LOCKED_STATUS if asyncio.run(work()) else int(Exit.DONE)


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
