"""GroupContext, GroupInfo and Welcome on the wire (RFC 9420, sections 8.1, 12.4.3)."""

from __future__ import annotations

from dataclasses import dataclass, field

from crypto.codec import Reader, decode, opaque, optional, u16, u32, u64, vector
from crypto.mls.leaf_node import MLS10, Extension, Extensions
from crypto.mls.proposal import HPKECiphertext, PreSharedKeyID, read_psk_id
from crypto.mls.tree_math import LeafIndex

MAX_EPOCH = (1 << 64) - 1
"""Epochs are a ``uint64`` (RFC 9420, section 8.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupContext:
    """What all members of an epoch agree on (RFC 9420, section 8.1)."""

    cipher_suite: int
    group_id: bytes
    epoch: int
    tree_hash: bytes
    confirmed_transcript_hash: bytes
    extensions: Extensions

    @classmethod
    def read(cls, reader: Reader) -> GroupContext:
        """Read the struct."""
        if reader.u16() != MLS10:
            raise reader.fail()
        return cls(
            cipher_suite=reader.u16(),
            group_id=reader.opaque(),
            epoch=reader.u64(),
            tree_hash=reader.opaque(),
            confirmed_transcript_hash=reader.opaque(),
            extensions=reader.vector(Extension.read),
        )

    def encode(self) -> bytes:
        """Return the struct's encoding."""
        return b"".join(
            (
                u16(MLS10),
                u16(self.cipher_suite),
                opaque(self.group_id),
                u64(self.epoch),
                opaque(self.tree_hash),
                opaque(self.confirmed_transcript_hash),
                vector(extension.encode() for extension in self.extensions),
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupInfo:
    """An epoch as a member describes and signs it for joiners (RFC 9420, section 12.4.3)."""

    group_context: GroupContext
    extensions: Extensions
    confirmation_tag: bytes
    signer: LeafIndex
    signature: bytes

    @classmethod
    def read(cls, reader: Reader) -> GroupInfo:
        """Read the struct."""
        return cls(
            group_context=GroupContext.read(reader),
            extensions=reader.vector(Extension.read),
            confirmation_tag=reader.opaque(),
            signer=LeafIndex(reader.u32()),
            signature=reader.opaque(),
        )

    @classmethod
    def decode(cls, data: bytes) -> GroupInfo:
        """Decode the struct; ``DecodeError`` where ``data`` is none."""
        return decode(data, "GroupInfo", cls.read)

    def to_be_signed(self) -> bytes:
        """Return the encoding of GroupInfoTBS."""
        return b"".join(
            (
                self.group_context.encode(),
                vector(extension.encode() for extension in self.extensions),
                opaque(self.confirmation_tag),
                u32(self.signer),
            )
        )

    def encode(self) -> bytes:
        """Return the struct's encoding."""
        return self.to_be_signed() + opaque(self.signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSecrets:
    """What one joiner is told in secret (RFC 9420, section 12.4.3.1)."""

    joiner_secret: bytes = field(repr=False)
    path_secret: bytes | None = field(repr=False)
    psks: tuple[PreSharedKeyID, ...]

    @classmethod
    def read(cls, reader: Reader) -> GroupSecrets:
        """Read the struct."""
        return cls(
            joiner_secret=reader.opaque(),
            path_secret=reader.optional(Reader.opaque),
            psks=reader.vector(read_psk_id),
        )

    @classmethod
    def decode(cls, data: bytes) -> GroupSecrets:
        """Decode the struct; ``DecodeError`` where ``data`` is none."""
        return decode(data, "GroupSecrets", cls.read)

    def encode(self) -> bytes:
        """Return the struct's encoding."""
        path_secret = None if self.path_secret is None else opaque(self.path_secret)
        psks = vector(psk.encode() for psk in self.psks)
        return opaque(self.joiner_secret) + optional(path_secret) + psks


@dataclass(frozen=True, slots=True)
class EncryptedGroupSecrets:
    """RFC 9420, section 12.4.3.1."""

    new_member: bytes
    encrypted_group_secrets: HPKECiphertext

    @classmethod
    def read(cls, reader: Reader) -> EncryptedGroupSecrets:
        """Read the struct."""
        return cls(reader.opaque(), HPKECiphertext.read(reader))

    def encode(self) -> bytes:
        """Return the struct's encoding."""
        return opaque(self.new_member) + self.encrypted_group_secrets.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """One message for all who join by a Commit (RFC 9420, section 12.4.3.1)."""

    cipher_suite: int
    secrets: tuple[EncryptedGroupSecrets, ...]
    encrypted_group_info: bytes

    @classmethod
    def read(cls, reader: Reader) -> Welcome:
        """Read the struct."""
        return cls(
            cipher_suite=reader.u16(),
            secrets=reader.vector(EncryptedGroupSecrets.read),
            encrypted_group_info=reader.opaque(),
        )

    def encode(self) -> bytes:
        """Return the struct's encoding."""
        secrets = vector(secret.encode() for secret in self.secrets)
        return u16(self.cipher_suite) + secrets + opaque(self.encrypted_group_info)
