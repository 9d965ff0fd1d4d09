"""The archive's process: one connection outward, and what goes in and out by it.

Four things run side by side on a connection, in one thread: entries are taken in as they come; what
they left in the log is signed and witnessed, and only then acknowledged, confirmed and voided; what
the authority decided is handed in; and once a second all that is due is seen to. Whatever ends the
connection ends all four, and the next one begins where the disk says.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from archive import copying, events, founding, witnessing
from archive.alarms import Alarm
from archive.attachments import Attachments
from archive.authority import Authority
from archive.authority_store import Outgoing, OutgoingKind
from archive.canary import Reviewing
from archive.correspondence import Correspondence
from archive.desk import Desk
from archive.gathering import Gathering
from archive.installation import Installation, record_certificates
from archive.intray import WITNESSED, witnessed
from archive.live import Live, Untold, Verdict
from archive.log import Log
from archive.mirror import Mirror
from archive.mirror_link import SecondMachine
from archive.progress import Progress
from archive.reconciling import reconcile
from archive.recorder import HoleError, Recorder
from archive.settling import settle
from archive.steward import Steward
from archive.uploads import FOLDER
from archive.watch import Watch
from client.clocks import now_ms
from client.errors import (
    ClosedError,
    LinkError,
    LostError,
    RefusedError,
    UnreachableError,
)
from client.link import Backoff, Link
from client.tasks import together
from crypto.certificate import DAY_MS
from crypto.checkpoint import Checkpoint
from crypto.errors import CryptoError
from crypto.note import Note
from crypto.statement import (
    RULES,
    Purpose,
    StatementType,
    claimed_statement,
    sign_statement,
    statement_type,
)
from crypto.trust import CLOCK_SKEW_MS
from crypto.witness import NOT_CONSISTENT, STALE
from crypto.witness import RefusedError as WitnessRefusedError
from protocol import frames
from protocol.archived import MESSAGES, Archived, archived_message
from protocol.errors import WAITS, Code
from protocol.frames import Deliver, Frame
from protocol.identifiers import DeviceId, LogId, conversation_log, inbox_log
from protocol.inbox import Item, ItemKind
from protocol.session import State

T = TypeVar("T")

ENTRIES = 64
"""Entries that are taken in at once, where so many have come."""

TELL_S = 1.0
"""How often, in seconds, senders are told what is archived: at most one statement each a second."""

TOLD_AT_ONCE = 80
"""Devices that are told each time, in turn: whoever has most to be told of delays nobody else."""

POSTS = 16
"""Posts that are in flight at once; the relay takes 32 requests."""

TICK_S = 1.0
"""How often, in seconds, what is due is seen to."""

COMPARE_S = 60.0
"""Seconds after which clocks that differ are compared again, by a new connection."""

BREATH_S = 0.02
"""Seconds between two lots of the steward's Commits, in which what came in has its turn."""

POLICY_S = 3.0
"""Seconds that the relay gets to take the log policy in before it is asked to cosign again."""

_AGAIN = WAITS | {Code.NOT_STRONG}
"""Refusals that are waits; all others are answers."""

DOUBT_S = 15.0
"""Seconds before what the relay calls invalid is signed anew and said again: the time in it was
perhaps of a clock that is wrong, this host's or the relay's, and the word is said once."""


class Connection:
    """One connection of the archive's, from its opening to its end."""

    def __init__(self, link: Link, team: Team) -> None:
        recorder, self._team = team.recorder, team
        self._link = link
        self._recorder = recorder
        self._log: Log = recorder.log
        self._live: Live = recorder.live
        self._authority: Authority = recorder.authority
        self._steward = team.steward
        self._progress = team.progress
        self._acks: list[tuple[int, Mapping[LogId, int]]] = []
        self._due = asyncio.Event()
        self._cosigned = asyncio.Event()
        self._outgoing = asyncio.Event()
        self._note: Note | None = witnessed(self._log.store)
        self._held: Note | None = None
        self._told_last = ""
        self._doubted: dict[bytes, float] = {}
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
        await self._know_witness()
        self._recorder.reread = False
        positions = {log: known.through for log, known in self._recorder.followed().items()}
        self._acks.append((self._log.size, positions))
        self._due.set()
        self._outgoing.set()
        await self._steward.begin(self._link)

    async def _know_witness(self) -> None:
        """See that the relay has the key that is pinned; a restored relay has another.

        Nobody but the relay with the pinned TLS key can tell a new one, and it goes on record by
        the log policy, which the authority signs.
        """
        archive = self._team.installation
        key = await witnessing.witness_key(self._link)
        if key == self._log.witness:
            return
        founding.add_witness(archive.file, key)
        self._log.change_witness(key)
        self._note = None
        self._team.gathering.name_witnesses(now_ms=now_ms())

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
            self._taken(self._recorder.take(entries, now_ms=now_ms()))
            self._steward.heard(entries)

    def _take_answer(self, frame: Frame) -> None:
        if isinstance(frame, frames.Accepted):
            for message_id, sequence in zip(frame.message_ids, frame.sequences, strict=True):
                message = self._steward.sent(message_id)
                if message is not None:
                    self._taken(
                        self._recorder.accepted(message, sequence=sequence, now_ms=now_ms())
                    )
        elif isinstance(frame, frames.RefusedMessage):
            self._steward.refused(frame.message_id)
        elif isinstance(frame, frames.Ended) and frame.log.startswith(b"c"):
            self._steward.ended(frame.log)
        elif isinstance(frame, frames.Behind):
            self._recorder.led_back(LogId(frame.log), frame.through, now_ms=now_ms())

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
            note = await self._witnessed()
            size = Checkpoint.decode(note.text).size
            self._progress.witnessed, self._progress.witnessed_ms = size, now_ms()
            if self._team.mirror is not None:
                self._team.mirror.follow(note, now_ms=now_ms())
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
            if (note := self._note) is None:
                continue
            size = Checkpoint.decode(note.text).size
            machine = self._team.machine
            if machine is not None and machine.waits:
                await machine.until_held(size)
            self._held = note
            await self._acknowledge(size)
            await self._post_verdicts(size)

    async def _witnessed(self) -> Note:
        """Return the checkpoint of all that is recorded, with the relay's cosignature."""
        if self._note is not None and Checkpoint.decode(self._note.text).size == self._log.size:
            return self._note
        while (note := await self._asked()) is None:
            await self._outdo_log_policy()
        self._note = note
        with self._log.store.transaction():
            self._live.put_setting(WITNESSED, note.encode())
        return note

    async def _asked(self) -> Note | None:
        """Ask the relay to cosign; return the note, or ``None`` where it is to be asked again."""
        request = self._log.request()
        encoded = request.encode()
        try:
            answer = await self._link.ask(lambda ref: frames.Witness(ref=ref, request=encoded))
        except RefusedError as error:
            await self._refused(error)
            return None
        try:
            note = self._log.accept(request.note, witnessing.cosignature(answer))
        except (CryptoError, UnicodeDecodeError):
            self._recorder.raise_alarm(Alarm.WITNESS)
            raise LostError(broke=Code.INVALID) from None
        self._recorder.alarms.pop(Alarm.WITNESS, None)
        return note

    async def _refused(self, error: RefusedError) -> None:
        """Take in why the witness did not sign, or stop.

        Raises:
            HistoryError: It has cosigned another or a larger tree.
        """
        if error.code is Code.STALE_CHECKPOINT:
            self._log.correct(WitnessRefusedError(STALE, error.detail))
        elif error.code is Code.FORKED_CHECKPOINT:
            self._log.correct(WitnessRefusedError(NOT_CONSISTENT, error.detail))
        else:
            # It does not know the log's key before the log policy has come to it.
            if error.code is not Code.NO_SUCH:
                self._recorder.raise_alarm(Alarm.WITNESS)
            await self._outdo_log_policy()
            self._authority.repeat_log_policy(now_ms=now_ms())
            self._outgoing.set()
            await asyncio.sleep(POLICY_S)

    async def _outdo_log_policy(self) -> None:
        """Learn which log policy the relay has: a restored archive may have forgotten it."""
        before, after, more = -1, 0, True
        # A relay that promises more and gives none is not asked for ever.
        while more and before < after:
            before = after
            answer = await self._link.ask(lambda ref, n=after: frames.Standing(ref=ref, after=n))  # type: ignore[misc]
            if not isinstance(answer, frames.Statements):
                return
            for entry in answer.entries:
                after = max(after, entry.number)
                with contextlib.suppress(CryptoError):
                    if statement_type(entry.statement) is StatementType.COMMAND:
                        self._authority.outdo_log_policy(entry.statement)
            more = answer.more

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

    async def _post_verdicts(self, size: int) -> None:
        verdicts = self._live.verdicts(below=size)
        for at in range(0, len(verdicts), POSTS):
            await asyncio.gather(*map(self._post_verdict, verdicts[at : at + POSTS]))

    async def _post_verdict(self, verdict: Verdict) -> None:
        log, place = conversation_log(verdict.conversation), verdict.conversation
        if self._is_doubted(place):
            return
        said = await self._said(
            lambda ref: frames.Post(ref=ref, log=log, statement=verdict.statement), timely=place
        )
        with self._log.store.transaction():
            if said:
                self._live.drop_verdict(verdict)
            elif self._is_doubted(place):
                self._live.renew_verdict(verdict, self._signed_anew(verdict.statement))

    def _signed_anew(self, statement: bytes) -> bytes:
        claimed, me = claimed_statement(statement), self._recorder.me
        return sign_statement(
            claimed.type,
            claimed.body,
            organisation=me.organisation,
            issued_ms=now_ms(),
            lifetime_ms=RULES[claimed.type].lifetime_ms,
            signatory=me.signatory,
        )

    def _is_doubted(self, place: bytes) -> bool:
        return time.monotonic() < self._doubted.get(place, 0.0)

    async def _said(
        self,
        make: Callable[[int], Frame],
        *,
        alarming: bool = False,
        timely: bytes | None = None,
    ) -> bool:
        """Send a request; tell whether it was answered, and not only put off.

        Args:
            make: The request.
            alarming: Whether a person must hear of a refusal.
            timely: Where this is said, if it is signed with the time and can be signed anew.
        """
        try:
            await self._link.ask(make)
        except RefusedError as error:
            if timely is not None and error.code is Code.INVALID:
                self._doubted[timely] = time.monotonic() + DOUBT_S
                return False
            if error.code in _AGAIN:
                return False
            events.tell("refused", code=error.code.name)
            if alarming and error.code is not Code.STALE_STATEMENT:
                self._recorder.raise_alarm(Alarm.RELAY)
        return True

    # The authority's decisions.

    async def _hand_in(self) -> None:
        while True:
            await self._outgoing.wait()
            self._outgoing.clear()
            await self._hand_in_all()

    async def _hand_in_all(self) -> None:
        # One time for all of them: of two commands, the later must not go before the earlier.
        present_ms = now_ms()
        relay_ms = present_ms + self._progress.skew_ms(present_ms)
        for outgoing in self._authority.outgoing():
            timely = self._timely(outgoing, relay_ms=relay_ms, present_ms=present_ms)
            if timely is None:
                continue
            if not await self._handed_in(timely):
                break
            self._authority.handed_in(timely.number)

    def _timely(self, outgoing: Outgoing, *, relay_ms: int, present_ms: int) -> Outgoing | None:
        """Return a decision as the relay can believe it; ``None`` while this clock is ahead of its.

        What it could not take, as it was signed by a clock that was ahead, is signed anew. Any
        other it may have taken, with its answer lost: signed anew, that would take effect twice.
        """
        latest_ms = relay_ms + CLOCK_SKEW_MS
        if outgoing.kind is not OutgoingKind.COMMAND:
            return outgoing
        claimed = claimed_statement(outgoing.body)
        if claimed.purposes != (Purpose.AUTHORITY,) or claimed.issued_ms <= latest_ms:
            return outgoing
        if present_ms > latest_ms:
            return None
        return self._authority.signed_anew(outgoing, now_ms=present_ms)

    async def _handed_in(self, outgoing: Outgoing) -> bool:
        body = outgoing.body
        if outgoing.kind is OutgoingKind.COMMAND:
            return await self._said(
                lambda ref: frames.Command(ref=ref, statement=body), alarming=True
            )
        if outgoing.device == self._link.device:
            return True  # Its own: shown to the relay by the next Hello.
        log = inbox_log(DeviceId(outgoing.device))
        item = Item(kind=ItemKind.CERTIFICATE, body=body).encode()
        return await self._said(lambda ref: frames.Post(ref=ref, log=log, statement=item))

    # Senders.

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TELL_S)
            if (note := self._held) is None:
                continue
            size = Checkpoint.decode(note.text).size
            told = [t for t in await self._tell_all(note, size) if t is not None]
            if told:
                with self._log.store.transaction():
                    for messages in told:
                        self._live.told(messages)

    async def _tell_all(self, note: Note, size: int) -> list[list[Untold] | None]:
        devices = self._live.untold_devices(after=self._told_last, most=TOLD_AT_ONCE)
        self._told_last = devices[-1] if len(devices) == TOLD_AT_ONCE else ""
        of_each = [
            (device, self._live.untold_of(device, below=size, most=MESSAGES)) for device in devices
        ]
        chosen = [
            (device, some)
            for device, some in of_each
            if some and not self._is_doubted(device.encode())
        ]
        found: list[list[Untold] | None] = []
        for at in range(0, len(chosen), POSTS):
            part = [self._tell_device(note, *one) for one in chosen[at : at + POSTS]]
            found += await asyncio.gather(*part)
        return found

    async def _tell_device(
        self, note: Note, device: DeviceId, messages: list[Untold]
    ) -> list[Untold] | None:
        statement = self._archived(note, messages)
        item = Item(kind=ItemKind.STATEMENT, body=statement).encode()
        log = inbox_log(device)
        said = await self._said(
            lambda ref: frames.Post(ref=ref, log=log, statement=item), timely=device.encode()
        )
        return messages if said else None

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
        me = self._recorder.me
        return sign_statement(
            StatementType.ARCHIVED,
            body,
            organisation=me.organisation,
            issued_ms=now_ms(),
            lifetime_ms=30 * DAY_MS,
            signatory=me.signatory,
        )

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
            self._taken(self._recorder.tick(now_ms=now_ms()))
            if self._recorder.reread:
                raise LostError
            more = await self._stewarded()
            await self._team.correspondence.step(now_ms=now_ms())
            await self._team.gathering.step(self._link, self._note, now_ms=now_ms())
            self._taken({})
            self._log.store.truncate_journal_now()

    async def _stewarded(self) -> bool:
        """Do what dates ask for, by a time that two clocks agree on; tell whether more is left.

        By a clock that is a day behind, everybody would be taken out of every conversation; by one
        that is ahead, what is renewed counts for nobody. Members do what cannot wait.
        """
        present_ms = now_ms()
        if self._progress.agrees(present_ms):
            self._differs_s = 0.0
            self._team.installation.renew(now_ms=present_ms)
            return await self._steward.step(now_ms=present_ms)
        self._differs_s = self._differs_s or time.monotonic()
        if time.monotonic() - self._differs_s >= COMPARE_S:
            raise LostError  # The relay tells its time where a connection opens.
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """All who work behind a connection.

    Attributes:
        installation: Files and authority.
        recorder: Takes in.
        steward: Changes conversations.
        correspondence: Answers officers.
        gathering: Asks officers' devices to cosign.
        attachments: Fetches files.
        watch: Looks after all of them.
        mirror: Has every record before it is acknowledged, where there is one.
        machine: The mirror on another machine, where there is one.
        reviewing: Starts what opens the canary.
        progress: How far they are.
    """

    installation: Installation
    recorder: Recorder
    steward: Steward
    correspondence: Correspondence
    gathering: Gathering
    attachments: Attachments
    watch: Watch
    mirror: Mirror | None
    machine: SecondMachine | None
    reviewing: Reviewing
    progress: Progress


async def serve(archive: Installation) -> None:
    """Record for an installation until cancelled: connect, and connect again.

    Raises:
        ArchiveError: The log cannot be written, does not go on, or another instance signs.
        ConfigurationError: A file beside the configuration cannot be used.
    """
    archive.renew(now_ms=now_ms())
    witness = await witnessing.pinned(archive)
    bereft = copying.is_restored(archive.files)
    if bereft:
        await settle(archive, witness, clock=now_ms)
    with (
        contextlib.closing(archive.open_log(witness)) as log,
        archive.desk() as desk,
        archive.mirror() as mirror,
    ):
        archive.cosigners().check(log, archive.authority.trust)
        team = assembled(archive, log, desk, mirror=mirror)
        team.gathering.name_witnesses(now_ms=now_ms())
        team.recorder.begin_again(bereft=bereft)
        record_certificates(team.recorder, now_ms=now_ms())
        beside = () if team.machine is None else (team.machine.run(now_ms),)
        try:
            await together(_connecting(team), _watched(team), *beside)
        finally:
            team.reviewing.close()


def assembled(archive: Installation, log: Log, desk: Desk, *, mirror: Mirror | None = None) -> Team:
    """Return those who work on an open log."""
    recorder, progress = archive.recorder(log), Progress()
    steward = archive.steward(recorder)
    machine = archive.mirror_machine(recorder, progress)
    reviewing = Reviewing(archive.file)
    return Team(
        installation=archive,
        recorder=recorder,
        steward=steward,
        correspondence=Correspondence(
            recorder, steward, desk, archive.casework(desk, log.store), review=reviewing.start
        ),
        gathering=Gathering(archive, recorder, progress),
        attachments=Attachments(
            log.store,
            archive.data / FOLDER,
            copies=() if mirror is None else [mirror.attachments],
            elsewhere=None if machine is None else machine.hold_attachment,
        ),
        watch=Watch(recorder, progress, archive.settings.alarms, archive.places),
        mirror=mirror,
        machine=machine,
        reviewing=reviewing,
        progress=progress,
    )


async def _watched(team: Team) -> None:
    """Look around until the log cannot be written: an archive without alarms must not go on."""
    while True:
        try:
            team.watch.step(now_ms=now_ms())
        except OSError as error:  # Of the files that tell how it is; the log's own are mapped.
            events.warn("status_not_written", error=type(error).__name__)
        await asyncio.sleep(TICK_S)


async def _connecting(team: Team) -> None:
    backoff = Backoff()
    while True:
        started_s = time.monotonic()
        least_ms = await _connected(team)
        team.progress.connected = False
        backoff.held(time.monotonic() - started_s)
        await asyncio.sleep(backoff.pause_s(at_least_ms=least_ms))


async def _connected(team: Team) -> int:
    """Serve one connection; return the pause in ms that the relay asks for."""
    archive, link = team.installation, None
    try:
        link = await Link.open(archive.address, archive.credentials())
        team.progress.connected = True
        events.tell("connected")
        if link.state is State.RECONCILING:
            # It tells no time before it serves.
            team.steward.unpublish()
            await reconcile(link, team.recorder, now_ms=now_ms())
        else:
            team.progress.relay_clock.hear(link.now_ms)
            await Connection(link, team).serve()
    except ClosedError as error:
        events.warn("closed", code=error.code.name)
        return error.detail
    except HoleError:
        events.warn("hole")
    except LinkError as error:
        events.warn("disconnected", error=type(error).__name__)
    finally:
        if link is not None:
            with contextlib.suppress(LinkError):
                await link.close()
    return 0
