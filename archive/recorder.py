"""The recorder's judgement: what each entry of the relay's logs leads to, without any network.

``take`` makes of a batch of entries one transaction: the exact bodies as records, what they do to
the groups, sealed keys of epochs that may begin, verdicts that wait for their witness. One that
breaks anything is recorded with evidence and stops nobody; one that needs something which is still
to come, a Welcome or an officer's key, waits here with all of its log behind it, and is neither
taken in nor acknowledged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

from archive import events
from archive.alarms import Alarm
from archive.authority import Authority, Refusal
from archive.batch import Entry
from archive.conversations import Conversations, Identity, entry_type
from archive.errors import ArchiveError
from archive.evidence import Gap, Relayed
from archive.intray import waiting
from archive.live import Untold
from archive.log import MAX_BATCH, Log
from archive.record import RecordType
from archive.replacing import is_replaced
from archive.sealing import Officers, bucket_of
from archive.shredding import ARCHIVE_BUCKET
from archive.work import ROOM, Piece, Work
from client.rules import Demand
from crypto.errors import CryptoError, InvalidError
from crypto.statement import (
    StatementType,
    statement_type,
    verify_statement,
)
from protocol.archived import ProofRequest
from protocol.commands import ChangeMembers, decode_command
from protocol.frames import Deliver, EntryKind
from protocol.identifiers import (
    AUDIT_LOG,
    CONTROL_LOG,
    ConversationId,
    DeviceId,
    LogId,
    inbox_log,
    log_id,
)
from protocol.inbox import Item, ItemKind, decode_item
from protocol.retention import CLINICAL

WAITING_BYTES = 64 << 20
"""Entries of conversations that wait for something, kept in memory, in bytes; beyond it they are
let go of, and read once more from the relay."""

ENTRY_BYTES = 512
"""What an entry that waits takes beside its body, about, in bytes: many small ones count too."""

HOLE_TRIES = 5
"""Connections on which the relay must have left the same entry out before it counts as gone."""

PATIENCE_MS = 60_000
"""How long an entry waits for what it needs, in ms, before it counts as a fault."""


_REFUSALS = {Refusal.LIMIT: Alarm.WIPE, Refusal.OFFICER: Alarm.OFFICER_WIPE}


class HoleError(Exception):
    """The relay left an entry out: connect again, and read from the cursor."""


@dataclass(kw_only=True)
class _Stuck:
    """A log whose next entry waits.

    Attributes:
        entries: That one, and all behind it.
        size: Of all that came, in bytes.
    """

    entries: deque[Deliver] = field(default_factory=deque)
    size: int = 0

    def add(self, entry: Deliver) -> None:
        """Let an entry wait."""
        self.entries.append(entry)
        self.size += len(entry.body) + ENTRY_BYTES


class Recorder(Conversations):
    """The recorder of one organisation, over its log and its authority.

    Every method raises the archive's errors; after any but ``StoreFullError`` the program ends.

    Attributes:
        reread: Whether entries were let go of, so that the relay must be read from the cursors;
            nothing is taken in before that.
        is_sure: Tells whether it is known that a time is now: what is certified by a wrong one
            counts for nobody.
        bereft: Whether the archive was restored, so that what is missing will not come again.
    """

    def __init__(self, log: Log, authority: Authority, *, me: Identity, officers: Officers) -> None:
        super().__init__(log, authority, me=me, officers=officers)
        self.reread = False
        self.is_sure: Callable[[int], bool] = lambda _: True
        self.bereft = False
        self._stuck: dict[LogId, _Stuck] = {}
        self._since: dict[LogId, int] = {}
        self._holes: dict[LogId, tuple[int, int]] = {}

    def begin_again(self, *, bereft: bool) -> None:
        """Find out what a start left open.

        Args:
            bereft: Whether the archive was just restored from a copy.
        """
        self.bereft = bereft
        here = set(self.live.conversations())
        for log, known in self._followed.items():
            conversation = ConversationId(log[1:])
            if log.startswith(b"c") and known.epoch and conversation not in here:
                self.rejoining.add(conversation)
        self.unsealed.update(self.live.waiting())

    @property
    def waiting_logs(self) -> int:
        """How many logs wait for something, with everything behind it."""
        return len(self._stuck)

    # Taking in.

    def take(self, entries: Sequence[Deliver], *, now_ms: int) -> dict[LogId, int]:
        """Take entries in; return how far each of their logs was taken in, all on the disk.

        Raises:
            HoleError: The relay left one out; those before it were taken in.
            ArchiveError: Those of the last transaction were not; give them again.
        """
        self._now_ms = now_ms
        taken: dict[LogId, int] = {}
        rest = deque(entries)
        while rest:
            work = Work()
            try:
                while rest and not work.is_full:
                    self._entry(work, rest[0])
                    rest.popleft()
            finally:
                taken.update(self._commit(work))
        return taken

    def tick(self, *, now_ms: int) -> dict[LogId, int]:
        """See to what is due; return how far logs were taken in."""
        self.take_wanted(most=MAX_BATCH - ROOM, now_ms=now_ms)
        self._certify_put_off(now_ms=now_ms)
        taken = self.retry(now_ms=now_ms)
        return taken | self.overdue(now_ms=now_ms)

    def led_back(self, log: LogId, through: int, *, now_ms: int) -> None:
        """Follow a log from where the relay says that it stands for the recorder.

        It never gave what was acknowledged: somebody made up numbers far ahead, behind which all
        that followed would count as recorded.
        """
        self._now_ms = now_ms
        known = self._followed.get(log)
        if known is None or through >= known.through:
            return
        self.raise_alarm(Alarm.RELAY)
        self._stuck.pop(log, None)
        self._since.pop(log, None)
        self._holes.pop(log, None)
        work = Work()
        work.followed[log] = replace(known, through=through)
        self._commit(work)

    def retry(self, *, now_ms: int) -> dict[LogId, int]:
        """Take up what waited and may go on; return how far logs were taken in."""
        self._now_ms = now_ms
        work = Work()
        for conversation in sorted(self.unsealed):
            self._seal_waiting(work, conversation)
        taken = self._commit(work)
        for log in list(self._stuck):
            taken |= self._go_on(log)
        for log in self._since.keys() - self._stuck.keys():
            # Let go of, read again and followed by now.
            if self._now_ms - self._since[log] >= 2 * PATIENCE_MS:
                del self._since[log]
        return taken

    def _go_on(self, log: LogId) -> dict[LogId, int]:
        """Follow a log that waited as far as it goes."""
        taken: dict[LogId, int] = {}
        stuck = self._stuck.pop(log)
        patient = self._is_patient(log)
        while stuck.entries:
            work = Work()
            while stuck.entries and not work.is_full:
                if not self._try(work, stuck.entries[0], patient=patient):
                    self._stuck[log] = stuck
                    break
                stuck.entries.popleft()
            taken.update(self._commit(work))
            if log in self._stuck:
                return taken
        del self._since[log]
        return taken

    def _is_patient(self, log: LogId) -> bool:
        """Tell whether a log may wait; also what was let go of has waited since it first came."""
        since_ms = self._since.get(log, self._now_ms)
        if since_ms > self._now_ms:
            # The clock was ahead when it began to wait: it begins now.
            self._since[log] = since_ms = self._now_ms
        return self._now_ms - since_ms < PATIENCE_MS

    def _entry(self, work: Work, entry: Deliver) -> None:
        log = log_id(entry.log)
        if self.reread:
            return
        if log in self._stuck:
            self._wait(log, entry)
        elif entry.sequence <= self._through(work, log, entry):
            return
        elif not self._try(work, entry, patient=self._is_patient(log)):
            self._wait(log, entry)

    def _try(self, work: Work, entry: Deliver, *, patient: bool) -> bool:
        """Follow an entry; tell whether it was taken in."""
        log = log_id(entry.log)
        self._check_order(work, log, entry)
        before = work.mark()
        try:
            taken = self._dispatch(work, log, entry, patient=patient)
        except Exception as error:
            work.go_back(before)
            if isinstance(error, ArchiveError):
                raise
            if not isinstance(error, CryptoError):
                self.raise_alarm(Alarm.POISON)
                events.warn("poison", error=type(error).__name__)
            self._evidence(work, entry, cause=0)
            self._exact(work, entry, RecordType.HANDSHAKE)
            taken = True
        if taken:
            self._advance(work, log, entry.sequence)
        return taken

    def _through(self, work: Work, log: LogId, entry: Deliver) -> int:
        known = work.followed.get(log) or self._followed.get(log)
        return entry.predecessor if known is None else known.through

    def _check_order(self, work: Work, log: LogId, entry: Deliver) -> None:
        """See that no entry was left out; one that never comes is a gap in the end, on record."""
        through = self._through(work, log, entry)
        if entry.predecessor <= through:
            if self._holes.pop(log, None) and not self._holes:
                self.alarms.pop(Alarm.HOLE, None)
            return
        before, count = self._holes.get(log, (0, 0))
        count = count + 1 if before == through else 1
        if not self.bereft and count < HOLE_TRIES:
            self._holes[log] = (through, count)
            self.raise_alarm(Alarm.HOLE)
            raise HoleError
        self.raise_alarm(Alarm.GAP)
        gap = Gap(log=log, after=through, before=entry.sequence, at_ms=self._now_ms)
        self._add_own(work, RecordType.RESTORE_OR_GAP, gap.encode())

    def _wait(self, log: LogId, entry: Deliver) -> None:
        self._since.setdefault(log, self._now_ms)
        self._stuck.setdefault(log, _Stuck()).add(entry)
        if sum(one.size for one in self._stuck.values()) > WAITING_BYTES:
            self._stuck.clear()
            self.reread = True

    # The four kinds of logs.

    def _dispatch(self, work: Work, log: LogId, entry: Deliver, *, patient: bool) -> bool:
        if log.startswith(b"c"):
            return self._conversation(work, ConversationId(log[1:]), entry, patient=patient)
        if log == CONTROL_LOG:
            self._control(work, entry)
        elif log == AUDIT_LOG:
            body = Relayed(log=log, sequence=entry.sequence, at_ms=entry.at_ms, body=entry.body)
            kind = RecordType.RELAY_SECURITY_EVENT
            own = Entry(type=kind, body=body.encode(), bucket=ARCHIVE_BUCKET)
            piece = Piece(entry=own, sequence=entry.sequence, sent_ms=entry.at_ms, log=log)
            work.add(piece)
        elif entry.kind == EntryKind.WELCOME:
            self._welcome(work, entry)
        elif entry.kind == EntryKind.MESSAGE:
            self._item(work, entry)
        return True

    def _control(self, work: Work, entry: Deliver) -> None:
        """Record a command, and let the authority and the groups do what it asks."""
        kind = statement_type(entry.body)
        self._exact(work, entry, _command_type(kind))
        try:
            refusal = self.authority.follow(
                entry.body,
                kind,
                taken_ms=entry.at_ms,
                now_ms=self._now_ms,
                is_replaced=self._is_replaced,
            )
        except CryptoError:
            self._evidence(work, entry, cause=0)
        else:
            if refusal is not None:
                self.raise_alarm(_REFUSALS[refusal])
        if kind is StatementType.COMMAND:
            self._demanded(work, entry)

    def _is_replaced(self, user: str) -> bool:
        return is_replaced(user, officers=self.officers, store=self.log.store)

    def _demanded(self, work: Work, entry: Deliver) -> None:
        """Note a command that a Commit will cite."""
        verified = verify_statement(
            entry.body,
            expected=StatementType.COMMAND,
            trust=self.judge.as_of(entry.at_ms),
            at_ms=entry.at_ms,
        )
        command = decode_command(verified.body)
        if not isinstance(command, ChangeMembers):
            return
        demand = Demand(
            hash=sha256(entry.body).digest(),
            kind=StatementType.COMMAND,
            by=None,
            body=verified.body,
            at_ms=entry.at_ms,
        )
        view = self._view(work, command.conversation)
        work.views[command.conversation] = replace(
            view, demands={**view.demands, demand.hash: demand}
        )
        self.demands.add(command.conversation)

    def _item(self, work: Work, entry: Deliver) -> None:
        item = decode_item(entry.body)
        if item.kind is ItemKind.REQUEST:
            # By a clock that is wrong, it would be certified for a time in which nobody lives.
            if self.is_sure(self._now_ms):
                self._certify(work, entry, item.body)
            elif not self.authority.put_off(entry.sequence, item.body):
                self._evidence(work, entry, cause=0)
        elif item.kind is ItemKind.STATEMENT:
            self._statement(work, entry, item.body)

    def _certify(self, work: Work, entry: Deliver, request: bytes) -> None:
        try:
            der = self.authority.certify(request, now_ms=self._now_ms)
        except CryptoError:
            self._evidence(work, entry, cause=0)
        else:
            self._add_own(work, RecordType.KEY_CEREMONY, der)

    def _certify_put_off(self, *, now_ms: int) -> None:
        """Answer the requests that have waited for the right time."""
        if not self.is_sure(now_ms):
            return
        self._now_ms = now_ms
        for number, request in self.authority.requests_put_off().items():
            log, item = inbox_log(self.me.device), Item(kind=ItemKind.REQUEST, body=request)
            entry = Deliver(
                log=log,
                sequence=number,
                predecessor=0,
                at_ms=now_ms,
                kind=EntryKind.MESSAGE,
                body=item.encode(),
            )
            work = Work()
            self._certify(work, entry, request)
            self._commit(work)
            # Last: one that is answered twice is answered alike.
            self.authority.drop_put_off(number)

    def _statement(self, work: Work, entry: Deliver, statement: bytes) -> None:
        """Record what a device says to the archive; officers' keys are taken into use."""
        kind = statement_type(statement)
        if kind is StatementType.DEVICE_REQUEST:
            # It changes nothing, and may come again each day.
            self._prove_again(work, statement, at_ms=min(entry.at_ms, self._now_ms))
            return
        if kind is StatementType.COSIGNATURE:
            self.on_cosignature(statement, min(entry.at_ms, self._now_ms))
        officers = kind is StatementType.OFFICER_KEYS
        known = RecordType.KEY_CEREMONY if officers else RecordType.ADMINISTRATIVE_COMMAND
        self._add_own(work, known, statement)
        if officers:
            self.officer_keys(work, statement, at_ms=min(entry.at_ms, self._now_ms))

    def _prove_again(self, work: Work, statement: bytes, *, at_ms: int) -> None:
        """Let a sender have proofs under the present log, of what that has.

        Raises:
            CryptoError: It asks for something else, or who asks is not known.
        """
        verified = verify_statement(
            statement,
            expected=StatementType.DEVICE_REQUEST,
            trust=self.authority.trust,
            at_ms=at_ms,
        )
        signer = verified.signers[0].identity
        if signer is None:
            raise InvalidError("a device asks for what it has sent")
        for one in ProofRequest.decode(verified.body).messages:
            index = self.log.index_of(one.message_hash)
            if index is None or self.log.read(index).type is not RecordType.MESSAGE:
                continue
            salt = self.log.salt_of(index)
            if salt is not None:
                work.wanted.append(
                    Untold(
                        index=index,
                        device=DeviceId(signer.name),
                        conversation=ConversationId(one.conversation),
                        sequence=one.sequence,
                        salt=salt,
                    )
                )

    # Other records.

    def take_wanted(self, *, most: int, now_ms: int) -> int:
        """Record what other processes handed in; return how many there were."""
        self._now_ms = now_ms
        wanted = waiting(self.log.store, most=most)
        work = Work()
        for number, entry in wanted:
            reseals = entry.type is RecordType.EPOCH_KEYS
            piece = Piece(entry=entry, sent_ms=now_ms, reseals=reseals)
            work.taken.append((number, work.add(piece)))
        self._commit(work)
        return len(wanted)

    def note(self, kind: RecordType, bodies: Iterable[bytes], *, now_ms: int) -> None:
        """Record bodies of the archive's own."""
        self._now_ms = now_ms
        work = Work()
        for body in bodies:
            self._add_own(work, kind, body)
            if work.is_full:
                self._commit(work)
                work = Work()
        self._commit(work)

    def _exact(self, work: Work, entry: Deliver, kind: RecordType) -> None:
        """Record an entry's body that is not followed."""
        if not entry.body:
            return
        if not entry.log.startswith(b"c"):
            own = Entry(type=kind, body=entry.body, bucket=ARCHIVE_BUCKET)
            piece = Piece(entry=own, sequence=entry.sequence, sent_ms=entry.at_ms, log=entry.log)
            work.add(piece)
            return
        conversation = ConversationId(entry.log[1:])
        bucket = bucket_of(CLINICAL, self._now_ms)
        made = Entry(type=entry_type(entry), body=entry.body, bucket=bucket, group_id=conversation)
        work.add(Piece(entry=made, sequence=entry.sequence, sent_ms=entry.at_ms))


def _command_type(kind: StatementType) -> RecordType:
    """Return as what an entry of the control log is recorded."""
    if kind is StatementType.WIPE_ORDER:
        return RecordType.WIPE_ORDER
    if kind in (StatementType.WIPE_DELIVERY, StatementType.WIPE_RECEIPT):
        return RecordType.WIPE_RECEIPT
    return RecordType.ADMINISTRATIVE_COMMAND
