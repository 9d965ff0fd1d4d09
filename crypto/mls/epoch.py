"""One epoch of a group as one member holds it, and how the next one follows from a Commit.

Nothing here changes an epoch: proposals are applied to a copy of its tree, and the next epoch is a
new value that exists only once its confirmation tag is known (RFC 9420, sections 12.3 and 12.4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

from crypto.mls import tree_math
from crypto.mls.cipher_suite import CipherSuite, Signer
from crypto.mls.framing import AuthenticatedContent
from crypto.mls.group_info import GroupContext
from crypto.mls.key_package import KeyPackage
from crypto.mls.key_schedule import (
    EpochSecrets,
    FindPSK,
    KeySchedule,
    confirmed_transcript_hash,
    interim_transcript_hash,
    joiner_secret,
    key_schedule,
    psk_secret,
)
from crypto.mls.leaf_node import Extensions, LeafNode
from crypto.mls.proposal import (
    Add,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKey,
    PreSharedKeyID,
    Proposal,
    Remove,
    Update,
)
from crypto.mls.ratchet_tree import RatchetTree
from crypto.mls.secret_tree import SecretTree
from crypto.mls.tree_math import LeafIndex, NodeIndex
from crypto.mls.treekem import PrivateKeys
from crypto.mls.validation import Authenticate, SentProposal, check_proposal


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Epoch:
    """Everything a member holds of the current epoch.

    Attributes:
        encoded_context: Encoding of ``context``, kept because every signature covers it.
        follows: Interim transcript hash of the epoch before; empty where this member began here.
        confirmation_tag: Of the Commit that began the epoch.
        private_keys: HPKE private keys on the member's own path.
    """

    suite: CipherSuite
    context: GroupContext
    encoded_context: bytes
    tree: RatchetTree
    secrets: EpochSecrets
    follows: bytes
    interim_transcript_hash: bytes
    confirmation_tag: bytes
    own_leaf: LeafIndex
    signer: Signer
    private_keys: PrivateKeys


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """A copy of the tree, and the rest, after a proposal list."""

    tree: RatchetTree
    extensions: Extensions
    added: tuple[tuple[LeafIndex, KeyPackage], ...]
    updated: tuple[LeafIndex, ...]
    removed: tuple[LeafIndex, ...]
    psks: tuple[PreSharedKeyID, ...]
    external_init: bytes | None

    @property
    def added_nodes(self) -> frozenset[NodeIndex]:
        """The nodes of the leaves that were added."""
        return frozenset(tree_math.leaf_node(leaf) for leaf, _ in self.added)


def apply_proposals(
    context: GroupContext,
    tree: RatchetTree,
    sent: Sequence[SentProposal],
    *,
    authenticate: Authenticate,
) -> Applied:
    """Check each proposal and apply all, in the RFC's order, to a copy of ``tree``.

    Raises:
        InvalidError: A proposal is invalid.
        DecodeError: An extension inside one is malformed.
        VerificationError: A signature inside one does not verify.

    Source: RFC 9420, section 12.3.
    """
    for item in sent:
        check_proposal(context, tree, item)
    proposals: list[Proposal] = [item.proposal for item in sent]
    extensions = context.extensions
    for proposal in proposals:
        if isinstance(proposal, GroupContextExtensions):
            extensions = proposal.extensions
    changed = tree.copy()
    updated = []
    for item in sent:
        if isinstance(item.proposal, Update):
            leaf = LeafIndex(item.sender.index)
            authenticate(item.proposal.leaf_node, tree.leaf(leaf))
            changed.update(leaf, item.proposal.leaf_node)
            updated.append(leaf)
    removed = [p.removed for p in proposals if isinstance(p, Remove)]
    changed.remove(*removed)
    added = []
    for proposal in proposals:
        if isinstance(proposal, Add):
            authenticate(proposal.key_package.leaf_node, None)
            leaf = changed.add(proposal.key_package.leaf_node)
            added.append((leaf, proposal.key_package))
    inits = [p.kem_output for p in proposals if isinstance(p, ExternalInit)]
    return Applied(
        tree=changed,
        extensions=extensions,
        added=tuple(added),
        updated=tuple(updated),
        removed=tuple(removed),
        psks=tuple(p.psk for p in proposals if isinstance(p, PreSharedKey)),
        external_init=inits[0] if inits else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Transition:
    """What both sides of a Commit feed into the next epoch's key schedule.

    Attributes:
        provisional: The next GroupContext, still with the old confirmed transcript hash.
        interim: The old interim transcript hash.
        init_secret: The old epoch's, or an external commit's.
        commit_secret: The path's, or zeros.
        psks: Those of the Commit, in its order.
        find_psk: Looks one up.
    """

    suite: CipherSuite
    provisional: GroupContext
    interim: bytes
    init_secret: bytes
    commit_secret: bytes
    psks: tuple[PreSharedKeyID, ...]
    find_psk: FindPSK

    def follow(self, commit: AuthenticatedContent) -> tuple[GroupContext, KeySchedule]:
        """Return the next GroupContext and its secrets; the tag of ``commit`` is not looked at.

        Raises:
            InvalidError: A pre-shared key is unknown.

        Source: RFC 9420, sections 8 and 12.4.2.
        """
        confirmed = confirmed_transcript_hash(self.suite, self.interim, commit)
        context = replace(self.provisional, confirmed_transcript_hash=confirmed)
        encoded = context.encode()
        joiner = joiner_secret(
            self.suite,
            init_secret=self.init_secret,
            commit_secret=self.commit_secret,
            context=encoded,
        )
        psk = psk_secret(self.suite, self.psks, self.find_psk)
        return context, key_schedule(self.suite, joiner=joiner, psk_secret=psk, context=encoded)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Own:
    """What of an epoch is this member's alone."""

    leaf: LeafIndex
    signer: Signer
    private_keys: PrivateKeys


def begin_epoch(
    context: GroupContext,
    secrets: EpochSecrets,
    *,
    tree: RatchetTree,
    confirmation_tag: bytes,
    own: Own,
    follows: bytes,
) -> Epoch:
    """Return the epoch that ``context`` and its secrets describe."""
    confirmed = context.confirmed_transcript_hash
    return Epoch(
        suite=tree.suite,
        context=context,
        encoded_context=context.encode(),
        tree=tree,
        secrets=secrets,
        follows=follows,
        interim_transcript_hash=interim_transcript_hash(tree.suite, confirmed, confirmation_tag),
        confirmation_tag=confirmation_tag,
        own_leaf=own.leaf,
        signer=own.signer,
        private_keys=own.private_keys,
    )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PastEpoch:
    """What is kept of an epoch that is over, to read its late messages.

    Attributes:
        number: The epoch.
        replaced: The leaves of that epoch that the Commit ending it changed, as they were; None
            where there was none. A sender of an old epoch is looked up here, never in the new tree.
        secret_tree: What is left of its message keys: saved apart, so not compared, and a late
            message does not save the rest again.
    """

    number: int
    encoded_context: bytes
    sender_data_secret: bytes
    resumption_psk: bytes
    replaced: Mapping[LeafIndex, LeafNode | None]
    secret_tree: SecretTree = field(compare=False)


def end_epoch(epoch: Epoch, secret_tree: SecretTree, following: RatchetTree) -> PastEpoch:
    """Return what is kept of ``epoch`` once the tree is ``following``."""
    pairs = zip_longest(epoch.tree.leaf_nodes, following.leaf_nodes)
    replaced = {LeafIndex(i): old for i, (old, new) in enumerate(pairs) if old is not new}
    return PastEpoch(
        number=epoch.context.epoch,
        encoded_context=epoch.encoded_context,
        sender_data_secret=epoch.secrets.sender_data_secret,
        resumption_psk=epoch.secrets.resumption_psk,
        replaced=replaced,
        secret_tree=secret_tree,
    )
