"""A device's inbox: Welcomes, certificates, and what the archive proves."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256

from client.book import Book
from client.followed import Cause, Judgement, StagedCommit, Wants
from client.gossip import Gossip
from client.joining import Welcomed, open_welcome, package_references, welcomed
from client.judging import made_ms
from client.records import staged_record
from client.rooms import Room, Rooms
from client.store import Entry, Store
from client.views import Change, ChangeKind
from crypto.errors import CryptoError, DecodeError
from crypto.mls import KeyPackageSecrets
from crypto.statement import StatementType, statement_type, verify_statement
from protocol.archived import Archived, ArchivedMessage
from protocol.frames import Deliver, EntryKind
from protocol.identifiers import LogId
from protocol.inbox import ItemKind, decode_item
from protocol.limits import IN_FLIGHT_MESSAGES


class OrderedError(Exception):
    """A wipe order lies in the inbox: connect again, and follow it before anything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What came of an entry.

    Attributes:
        wants: What must be looked up first.
        rooms: Where a Welcome now waits.
        judgement: What its Commit can now be told.
        changes: For whoever watches.
    """

    wants: Wants | None = None
    rooms: tuple[Room, ...] = ()
    judgement: Judgement | None = None
    changes: tuple[Change, ...] = ()


class Inbox:
    """Takes entries of the inbox in.

    Attributes:
        on_certificate: Told each certificate that came, DER.
        on_statement: Told each statement that is for others of this device.
        on_recorded: Told the id and number of a message that the archive has, while the relay's
            answer to it is still out.
    """

    def __init__(self, store: Store, book: Book, rooms: Rooms, gossip: Gossip) -> None:
        self._store = store
        self._gossip = gossip
        self._book = book
        self._rooms = rooms
        self.on_certificate: Callable[[bytes], None] = lambda _: None
        self.on_statement: Callable[[StatementType, bytes], None] = lambda *_: None
        self.on_recorded: Callable[[int, int], None] = lambda *_: None

    def take(self, entry: Deliver, *, now_ms: int, patient: bool) -> Found:
        """Take one entry in.

        Raises:
            OrderedError: It is a wipe order; it is not acknowledged.
        """
        if entry.kind == EntryKind.WELCOME:
            return self._welcome(entry, now_ms=now_ms, patient=patient)
        changes: tuple[Change, ...] = ()
        if entry.kind == EntryKind.MESSAGE:
            changes = self._item(entry, now_ms=now_ms)
        self._passed(entry)
        return Found(changes=changes)

    def _passed(self, entry: Deliver) -> None:
        """Note that an entry had its effect, and not again where its number was used before."""
        log = LogId(entry.log)
        if entry.sequence > self._store.cursor(log):
            self._store.passed(log, entry.sequence)

    # -- Welcomes ------------------------------------------------------------------------------

    def _welcome(self, entry: Deliver, *, now_ms: int, patient: bool) -> Found:
        own = self._own(entry.body)
        if own is None:
            return self._lost(entry)
        at_ms = min(entry.at_ms, now_ms)
        found = open_welcome(entry.body, own, judge=self._book.judge, at_ms=at_ms, patient=patient)
        if found.wants or found.certificates:
            return Found(wants=Wants(users=found.wants, certificates=found.certificates))
        if found.stages is None or found.conversation is None:
            return self._lost(entry)
        return self._stage(entry, own, found, found.stages, now_ms=now_ms)

    def _own(self, welcome: bytes) -> KeyPackageSecrets | None:
        for reference in package_references(welcome):
            own = self._store.keys.package(reference)
            if own is not None:
                return own
        return None

    def _lost(self, entry: Deliver) -> Found:
        """Pass over a Welcome that opens nothing; the receipt in the log will say where."""
        log = LogId(entry.log)
        self._store.faults.note(
            log, entry.sequence, cause=Cause.WELCOME_LOST, detail=0, at_ms=entry.at_ms
        )
        self._passed(entry)
        return Found()

    def _stage(
        self,
        entry: Deliver,
        own: KeyPackageSecrets,
        found: Welcomed,
        staged: StagedCommit,
        *,
        now_ms: int,
    ) -> Found:
        assert found.conversation is not None  # noqa: S101 - the caller has looked
        self._book.know(found.knows, now_ms=now_ms)
        room = self._rooms.get(found.conversation)
        view = self._rooms.view(room)
        known = view.group is not None and view.group.epoch >= staged.epoch
        if known or any(one.reference == staged.reference for one in view.staged):
            self._passed(entry)
            return Found()
        _, judgement = welcomed(view, staged)
        self._store.received(
            [
                Entry(
                    log=LogId(entry.log),
                    sequence=entry.sequence,
                    conversation=room.conversation,
                    before=view.group,
                    after=view.group,
                    stages=staged_record(staged),
                    key_package=own.key_package.reference(own.suite),
                    late=entry.sequence <= self._store.cursor(LogId(entry.log)),
                )
            ]
        )
        return Found(rooms=(room,), judgement=judgement)

    # -- items ---------------------------------------------------------------------------------

    def _item(self, entry: Deliver, *, now_ms: int) -> tuple[Change, ...]:
        try:
            item = decode_item(entry.body)
            kind = statement_type(item.body) if item.kind is ItemKind.STATEMENT else None
        except DecodeError:
            return ()
        if item.kind is ItemKind.CERTIFICATE:
            self.on_certificate(item.body)
        if kind is StatementType.WIPE_ORDER:
            raise OrderedError
        if kind is StatementType.ARCHIVED:
            return self._archived(item.body, entry, at_ms=min(entry.at_ms, now_ms))
        if kind is not None:
            self.on_statement(kind, item.body)
        return ()

    def _archived(self, statement: bytes, entry: Deliver, *, at_ms: int) -> tuple[Change, ...]:
        """Believe the archive what it proves, message by message."""
        policy = self._book.trusted.log_policy
        if policy is None:
            return ()
        try:
            # A proof comes once, and the log's and its witness's signatures are what it stands by:
            # a clock that is behind, the relay's or this device's, must not lose it.
            trust = self._book.trusted.trust
            at_ms = made_ms(statement, trust, at_ms=at_ms)
            verified = verify_statement(
                statement, expected=StatementType.ARCHIVED, trust=trust, at_ms=at_ms
            )
            archived = Archived.decode(verified.body)
            checkpoint = archived.verify(log=policy.log, witnesses=policy.witnesses)
        except CryptoError:
            return ()
        if not self._gossip.verified(checkpoint.size, checkpoint.root, now_ms=at_ms):
            cause = Cause.SPLIT_VIEW
            self._store.faults.note(
                LogId(entry.log), entry.sequence, cause=cause, detail=0, at_ms=entry.at_ms
            )
        return tuple(change for one in archived.messages for change in self._proved(one))

    def _proved(self, message: ArchivedMessage) -> tuple[Change, ...]:
        conversation, sequence = message.place
        own = self._store.evidence.hash_of(conversation, sequence)
        if own is None and self._answers(message):
            own = self._store.evidence.hash_of(conversation, sequence)
        if own is None:
            return ()  # Nothing that anybody is shown: a mark, a change of members.
        try:
            message.verify(message_hash=own)
        except CryptoError:
            return ()
        key = self._store.evidence.prove(conversation, sequence)
        if key is None:
            return ()
        return (Change(kind=ChangeKind.MESSAGES, conversation=conversation, messages=(key,)),)

    def _answers(self, message: ArchivedMessage) -> bool:
        """Tell whether a proof is of what waits for the relay's answer, which it then stands for.

        Where a connection ends between a message and its answer, the next one brings the archive's
        proof first; it comes once.
        """
        conversation, sequence = message.place
        for number in self._store.outbox.waiting_in(conversation)[:IN_FLIGHT_MESSAGES]:
            sealed = self._store.outbox.sealed(number) or b""
            with suppress(CryptoError):
                message.verify(message_hash=sha256(sealed).digest())
                self.on_recorded(number, sequence)
                return True
        return False
