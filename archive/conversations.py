"""What an entry of a conversation leads to: record, effect on the group, sealed keys, verdict.

Nothing here is in force before its ``Work`` is committed. The order is the point: an epoch's keys
are sealed before its receipt is signed, and no receipt is followed into an epoch that is unsealed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from hashlib import sha256

from archive import events
from archive.alarms import Alarm
from archive.authority import Authority
from archive.batch import Entry
from archive.demands import done_with, let_in
from archive.evidence import Evidence
from archive.index import Followed, Index, first_end
from archive.live import Live
from archive.log import Log
from archive.record import RecordFlags, RecordType
from archive.roster import context_of
from archive.sealing import Officers, bucket_of, seal_epoch
from archive.shredding import ARCHIVE_BUCKET
from archive.work import Piece, Sealed, Work, commit
from client.follow import follow, judgement_on, members_of
from client.followed import Cause, Fault, Judgement, StagedCommit, View
from client.followed import Followed as Outcome
from client.joining import open_welcome, package_references, welcomed
from client.judging import Judge
from crypto.errors import CryptoError, DecodeError, InvalidError
from crypto.mls import Group
from crypto.statement import (
    Signatory,
    StatementType,
    sign_statement,
    statement_type,
    verify_statement,
)
from crypto.statement_types import RULES
from crypto.trust import Trust
from protocol.authenticated_data import Priority
from protocol.content import kinds
from protocol.content.affairs import Card, Official
from protocol.content.talk import Attachment
from protocol.frames import Deliver, EntryKind
from protocol.identifiers import (
    ConversationId,
    DeviceId,
    LogId,
    OrganisationId,
    UserName,
    conversation_log,
    user_of,
)
from protocol.letters import statement_of
from protocol.opening import OfficerKeys
from protocol.retention import CLINICAL
from protocol.routing import route

WELCOME_MS = 20_000
"""How long, in ms, a Commit that adds the recorder waits for its Welcome before it is voided."""

UNKNOWN_EPOCH_MS = 60_000
"""How long, in ms, a Commit of a later epoch than the recorder knows waits before it is voided:
members who know that epoch, as they may after a restore, have confirmed it by then."""

BUCKETS_IN_MEMORY = 4096
"""Epochs whose bucket is remembered."""

_QUIET = frozenset({Cause.BEFORE_JOINING, Cause.KEY_USED})
"""Faults that are no evidence against anybody: the archive came later, or came back."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Identity:
    """As whom the recorder acts.

    Attributes:
        organisation: Whose.
        device: Its name.
        signatory: As which it signs receipts.
    """

    organisation: OrganisationId
    device: DeviceId
    signatory: Signatory = field(repr=False)


OnLetter = Callable[[ConversationId, DeviceId, bytes, int], None]
"""Takes one official letter: its conversation, its sender, and when it came."""


def _no_letter(_where: ConversationId, _sender: DeviceId, _letter: bytes, _at_ms: int) -> None:
    """Nobody takes letters."""


def _no_cosignature(_statement: bytes, _at_ms: int) -> None:
    """Nobody takes cosignatures."""


class Conversations:
    """The conversations of one organisation, over its log and its authority.

    Attributes:
        alarms: How often each was raised.
        rejoining: Conversations in which the recorder must ask to be added again.
        unsealed: Conversations with a Commit whose keys could not be sealed yet.
        demands: Conversations in which a statement asks for a change of members.
        visits: Conversations with guests, and when the first one's time is over, in ms.
        done: Statements that a Commit of the recorder's has cited, and requests to be let in again
            that anybody's has followed, by hash.
        official: The conversation in which an officer wrote last, until somebody notes it.
        on_letter: Takes official letters, before they are recorded.
        on_cosignature: Takes what an officer's device answers as a witness, before it is recorded.
    """

    def __init__(self, log: Log, authority: Authority, *, me: Identity, officers: Officers) -> None:
        self.log = log
        self.authority = authority
        self.me = me
        self.officers = officers
        self.index = Index(log.store)
        self.live = Live(log.store)
        self.alarms: dict[Alarm, int] = {}
        self.rejoining: set[ConversationId] = set()
        self.unsealed: set[ConversationId] = set()
        self.demands: set[ConversationId] = set()
        self.visits = {ConversationId(one): at for one, at in self.index.visited().items()}
        self._followed = self.index.followed()
        self._own: dict[LogId, set[int]] = {}
        self._outbox: dict[bytes, int] = {}
        self._bodies: dict[bytes, bytes] = {}
        self._unled: dict[bytes, int] = {}
        self._buckets: dict[tuple[bytes, int], bytes] = {}
        self._now_ms = 0
        self._standing: tuple[Trust, int, dict[str, set[DeviceId]]] | None = None
        self.done = self.live.let_in()
        self.official: ConversationId | None = None
        self.on_letter: OnLetter = _no_letter
        self.on_cosignature: Callable[[bytes, int], None] = _no_cosignature

    @property
    def now_ms(self) -> int:
        """The time that it was told last."""
        return self._now_ms

    def standing_devices(self, now_ms: int) -> dict[str, set[DeviceId]]:
        """Return the devices of each person whose certificate is valid and not revoked."""
        trust = self.authority.trust
        known = self._standing
        if known is not None and known[0] is trust and known[1] == now_ms:
            return known[2]
        found: dict[str, set[DeviceId]] = {}
        for device in trust.devices.values():
            if device.is_valid_at(now_ms) and trust.revocations.since_ms(device) is None:
                found.setdefault(device.user, set()).add(DeviceId(device.name))
        # Thousands of conversations are looked at in one scan.
        self._standing = (trust, now_ms, found)
        return found

    def members(self, group: Group) -> tuple[DeviceId, ...]:
        """Return the devices with a leaf in a group, ascending."""
        return tuple(sorted(members_of(group, self.judge)))

    @property
    def judge(self) -> Judge:
        """Whom the recorder trusts: every device that the authority ever certified."""
        return Judge(trust=self.authority.trust, me=self.me.device)

    def raise_alarm(self, alarm: Alarm) -> None:
        """Note that something should be looked at."""
        if alarm not in self.alarms:
            events.warn("alarm", alarm=alarm.name)
        self.alarms[alarm] = self.alarms.get(alarm, 0) + 1

    def position(self, log: LogId) -> int:
        """Return the last number of a log that was taken in, 0 before any."""
        known = self._followed.get(log)
        return 0 if known is None else known.through

    def followed(self) -> dict[LogId, Followed]:
        """Return how far each log was taken in, and who reads it."""
        return dict(self._followed)

    def _commit(self, work: Work) -> dict[LogId, int]:
        for letter in work.letters:
            # Before it counts as taken in: what comes twice is worked twice, to the same end.
            self.on_letter(*letter)
        if not (work.pieces or work.views or work.followed or work.answered):
            return {}
        commit(work, log=self.log, index=self.index, live=self.live, now_ms=self._now_ms)
        self._followed.update(work.followed)
        for sealed in work.sealed:
            self.unsealed.discard(ConversationId(sealed.roster.group_id))
        return {log: known.through for log, known in work.followed.items()}

    def _advance(self, work: Work, log: LogId, sequence: int) -> None:
        """Note a number as taken in, and the recorder's own that lie right behind it."""
        own = self._own.get(log, set())
        while sequence + 1 in own:
            sequence += 1
            own.discard(sequence)
        known = work.followed.get(log) or self._followed.get(log) or Followed(through=0)
        work.followed[log] = replace(known, through=sequence)

    # Entries.

    def _view(self, work: Work, conversation: ConversationId) -> View:
        return work.views.get(conversation) or self.live.view(conversation)

    def _conversation(
        self, work: Work, conversation: ConversationId, entry: Deliver, *, patient: bool
    ) -> bool:
        body_hash = sha256(entry.body).digest()
        if entry.body and body_hash in self._outbox:
            self._landed(work, conversation, body_hash, sequence=entry.sequence)
            return True
        if entry.sequence in self._own.get(conversation_log(conversation), ()):
            return True
        view = self._view(work, conversation)
        outcome = follow(view, entry, judge=self.judge, now_ms=self._now_ms, patient=patient)
        if outcome.wants is not None or self._waits_for_seal(work, entry, outcome):
            return False
        if any(one.cause is Cause.FORGED for one in outcome.faults) and (
            self.log.index_of(body_hash) is not None
        ):
            return True  # The recorder's own, which it recorded when the relay took it in.
        self._record_entry(work, conversation, entry, outcome)
        work.views[conversation] = outcome.view
        if outcome.judgement is not None:
            self._judged(work, outcome.view, outcome.judgement)
        self._settle(work, conversation, entry, outcome)
        for fault in outcome.faults:
            self._fault(work, conversation, entry, fault)
        if outcome.demand is not None:
            self.demands.add(conversation)
        return True

    def _waits_for_seal(self, work: Work, entry: Deliver, outcome: Outcome) -> bool:
        """Tell whether a receipt would begin an epoch whose keys are not sealed."""
        group = outcome.view.group
        if outcome.settled is None or entry.kind != EntryKind.RECEIPT or group is None:
            return False
        if self._is_sealed(work, group):
            return False
        self.unsealed.add(ConversationId(group.group_id))
        self._seal(work, group, verdict=None)
        return not self._is_sealed(work, group)

    def _is_sealed(self, work: Work, group: Group) -> bool:
        name = (group.group_id, group.epoch)
        if any((one.roster.group_id, one.roster.epoch) == name for one in work.sealed):
            return True
        return self.index.began_ms(group.group_id, group.epoch) is not None

    def _record_entry(
        self, work: Work, conversation: ConversationId, entry: Deliver, outcome: Outcome
    ) -> None:
        """Record an entry exactly as it came."""
        if not entry.body or entry.kind in (EntryKind.VOIDED, EntryKind.EXPIRED):
            return
        said = outcome.said
        kind = entry_type(entry)
        flags = RecordFlags(0)
        if said is not None:
            flags |= RecordFlags.SIGNATURE_CHECKED | self._content(work, outcome)
            if said.data.priority >= Priority.URGENT:
                flags |= RecordFlags.PRIORITY
        elif not outcome.faults and kind is RecordType.HANDSHAKE:
            flags |= RecordFlags.SIGNATURE_CHECKED
        epoch = _epoch_of(entry) if said is None else said.epoch
        work.add(
            Piece(
                entry=Entry(
                    type=kind,
                    body=entry.body,
                    bucket=self._bucket(work, conversation, epoch),
                    group_id=conversation,
                    epoch=epoch,
                    flags=flags,
                ),
                sequence=entry.sequence,
                sent_ms=entry.at_ms,
                tell=None if said is None else said.sender,
            )
        )

    def _bucket(self, work: Work, conversation: ConversationId, epoch: int) -> bytes:
        """Return the bucket of an epoch: its messages end with the keys that open them."""
        for one in reversed(work.sealed):
            if (one.roster.group_id, one.roster.epoch) == (conversation, epoch):
                return work.pieces[one.keys_at].entry.bucket
        known = self._buckets.get((conversation, epoch))
        if known is None:
            name = self._class_of(work, conversation)
            began_ms = self.index.began_ms(conversation, epoch)
            known = bucket_of(name, self._now_ms if began_ms is None else began_ms)
            if began_ms is not None:
                if len(self._buckets) >= BUCKETS_IN_MEMORY:
                    self._buckets.clear()
                self._buckets[conversation, epoch] = known
        return known

    def _class_of(self, work: Work, conversation: ConversationId) -> str:
        view = self._view(work, conversation)
        groups = (view.group, *(one.group for one in view.staged))
        for group in groups:
            if group is not None:
                return context_of(group).retention_class
        known = self.index.context(conversation)
        return CLINICAL if known is None else known.retention_class

    def _content(self, work: Work, outcome: Outcome) -> RecordFlags:
        """Note of a message what the officers will search by; its words are not kept."""
        said = outcome.said
        assert said is not None  # noqa: S101 - asked for messages only
        try:
            content = kinds.decode(said.plaintext)
        except (DecodeError, InvalidError):
            return RecordFlags(0)
        if isinstance(content, Card) and content.patient:
            work.patients.append((content.patient, outcome.view.conversation))
        elif isinstance(content, Official):
            work.letters += [
                (outcome.view.conversation, said.sender, one, said.at_ms)
                for one in content.statements
            ]
            self._officers_letters(work, content, at_ms=said.at_ms)
        elif isinstance(content, Attachment):
            work.attachments.append((content.blob, outcome.view.conversation))
            return RecordFlags.ATTACHMENT
        return RecordFlags(0)

    def _officers_letters(self, work: Work, content: Official, *, at_ms: int) -> None:
        """Take officers' keys into use that came as letters."""
        for letter in content.statements:
            try:
                statement = statement_of(letter)
                if statement and statement_type(statement) is StatementType.OFFICER_KEYS:
                    self.officer_keys(work, statement, at_ms=min(at_ms, self._now_ms))
            except CryptoError:
                continue

    def officer_keys(self, work: Work, statement: bytes, *, at_ms: int) -> None:
        """Take an officer's keys of coming buckets into use.

        Raises:
            CryptoError: The statement is not what it should be.
        """
        verified = verify_statement(
            statement,
            expected=StatementType.OFFICER_KEYS,
            trust=self.authority.trust,
            at_ms=at_ms,
        )
        signer = verified.signers[0].identity
        if signer is None or signer.user not in self.officers.users:
            raise InvalidError("officers' keys are those of the quorum's officers")
        work.officer_keys += [
            (signer.user, key.bucket, key.public_key, verified.issued_ms)
            for key in OfficerKeys.decode(verified.body).keys
        ]

    # Commits.

    def _judged(self, work: Work, view: View, judgement: Judgement) -> None:
        """Seal what a Commit begins and keep its receipt, or keep its void."""
        if not judgement.confirms:
            self._void(work, view.conversation, judgement)
            return
        group = _group_of(view, judgement)
        if group is None:
            return
        receipt = self._signed(StatementType.EPOCH_RECEIPT, judgement.verdict.encode())
        self._seal(work, group, verdict=receipt)

    def _seal(self, work: Work, group: Group, *, verdict: bytes | None) -> None:
        if self._is_sealed(work, group):
            return
        sealed = seal_epoch(
            group,
            organisation=self.me.organisation,
            officers=self.officers,
            index=self.index,
            judge=self.judge,
            now_ms=self._now_ms,
        )
        if sealed is None:
            self.unsealed.add(ConversationId(group.group_id))
            self.raise_alarm(Alarm.OFFICERS)
            return
        keys_at = work.add(Piece(entry=sealed.keys, sent_ms=self._now_ms))
        roster_at = work.add(Piece(entry=sealed.roster_entry, sent_ms=self._now_ms))
        work.sealed.append(
            Sealed(
                roster=sealed.roster,
                keys_at=keys_at,
                roster_at=roster_at,
                users=sealed.users,
                verdict=verdict,
                began_ms=self._now_ms,
            )
        )

    def _seal_waiting(self, work: Work, conversation: ConversationId) -> None:
        """Judge a conversation's Commits again that could not be sealed."""
        view = self._view(work, conversation)
        for staged in view.staged:
            judgement = None if staged.welcome else judgement_on(view, staged)
            if judgement is not None and judgement.confirms and staged.sequence:
                self._judged(work, view, judgement)

    def _void(self, work: Work, conversation: ConversationId, judgement: Judgement) -> None:
        verdict = judgement.verdict
        evidence = Evidence(
            log=conversation_log(conversation),
            sequence=verdict.sequence,
            cause=int(Cause.UNLAWFUL),
            body_hash=verdict.commit_hash,
        )
        place = self._add_own(work, RecordType.FAULT_EVIDENCE, evidence.encode())
        statement = self._signed(StatementType.VOID, verdict.encode())
        work.voids[conversation] = (statement, place)
        self.raise_alarm(Alarm.FAULT)

    def _signed(self, kind: StatementType, body: bytes) -> bytes:
        return sign_statement(
            kind,
            body,
            organisation=self.me.organisation,
            issued_ms=self._now_ms,
            lifetime_ms=RULES[kind].lifetime_ms,
            signatory=self.me.signatory,
        )

    def _settle(
        self, work: Work, conversation: ConversationId, entry: Deliver, outcome: Outcome
    ) -> None:
        """Note what a verdict decided: who reads from now on, and that nothing waits any more."""
        if outcome.settled is None:
            return
        work.settled.add(conversation)
        if outcome.joined:
            self.rejoining.discard(conversation)
        elif outcome.removed:
            self.rejoining.add(conversation)
        group = outcome.view.group
        if entry.kind != EntryKind.RECEIPT or group is None:
            return
        # By a member or the steward, before a start or after: done twice, whoever asked would miss
        # what lies between.
        came = {*outcome.settled.roster.added, *outcome.settled.roster.renewed}
        work.let_in += let_in(outcome.view.demands.values(), came)
        readers = tuple(sorted(members_of(group, self.judge)))
        standing = self.standing_devices(self._now_ms)
        work.let_in += done_with(outcome.view.demands.values(), readers, standing)
        self.done |= {one.hash for one in work.let_in}
        context = context_of(group)
        self.visits.pop(conversation, None)
        if context.guests:
            self.visits[conversation] = first_end(context)
        log = conversation_log(conversation)
        known = work.followed.get(log) or self._followed.get(log) or Followed(through=0)
        if not self._is_asked(outcome.settled):
            # Who was let in for an emergency has a time, and comes back by being let in again.
            guests = {guest.user for guest in context_of(group).guests}
            lost = self._bereft(known.readers, readers) - guests
            work.bereft += [(user, conversation) for user in lost]
        work.followed[log] = replace(known, epoch=group.epoch, readers=readers)

    def _is_asked(self, settled: StagedCommit) -> bool:
        """Tell whether a Commit cited a statement: somebody wanted what it did."""
        index = self.log.index_of(settled.reference)
        if index is None or not self.log.has_body(index):
            return False
        said = route(self.log.body(index)).data.commit
        return said is not None and said.statement_hash is not None

    def _bereft(self, before: Iterable[DeviceId], after: Iterable[DeviceId]) -> set[UserName]:
        """Return who has left, where every device of theirs that went was revoked or expired."""
        standing = self.standing_devices(self._now_ms)
        stay = {user_of(device) for device in after}
        gone = [device for device in before if user_of(device) not in stay]
        willing = {user_of(d) for d in gone if d in standing.get(user_of(d), ())}
        return {user_of(device) for device in gone} - willing

    def _welcome(self, work: Work, entry: Deliver) -> None:
        """Take a Welcome in: the group waits for its receipt, as every Commit does."""
        own = self.live.package(package_references(entry.body))
        if own is None:
            self._evidence(work, entry, cause=int(Cause.WELCOME_LOST))
            return
        found = open_welcome(
            entry.body, own, judge=self.judge, at_ms=min(entry.at_ms, self._now_ms), patient=False
        )
        work.packages.append(own)
        if found.stages is None or found.conversation is None:
            self._evidence(work, entry, cause=int(found.fault or Cause.WELCOME_LOST))
            return
        view, judgement = welcomed(self._view(work, found.conversation), found.stages)
        work.views[found.conversation] = view
        if judgement is not None:
            self._judged(work, view, judgement)

    def overdue(self, *, now_ms: int) -> dict[LogId, int]:
        """Void Commits that add the recorder and whose Welcome never came, or leads nowhere.

        The relay takes Commit and Welcome in together, so what is missing is not on its way.
        """
        self._now_ms = now_ms
        work, unled = Work(), {}
        for conversation in self.live.waiting():
            view = self._view(work, conversation)
            for staged in view.staged:
                if staged.welcome or not staged.sequence or judgement_on(view, staged) is not None:
                    continue
                # Where the clock was ahead when it began to wait, it begins now.
                since_ms = min(self._unled.get(staged.reference, now_ms), now_ms)
                unled[staged.reference] = since_ms
                lost = staged.refused is Cause.EPOCH_LOST
                if now_ms - since_ms > (UNKNOWN_EPOCH_MS if lost else WELCOME_MS):
                    unled[staged.reference] = now_ms
                    self._void_unled(work, view, staged)
        self._unled = unled
        return self._commit(work)

    def _void_unled(self, work: Work, view: View, staged: StagedCommit) -> None:
        refused = replace(staged, refused=Cause.WELCOME_LOST)
        judgement = judgement_on(view, refused)
        if judgement is not None:
            self._void(work, view.conversation, judgement)

    # The recorder's own messages.

    def prepared(self, view: View, message: bytes, *, message_id: int, frame: bytes) -> None:
        """Keep a message or Commit of the recorder's own, before it is sent."""
        with self.log.recording((), now_ms=self._now_ms):
            self.live.save(view)
            self.live.put_outbox(message_id, frame)
        self.live.remember([view])
        self.expect(message, message_id=message_id)

    def expect(self, message: bytes, *, message_id: int) -> None:
        """Know a message of the recorder's own when it comes back."""
        self._outbox[sha256(message).digest()] = message_id
        self._bodies[sha256(message).digest()] = message

    def accepted(self, message: bytes, *, sequence: int, now_ms: int) -> dict[LogId, int]:
        """Record a message or Commit of the recorder's own that the relay has taken in."""
        self._now_ms = now_ms
        body_hash = sha256(message).digest()
        if body_hash not in self._outbox:
            return {}
        conversation = route(message).conversation
        work = Work()
        self._landed(work, conversation, body_hash, sequence=sequence)
        log = conversation_log(conversation)
        if sequence == self.position(log) + 1:
            self._advance(work, log, sequence)
        elif sequence > self.position(log):
            self._own.setdefault(log, set()).add(sequence)
        return self._commit(work)

    def _landed(
        self, work: Work, conversation: ConversationId, body_hash: bytes, *, sequence: int
    ) -> None:
        message = self._bodies.pop(body_hash)
        work.answered.append(self._outbox.pop(body_hash))
        view = self._view(work, conversation)
        staged = next((one for one in view.staged if one.reference == body_hash), None)
        epoch = route(message).epoch
        entry = Entry(
            type=RecordType.MESSAGE if staged is None else RecordType.HANDSHAKE,
            body=message,
            bucket=self._bucket(work, conversation, epoch),
            group_id=conversation,
            epoch=epoch,
            flags=RecordFlags.SIGNATURE_CHECKED,
        )
        work.add(Piece(entry=entry, sequence=sequence, sent_ms=self._now_ms))
        if staged is not None:
            self._own_commit(work, view, staged, sequence=sequence)

    def _own_commit(self, work: Work, view: View, staged: StagedCommit, *, sequence: int) -> None:
        placed = replace(staged, sequence=sequence, at_ms=self._now_ms)
        after = replace(view, staged=tuple(placed if one is staged else one for one in view.staged))
        work.views[view.conversation] = after
        judgement = judgement_on(after, placed)
        if judgement is not None:
            self._judged(work, after, judgement)

    def refused(self, message: bytes, *, now_ms: int) -> None:
        """Let go of a message or Commit of the recorder's own that the relay did not take."""
        self._now_ms = now_ms
        body_hash = sha256(message).digest()
        if body_hash not in self._outbox:
            return
        del self._bodies[body_hash]
        work = Work(answered=[self._outbox.pop(body_hash)])
        view = self._view(work, route(message).conversation)
        staged = tuple(one for one in view.staged if one.reference != body_hash)
        work.views[view.conversation] = replace(view, staged=staged)
        self._commit(work)

    def _add_own(self, work: Work, kind: RecordType, body: bytes) -> int:
        entry = Entry(type=kind, body=body, bucket=ARCHIVE_BUCKET)
        return work.add(Piece(entry=entry, sent_ms=self._now_ms))

    def _fault(
        self, work: Work, conversation: ConversationId, entry: Deliver, fault: Fault
    ) -> None:
        view = self._view(work, conversation)
        if fault.cause is Cause.BEFORE_JOINING and view.group is None and not view.staged:
            # It reads this log and is not in the group: it was restored from before it joined.
            self.rejoining.add(conversation)
        if fault.cause in _QUIET:
            return
        self._evidence(work, entry, cause=int(fault.cause))
        if fault.action.name == "REJOIN":
            self.rejoining.add(conversation)
            if fault.cause is Cause.EPOCH_LOST:
                # The others confirmed an epoch that it cannot enter. Where it held on to its own,
                # it could not judge the Commit that lets it in again, and would ask for ever.
                work.views[conversation] = replace(view, group=None, staged=(), chains={})

    def _evidence(self, work: Work, entry: Deliver, *, cause: int) -> None:
        evidence = Evidence(
            log=entry.log,
            sequence=entry.sequence,
            cause=cause,
            body_hash=sha256(entry.body).digest(),
        )
        self._add_own(work, RecordType.FAULT_EVIDENCE, evidence.encode())
        self.raise_alarm(Alarm.FAULT)


def _group_of(view: View, judgement: Judgement) -> Group | None:
    """Return the group that a receipt's Commit leads to."""
    wanted = judgement.verdict.confirmed_transcript_hash
    for one in view.staged:
        group = one.group
        if group is not None and group.context.confirmed_transcript_hash == wanted:
            return group
    return None


def _epoch_of(entry: Deliver) -> int:
    try:
        return route(entry.body).epoch
    except (DecodeError, InvalidError):
        return 0


_PAGE = 7
"""``EntryKind`` of what the relay says of a page's course."""


def entry_type(entry: Deliver) -> RecordType:
    """Return as what an entry of a conversation is recorded."""
    if entry.kind == _PAGE:
        return RecordType.ESCALATION
    is_message = entry.kind == EntryKind.MESSAGE and not entry.body.startswith(b"\x01")
    return RecordType.MESSAGE if is_message else RecordType.HANDSHAKE
