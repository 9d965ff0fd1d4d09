"""What makes a leaf, a proposal list and a tree acceptable (RFC 9420, sections 7.3, 12.1, 12.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from crypto.codec import Reader, decode
from crypto.errors import InvalidError
from crypto.mls.cipher_suite import CipherSuite
from crypto.mls.framing import Sender, SenderType
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
)
from crypto.mls.ratchet_tree import RatchetTree
from crypto.mls.tree_math import LeafIndex

Authenticate = Callable[[LeafNode, LeafNode | None], None]
"""The application's judgement of a leaf's credential and dates (RFC 9420, section 5.3.1).

Called with each leaf that enters or changes, and the leaf that it replaces or None; refuses by
raising one of this package's errors. There is no default, because there is no safe one.
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
                data,
                "required_capabilities",
                lambda r: [r.vector(Reader.u16) for _ in range(3)],
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


def check_tree(tree: RatchetTree, extensions: Extensions) -> None:
    """Check what the members of a group must be to each other.

    Raises:
        DecodeError: The group's required_capabilities are malformed.
        InvalidError: A key is not unique, or a member does not support what the group or another
            member needs (RFC 9420, sections 7.3 and 12.2).
    """
    keys = [node.encryption_key for node in tree.nodes if node is not None]
    if len(set(keys)) != len(keys):
        raise InvalidError("encryption_key is not unique in the tree (7.3, 12.4.2)")
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


def check_proposal(suite: CipherSuite, tree: RatchetTree, sent: SentProposal) -> None:
    """Check one proposal against the epoch in which it was sent (RFC 9420, section 12.1).

    Raises:
        InvalidError: A rule is broken, or this package refuses the type.
        DecodeError: An extension inside is malformed.
        VerificationError: A signature inside does not verify.
    """
    proposal, sender = sent.proposal, sent.sender
    if isinstance(proposal, Add):
        check_leaf(suite, proposal.key_package.leaf_node, LeafNodeSource.KEY_PACKAGE)
        check_unique_extensions(proposal.key_package.extensions)
        proposal.key_package.verify(suite)
    elif isinstance(proposal, Update):
        check_leaf(suite, proposal.leaf_node, LeafNodeSource.UPDATE)
    elif isinstance(proposal, Remove):
        if tree.leaf(proposal.removed) is None:
            raise InvalidError("Remove names no member (12.1.3)")
    elif isinstance(proposal, PreSharedKey):
        _check_psk(suite, proposal)
    elif isinstance(proposal, ReInit):
        raise InvalidError("ReInit is not supported: successor groups (11.2) are refused here")
    elif isinstance(proposal, GroupContextExtensions):
        check_group_extensions(proposal.extensions)
    _check_sender(proposal, sender.sender_type)


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


def check_proposal_list(sent: Sequence[SentProposal], committer: LeafIndex) -> None:
    """Check a member's list as a whole (RFC 9420, section 12.2).

    Raises:
        InvalidError: The list is invalid.
    """
    targets: list[int] = []
    for item in sent:
        if isinstance(item.proposal, Update):
            targets.append(item.sender.index)
        elif isinstance(item.proposal, Remove):
            targets.append(item.proposal.removed)
    if committer in targets:
        raise InvalidError("the committer updates or removes itself by proposal (12.2)")
    if len(set(targets)) != len(targets):
        raise InvalidError("several Updates or Removes for one leaf (12.2)")
    _check_no_repeats([item.proposal for item in sent])


def check_external_proposal_list(proposals: Sequence[Proposal]) -> None:
    """Check the list of an external commit (RFC 9420, section 12.2).

    Raises:
        InvalidError: The list is invalid.
    """
    if not all(isinstance(p, ExternalInit | Remove | PreSharedKey) for p in proposals):
        raise InvalidError("proposal type is not for external commits (12.2)")
    if sum(isinstance(p, ExternalInit) for p in proposals) != 1:
        raise InvalidError("an external commit needs exactly one ExternalInit (12.2)")
    if sum(isinstance(p, Remove) for p in proposals) > 1:
        raise InvalidError("an external commit has at most one Remove (12.2)")
    _check_no_repeats(proposals)


def _check_no_repeats(proposals: Iterable[Proposal]) -> None:
    psks = [p.psk for p in proposals if isinstance(p, PreSharedKey)]
    if len(set(psks)) != len(psks):
        raise InvalidError("a PreSharedKeyID appears twice (12.2)")
    if sum(isinstance(p, GroupContextExtensions) for p in proposals) > 1:
        raise InvalidError("several GroupContextExtensions (12.2)")


def path_required(proposals: Sequence[Proposal]) -> bool:
    """Tell whether a commit of these needs a path (RFC 9420, sections 12.4 and 17.4)."""
    without = (Add, PreSharedKey)
    return not proposals or not all(isinstance(p, without) for p in proposals)


def preferred(
    pending: Iterable[tuple[bytes, SentProposal]], committer: LeafIndex
) -> list[tuple[bytes, SentProposal]]:
    """Choose from pending proposals a list that is valid (RFC 9420, section 12.2).

    A Remove goes before an Update of the same leaf, the newest Update before older ones, the first
    of equal PreSharedKeys, Adds and GroupContextExtensions before the rest.
    """
    items = list(pending)
    removed = {s.proposal.removed for _, s in items if isinstance(s.proposal, Remove)}
    chosen: dict[tuple[type[Proposal], object], tuple[bytes, SentProposal]] = {}
    for ref, sent in items:
        proposal = sent.proposal
        if isinstance(proposal, Update):
            if sent.sender.index not in removed | {committer}:
                chosen[Update, sent.sender.index] = (ref, sent)
        elif isinstance(proposal, Remove):
            if proposal.removed != committer:
                chosen.setdefault((Remove, proposal.removed), (ref, sent))
        elif isinstance(proposal, Add):
            key = proposal.key_package.leaf_node.signature_key
            chosen.setdefault((Add, key), (ref, sent))
        elif isinstance(proposal, PreSharedKey):
            chosen.setdefault((PreSharedKey, proposal.psk), (ref, sent))
        elif isinstance(proposal, GroupContextExtensions):
            chosen.setdefault((GroupContextExtensions, None), (ref, sent))
    return list(chosen.values())
