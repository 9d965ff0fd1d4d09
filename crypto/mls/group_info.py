"""GroupContext, GroupInfo and Welcome on the wire (RFC 9420, sections 8.1, 12.4.3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from crypto.codec import U16, U64, Opaque, Reader, Struct, opaque, optional_of, vector_of
from crypto.mls.leaf_node import MLS10, Extensions, Version
from crypto.mls.proposal import HPKECiphertext, PreSharedKeyID, encode_psk_id, read_psk_id
from crypto.mls.tree_math import LeafPlace

MAX_EPOCH = (1 << 64) - 1
"""Epochs are a ``uint64`` (RFC 9420, section 8.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupContext(Struct):
    """What all members of an epoch agree on (RFC 9420, section 8.1)."""

    version: Version = MLS10
    cipher_suite: U16
    group_id: Opaque
    epoch: U64
    tree_hash: Opaque
    confirmed_transcript_hash: Opaque
    extensions: Extensions


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupInfo(Struct):
    """An epoch as a member describes and signs it for joiners (RFC 9420, section 12.4.3)."""

    group_context: GroupContext
    extensions: Extensions
    confirmation_tag: Opaque
    signer: LeafPlace
    signature: Opaque

    def to_be_signed(self) -> bytes:
        """Return the encoding of GroupInfoTBS: all but the signature."""
        return self.encode()[: -len(opaque(self.signature))]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSecrets(Struct):
    """What one joiner is told in secret (RFC 9420, section 12.4.3.1)."""

    joiner_secret: Opaque = field(repr=False)
    path_secret: Annotated[bytes | None, optional_of(Reader.opaque, opaque)] = field(repr=False)
    psks: Annotated[tuple[PreSharedKeyID, ...], vector_of(read_psk_id, encode_psk_id)]


@dataclass(frozen=True, slots=True)
class EncryptedGroupSecrets(Struct):
    """RFC 9420, section 12.4.3.1."""

    new_member: Opaque
    encrypted_group_secrets: HPKECiphertext


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome(Struct):
    """One message for all who join by a Commit (RFC 9420, section 12.4.3.1)."""

    cipher_suite: U16
    secrets: Annotated[
        tuple[EncryptedGroupSecrets, ...],
        vector_of(EncryptedGroupSecrets.read, EncryptedGroupSecrets.encode),
    ]
    encrypted_group_info: Opaque
