"""What an entry of a conversation's log means to a member: pure, the same for devices and recorder.

``follow`` takes what is known of a conversation and one entry, and says what comes of it: the group
without the key that was used, what was said, a Commit that now waits, one that counts, or a fault.
Whoever calls it keeps that, all in one transaction, and then shows and acknowledges.

A Commit is *staged* until its receipt: the group of the next epoch lies beside the present one. A
joiner's Welcome is staged as well: only a receipt that names the same transcript makes it count, so
nobody is led into a group that the others are not in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import replace

from client import rules
from client.followed import (
    Action,
    Cause,
    Chain,
    Fault,
    Followed,
    Judgement,
    Said,
    StagedCommit,
    View,
    Wants,
)
from client.judging import Judge, Leaves, everybody_wanted, made_ms
from client.rules import Demand, Members, Proposed
from client.views import Roster
from crypto.errors import (
    CryptoError,
    DecodeError,
    EpochError,
    InvalidError,
    KeyUsedError,
    VerificationError,
)
from crypto.mls import Add, ApplicationMessage, Group, OwnMessage, Remove
from crypto.mls import StagedCommit as NextEpoch
from crypto.mls.leaf_node import Extensions, LeafNode
from crypto.mls.proposal import GroupContextExtensions
from crypto.mls.secret_tree import MAX_FORWARD
from crypto.statement import (
    Purpose,
    StatementType,
    VerifiedStatement,
    statement_signers,
    verify_statement,
)
from crypto.trust import DeviceIdentity, Trust
from protocol import limits, policy
from protocol.authenticated_data import AuthenticatedData
from protocol.commands import CommitVerdict, decode_verdict
from protocol.emergency import Guest
from protocol.frames import Deliver, EntryKind
from protocol.group_context import WardlineContext
from protocol.identifiers import DeviceId, user_of
from protocol.requests import decode_request
from protocol.routing import ContentType, route

NOTES_KEPT = 4
"""Notes of one device and kind that a Commit may still cite: one may cross another on its way."""

MISSING_MAX = 64
"""Holes that are kept for one sender: a relay that drops more is known by the first."""


def follow(
    view: View, entry: Deliver, *, judge: Judge, now_ms: int, patient: bool = True
) -> Followed:
    """Return what an entry of a conversation's log means.

    Args:
        view: What is known of the conversation.
        entry: The next entry; that none is left out before it is for the caller to see.
        judge: Whom this device trusts, and who it is.
        now_ms: Now, so that a relay's clock which is ahead makes nothing valid early.
        patient: Whether what is missing is still expected; else it counts as a fault.
    """
    at_ms = min(entry.at_ms, now_ms)
    following = _Following(view, entry, judge=judge, at_ms=at_ms, patient=patient)
    if entry.kind == EntryKind.MESSAGE:
        is_note = entry.body.startswith(_STATEMENT)
        return following.note() if is_note else following.message()
    if entry.kind == EntryKind.COMMIT:
        return following.commit()
    if entry.kind == EntryKind.WITHHELD:
        return following.withheld()
    if entry.kind in (EntryKind.RECEIPT, EntryKind.VOID):
        return following.verdict()
    # The body of a voided Commit is gone, and what the relay says of a page is not MLS.
    return Followed(view=view)


def members_of(group: Group, judge: Judge) -> Members:
    """Return the devices with a leaf in a group that this device has judged."""
    found = (judge.device_of(leaf) for _, leaf in group.members)
    return {DeviceId(one.name): one for one in found if one is not None}


def judgement_on(view: View, staged: StagedCommit) -> Judgement | None:
    """Return what a recorder would sign of a staged Commit; None while that is not known.

    The first Commit of a conversation is unreadable to all whom it adds: what is judged is the
    group that the Welcome of that epoch leads to.
    """
    following = staged.group or _welcomed(view, staged.epoch)
    if staged.refused is Cause.EPOCH_LOST or (staged.refused is None and following is None):
        return None
    confirmed = _NO_HASH
    if staged.refused is None and following is not None:
        confirmed = following.context.confirmed_transcript_hash
    verdict = CommitVerdict(
        conversation=view.conversation,
        sequence=staged.sequence,
        epoch=staged.epoch,
        commit_hash=staged.reference,
        confirmed_transcript_hash=confirmed,
    )
    return Judgement(confirms=staged.refused is None, verdict=verdict, committer=staged.committer)


class _Following:
    """One entry on its way through the rules; each method gives what comes of it."""

    def __init__(
        self, view: View, entry: Deliver, *, judge: Judge, at_ms: int, patient: bool
    ) -> None:
        self.view = view
        self.entry = entry
        self.judge = judge
        self.at_ms = at_ms
        self.patient = patient

    def _fault(self, cause: Cause, action: Action = Action.REPORT) -> Followed:
        return Followed(view=self.view, faults=(Fault(cause=cause, action=action),))

    def _after(self, group: Group) -> View:
        return replace(self.view, group=group)

    # -- messages ------------------------------------------------------------------------------

    def message(self) -> Followed:
        """Open an application message."""
        group = self.view.group
        if group is None:
            return self._fault(Cause.BEFORE_JOINING, Action.NONE)
        leaves = Leaves(self.judge.trust, entering_at_ms=self.at_ms)
        try:
            after, received = group.process(self.entry.body, authenticate=leaves)
        except CryptoError as error:
            return self._unopened(group, error)
        if isinstance(received, OwnMessage):
            return self._fault(Cause.FORGED)
        if not isinstance(received, ApplicationMessage):
            # A proposal, which nobody sends here, or a Commit that claims to be a message: the key
            # stays for the entry that is one.
            return self._fault(Cause.UNLAWFUL)
        return self._opened(after, received)

    def withheld(self) -> Followed:
        """Pass over a message whose content the policy keeps from this device.

        Who said it is sealed with it, so what was known of the senders' chains is let go of: the
        next message of each of them begins another one, and names no hole where there is none.
        """
        group = self.view.group
        if group is None:
            return Followed(view=self.view)
        if self._may_view(group):
            if self.patient:
                # The control log, which says so, and this log come in no order to each other.
                return Followed(view=self.view, wants=Wants(policy=True))
            return self._fault(Cause.WITHHELD)
        count = self.view.withheld + 1
        return Followed(view=replace(self.view, chains={}, withheld=count))

    def _may_view(self, group: Group) -> bool:
        own = group.current.tree.leaf(group.own_leaf)
        ruled = policy.is_ruled(_context(group).conversation_type)
        return not ruled or self.judge.may(own, policy.Action.VIEW)

    def _opened(self, after: Group, received: ApplicationMessage) -> Followed:
        view = self._after(after)
        try:
            data = AuthenticatedData.decode(received.authenticated_data)
        except (DecodeError, InvalidError):
            return Followed(view=view, faults=(_DAMAGED,))
        sender = self.judge.device_of(received.leaf)
        if sender is None or data.commit is not None:
            return Followed(view=view, faults=(_DAMAGED,))
        revoked_ms = self.judge.trust.revocations.since_ms(sender)
        if revoked_ms is not None and revoked_ms <= self.at_ms:
            fault = Fault(cause=Cause.REVOKED, action=Action.REPORT)
            return Followed(view=view, faults=(fault,))
        device = DeviceId(sender.name)
        chain, faults = _chained(view.chains.get(device), data)
        said = Said(
            sender=device,
            data=data,
            plaintext=received.data,
            sequence=self.entry.sequence,
            epoch=received.epoch,
            at_ms=self.entry.at_ms,
            message_hash=hashlib.sha256(self.entry.body).digest(),
        )
        return Followed(
            view=replace(view, chains={**view.chains, device: chain}), said=said, faults=faults
        )

    def _unopened(self, group: Group, error: CryptoError) -> Followed:
        """Say why a message or a Commit does not open."""
        if isinstance(error, EpochError):
            if error.got > group.epoch:
                return self._fault(Cause.EPOCH_LOST, Action.REJOIN)
            return self._fault(Cause.BEFORE_JOINING, Action.NONE)
        if isinstance(error, KeyUsedError):
            return self._fault(Cause.KEY_USED, Action.NONE)
        if isinstance(error, InvalidError) and self.view.withheld >= MAX_FORWARD:
            # So much was said that it may not read that the keys may have gone on without it.
            return self._fault(Cause.EPOCH_LOST, Action.REJOIN)
        return self._fault(Cause.DAMAGED)

    # -- notes ---------------------------------------------------------------------------------

    def note(self) -> Followed:
        """Take in a request that a person's device left for the steward."""
        statement = self._verified(StatementType.DEVICE_REQUEST)
        if statement is None:
            if self.patient and self._is_unknown_signer():
                return Followed(view=self.view, wants=Wants(signers=True))
            return self._fault(Cause.UNSIGNED, Action.NONE)
        if not self._is_request(statement.body):
            return self._fault(Cause.UNLAWFUL, Action.NONE)
        identity = statement.signers[0].identity
        assert identity is not None  # noqa: S101 - the authority signs no device's request
        demand = Demand(
            hash=hashlib.sha256(self.entry.body).digest(),
            kind=statement.type,
            by=DeviceId(identity.name),
            body=statement.body,
            at_ms=self.at_ms,
        )
        if demand.hash in self.view.demands:
            # Given once more: whoever asked may have been let in again since.
            return self._fault(Cause.KEY_USED, Action.NONE)
        demands = _with_note(self.view.demands, demand)
        return Followed(view=replace(self.view, demands=demands), demand=demand)

    def _is_request(self, body: bytes) -> bool:
        try:
            return decode_request(body).conversation == self.view.conversation
        except DecodeError:
            return False

    def _verified(self, kind: StatementType) -> VerifiedStatement | None:
        try:
            # Nobody is the worse for a verdict that is from the future, and a device whose clock is
            # behind for a minute would stay out of the epoch for ever; what is revoked stays so.
            at_ms = made_ms(self.entry.body, self.judge.trust, at_ms=self.at_ms)
            return verify_statement(
                self.entry.body, expected=kind, trust=self.judge.as_of(at_ms), at_ms=at_ms
            )
        except (DecodeError, InvalidError, VerificationError):
            return None

    def _is_unknown_signer(self) -> bool:
        try:
            signers = statement_signers(self.entry.body)
        except DecodeError:
            return False
        return any(signer not in self.judge.trust.devices for signer in signers)

    # -- Commits -------------------------------------------------------------------------------

    def commit(self) -> Followed:
        """Stage a Commit, lawful or not."""
        try:
            routed = route(self.entry.body)
        except (DecodeError, InvalidError):
            return self._fault(Cause.DAMAGED)
        if (routed.conversation, routed.content_type) != (
            self.view.conversation,
            ContentType.COMMIT,
        ):
            return self._fault(Cause.DAMAGED)
        group = self.view.group
        staged = StagedCommit(
            reference=hashlib.sha256(self.entry.body).digest(),
            sequence=self.entry.sequence,
            epoch=routed.epoch + 1,
            committer=DeviceId(""),
            at_ms=self.at_ms,
            message_id=routed.data.message_id,
            roster=Roster(by=DeviceId("")),
        )
        if any(one.reference == staged.reference for one in self.view.staged):
            return self._fault(Cause.KEY_USED, Action.NONE)
        if group is None:
            return self._staged(self.view, staged)
        return self._judged(group, staged)

    def _judged(self, group: Group, staged: StagedCommit) -> Followed:
        leaves = Leaves(self.judge.as_of(self.at_ms), entering_at_ms=self.at_ms)
        try:
            after, received = group.process(self.entry.body, authenticate=leaves)
        except (EpochError, KeyUsedError) as error:
            if isinstance(error, EpochError) and error.got > group.epoch:
                # A relay that was set back takes such a one, from whoever has been further: the
                # others confirm it, or nobody does and it ends.
                return self._staged(self.view, replace(staged, refused=Cause.EPOCH_LOST))
            return self._unopened(group, error)
        except CryptoError:
            if leaves.wants and self.patient:
                users = everybody_wanted(
                    leaves.trust, lambda look: group.process(self.entry.body, authenticate=look)
                )
                return Followed(view=self.view, wants=Wants(users=users | leaves.wants))
            return self._staged(self.view, replace(staged, refused=Cause.DAMAGED))
        if not isinstance(received, NextEpoch):
            return self._staged(self.view, replace(staged, refused=Cause.FORGED))
        return self._ruled(after, received, leaves=leaves, staged=staged)

    def _ruled(
        self, after: Group, received: NextEpoch, *, leaves: Leaves, staged: StagedCommit
    ) -> Followed:
        view = self._after(after)
        try:
            proposed = self._proposed(after, received, trust=leaves.trust)
        except (DecodeError, InvalidError, VerificationError):
            return self._staged(view, replace(staged, refused=Cause.UNLAWFUL))
        cited = proposed.data.statement_hash
        if cited is not None and proposed.demand is None and self.patient:
            return Followed(view=self.view, wants=Wants(statement=cited))
        staged = replace(
            staged,
            committer=DeviceId(proposed.committer.name),
            roster=_roster(proposed),
            group=received.group,
        )
        try:
            rules.check_commit(proposed)
        except InvalidError:
            revoked = rules.is_well_once_told(proposed)
            if revoked and self.patient and self.judge.me != proposed.context.recorder:
                # The control log, which says so, and this log come in no order to each other; who
                # signs the revocations knows them.
                return Followed(view=self.view, wants=Wants(revocation=True))
            strangers = rules.strangers(proposed)
            if strangers and self.patient:
                return Followed(view=self.view, wants=Wants(certificates=strangers))
            # What was asked for before this device came is lawful to the others, if they confirm.
            # So is a removal by a revocation that never came here: it lets nobody in. And so is
            # what people have signed with certificates that the relay does not give.
            untold = cited is not None and proposed.demand is None
            unknown = revoked or untold or bool(strangers)
            refused = Cause.UNTOLD if unknown else Cause.UNLAWFUL
            return self._staged(view, replace(staged, refused=refused, group=None))
        return self._staged(view, staged, knows=tuple(leaves.seen))

    def _proposed(self, group: Group, received: NextEpoch, *, trust: Trust) -> Proposed:
        """Return a Commit as the rules ask about it.

        Raises:
            DecodeError: Something in it is malformed.
            InvalidError: It is of a shape that no lawful one has.
            VerificationError: A voucher's signature does not verify.
        """
        proposals = [sent.proposal for sent in received.proposals]
        rules.check_proposals(proposals)
        if received.external or any(
            sent.sender.index != received.committer for sent in received.proposals
        ):
            raise InvalidError("a Commit's changes are its committer's, who is a member")
        tree = group.current.tree
        context = rules.context_of(group.context.extensions)
        after = rules.context_of(_extensions_after(group, received))
        changed = None if after == context else after
        data = AuthenticatedData.decode(received.authenticated_data)
        if data.commit is None:
            raise InvalidError("a Commit says how it changes the cursors")
        cited = data.commit.statement_hash
        judge = Judge(trust=trust, me=self.judge.me)
        return Proposed(
            conversation=self.view.conversation,
            committer=_judged_leaf(judge, tree.leaf(received.committer)),
            members=members_of(group, judge),
            added=tuple(
                _judged_leaf(judge, one.key_package.leaf_node)
                for one in proposals
                if isinstance(one, Add)
            ),
            removed=tuple(
                _judged_leaf(judge, tree.leaf(one.removed))
                for one in proposals
                if isinstance(one, Remove)
            ),
            context=context,
            changed=changed,
            data=data.commit,
            demand=None if cited is None else self.view.demands.get(cited),
            revocations=trust.revocations,
            at_ms=self.at_ms,
            vouched={} if changed is None else self._vouched(context, changed, trust=trust),
            known=trust.devices,
        )

    def _vouched(
        self, before: WardlineContext, after: WardlineContext, *, trust: Trust
    ) -> dict[bytes, VerifiedStatement]:
        """Return those statements of vouchers that came with a Commit, of people known here.

        Raises:
            InvalidError: A signer's certificate was not valid or was revoked, or a rule is broken.
            VerificationError: A signature does not verify.
        """
        found = {}
        for guest in after.guests:
            if guest not in before.guests and trust.devices.keys() >= {*guest.signers}:
                found[guest.statement] = verify_statement(
                    guest.statement,
                    expected=StatementType.EMERGENCY,
                    trust=trust,
                    at_ms=self.at_ms,
                )
        return found

    def _staged(
        self, view: View, staged: StagedCommit, *, knows: tuple[DeviceIdentity, ...] = ()
    ) -> Followed:
        waiting = replace(view, staged=(*view.staged, staged))
        faults: tuple[Fault, ...] = ()
        if staged.refused is not None:
            faults = (Fault(cause=staged.refused, action=Action.NONE),)
        return Followed(
            view=waiting,
            stages=staged,
            judgement=judgement_on(waiting, staged),
            knows=knows,
            faults=faults,
        )

    # -- verdicts ------------------------------------------------------------------------------

    def verdict(self) -> Followed:
        """Let a staged Commit count, or drop it."""
        confirms = self.entry.kind == EntryKind.RECEIPT
        kind = StatementType.EPOCH_RECEIPT if confirms else StatementType.VOID
        statement = self._verified(kind)
        if statement is None:
            if self.patient and self._is_unknown_signer():
                return Followed(view=self.view, wants=Wants(signers=True))
            return self._fault(Cause.UNSIGNED)
        try:
            verdict = decode_verdict(statement.body)
        except (DecodeError, InvalidError):
            return self._fault(Cause.UNSIGNED)
        if verdict.conversation != self.view.conversation:
            return self._fault(Cause.UNSIGNED)
        return self._confirmed(statement, verdict) if confirms else self._voided(statement, verdict)

    def _voided(self, statement: VerifiedStatement, verdict: CommitVerdict) -> Followed:
        group = self.view.group
        if group is not None and not _is_recorders(statement, _context(group)):
            return self._fault(Cause.UNSIGNED)
        found = self._find(verdict.commit_hash)
        if found is None:
            return Followed(view=self.view)
        drops = (found.reference,)
        return Followed(view=_without(self.view, drops), drops=drops, settled=found)

    def _confirmed(self, statement: VerifiedStatement, verdict: CommitVerdict) -> Followed:
        welcome = self._matching_welcome(verdict)
        if welcome is not None:
            return self._joins(statement, verdict, welcome)
        group = self.view.group
        if group is None:
            if self.patient:
                return Followed(view=self.view, wants=Wants(welcome=True))
            return self._fault(Cause.WELCOME_LOST, Action.REJOIN)
        if verdict.epoch <= group.epoch:
            return self._past(statement, group, verdict)
        found = self._find(verdict.commit_hash)
        if not self._may_confirm(statement, group, found):
            return self._fault(Cause.UNSIGNED)
        if self.patient and self._is_early(statement, group, found):
            return Followed(view=self.view, wants=Wants(silence=True))
        if found is None or verdict.epoch != group.epoch + 1:
            lost = found is not None and found.refused is Cause.EPOCH_LOST
            forked = not lost and any(not one.welcome for one in self.view.staged)
            return self._fault(Cause.FORKED if forked else Cause.EPOCH_LOST, Action.REJOIN)
        return self._merges(group, verdict, found)

    def _past(self, statement: VerifiedStatement, group: Group, verdict: CommitVerdict) -> Followed:
        """Compare a receipt of the present epoch; an older one is of before this device came."""
        if verdict.epoch < group.epoch or (
            verdict.confirmed_transcript_hash == group.context.confirmed_transcript_hash
        ):
            return Followed(view=self.view)
        if not self._is_members(statement, group):
            return self._fault(Cause.UNSIGNED)
        return replace(self._fault(Cause.FORKED, Action.REJOIN), forks=True)

    def _merges(self, group: Group, verdict: CommitVerdict, found: StagedCommit) -> Followed:
        if found.refused is not None:
            # The others are in an epoch that this device cannot or must not enter.
            lost = found.refused in (Cause.DAMAGED, Cause.UNTOLD)
            cause = Cause.EPOCH_LOST if lost else Cause.UNLAWFUL
            return self._fault(cause, Action.REJOIN if lost else Action.REPORT)
        drops = tuple(one.reference for one in self.view.staged if one.epoch <= verdict.epoch)
        if found.group is None:
            view = replace(_without(self.view, drops), group=None, chains={})
            return Followed(
                view=view, drops=drops, roster=found.roster, settled=found, removed=True
            )
        if found.group.context.confirmed_transcript_hash != verdict.confirmed_transcript_hash:
            return self._fault(Cause.FORKED, Action.REJOIN)
        view = replace(_without(self.view, drops), group=group.merge(found.group), withheld=0)
        return Followed(view=view, drops=drops, roster=found.roster, settled=found)

    def _joins(
        self, statement: VerifiedStatement, verdict: CommitVerdict, welcome: StagedCommit
    ) -> Followed:
        assert welcome.group is not None  # noqa: S101 - a Welcome is staged with its group
        if not self._may_confirm(statement, welcome.group, welcome):
            return self._fault(Cause.UNSIGNED)
        drops = tuple(one.reference for one in self.view.staged if one.epoch <= verdict.epoch)
        view = replace(_without(self.view, drops), group=welcome.group, chains={}, withheld=0)
        return Followed(view=view, drops=drops, roster=welcome.roster, settled=welcome, joined=True)

    def _may_confirm(
        self, statement: VerifiedStatement, group: Group, staged: StagedCommit | None
    ) -> bool:
        """Tell whether the recorder signed, or a member of another person's."""
        if _is_recorders(statement, _context(group)):
            return True
        signer = statement.signers[0].identity
        if signer is None or staged is None or not self._is_members(statement, group):
            return False
        if staged.welcome:
            # Who is in already is led elsewhere by the recorder's word alone.
            return self.view.group is None and signer.user != user_of(staged.committer)
        return signer.user != user_of(staged.committer)

    def _is_members(self, statement: VerifiedStatement, group: Group) -> bool:
        """Tell whether the recorder signed, or a device that is in."""
        if _is_recorders(statement, _context(group)):
            return True
        signer, purpose = statement.signers[0].identity, statement.signers[0].purpose
        is_in = signer is not None and signer.name in members_of(group, self.judge)
        return is_in and purpose is Purpose.DEVICE

    def _is_early(
        self, statement: VerifiedStatement, group: Group, staged: StagedCommit | None
    ) -> bool:
        """Tell whether a member signed, and the recorder's silence before that is not seen here.

        A device whose clock was wrong never sees it. The others are in the epoch all the same, so
        whoever waited as long itself goes on: to refuse for good would shut it out for ever.
        """
        if staged is None or _is_recorders(statement, _context(group)):
            return False
        return self.at_ms - staged.at_ms < limits.RECEIPT_SILENCE_MS

    def _find(self, commit_hash: bytes) -> StagedCommit | None:
        found = (
            one for one in self.view.staged if one.reference == commit_hash and not one.welcome
        )
        return next(found, None)

    def _matching_welcome(self, verdict: CommitVerdict) -> StagedCommit | None:
        group = self.view.group
        if group is not None and group.epoch >= verdict.epoch:
            return None
        for one in self.view.staged:
            if one.welcome and one.group is not None and one.epoch == verdict.epoch:
                confirmed = one.group.context.confirmed_transcript_hash
                if confirmed == verdict.confirmed_transcript_hash:
                    return one
        return None


def roster_of(
    by: DeviceId,
    members: Members,
    *,
    added: Collection[DeviceId],
    removed: Collection[DeviceId],
    guests: Collection[Guest],
    known: Mapping[bytes, DeviceIdentity],
) -> Roster:
    """Return how a Commit changes who is in a conversation.

    Args:
        by: Whose Commit it is.
        members: Before it.
        added: Devices whose leaves come.
        removed: Devices whose leaves go.
        guests: Those whom it lets in.
        known: Every device that is known here, by its certificate's fingerprint.
    """
    came, went = set(added), set(removed)
    before = {user_of(device) for device in members}
    after = {user_of(device) for device in (members.keys() - went) | came}
    words = {user for guest in guests for user in rules.vouchers(guest, members, known)}
    return Roster(
        by=by,
        joined=tuple(sorted(after - before)),
        left=tuple(sorted(before - after)),
        added=tuple(sorted(came - went)),
        removed=tuple(sorted(went - came)),
        renewed=tuple(sorted(went & came)),
        guests={guest.user: guest.until_ms for guest in guests},
        vouchers=tuple(sorted(words)),
    )


def _roster(proposed: Proposed) -> Roster:
    changed = () if proposed.changed is None else proposed.changed.guests
    return roster_of(
        DeviceId(proposed.committer.name),
        proposed.members,
        added=[DeviceId(one.name) for one in proposed.added],
        removed=[DeviceId(one.name) for one in proposed.removed],
        guests=[guest for guest in changed if guest not in proposed.context.guests],
        known=proposed.known,
    )


def _extensions_after(group: Group, received: NextEpoch) -> Extensions:
    """Return a Commit's GroupContext extensions, also for whom it removes: it has no group then."""
    if received.group is not None:
        return received.group.context.extensions
    for sent in received.proposals:
        if isinstance(sent.proposal, GroupContextExtensions):
            return sent.proposal.extensions
    return group.context.extensions


def _judged_leaf(judge: Judge, leaf: LeafNode | None) -> DeviceIdentity:
    identity = None if leaf is None else judge.device_of(leaf)
    if identity is None:
        raise InvalidError("a leaf is of a device that was judged")
    return identity


def _chained(known: Chain | None, data: AuthenticatedData) -> tuple[Chain, tuple[Fault, ...]]:
    """Return a sender's chain with one more message, and the hole before it, if there is one."""
    if known is None:
        return Chain(last=data.message_id), ()
    missing = known.missing - {data.message_id}
    faults: tuple[Fault, ...] = ()
    if data.previous_id > known.last and len(missing) < MISSING_MAX:
        missing |= {data.previous_id}
        hole = Fault(cause=Cause.HOLE, action=Action.REPORT, missing=data.previous_id)
        faults = (hole,)
    return Chain(last=max(known.last, data.message_id), missing=missing), faults


def _with_note(demands: Mapping[bytes, Demand], note: Demand) -> dict[bytes, Demand]:
    """Return the notes with one more, of each device and kind no more than the newest ones.

    In the order of the log, so that all who read it keep the same and judge Commits alike.
    """
    alike = [key for key, one in demands.items() if (one.by, one.body) == (note.by, note.body)]
    gone = set(alike[: max(0, len(alike) + 1 - NOTES_KEPT)])
    return {**{key: one for key, one in demands.items() if key not in gone}, note.hash: note}


def _without(view: View, references: tuple[bytes, ...]) -> View:
    kept = tuple(one for one in view.staged if one.reference not in references)
    return replace(view, staged=kept)


def _context(group: Group) -> WardlineContext:
    return rules.context_of(group.context.extensions)


def _is_recorders(statement: VerifiedStatement, context: WardlineContext) -> bool:
    signer = statement.signers[0]
    named = signer.identity is not None and signer.identity.name == context.recorder
    return named and signer.purpose is Purpose.RECORDER


def _welcomed(view: View, epoch: int) -> Group | None:
    """Return the group that a Welcome to an epoch leads to, where one waits."""
    return next((one.group for one in view.staged if one.welcome and one.epoch == epoch), None)


_DAMAGED = Fault(cause=Cause.DAMAGED, action=Action.REPORT)
_NO_HASH = bytes(32)
_STATEMENT = b"\x01"
"""First octet of a statement; an MLSMessage begins with a zero."""
