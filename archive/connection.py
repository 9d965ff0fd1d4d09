"""One connection of the archive's: what goes in and out by it, from its opening to its end.

Side by side on it, in one thread: entries are taken in as they come; what they left in the log is
signed and witnessed, and only then acknowledged, confirmed and voided, and its senders are told;
what the authority decided is handed in; attachments are fetched; and once a second all that is due
is seen to. Whatever ends the connection ends all of that, and the next one begins where the disk
says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping

from archive.decisions import Decisions
from archive.log import Log
from archive.recorder import Recorder
from archive.team import Team
from archive.telling import Telling
from archive.witnessing import Witnessing
from client.errors import LostError, UnreachableError
from client.link import Backoff, Link
from client.tasks import together
from crypto.checkpoint import Checkpoint
from crypto.note import Note
from protocol import frames
from protocol.frames import Deliver, Frame
from protocol.identifiers import LogId

ENTRIES = 64
"""Entries that are taken in at once, where so many have come."""

TELL_S = 1.0
"""How often, in seconds, senders are told what is archived: at most one statement each a second."""

TICK_S = 1.0
"""How often, in seconds, what is due is seen to."""

COMPARE_S = 60.0
"""Seconds after which clocks that differ are compared again, by a new connection."""

BREATH_S = 0.02
"""Seconds between two lots of the steward's Commits, in which what came in has its turn."""


class Connection:
    """One connection of the archive's, from its opening to its end."""

    def __init__(self, link: Link, team: Team) -> None:
        self._link, self._team = link, team
        self._clock = team.clock
        self._recorder: Recorder = team.recorder
        self._log: Log = team.recorder.log
        self._steward = team.steward
        self._progress = team.progress
        self._acks: list[tuple[int, Mapping[LogId, int]]] = []
        self._due = asyncio.Event()
        self._cosigned = asyncio.Event()
        self._outgoing = asyncio.Event()
        self._witnessing = Witnessing(link, team, on_decided=self._outgoing.set)
        self._telling = Telling(link, team)
        self._decisions = Decisions(link, team)
        self._held: Note | None = None
        self._differs_s = 0.0

    async def serve(self) -> None:
        """Do the archive's work until the connection ends.

        Raises:
            LinkError: It ended.
            ArchiveError: The log cannot be written or does not go on.
        """
        await self._begin()
        await together(
            self._take_in(),
            self._publish(),
            self._confirm(),
            self._hand_in(),
            self._tell(),
            self._fetch(),
            self._tick(),
        )

    async def _begin(self) -> None:
        """Say again what the last connection may not have got across."""
        await self._witnessing.know_key()
        self._recorder.reread = False
        positions = {log: known.through for log, known in self._recorder.followed().items()}
        self._acks.append((self._log.size, positions))
        self._due.set()
        self._outgoing.set()
        await self._steward.begin(self._link)

    # In.

    async def _take_in(self) -> None:
        while True:
            batch = [await self._link.receive()]
            while len(batch) < ENTRIES and (frame := self._link.receive_now()) is not None:
                batch.append(frame)
            self._take(batch)
            # Whatever else waits has its turn between two batches.
            await asyncio.sleep(0)

    def _take(self, batch: Iterable[Frame]) -> None:
        entries: list[Deliver] = []
        for frame in batch:
            if isinstance(frame, Deliver):
                entries.append(frame)
                continue
            self._take_entries(entries)
            entries = []
            self._take_answer(frame)
        self._take_entries(entries)

    def _take_entries(self, entries: list[Deliver]) -> None:
        if entries:
            self._progress.taken += len(entries)
            self._taken(self._recorder.take(entries, now_ms=self._clock()))
            self._steward.heard(entries)

    def _take_answer(self, frame: Frame) -> None:
        if isinstance(frame, frames.Accepted):
            for message_id, sequence in zip(frame.message_ids, frame.sequences, strict=True):
                message = self._steward.sent(message_id)
                if message is not None:
                    self._taken(
                        self._recorder.accepted(message, sequence=sequence, now_ms=self._clock())
                    )
        elif isinstance(frame, frames.RefusedMessage):
            self._steward.refused(frame.message_id)
        elif isinstance(frame, frames.Ended) and frame.log.startswith(b"c"):
            self._steward.ended(frame.log)
        elif isinstance(frame, frames.Behind):
            self._recorder.led_back(LogId(frame.log), frame.through, now_ms=self._clock())

    def _taken(self, logs: Mapping[LogId, int]) -> None:
        if logs:
            self._acks.append((self._log.size, logs))
        self._due.set()
        self._outgoing.set()

    # Witnessed, and out.

    async def _publish(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            note = await self._witnessing.cosigned()
            size = Checkpoint.decode(note.text).size
            self._progress.witnessed, self._progress.witnessed_ms = size, self._clock()
            if self._team.mirror is not None:
                self._team.mirror.follow(note, now_ms=self._clock())
            if self._team.machine is not None:
                self._team.machine.follow(note)
            self._cosigned.set()

    async def _confirm(self) -> None:
        """Say to others what is cosigned, and on every machine that they are to wait for.

        Beside what is cosigned next: a mirror that is away stops receipts, and no witness.
        """
        while True:
            await self._cosigned.wait()
            self._cosigned.clear()
            if (note := self._witnessing.note) is None:
                continue
            size = Checkpoint.decode(note.text).size
            machine = self._team.machine
            if machine is not None and machine.waits:
                await machine.until_held(size)
            self._held = note
            await self._acknowledge(size)
            await self._telling.verdicts(size)

    async def _acknowledge(self, size: int) -> None:
        """Let the relay forget what is under a witnessed checkpoint."""
        through: dict[LogId, int] = {}
        kept = []
        for at, logs in self._acks:
            if at <= size:
                through.update(logs)
            else:
                kept.append((at, logs))
        self._acks = kept
        for log, number in through.items():
            await self._link.send(frames.Acknowledge(log=log, through=number))

    # The authority's decisions.

    async def _hand_in(self) -> None:
        while True:
            await self._outgoing.wait()
            self._outgoing.clear()
            await self._decisions.hand_in()

    # Senders.

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TELL_S)
            if self._held is not None:
                await self._telling.senders(self._held)

    # Attachments.

    async def _fetch(self) -> None:
        backoff = Backoff()
        while True:
            await asyncio.sleep(TICK_S)
            try:
                while await self._team.attachments.fetch(self._link):
                    pass
            except UnreachableError:
                await asyncio.sleep(backoff.pause_s())

    # What is due.

    async def _tick(self) -> None:
        more = False
        while True:
            # A wiped device leaves hundreds of conversations: they are not a second's work each.
            await asyncio.sleep(BREATH_S if more else TICK_S)
            self._taken(self._recorder.tick(now_ms=self._clock()))
            if self._recorder.reread:
                raise LostError
            more = await self._stewarded()
            await self._team.correspondence.step(now_ms=self._clock())
            await self._team.gathering.step(self._link, self._witnessing.note, now_ms=self._clock())
            self._taken({})
            self._log.store.truncate_journal_now()

    async def _stewarded(self) -> bool:
        """Do what dates ask for, by a time that two clocks agree on; tell whether more is left.

        By a clock that is a day behind, everybody would be taken out of every conversation; by one
        that is ahead, what is renewed counts for nobody. Members do what cannot wait.
        """
        present_ms = self._clock()
        if self._progress.agrees(present_ms):
            self._differs_s = 0.0
            self._team.installation.renew(now_ms=present_ms)
            return await self._steward.step(now_ms=present_ms)
        self._differs_s = self._differs_s or time.monotonic()
        if time.monotonic() - self._differs_s >= COMPARE_S:
            raise LostError  # The relay tells its time where a connection opens.
        return False
