"""Officers' devices asked over a connection: while the archive runs, and before it signs restored.

A question goes into the device's inbox at the relay, and the answer comes into the recorder's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from archive import events, founding
from archive.alarms import Alarm
from archive.authority import Authority
from archive.cosigning import SILENT_MS, Asking, Cosigners, statement_for
from archive.errors import HistoryError
from archive.installation import Installation
from archive.log import Log
from archive.progress import Progress
from archive.recorder import Recorder
from client.errors import RefusedError
from client.link import Link
from client.pace import is_due
from crypto.errors import CryptoError
from crypto.note import Note
from crypto.statement import StatementType, statement_type
from crypto.witness import AddCheckpoint
from protocol import frames
from protocol.frames import Deliver, EntryKind, Frame
from protocol.identifiers import DeviceId, inbox_log
from protocol.inbox import Item, ItemKind, decode_item

LOOK_MS = 5_000
"""How often, in ms, it is seen whom to ask: a new officer's device, or one whose day is over."""

ANSWERS_S = 20.0
"""Seconds that a restored archive waits for officers' devices: who is there answers in one or two.
Whoever comes later is heard while it runs, and stops it where that must be."""


class Gathering:
    """Asks officers' devices, and takes in what they answer."""

    def __init__(self, archive: Installation, recorder: Recorder, progress: Progress) -> None:
        self._archive = archive
        self._recorder = recorder
        self._progress = progress
        self._authority: Authority = archive.authority
        self._log: Log = recorder.log
        self._cosigners: Cosigners = archive.cosigners()
        self._looked_ms = 0
        recorder.on_cosignature = self.received

    def received(self, statement: bytes, at_ms: int) -> None:
        """Take an answer in, before its entry counts as taken in.

        Raises:
            CryptoError: It is none.
            HistoryError: The log was set back, or is not the one that the device knows.
        """
        self._looked_ms = 0
        trust = self._authority.trust
        try:
            self._cosigners.answered(statement, self._log, trust, at_ms=at_ms)
        except HistoryError:
            self._recorder.raise_alarm(Alarm.WITNESS)
            raise

    async def step(self, link: Link, note: Note | None, *, now_ms: int) -> None:
        """Ask whoever is to be asked about the last checkpoint that the relay has cosigned.

        Raises:
            LinkError: The connection ended.
        """
        if note is None or not is_due(self._looked_ms, now_ms=now_ms, each_ms=LOOK_MS):
            return
        self._looked_ms = now_ms
        self.name_witnesses(now_ms=now_ms)
        trust = self._authority.trust
        for device in self._cosigners.due(trust, now_ms=now_ms):
            question = self._cosigners.question(device, self._log, note)
            if await _put(link, device, question, self._archive, now_ms=now_ms):
                self._cosigners.asked(device, now_ms=now_ms)
        self._tell(now_ms)

    def name_witnesses(self, *, now_ms: int) -> None:
        """Let the log policy name the relay's key and those of the officers' devices."""
        file = self._archive.file
        self._authority.set_log_policy(
            founding.log_key(file).encode(),
            [self._log.witness.encode()],
            officer_keys=self._cosigners.keys(self._authority.trust, now_ms=now_ms),
            now_ms=now_ms,
        )

    def _tell(self, now_ms: int) -> None:
        """Let ``status`` say how old the cosignatures are, and see that one is young enough."""
        held = list(self._cosigners.held(self._authority.trust, self._log.verifier))
        self._progress.cosigners = len(held)
        self._progress.cosigned = max((one.size for _, one in held), default=0)
        self._progress.cosigned_ms = max((known.at_ms for known, _ in held), default=0)
        since_ms = self._progress.cosigned_ms or self._log.read(0).at_ms
        silent = now_ms - since_ms > SILENT_MS
        if not silent:
            self._recorder.alarms.pop(Alarm.COSIGNERS, None)
        elif Alarm.COSIGNERS not in self._recorder.alarms:
            self._recorder.raise_alarm(Alarm.COSIGNERS)


async def ask_before_signing(
    link: Link, archive: Installation, log: Log, *, now_ms: Callable[[], int]
) -> None:
    """Ask officers' devices what they hold of a log that was restored, and wait for who is there.

    Every answer is kept with the authority, where ``Cosigners`` finds it.

    Raises:
        LinkError: The connection ended.
    """
    cosigners, trust = archive.cosigners(), archive.authority.trust
    question = AddCheckpoint(old_size=log.signed.size, proof=(), note=log.signed_note())
    waiting = set()
    for device in cosigners.devices(trust, now_ms=now_ms()):
        asked = await _put(link, device, question, archive, now_ms=now_ms())
        if asked and cosigners.of(device).key:
            waiting.add(device)
    try:
        async with asyncio.timeout(ANSWERS_S):
            while waiting:
                answer = _answer(await link.receive())
                if answer is not None:
                    waiting.discard(_answered(cosigners, answer, log, archive, now_ms=now_ms()))
    except TimeoutError:
        events.warn("officers_unheard", count=len(waiting))
    except HistoryError:
        events.warn("set_back")  # One that shows so is enough; what it showed is kept.


def _answer(frame: Frame) -> tuple[bytes, int] | None:
    """Return the answer of an officer's device that a frame brings, and when it was written."""
    if not isinstance(frame, Deliver) or frame.log[:1] != b"i" or frame.kind != EntryKind.MESSAGE:
        return None
    try:
        item = decode_item(frame.body)
        if item.kind is not ItemKind.STATEMENT:
            return None
        if statement_type(item.body) is not StatementType.COSIGNATURE:
            return None
    except CryptoError:
        return None
    return item.body, frame.at_ms


def _answered(
    cosigners: Cosigners,
    answer: tuple[bytes, int],
    log: Log,
    archive: Installation,
    *,
    now_ms: int,
) -> DeviceId | None:
    statement, at_ms = answer
    trust = archive.authority.trust
    try:
        return cosigners.answered(statement, log, trust, at_ms=min(at_ms, now_ms))
    except CryptoError:
        return None


async def _put(
    link: Link, device: DeviceId, question: AddCheckpoint, archive: Installation, *, now_ms: int
) -> bool:
    """Put a question into a device's inbox; tell whether the relay took it."""
    me = archive.identity()
    asking = Asking(organisation=me.organisation, signatory=me.signatory)
    statement = statement_for(question, asking, now_ms=now_ms)
    item = Item(kind=ItemKind.STATEMENT, body=statement).encode()
    log = inbox_log(device)
    try:
        await link.ask(lambda ref: frames.Post(ref=ref, log=log, statement=item))
    except RefusedError:
        return False  # It is not at the relay as yet, or there is no room: another time.
    return True
