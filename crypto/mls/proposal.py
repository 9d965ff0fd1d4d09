"""Proposals and commits as they stand on the wire (RFC 9420, sections 7.6, 8.4, 12.1 and 12.4)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from crypto.codec import Reader, decode, opaque, optional, u8, u16, u32, u64, vector
from crypto.mls.key_package import KeyPackage
from crypto.mls.leaf_node import MLS10, Extension, Extensions, LeafNode
from crypto.mls.tree_math import LeafIndex


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalPSK:
    """Names a key that the application shared by other means."""

    psk_id: bytes
    psk_nonce: bytes

    def encode(self) -> bytes:
        """Return the PreSharedKeyID's encoding."""
        return u8(PSKType.EXTERNAL) + opaque(self.psk_id) + opaque(self.psk_nonce)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumptionPSK:
    """Names the resumption secret of an epoch."""

    usage: ResumptionPSKUsage
    psk_group_id: bytes
    psk_epoch: int
    psk_nonce: bytes

    def encode(self) -> bytes:
        """Return the PreSharedKeyID's encoding."""
        head = u8(PSKType.RESUMPTION) + u8(self.usage) + opaque(self.psk_group_id)
        return head + u64(self.psk_epoch) + opaque(self.psk_nonce)


PreSharedKeyID = ExternalPSK | ResumptionPSK


def read_psk_id(reader: Reader) -> PreSharedKeyID:
    """Read a PreSharedKeyID (RFC 9420, section 8.4)."""
    kind = reader.u8()
    if kind == PSKType.EXTERNAL:
        return ExternalPSK(psk_id=reader.opaque(), psk_nonce=reader.opaque())
    if kind != PSKType.RESUMPTION:
        raise reader.fail()
    usage = reader.u8()
    if not ResumptionPSKUsage.APPLICATION <= usage <= ResumptionPSKUsage.BRANCH:
        raise reader.fail()
    return ResumptionPSK(
        usage=ResumptionPSKUsage(usage),
        psk_group_id=reader.opaque(),
        psk_epoch=reader.u64(),
        psk_nonce=reader.opaque(),
    )


@dataclass(frozen=True, slots=True)
class Add:
    """Add the client of a key package (RFC 9420, section 12.1.1)."""

    proposal_type: ClassVar = ProposalType.ADD
    key_package: KeyPackage

    def encode_body(self) -> bytes:
        """Return the encoding without the proposal type."""
        return self.key_package.encode()


@dataclass(frozen=True, slots=True)
class Update:
    """Replace the sender's leaf (RFC 9420, section 12.1.2)."""

    proposal_type: ClassVar = ProposalType.UPDATE
    leaf_node: LeafNode

    def encode_body(self) -> bytes:
        """Return the encoding without the proposal type."""
        return self.leaf_node.encode()


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove the member at a leaf (RFC 9420, section 12.1.3)."""

    proposal_type: ClassVar = ProposalType.REMOVE
    removed: LeafIndex

    def encode_body(self) -> bytes:
        """Return the encoding without the proposal type."""
        return u32(self.removed)


@dataclass(frozen=True, slots=True)
class PreSharedKey:
    """Mix a pre-shared key into the next epoch (RFC 9420, section 12.1.4)."""

    proposal_type: ClassVar = ProposalType.PSK
    psk: PreSharedKeyID

    def encode_body(self) -> bytes:
        """Return the encoding without the proposal type."""
        return self.psk.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReInit:
    """Close the group in favour of a new one (RFC 9420, section 12.1.5); refused when applied."""

    proposal_type: ClassVar = ProposalType.REINIT
    group_id: bytes
    version: int
    cipher_suite: int
    extensions: Extensions

    def encode_body(self) -> bytes:
        """Return the encoding without the proposal type."""
        head = opaque(self.group_id) + u16(self.version) + u16(self.cipher_suite)
        return head + vector(extension.encode() for extension in self.extensions)


@dataclass(frozen=True, slots=True)
class ExternalInit:
    """The key that an external commit brings (RFC 9420, section 12.1.6)."""

    proposal_type: ClassVar = ProposalType.EXTERNAL_INIT
    kem_output: bytes

    def encode_body(self) -> bytes:
        """Return the encoding without the proposal type."""
        return opaque(self.kem_output)


@dataclass(frozen=True, slots=True)
class GroupContextExtensions:
    """Replace the extensions of the GroupContext (RFC 9420, section 12.1.7)."""

    proposal_type: ClassVar = ProposalType.GROUP_CONTEXT_EXTENSIONS
    extensions: Extensions

    def encode_body(self) -> bytes:
        """Return the encoding without the proposal type."""
        return vector(extension.encode() for extension in self.extensions)


Proposal = Add | Update | Remove | PreSharedKey | ReInit | ExternalInit | GroupContextExtensions


def _read_reinit(reader: Reader) -> ReInit:
    group_id, version = reader.opaque(), reader.u16()
    if version != MLS10:
        raise reader.fail()
    return ReInit(
        group_id=group_id,
        version=version,
        cipher_suite=reader.u16(),
        extensions=reader.vector(Extension.read),
    )


def read_proposal(reader: Reader) -> Proposal:
    """Read a Proposal (RFC 9420, section 12.1); custom types are refused as undecodable."""
    kind = reader.u16()
    if kind == ProposalType.ADD:
        return Add(KeyPackage.read(reader))
    if kind == ProposalType.UPDATE:
        return Update(LeafNode.read(reader))
    if kind == ProposalType.REMOVE:
        return Remove(LeafIndex(reader.u32()))
    if kind == ProposalType.PSK:
        return PreSharedKey(read_psk_id(reader))
    if kind == ProposalType.REINIT:
        return _read_reinit(reader)
    if kind == ProposalType.EXTERNAL_INIT:
        return ExternalInit(reader.opaque())
    if kind == ProposalType.GROUP_CONTEXT_EXTENSIONS:
        return GroupContextExtensions(reader.vector(Extension.read))
    raise reader.fail()


def encode_proposal(proposal: Proposal) -> bytes:
    """Return the encoding of a Proposal."""
    return u16(proposal.proposal_type) + proposal.encode_body()


@dataclass(frozen=True, slots=True)
class HPKECiphertext:
    """RFC 9420, section 7.6."""

    kem_output: bytes
    ciphertext: bytes

    @classmethod
    def read(cls, reader: Reader) -> HPKECiphertext:
        """Read the struct."""
        return cls(reader.opaque(), reader.opaque())

    def encode(self) -> bytes:
        """Return the struct's encoding."""
        return opaque(self.kem_output) + opaque(self.ciphertext)


@dataclass(frozen=True, slots=True)
class UpdatePathNode:
    """A new key of one node, with its path secret for those below (RFC 9420, section 7.6)."""

    encryption_key: bytes
    encrypted_path_secret: tuple[HPKECiphertext, ...]

    @classmethod
    def read(cls, reader: Reader) -> UpdatePathNode:
        """Read the struct."""
        return cls(reader.opaque(), reader.vector(HPKECiphertext.read))

    def encode(self) -> bytes:
        """Return the struct's encoding."""
        secrets = vector(ciphertext.encode() for ciphertext in self.encrypted_path_secret)
        return opaque(self.encryption_key) + secrets


@dataclass(frozen=True, slots=True)
class UpdatePath:
    """The committer's new leaf and filtered direct path (RFC 9420, section 7.6)."""

    leaf_node: LeafNode
    nodes: tuple[UpdatePathNode, ...]

    @classmethod
    def read(cls, reader: Reader) -> UpdatePath:
        """Read the struct."""
        return cls(LeafNode.read(reader), reader.vector(UpdatePathNode.read))

    @classmethod
    def decode(cls, data: bytes) -> UpdatePath:
        """Decode the struct; ``DecodeError`` where ``data`` is none."""
        return decode(data, "UpdatePath", cls.read)

    def encode(self) -> bytes:
        """Return the struct's encoding."""
        return self.leaf_node.encode() + vector(node.encode() for node in self.nodes)


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
class Commit:
    """RFC 9420, section 12.4."""

    proposals: tuple[ProposalOrRef, ...]
    path: UpdatePath | None

    @classmethod
    def read(cls, reader: Reader) -> Commit:
        """Read the struct."""
        return cls(reader.vector(_read_proposal_or_ref), reader.optional(UpdatePath.read))

    @classmethod
    def decode(cls, data: bytes) -> Commit:
        """Decode the struct; ``DecodeError`` where ``data`` is none."""
        return decode(data, "Commit", cls.read)

    def encode(self) -> bytes:
        """Return the struct's encoding."""
        proposals = vector(_encode_proposal_or_ref(item) for item in self.proposals)
        return proposals + optional(self.path.encode() if self.path else None)
