"""What makes a leaf, a proposal list and a tree acceptable (RFC 9420, sections 7.3, 12.1, 12.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from crypto.codec import Reader, decode
from crypto.errors import InvalidError
from crypto.mls.cipher_suite import CipherSuite
from crypto.mls.framing import Sender, SenderType
from crypto.mls.group_info import GroupContext
from crypto.mls.leaf_node import (
    MLS10,
    Capabilities,
    Credential,
    Extensions,
    ExtensionType,
    LeafNode,
    LeafNodeSource,
    find_extension,
)
from crypto.mls.proposal import (
    Add,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKey,
    Proposal,
    ProposalType,
    ReInit,
    Remove,
    ResumptionPSK,
    ResumptionPSKUsage,
    Update,
    UpdatePath,
)
from crypto.mls.ratchet_tree import RatchetTree
from crypto.mls.tree_math import LeafIndex

Authenticate = Callable[[LeafNode, LeafNode | None], None]
"""The application's judgement of a leaf's credential and dates (RFC 9420, section 5.3.1).

Called with each leaf that enters or changes, and the leaf that it replaces or None; refuses by
raising one of this package's errors. There is no default, because there is no safe one. It is not
called for the ``external_senders`` of a group that is joined or of a GroupContextExtensions: look
at these in the group's ``context`` and in ``StagedCommit.proposals`` before you go on.
"""

_DEFAULT_EXTENSIONS = frozenset(ExtensionType)
_DEFAULT_PROPOSALS = frozenset(ProposalType)
_EXTERNAL_PROPOSALS = (Add, Remove, PreSharedKey, ReInit, GroupContextExtensions)


@dataclass(frozen=True, slots=True)
class SentProposal:
    """A proposal and who sent it."""

    proposal: Proposal
    sender: Sender


@dataclass(frozen=True, slots=True)
class ExternalSender:
    """Someone outside the group who may propose (RFC 9420, section 12.1.8.1)."""

    signature_key: bytes
    credential: Credential

    @classmethod
    def read(cls, reader: Reader) -> ExternalSender:
        """Read the struct."""
        return cls(reader.opaque(), Credential.read(reader))


def external_senders(extensions: Extensions) -> tuple[ExternalSender, ...]:
    """Return who outside the group may propose (RFC 9420, section 12.1.8.1).

    Raises:
        DecodeError: The extension is malformed.
    """
    data = find_extension(extensions, ExtensionType.EXTERNAL_SENDERS)
    if data is None:
        return ()
    return decode(data, "external_senders", lambda r: r.vector(ExternalSender.read))


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a group asks of its members' capabilities."""

    extensions: frozenset[int]
    proposals: frozenset[int]
    credentials: frozenset[int]

    @classmethod
    def of(cls, extensions: Extensions) -> Requirements:
        """Return what a GroupContext with ``extensions`` asks (RFC 9420, sections 7.2, 11.1).

        Raises:
            DecodeError: The required_capabilities extension is malformed.
            InvalidError: An extension type stands there twice.
        """
        in_use = check_unique_extensions(extensions)
        data = find_extension(extensions, ExtensionType.REQUIRED_CAPABILITIES)
        lists: list[tuple[int, ...]] = [(), (), ()]
        if data is not None:
            lists = decode(
                data, "required_capabilities", lambda r: [r.vector(Reader.u16) for _ in range(3)]
            )
        return cls(
            frozenset({*in_use, *lists[0]} - _DEFAULT_EXTENSIONS),
            frozenset(set(lists[1]) - _DEFAULT_PROPOSALS),
            frozenset(lists[2]),
        )

    def check(self, capabilities: Capabilities) -> None:
        """Refuse capabilities that lack something; ``InvalidError`` names the kind."""
        if not self.extensions.issubset(capabilities.extensions):
            raise InvalidError("a member lacks an extension of the group (7.3, 11.1)")
        if not self.proposals.issubset(capabilities.proposals):
            raise InvalidError("a member lacks a required proposal type (7.3, 11.1)")
        if not self.credentials.issubset(capabilities.credentials):
            raise InvalidError("a member lacks a credential type of the group (7.3)")


def check_unique_extensions(extensions: Extensions) -> frozenset[int]:
    """Return the extension types, each once.

    Raises:
        InvalidError: A type stands there twice (RFC 9420, section 13.4).
    """
    types = frozenset(extension.extension_type for extension in extensions)
    if len(types) != len(extensions):
        raise InvalidError("an extension type appears twice (13.4)")
    return types


def check_group_extensions(extensions: Extensions) -> None:
    """Refuse a GroupContext's extensions that are malformed in themselves.

    Raises:
        DecodeError: An extension that this package knows is malformed.
        InvalidError: An extension type stands there twice.
    """
    Requirements.of(extensions)
    external_senders(extensions)


def check_leaf(suite: CipherSuite, leaf: LeafNode, source: LeafNodeSource | None) -> None:
    """Check what a leaf says of itself, without its signature and its place in a group.

    Args:
        suite: The group's.
        leaf: The leaf.
        source: Where it must come from; None where any will do, as in a tree that is joined.

    Raises:
        InvalidError: A rule of RFC 9420, section 7.3, is broken.
    """
    if source is not None and leaf.source is not source:
        raise InvalidError("leaf_node_source is not that of the message (7.3)")
    capabilities = leaf.capabilities
    if MLS10 not in capabilities.versions or suite.value not in capabilities.cipher_suites:
        raise InvalidError("capabilities lack the group's version or cipher suite (7.2)")
    if leaf.credential.credential_type not in capabilities.credentials:
        raise InvalidError("capabilities lack the leaf's own credential type (7.3)")
    types = check_unique_extensions(leaf.extensions)
    if not (types - _DEFAULT_EXTENSIONS).issubset(capabilities.extensions):
        raise InvalidError("capabilities lack an extension of the leaf (7.3)")
    # The signature key needs no check here: the leaf's signature is verified with it, and the
    # verifier refuses malformed and small-order keys.
    suite.hpke.group.check_public_key(leaf.encryption_key)


def check_unique_keys(tree: RatchetTree, path: UpdatePath | None = None) -> None:
    """Refuse, with ``InvalidError``, an encryption key that a tree and a path hold twice.

    Args:
        tree: The tree, before the path is merged: a path must bring keys that are not in it.
        path: What a Commit brings, or None.

    Source: RFC 9420, sections 7.3 and 12.4.2.
    """
    keys = [node.encryption_key for node in tree.nodes if node is not None]
    if path is not None:
        keys += [path.leaf_node.encryption_key, *(node.encryption_key for node in path.nodes)]
    if len(set(keys)) != len(keys):
        raise InvalidError("encryption_key is not unique in the tree (7.3, 12.4.2)")


def check_tree(tree: RatchetTree, extensions: Extensions) -> None:
    """Check the keys and the members of a tree, as the two functions beside this one do."""
    check_unique_keys(tree)
    check_members(tree, extensions)


def check_members(tree: RatchetTree, extensions: Extensions) -> None:
    """Check what the members of a group must be to each other.

    Raises:
        DecodeError: The group's required_capabilities are malformed.
        InvalidError: A signature key is not unique, or a member does not support what the group
            or another member needs (RFC 9420, sections 7.3 and 12.2).
    """
    leaves = [leaf for leaf in tree.leaf_nodes if leaf is not None]
    if len({leaf.signature_key for leaf in leaves}) != len(leaves):
        raise InvalidError("signature_key is not unique among the members (7.3)")
    requirements = Requirements.of(extensions)
    in_use = {leaf.credential.credential_type for leaf in leaves}
    needed = Requirements(
        requirements.extensions, requirements.proposals, requirements.credentials | in_use
    )
    # Told apart by identity: decoding shares equal ones, and to hash a thousand costs a Commit.
    for capabilities in {id(leaf.capabilities): leaf.capabilities for leaf in leaves}.values():
        needed.check(capabilities)


# -- proposals ---------------------------------------------------------------------------------


def check_proposal(context: GroupContext, tree: RatchetTree, sent: SentProposal) -> None:
    """Check one proposal against the epoch in which it was sent (RFC 9420, section 12.1).

    Raises:
        InvalidError: A rule is broken, or this package refuses the type.
        DecodeError: An extension inside is malformed.
        VerificationError: A signature inside does not verify.
    """
    proposal, sender, suite = sent.proposal, sent.sender, tree.suite
    _check_sender(proposal, sender.sender_type)
    if isinstance(proposal, Add):
        check_leaf(suite, proposal.key_package.leaf_node, LeafNodeSource.KEY_PACKAGE)
        check_unique_extensions(proposal.key_package.extensions)
        proposal.key_package.verify(suite)
    elif isinstance(proposal, Update):
        old = tree.leaf(sender.index)
        if old is None:
            raise InvalidError("Update of a blank leaf (12.1.2)")
        check_leaf(suite, proposal.leaf_node, LeafNodeSource.UPDATE)
        position = context.group_id, LeafIndex(sender.index)
        check_replacement(suite, proposal.leaf_node, old=old, position=position)
    elif isinstance(proposal, Remove):
        if tree.leaf(proposal.removed) is None:
            raise InvalidError("Remove names no member (12.1.3)")
    elif isinstance(proposal, PreSharedKey):
        _check_psk(suite, proposal)
    elif isinstance(proposal, ReInit):
        raise InvalidError("ReInit is not supported: successor groups (11.2) are refused here")
    elif isinstance(proposal, GroupContextExtensions):
        check_group_extensions(proposal.extensions)


def check_replacement(
    suite: CipherSuite,
    leaf_node: LeafNode,
    *,
    old: LeafNode | None,
    position: tuple[bytes, LeafIndex],
) -> None:
    """Check a leaf that takes the place of ``old``: its key is new, and it is signed.

    Raises:
        InvalidError: The encryption key is the old one.
        VerificationError: The leaf's signature does not verify.

    Source: RFC 9420, sections 7.3 and 12.4.2.
    """
    if old is not None and leaf_node.encryption_key == old.encryption_key:
        raise InvalidError("encryption_key is that of the replaced leaf (7.3)")
    leaf_node.verify_signature(suite, group_id=position[0], leaf_index=position[1])


def _check_psk(suite: CipherSuite, proposal: PreSharedKey) -> None:
    """Source: RFC 9420, section 12.1.4."""
    psk = proposal.psk
    if isinstance(psk, ResumptionPSK) and psk.usage is not ResumptionPSKUsage.APPLICATION:
        raise InvalidError("resumption PSK for reinit or branch in a proposal (12.1.4)")
    if len(psk.psk_nonce) != suite.hash_bytes:
        raise InvalidError("psk_nonce has the wrong length (12.1.4)")


def _check_sender(proposal: Proposal, sender_type: SenderType) -> None:
    """Source: RFC 9420, sections 6.1 and 12.1.8."""
    if sender_type is SenderType.EXTERNAL and not isinstance(proposal, _EXTERNAL_PROPOSALS):
        raise InvalidError("proposal type is not for external senders (12.1.8)")
    if sender_type is SenderType.NEW_MEMBER_PROPOSAL and not isinstance(proposal, Add):
        raise InvalidError("a new member may propose an Add only (12.1.8)")
    if sender_type is not SenderType.NEW_MEMBER_COMMIT and isinstance(proposal, ExternalInit):
        raise InvalidError("ExternalInit outside an external commit (12.2)")


def _slot(sent: SentProposal) -> tuple[type[Proposal], object]:
    """Return what a proposal changes, which no other of its list may (RFC 9420, section 12.2)."""
    proposal = sent.proposal
    if isinstance(proposal, Update):
        return Remove, sent.sender.index
    if isinstance(proposal, Remove):
        return Remove, proposal.removed
    if isinstance(proposal, Add):
        return Add, proposal.key_package.leaf_node.signature_key
    if isinstance(proposal, PreSharedKey):
        return PreSharedKey, proposal.psk
    return type(proposal), None


def _check_slots(sent: Sequence[SentProposal]) -> set[tuple[type[Proposal], object]]:
    slots = {_slot(item) for item in sent}
    if len(slots) != len(sent):
        raise InvalidError("two proposals of a list exclude each other (12.2)")
    return slots


def check_proposal_list(sent: Sequence[SentProposal], committer: LeafIndex) -> None:
    """Check a member's list as a whole (RFC 9420, section 12.2).

    Raises:
        InvalidError: Two proposals update or remove one leaf, add one client, name one
            PreSharedKeyID or replace the extensions, or one is about the committer's own leaf.
    """
    if (Remove, committer) in _check_slots(sent):
        raise InvalidError("the committer updates or removes itself by proposal (12.2)")


def check_external_proposal_list(sent: Sequence[SentProposal]) -> None:
    """Check the list of an external commit (RFC 9420, section 12.2).

    Raises:
        InvalidError: The list is invalid.
    """
    _check_slots(sent)
    kinds = [type(item.proposal) for item in sent]
    if not {ExternalInit} <= set(kinds) <= {ExternalInit, Remove, PreSharedKey}:
        raise InvalidError("an external commit needs ExternalInit and takes few others (12.2)")
    if kinds.count(Remove) > 1:
        raise InvalidError("an external commit has at most one Remove (12.2)")


def path_required(proposals: Sequence[Proposal]) -> bool:
    """Tell whether a commit of these needs a path (RFC 9420, sections 12.4 and 17.4)."""
    without = (Add, PreSharedKey)
    return not proposals or not all(isinstance(p, without) for p in proposals)


def preferred(
    pending: Iterable[tuple[bytes, SentProposal]],
    committer: LeafIndex,
    *,
    beside: Iterable[SentProposal],
) -> list[tuple[bytes, SentProposal]]:
    """Choose from pending proposals those that a list can hold together (RFC 9420, section 12.2).

    A Remove goes before an Update of the same leaf, the newest Update before older ones, the first
    of all else; and before them all what the committer itself adds to the list.

    Args:
        pending: References and proposals, oldest first.
        committer: About whose own leaf there can be none.
        beside: What the committer adds to the list by value.
    """
    taken = {(Remove, committer), *map(_slot, beside)}
    chosen: dict[tuple[type[Proposal], object], tuple[bytes, SentProposal]] = {}
    for ref, sent in pending:
        slot = _slot(sent)
        before = chosen.get(slot)
        if slot not in taken and (before is None or isinstance(before[1].proposal, Update)):
            chosen[slot] = (ref, sent)
    return list(chosen.values())
