"""Making and processing Commits (RFC 9420, section 12.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from crypto.errors import InvalidError
from crypto.mls import tree_math
from crypto.mls.cipher_suite import CipherSuite, Signer
from crypto.mls.epoch import Applied, Epoch, Own, Transition, apply_proposals, begin_epoch
from crypto.mls.framing import AuthenticatedContent, Sender, SenderType, WireFormat
from crypto.mls.group_info import MAX_EPOCH, GroupContext
from crypto.mls.key_schedule import FindPSK, KeySchedule, external_init_receive
from crypto.mls.leaf_node import LeafContent, LeafNode, LeafNodeSource
from crypto.mls.proposal import Commit, ProposalOrRef, UpdatePath
from crypto.mls.protection import frame, sign_content
from crypto.mls.ratchet_tree import RatchetTree
from crypto.mls.tree_math import LeafIndex
from crypto.mls.treekem import (
    NewPath,
    PrivateKeys,
    apply_path,
    create_path,
    decrypt_path,
    encrypt_path,
    surviving_keys,
)
from crypto.mls.validation import (
    Authenticate,
    SentProposal,
    check_external_proposal_list,
    check_leaf,
    check_members,
    check_proposal_list,
    check_replacement,
    check_tree,
    check_unique_keys,
    path_required,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A proposal that was sent and not yet committed.

    Attributes:
        encryption_key: HPKE private key of this member's own Update; None for all else.
        signer: The signature key that its own Update brings; None for all else.
    """

    sent: SentProposal
    encryption_key: bytes | None = field(default=None, repr=False)
    signer: Signer | None = field(default=None, repr=False)


PendingProposals = Mapping[bytes, Pending]
"""Pending proposals by ProposalRef."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CommitBase:
    """The public state that a Commit starts from, and what its sender knows.

    A member has it from its epoch, an external joiner from a GroupInfo.
    """

    suite: CipherSuite
    context: GroupContext
    encoded_context: bytes
    tree: RatchetTree
    interim_transcript_hash: bytes
    init_secret: bytes

    @classmethod
    def of(cls, epoch: Epoch) -> CommitBase:
        """Return what a member of ``epoch`` starts from."""
        return cls(
            suite=epoch.suite,
            context=epoch.context,
            encoded_context=epoch.encoded_context,
            tree=epoch.tree,
            interim_transcript_hash=epoch.interim_transcript_hash,
            init_secret=epoch.secrets.init_secret,
        )

    def provisional(self, applied: Applied) -> GroupContext:
        """Return the GroupContext under which a path is encrypted (RFC 9420, section 12.4.1).

        Raises:
            InvalidError: There is no next epoch: an inviter chose a number close to the last.
        """
        if self.context.epoch == MAX_EPOCH:
            raise InvalidError("the group's last epoch has no next one (8.1)")
        return replace(
            self.context,
            epoch=self.context.epoch + 1,
            tree_hash=applied.tree.tree_hash(),
            extensions=applied.extensions,
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Committed:
    """A Commit that was made, and the epoch that it leads to."""

    message: AuthenticatedContent
    epoch: Epoch
    schedule: KeySchedule
    applied: Applied
    path: NewPath | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What its maker decided about a Commit.

    Attributes:
        sender: The committer.
        leaf: Its leaf in the next epoch.
        proposals: As they go on the wire.
        sent: The same, resolved, with their senders.
        with_path: Whether to bring new keys even where the RFC does not ask for it.
        content: The committer's next leaf.
        signer: Signs the Commit.
        next_signer: Signs the next leaf, and everything after.
    """

    sender: Sender
    leaf: LeafIndex
    proposals: tuple[ProposalOrRef, ...]
    sent: tuple[SentProposal, ...]
    with_path: bool
    content: LeafContent
    signer: Signer
    next_signer: Signer
    wire_format: WireFormat
    authenticated_data: bytes


def make_commit(
    base: CommitBase,
    plan: Plan,
    applied: Applied,
    *,
    old_keys: PrivateKeys,
    find_psk: FindPSK,
    authenticate: Authenticate,
) -> Committed:
    """Make a Commit, and the epoch that it leads to.

    Args:
        base: The epoch that it ends.
        plan: What it says.
        applied: The tree after its proposals; given up to this function.
        old_keys: The committer's private keys in the old epoch.
        find_psk: Looks a pre-shared key up.
        authenticate: Judges the committer's own new leaf, as everyone else will.

    Raises:
        InvalidError: The result would break a rule that the receivers check.

    Source: RFC 9420, section 12.4.1.
    """
    suite = base.suite
    path = update_path = None
    commit_secret = bytes(suite.hash_bytes)
    if plan.with_path or path_required([item.proposal for item in plan.sent]):
        path = create_path(
            applied.tree,
            plan.leaf,
            plan.content,
            signer=plan.next_signer,
            group_id=base.context.group_id,
        )
        commit_secret = path.commit_secret
    provisional = base.provisional(applied)
    if path is not None:
        update_path = encrypt_path(
            applied.tree, path, context=provisional.encode(), added=applied.added_nodes
        )
        check_leaf(suite, update_path.leaf_node, LeafNodeSource.COMMIT)
        authenticate(update_path.leaf_node, _replaced(base.tree, applied, plan.sender))
    check_tree(applied.tree, applied.extensions)
    message = _sign(base, plan, Commit(plan.proposals, update_path))
    transition = _transition(base, applied, provisional, commit_secret, find_psk)
    context, schedule = transition.follow(message)
    tag = suite.mac(schedule.secrets.confirmation_key, context.confirmed_transcript_hash)
    keys = surviving_keys(old_keys, base.tree, applied.tree)
    epoch = begin_epoch(
        context,
        schedule.secrets,
        tree=applied.tree,
        confirmation_tag=tag,
        own=Own(
            leaf=plan.leaf,
            signer=plan.next_signer if path else plan.signer,
            private_keys={**keys, **(path.private_keys if path else {})},
        ),
        follows=base.interim_transcript_hash,
    )
    return Committed(
        message=replace(message, confirmation_tag=tag),
        epoch=epoch,
        schedule=schedule,
        applied=applied,
        path=path,
    )


def _replaced(tree: RatchetTree, applied: Applied, sender: Sender) -> LeafNode | None:
    """Return the leaf whose place a committer's new one takes, if it had any (12.2, 12.4.2)."""
    if sender.sender_type is SenderType.MEMBER:
        return tree.leaf(sender.index)
    return tree.leaf(applied.removed[0]) if applied.removed else None


def _sign(base: CommitBase, plan: Plan, commit: Commit) -> AuthenticatedContent:
    """Return the Commit signed, its confirmation tag still to come."""
    content = frame(
        commit,
        group_id=base.context.group_id,
        epoch=base.context.epoch,
        sender=plan.sender,
        authenticated_data=plan.authenticated_data,
    )
    signature = sign_content(
        base.suite, plan.signer, content, wire_format=plan.wire_format, context=base.encoded_context
    )
    return AuthenticatedContent(
        wire_format=plan.wire_format, content=content, signature=signature, confirmation_tag=None
    )


def _transition(
    base: CommitBase,
    applied: Applied,
    provisional: GroupContext,
    commit_secret: bytes,
    find_psk: FindPSK,
) -> Transition:
    return Transition(
        suite=base.suite,
        provisional=provisional,
        interim=base.interim_transcript_hash,
        init_secret=base.init_secret,
        commit_secret=commit_secret,
        psks=applied.psks,
        find_psk=find_psk,
    )


# -- processing --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Processed:
    """A received Commit, wholly verified.

    Attributes:
        committer: Its leaf in the next epoch.
        epoch: What it leads to; None for a member that it removes.
        schedule: The next epoch's key schedule; None likewise.
    """

    committer: LeafIndex
    sent: tuple[SentProposal, ...]
    applied: Applied
    epoch: Epoch | None
    schedule: KeySchedule | None


def resolve(commit: Commit, sender: Sender, pending: PendingProposals) -> tuple[SentProposal, ...]:
    """Return the proposals of a Commit with their senders.

    Raises:
        InvalidError: A reference names no pending proposal, or an external commit has one.
    """
    sent = []
    for item in commit.proposals:
        if not isinstance(item, bytes):
            sent.append(SentProposal(item, sender))
        elif sender.sender_type is SenderType.NEW_MEMBER_COMMIT:
            raise InvalidError("external commit with a proposal by reference (12.4.3.2)")
        elif item not in pending:
            raise InvalidError("Commit names a proposal that is not known (12.4.2)")
        else:
            sent.append(pending[item].sent)
    return tuple(sent)


def process_commit(
    epoch: Epoch,
    message: AuthenticatedContent,
    sent: tuple[SentProposal, ...],
    *,
    pending: PendingProposals,
    find_psk: FindPSK,
    authenticate: Authenticate,
) -> Processed:
    """Verify a Commit whose signature is verified already; nothing of ``epoch`` changes.

    Raises:
        InvalidError: A rule is broken.
        VerificationError: A signature, a path secret or the confirmation tag does not verify.
        DecodeError: Something inside is malformed.

    Source: RFC 9420, section 12.4.2.
    """
    commit = message.content.content
    assert isinstance(commit, Commit)  # noqa: S101 - the caller has looked
    sender = message.content.sender
    external = sender.sender_type is SenderType.NEW_MEMBER_COMMIT
    proposals = [item.proposal for item in sent]
    if external:
        check_external_proposal_list(sent)
    else:
        check_proposal_list(sent, LeafIndex(sender.index))
    if commit.path is None and path_required(proposals):
        raise InvalidError("Commit needs a path and has none (12.4)")
    applied = apply_proposals(epoch.context, epoch.tree, sent, authenticate=authenticate)
    committer = LeafIndex(sender.index)
    check_unique_keys(applied.tree, commit.path)
    if commit.path is not None:
        old = _replaced(epoch.tree, applied, sender)
        if external:
            committer = applied.tree.add(commit.path.leaf_node)
        _apply_received_path(epoch, applied, commit.path, committer=committer, old=old)
        authenticate(commit.path.leaf_node, old)
    check_members(applied.tree, applied.extensions)
    if epoch.own_leaf in applied.removed:
        return Processed(committer=committer, sent=sent, applied=applied, epoch=None, schedule=None)
    keys = _own_keys(epoch, commit, applied, pending)
    return _follow(
        epoch, message, sent, applied=applied, committer=committer, own=keys, find_psk=find_psk
    )


def _apply_received_path(
    epoch: Epoch, applied: Applied, path: UpdatePath, *, committer: LeafIndex, old: LeafNode | None
) -> None:
    """Source: RFC 9420, section 12.4.2, the steps on ``path``."""
    suite = epoch.suite
    check_leaf(suite, path.leaf_node, LeafNodeSource.COMMIT)
    for node in path.nodes:
        suite.hpke.group.check_public_key(node.encryption_key)
    check_replacement(suite, path.leaf_node, old=old, position=(epoch.context.group_id, committer))
    apply_path(applied.tree, committer, path)


def _own_keys(epoch: Epoch, commit: Commit, applied: Applied, pending: PendingProposals) -> Own:
    """Return this member's keys after the proposals: its own Update may be among them."""
    own = Own(
        leaf=epoch.own_leaf,
        signer=epoch.signer,
        private_keys=surviving_keys(epoch.private_keys, epoch.tree, applied.tree),
    )
    for item in commit.proposals:
        update = pending.get(item) if isinstance(item, bytes) else None
        if update is not None and update.encryption_key is not None:
            node = tree_math.leaf_node(own.leaf)
            own = Own(
                leaf=own.leaf,
                signer=update.signer or own.signer,
                private_keys={**own.private_keys, node: update.encryption_key},
            )
    return own


def _follow(
    epoch: Epoch,
    message: AuthenticatedContent,
    sent: tuple[SentProposal, ...],
    *,
    applied: Applied,
    committer: LeafIndex,
    own: Own,
    find_psk: FindPSK,
) -> Processed:
    """Decrypt the path, derive the next epoch, and check the confirmation tag."""
    suite = epoch.suite
    commit = message.content.content
    assert isinstance(commit, Commit)  # noqa: S101 - the caller has looked
    base = CommitBase.of(epoch)
    provisional = base.provisional(applied)
    commit_secret = bytes(suite.hash_bytes)
    if commit.path is not None:
        commit_secret, new_keys = decrypt_path(
            applied.tree,
            committer,
            commit.path,
            own=(own.leaf, own.private_keys),
            context=provisional.encode(),
            added=applied.added_nodes,
        )
        own = replace(own, private_keys={**own.private_keys, **new_keys})
    if applied.external_init is not None:
        init = external_init_receive(suite, epoch.secrets.external_secret, applied.external_init)
        base = replace(base, init_secret=init)
    transition = _transition(base, applied, provisional, commit_secret, find_psk)
    context, schedule = transition.follow(message)
    tag = message.confirmation_tag or b""
    suite.verify_mac(schedule.secrets.confirmation_key, context.confirmed_transcript_hash, tag)
    following = begin_epoch(
        context,
        schedule.secrets,
        tree=applied.tree,
        confirmation_tag=tag,
        own=own,
        follows=epoch.interim_transcript_hash,
    )
    return Processed(
        committer=committer, sent=sent, applied=applied, epoch=following, schedule=schedule
    )


def applied_for(
    base: CommitBase,
    sent: Sequence[SentProposal],
    committer: LeafIndex,
    *,
    authenticate: Authenticate,
) -> Applied:
    """Check a member's proposal list as its receivers will, and apply it.

    Raises:
        InvalidError: The list breaks a rule.
        DecodeError: Something inside is malformed.
        VerificationError: A signature inside does not verify.
    """
    check_proposal_list(sent, committer)
    return apply_proposals(base.context, base.tree, sent, authenticate=authenticate)
