"""What others are told once it is under a witnessed checkpoint: verdicts, and what is archived.

A conversation is told which Commits stand and which are void, a sender which messages are archived.
Both are signed with the time, which is this host's: what the relay calls invalid for that is said
again later, where a verdict is signed anew.
"""

from __future__ import annotations

import asyncio
import time

from archive import events
from archive.live import Live, Untold, Verdict
from archive.log import Log
from archive.recorder import Recorder
from archive.team import Team
from client.errors import RefusedError
from client.link import Link
from crypto.checkpoint import Checkpoint
from crypto.note import Note
from crypto.statement import RULES, StatementType, claimed_statement, sign_statement
from protocol import frames
from protocol.archived import MESSAGES, Archived, archived_message
from protocol.errors import WAITS, Code
from protocol.identifiers import DeviceId, LogId, conversation_log, inbox_log
from protocol.inbox import Item, ItemKind

TOLD_AT_ONCE = 80
"""Devices that are told each time, in turn: whoever has most to be told of delays nobody else."""

POSTS = 16
"""Posts that are in flight at once; the relay takes 32 requests."""

DOUBT_S = 15.0
"""Seconds before what the relay calls invalid is signed anew and said again: the time in it was
perhaps of a clock that is wrong, this host's or the relay's, and the word is said once."""


class Telling:
    """Tells others, over one connection."""

    def __init__(self, link: Link, team: Team) -> None:
        self._link = link
        self._clock = team.clock
        self._recorder: Recorder = team.recorder
        self._log: Log = team.recorder.log
        self._live: Live = team.recorder.live
        self._told_last = ""
        self._doubted: dict[bytes, float] = {}

    async def verdicts(self, size: int) -> None:
        """Post the receipts and voids whose records are among the first ``size``.

        Raises:
            LinkError: The connection ended.
        """
        found = self._live.verdicts(below=size)
        for at in range(0, len(found), POSTS):
            await asyncio.gather(*map(self._verdict, found[at : at + POSTS]))

    async def _verdict(self, verdict: Verdict) -> None:
        log, place = conversation_log(verdict.conversation), verdict.conversation
        if self._is_doubted(place):
            return
        said = await self._said(log, verdict.statement, to=place)
        with self._log.store.transaction():
            if said:
                self._live.drop_verdict(verdict)
            elif self._is_doubted(place):
                self._live.renew_verdict(verdict, self._signed_anew(verdict.statement))

    def _signed_anew(self, statement: bytes) -> bytes:
        claimed = claimed_statement(statement)
        return self._signed(claimed.type, claimed.body)

    async def senders(self, note: Note) -> None:
        """Tell senders, in turn, what of theirs is archived under a checkpoint.

        Raises:
            LinkError: The connection ended.
        """
        size = Checkpoint.decode(note.text).size
        told: list[list[Untold]] = []
        devices = self._next_senders(size)
        for at in range(0, len(devices), POSTS):
            some = [self._sender(note, *one) for one in devices[at : at + POSTS]]
            told += await asyncio.gather(*some)
        if any(told):
            with self._log.store.transaction():
                for messages in told:
                    self._live.told(messages)

    def _next_senders(self, size: int) -> list[tuple[DeviceId, list[Untold]]]:
        devices = self._live.untold_devices(after=self._told_last, most=TOLD_AT_ONCE)
        self._told_last = devices[-1] if len(devices) == TOLD_AT_ONCE else ""
        of_each = [
            (device, self._live.untold_of(device, below=size, most=MESSAGES)) for device in devices
        ]
        return [
            (device, some)
            for device, some in of_each
            if some and not self._is_doubted(device.encode())
        ]

    async def _sender(self, note: Note, device: DeviceId, messages: list[Untold]) -> list[Untold]:
        """Tell a sender; return what it was told, nothing where that was put off."""
        item = Item(kind=ItemKind.STATEMENT, body=self._archived(note, messages)).encode()
        return messages if await self._said(inbox_log(device), item, to=device.encode()) else []

    def _archived(self, note: Note, messages: list[Untold]) -> bytes:
        proofs = self._log.receipts([one.index for one in messages], note)
        body = Archived(
            note=note,
            messages=tuple(
                archived_message(
                    proof,
                    conversation=one.conversation,
                    sequence=one.sequence,
                    record=self._log.read(one.index).encode(),
                    salt=one.salt,
                )
                for proof, one in zip(proofs, messages, strict=True)
            ),
        ).encode()
        return self._signed(StatementType.ARCHIVED, body)

    def _signed(self, kind: StatementType, body: bytes) -> bytes:
        me = self._recorder.me
        return sign_statement(
            kind,
            body,
            organisation=me.organisation,
            issued_ms=self._clock(),
            lifetime_ms=RULES[kind].lifetime_ms,
            signatory=me.signatory,
        )

    async def _said(self, log: LogId, statement: bytes, *, to: bytes) -> bool:
        """Post to a log; tell whether the relay has answered, and not only put it off."""
        try:
            await self._link.ask(lambda ref: frames.Post(ref=ref, log=log, statement=statement))
        except RefusedError as error:
            if error.code is Code.INVALID:
                self._doubted[to] = time.monotonic() + DOUBT_S
                return False
            if error.code in WAITS:
                return False
            events.tell("refused", code=error.code.name)
        return True

    def _is_doubted(self, to: bytes) -> bool:
        return time.monotonic() < self._doubted.get(to, 0.0)
