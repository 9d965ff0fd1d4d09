"""The archive is away while people join and leave: they go on, and afterwards it has everything.

Relay, archive, and each person's program are processes of their own. In the suite the archive is
away for as long as one round of changes takes, and missed after two seconds; ``WARDLINE_SILENCE``
says for how many seconds else, missed after ten, with a round about every three minutes: 3600 is
the hour.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from archive.index import Index
from archive.record import RecordFlags, RecordType
from client_cli.output import Exit
from tests.scenarios.blackbox import BlackBox, hospital_with_archive
from tests.scenarios.shells import Said, Shell, shell
from tests.scenarios.sooner import notice_sooner
from tests.scenarios.test_stolen_phone import phone_of

SILENCE_S = float(os.environ.get("WARDLINE_SILENCE", "0"))
ROUND_S = 180.0
"""Seconds from one round of changes to the next, where the archive is away for longer than one."""

TITLE = "Ward 4"
ALL = "1000000"


@dataclass
class Person:
    """Somebody's program, and what it must have shown.

    Attributes:
        heard: What was said while they were in it.
        said: What they said themselves.
        archived: How much of that before the archive was away.
    """

    user: str
    shell: Shell
    heard: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    archived: int = 0

    async def messages(self, number: str) -> list[dict[str, Any]]:
        """Return the messages that their program shows, in its order, without notices."""
        read = await self.shell.does("read", number, "--limit", ALL, "--keep-unread")
        return [one for one in read["messages"] if one["text"].startswith("said ")]

    async def reads(self, number: str, text: str) -> None:
        """Wait until a text is shown."""
        await self.shell.until(
            lambda said: any(f'"{text}"' in line for line in said.lines),
            *("read", number, "--limit", ALL, "--keep-unread"),
        )

    async def is_in(self, number: str, *, ended: bool = False) -> None:
        """Wait until they are in the conversation, or no longer."""

        def holds(said: Said) -> bool:
            rows = said.facts["conversations"] if said.status == 0 else []
            return any(row["short"] == number and row["ended"] is ended for row in rows)

        await self.shell.until(holds, "conversations", "--all")


class Ward:
    """A conversation whose members come and go.

    Attributes:
        people: By user name; ``ann`` owns it, ``ben`` stays.
        number: The conversation's, as commands take it.
        inside: Who is in it.
        changes: Commits since it began.
    """

    def __init__(self, people: dict[str, Person]) -> None:
        self.people = people
        self.number = ""
        self.conversation = b""
        self.inside = {"ann", "ben"}
        self.changes = 0

    async def begin(self) -> None:
        """Let ann make it, and both read and prove what is said there."""
        made = await self.people["ann"].shell.does("start", TITLE, "ben")
        self.number = made["short"]
        self.conversation = bytes.fromhex(made["conversation"])
        await self.people["ben"].is_in(self.number)
        for user in ("ann", "ben"):
            await self.say(user)
        for user in ("ann", "ben"):
            await self.all_archived(user)
            self.people[user].archived = len(self.people[user].said)

    async def say(self, user: str) -> None:
        """Let somebody say something, and see that all who are in it read it."""
        count = sum(len(one.said) for one in self.people.values())
        text = f"said by {user}, {count}"
        await self.people[user].shell.does("send", self.number, text)
        self.people[user].said.append(text)
        for one in sorted(self.inside):
            self.people[one].heard.append(text)
            await self.people[one].reads(self.number, text)

    async def change(self, *, add: Collection[str] = (), remove: Collection[str] = ()) -> None:
        """Let ann change the members, and those see that they are in or out."""
        ann = self.people["ann"].shell
        if add:
            await ann.does("add", self.number, *sorted(add))
        if remove:
            await ann.does("remove", self.number, *sorted(remove))
        await self._changed(add=add, remove=remove)

    async def leaves(self, user: str) -> None:
        """Let somebody leave by themselves."""
        await self.people[user].shell.does("leave", self.number)
        await self._changed(remove={user})

    async def _changed(self, *, add: Collection[str] = (), remove: Collection[str] = ()) -> None:
        self.changes += 1
        self.inside = (self.inside | {*add}) - {*remove}
        for one in sorted({*add, *remove}):
            await self.people[one].is_in(self.number, ended=one in remove)
        for one in sorted(self.inside):
            await self.people[one].shell.until(self._lists_those_inside, "members", self.number)

    def _lists_those_inside(self, said: Said) -> bool:
        rows = said.facts["members"] if said.status == 0 else []
        return {row["user"] for row in rows if not row["archive"]} == self.inside

    async def round(self) -> None:
        """Two come, one is removed, one leaves; each time something is said."""
        await self.change(add={"cat", "dan"})
        await self.say("ben")
        await self.change(remove={"cat"})
        await self.say("dan")
        await self.leaves("dan")
        await self.say("ann")
        for gone in ("cat", "dan"):
            said = await self.people[gone].shell.tells("send", self.number, "I am out")
            assert said.status not in (Exit.DONE, Exit.FAULT)

    async def all_archived(self, user: str) -> None:
        """Wait until somebody's program has proved that the archive has all that they said."""

        def holds(said: Said) -> bool:
            own = [one for one in said.facts["messages"] if one["text"] in self.people[user].said]
            return all(one["archived"] for one in own)

        await self.people[user].shell.until(
            holds, "read", self.number, "--limit", ALL, "--keep-unread"
        )

    async def shows_what_is_not_archived(self) -> None:
        """See that exactly what was proved before the archive was away is shown as archived."""
        for user in ("ann", "ben"):
            person = self.people[user]
            own = [one for one in await person.messages(self.number) if one["own"]]
            shown = [one["archived"] for one in own]
            assert shown == [number < person.archived for number in range(len(own))]
            assert len(own) > person.archived
            lag_ms = (await person.shell.does("status"))["archived_lag_ms"]
            assert lag_ms > 0

    async def lost_nothing(self) -> None:
        """See that everybody reads what was said while they were in it: once, in order, no more."""
        for person in self.people.values():
            texts = [one["text"] for one in await person.messages(self.number)]
            assert texts == person.heard, person.user
            assert (await person.shell.does("status"))["faults"] == 0


async def until_it_has_all(box: BlackBox, ward: Ward) -> None:
    """Wait until the archive has sealed each epoch, and has checked and recorded each message."""
    said = sum(len(one.said) for one in ward.people.values())
    async with asyncio.timeout(300):
        while True:
            intray = box.intray()
            try:
                epochs = {one.epoch for one in Index(intray.store).epochs(ward.conversation)}
            finally:
                intray.close()
            if epochs >= set(range(1, ward.changes + 2)):
                break
            await asyncio.sleep(0.2)
    messages = await box.until_there_are(RecordType.MESSAGE, said)
    assert all(one.flags & RecordFlags.SIGNATURE_CHECKED for one in messages)
    assert not [one for one in box.records() if one.type is RecordType.RESTORE_OR_GAP]


@asynccontextmanager
async def ward(folder: Path) -> AsyncIterator[tuple[Ward, BlackBox]]:
    users = ["ann", "ben", "cat", "dan"]
    phones = [f"{user}/phone" for user in users]
    async with (
        hospital_with_archive(folder, phones) as (of, at, box),
        AsyncExitStack() as programs,
    ):
        people = {}
        for user in users:
            await phone_of(folder / user, of.people[f"{user}/phone"], at)
            run = await programs.enter_async_context(shell(folder / user))
            people[user] = Person(user, run)
        made = Ward(people)
        await made.begin()
        yield made, box


async def test_while_the_archive_is_away_people_come_and_go_and_afterwards_it_has_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    if not SILENCE_S:
        notice_sooner(monkeypatch)
    async with ward(tmp_path) as (here, box):
        assert await box.stop() == 0
        away_s = time.monotonic()
        rounds = 0
        while not rounds or time.monotonic() < away_s + SILENCE_S:
            await here.round()
            await here.shows_what_is_not_archived()
            rounds += 1
            due_s = away_s + min(rounds * ROUND_S, SILENCE_S)
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        await here.shows_what_is_not_archived()
        await here.lost_nothing()

        box.start()
        for user in ("ann", "ben", "dan"):
            await here.all_archived(user)
        # It is the steward again: whoever comes and goes now does so by its receipt.
        await here.change(add={"cat"})
        await here.say("cat")
        await here.all_archived("cat")
        await until_it_has_all(box, here)
        assert "FINDING" not in await box.command("verify")
        await here.lost_nothing()
        for user in ("ann", "ben", "cat"):
            assert (await here.people[user].shell.does("status"))["archived_lag_ms"] == 0
