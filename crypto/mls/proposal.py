"""Proposals and commits as they stand on the wire (RFC 9420, sections 7.6, 8.4, 12.1 and 12.4)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from crypto.codec import (
    U16,
    U64,
    Opaque,
    Reader,
    Struct,
    Wire,
    opaque,
    optional_of,
    u8,
    u16,
    vector_of,
)
from crypto.mls.key_package import KeyPackage
from crypto.mls.leaf_node import MLS10, Extensions, LeafNode, Version
from crypto.mls.tree_math import LeafPlace

_Leaf = Annotated[LeafNode, Wire(LeafNode.read, LeafNode.encode)]


class ProposalType(IntEnum):
    """RFC 9420, section 17.4."""

    ADD = 1
    UPDATE = 2
    REMOVE = 3
    PSK = 4
    REINIT = 5
    EXTERNAL_INIT = 6
    GROUP_CONTEXT_EXTENSIONS = 7


class PSKType(IntEnum):
    """RFC 9420, section 8.4."""

    EXTERNAL = 1
    RESUMPTION = 2


class ResumptionPSKUsage(IntEnum):
    """RFC 9420, section 8.4."""

    APPLICATION = 1
    REINIT = 2
    BRANCH = 3


def _read_usage(reader: Reader) -> ResumptionPSKUsage:
    usage = reader.u8()
    if not ResumptionPSKUsage.APPLICATION <= usage <= ResumptionPSKUsage.BRANCH:
        raise reader.fail()
    return ResumptionPSKUsage(usage)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalPSK(Struct):
    """Names a key that the application shared by other means."""

    psk_id: Opaque
    psk_nonce: Opaque

    def encode(self) -> bytes:
        """Return the PreSharedKeyID's encoding."""
        return u8(PSKType.EXTERNAL) + Struct.encode(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumptionPSK(Struct):
    """Names the resumption secret of an epoch."""

    usage: Annotated[ResumptionPSKUsage, Wire(_read_usage, u8)]
    psk_group_id: Opaque
    psk_epoch: U64
    psk_nonce: Opaque

    def encode(self) -> bytes:
        """Return the PreSharedKeyID's encoding."""
        return u8(PSKType.RESUMPTION) + Struct.encode(self)


PreSharedKeyID = ExternalPSK | ResumptionPSK


def read_psk_id(reader: Reader) -> PreSharedKeyID:
    """Read a PreSharedKeyID (RFC 9420, section 8.4)."""
    kind = reader.u8()
    if kind == PSKType.EXTERNAL:
        return ExternalPSK.read(reader)
    if kind == PSKType.RESUMPTION:
        return ResumptionPSK.read(reader)
    raise reader.fail()


def encode_psk_id(psk: PreSharedKeyID) -> bytes:
    """Return the encoding of a PreSharedKeyID."""
    return psk.encode()


# The encoding of each proposal below is without its type; ``encode_proposal`` puts that before it.


@dataclass(frozen=True, slots=True)
class Add(Struct):
    """Add the client of a key package (RFC 9420, section 12.1.1)."""

    key_package: Annotated[KeyPackage, Wire(KeyPackage.read, KeyPackage.encode)]


@dataclass(frozen=True, slots=True)
class Update(Struct):
    """Replace the sender's leaf (RFC 9420, section 12.1.2)."""

    leaf_node: _Leaf


@dataclass(frozen=True, slots=True)
class Remove(Struct):
    """Remove the member at a leaf (RFC 9420, section 12.1.3)."""

    removed: LeafPlace


@dataclass(frozen=True, slots=True)
class PreSharedKey(Struct):
    """Mix a pre-shared key into the next epoch (RFC 9420, section 12.1.4)."""

    psk: Annotated[PreSharedKeyID, Wire(read_psk_id, encode_psk_id)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReInit(Struct):
    """Close the group in favour of a new one (RFC 9420, section 12.1.5); refused when applied."""

    group_id: Opaque
    version: Version = MLS10
    cipher_suite: U16
    extensions: Extensions


@dataclass(frozen=True, slots=True)
class ExternalInit(Struct):
    """The key that an external commit brings (RFC 9420, section 12.1.6)."""

    kem_output: Opaque


@dataclass(frozen=True, slots=True)
class GroupContextExtensions(Struct):
    """Replace the extensions of the GroupContext (RFC 9420, section 12.1.7)."""

    extensions: Extensions


Proposal = Add | Update | Remove | PreSharedKey | ReInit | ExternalInit | GroupContextExtensions

_PROPOSALS: dict[int, type[Proposal]] = {
    ProposalType.ADD: Add,
    ProposalType.UPDATE: Update,
    ProposalType.REMOVE: Remove,
    ProposalType.PSK: PreSharedKey,
    ProposalType.REINIT: ReInit,
    ProposalType.EXTERNAL_INIT: ExternalInit,
    ProposalType.GROUP_CONTEXT_EXTENSIONS: GroupContextExtensions,
}
_PROPOSAL_TYPES = {struct: kind for kind, struct in _PROPOSALS.items()}


def read_proposal(reader: Reader) -> Proposal:
    """Read a Proposal (RFC 9420, section 12.1); custom types are refused as undecodable."""
    struct = _PROPOSALS.get(reader.u16())
    if struct is None:
        raise reader.fail()
    return struct.read(reader)


def encode_proposal(proposal: Proposal) -> bytes:
    """Return the encoding of a Proposal."""
    return u16(_PROPOSAL_TYPES[type(proposal)]) + proposal.encode()


@dataclass(frozen=True, slots=True)
class HPKECiphertext(Struct):
    """RFC 9420, section 7.6."""

    kem_output: Opaque
    ciphertext: Opaque


@dataclass(frozen=True, slots=True)
class UpdatePathNode(Struct):
    """A new key of one node, with its path secret for those below (RFC 9420, section 7.6)."""

    encryption_key: Opaque
    encrypted_path_secret: Annotated[
        tuple[HPKECiphertext, ...], vector_of(HPKECiphertext.read, HPKECiphertext.encode)
    ]


@dataclass(frozen=True, slots=True)
class UpdatePath(Struct):
    """The committer's new leaf and filtered direct path (RFC 9420, section 7.6)."""

    leaf_node: _Leaf
    nodes: Annotated[
        tuple[UpdatePathNode, ...], vector_of(UpdatePathNode.read, UpdatePathNode.encode)
    ]


_BY_VALUE = 1
_BY_REFERENCE = 2

ProposalOrRef = Proposal | bytes
"""A proposal by value, or the ProposalRef of one sent before (RFC 9420, section 12.4)."""


def _read_proposal_or_ref(reader: Reader) -> ProposalOrRef:
    kind = reader.u8()
    if kind == _BY_VALUE:
        return read_proposal(reader)
    if kind == _BY_REFERENCE:
        return reader.opaque()
    raise reader.fail()


def _encode_proposal_or_ref(item: ProposalOrRef) -> bytes:
    if isinstance(item, bytes):
        return u8(_BY_REFERENCE) + opaque(item)
    return u8(_BY_VALUE) + encode_proposal(item)


@dataclass(frozen=True, slots=True)
class Commit(Struct):
    """RFC 9420, section 12.4."""

    proposals: Annotated[
        tuple[ProposalOrRef, ...], vector_of(_read_proposal_or_ref, _encode_proposal_or_ref)
    ]
    path: Annotated[UpdatePath | None, optional_of(UpdatePath.read, UpdatePath.encode)]
