"""Leaf nodes and what they hold: credentials, capabilities, extensions (RFC 9420, 5.3 and 7.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated

from crypto.codec import (
    U16,
    Opaque,
    Reader,
    Struct,
    Wire,
    decode,
    opaque,
    u16,
    u32,
    u64,
    vector,
    vector_of,
)

if TYPE_CHECKING:
    from crypto.mls.cipher_suite import CipherSuite, Signer
    from crypto.mls.tree_math import LeafIndex

MLS10 = 1
"""ProtocolVersion ``mls10`` (RFC 9420, section 6)."""


def _read_version(reader: Reader) -> int:
    if reader.u16() != MLS10:
        raise reader.fail()
    return MLS10


Version = Annotated[int, Wire(_read_version, u16)]


class CredentialType(IntEnum):
    """RFC 9420, section 5.3."""

    BASIC = 1
    X509 = 2


class ExtensionType(IntEnum):
    """The extension types that RFC 9420, section 17.3, defines."""

    APPLICATION_ID = 1
    RATCHET_TREE = 2
    REQUIRED_CAPABILITIES = 3
    EXTERNAL_PUB = 4
    EXTERNAL_SENDERS = 5


class LeafNodeSource(IntEnum):
    """RFC 9420, section 7.2."""

    KEY_PACKAGE = 1
    UPDATE = 2
    COMMIT = 3


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Credential:
    """Who holds a signature key: ``identity`` for basic, ``certificates`` for x509.

    Attributes:
        identity: Any bytes; empty for an x509 credential.
        certificates: DER certificates, the holder's first; empty for a basic credential.
    """

    credential_type: CredentialType
    identity: bytes = b""
    certificates: tuple[bytes, ...] = ()

    @classmethod
    def basic(cls, identity: bytes) -> Credential:
        """Return a basic credential, a bare claim; the product uses x509 only."""
        return cls(credential_type=CredentialType.BASIC, identity=identity)

    @classmethod
    def x509(cls, certificates: Sequence[bytes]) -> Credential:
        """Return an x509 credential of DER certificates, the holder's first."""
        return cls(credential_type=CredentialType.X509, certificates=tuple(certificates))

    @classmethod
    def read(cls, reader: Reader) -> Credential:
        """Read the struct (RFC 9420, section 5.3)."""
        kind = reader.u16()
        if kind == CredentialType.BASIC:
            return cls.basic(reader.opaque())
        if kind == CredentialType.X509:
            return cls.x509(reader.vector(Reader.opaque))
        raise reader.fail()

    def encode(self) -> bytes:
        """Return the struct's encoding."""
        if self.credential_type is CredentialType.BASIC:
            return u16(self.credential_type) + opaque(self.identity)
        return u16(self.credential_type) + vector(opaque(c) for c in self.certificates)


@dataclass(frozen=True, slots=True)
class Extension(Struct):
    """An extension of any type (RFC 9420, section 13)."""

    extension_type: U16
    extension_data: Opaque = field(repr=False)  # an identity, where it names external senders


Extensions = Annotated[tuple[Extension, ...], vector_of(Extension.read, Extension.encode)]
_Types = Annotated[tuple[int, ...], vector_of(Reader.u16, u16)]


def find_extension(extensions: Extensions, extension_type: int) -> bytes | None:
    """Return the data of the extension of a type, or None."""
    for extension in extensions:
        if extension.extension_type == extension_type:
            return extension.extension_data
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities(Struct):
    """What a client supports, beyond what every client must (RFC 9420, section 7.2)."""

    versions: _Types
    cipher_suites: _Types
    extensions: _Types
    proposals: _Types
    credentials: _Types

    @classmethod
    def of(
        cls, suite: CipherSuite, *, extensions: Sequence[int] = (), credentials: Sequence[int]
    ) -> Capabilities:
        """Return MLS 1.0 in one suite, with the extension and credential types named."""
        return cls(
            versions=(MLS10,),
            cipher_suites=(suite.value,),
            extensions=tuple(extensions),
            proposals=(),
            credentials=tuple(credentials),
        )


# The members of a group mostly announce the same capabilities; decoding them once keeps the join of
# a large group fast. The bytes are public.
_capabilities = lru_cache(maxsize=64)(Capabilities.decode)


def _read_capabilities(reader: Reader) -> Capabilities:
    start = reader.pos
    for _ in range(5):
        reader.opaque()
    return _capabilities(reader.data[start : reader.pos])


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetime:
    """When a KeyPackage may be used, in seconds since the Unix epoch (RFC 9420, section 7.2)."""

    not_before: int
    not_after: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LeafNode:
    """A member's public contribution to the tree (RFC 9420, section 7.2).

    Attributes:
        encryption_key: HPKE public key of the leaf.
        signature_key: Public key that the credential vouches for.
        lifetime: Present exactly for source ``KEY_PACKAGE``.
        parent_hash: Present exactly for source ``COMMIT``.
        content: Encoding of all fields before the signature.
    """

    encryption_key: bytes
    signature_key: bytes
    credential: Credential
    capabilities: Capabilities
    source: LeafNodeSource
    lifetime: Lifetime | None
    parent_hash: bytes | None
    extensions: Extensions
    signature: bytes
    content: bytes

    @classmethod
    def read(cls, reader: Reader) -> LeafNode:
        """Read the struct."""
        start = reader.pos
        encryption_key = reader.opaque()
        signature_key = reader.opaque()
        credential = Credential.read(reader)
        capabilities = _read_capabilities(reader)
        source, lifetime, parent_hash = _read_source(reader)
        extensions = reader.vector(Extension.read)
        content = reader.data[start : reader.pos]
        return cls(
            encryption_key=encryption_key,
            signature_key=signature_key,
            credential=credential,
            capabilities=capabilities,
            source=source,
            lifetime=lifetime,
            parent_hash=parent_hash,
            extensions=extensions,
            signature=reader.opaque(),
            content=content,
        )

    def encode(self) -> bytes:
        """Return the struct's encoding."""
        return self.content + opaque(self.signature)

    def _to_be_signed(self, group_id: bytes, leaf_index: LeafIndex) -> bytes:
        """Source: RFC 9420, section 7.2, LeafNodeTBS."""
        if self.source is LeafNodeSource.KEY_PACKAGE:
            return self.content
        return self.content + opaque(group_id) + u32(leaf_index)

    def verify_signature(
        self, suite: CipherSuite, *, group_id: bytes, leaf_index: LeafIndex
    ) -> None:
        """Check the leaf's own signature; the position counts unless it is from a KeyPackage.

        Raises:
            VerificationError: It does not verify.
        """
        content = self._to_be_signed(group_id, leaf_index)
        suite.verify_with_label(self.signature_key, "LeafNodeTBS", content, self.signature)


def _read_source(reader: Reader) -> tuple[LeafNodeSource, Lifetime | None, bytes | None]:
    source = reader.u8()
    if source == LeafNodeSource.KEY_PACKAGE:
        lifetime = Lifetime(not_before=reader.u64(), not_after=reader.u64())
        return LeafNodeSource.KEY_PACKAGE, lifetime, None
    if source == LeafNodeSource.UPDATE:
        return LeafNodeSource.UPDATE, None, None
    if source == LeafNodeSource.COMMIT:
        return LeafNodeSource.COMMIT, None, reader.opaque()
    raise reader.fail()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafContent:
    """What a client chooses for its leaf; the keys and the source come from the operation."""

    credential: Credential
    capabilities: Capabilities
    extensions: Extensions = ()


def sign_leaf_node(
    suite: CipherSuite,
    content: LeafContent,
    *,
    signer: Signer,
    encryption_key: bytes,
    source: Lifetime | bytes | None,
    position: tuple[bytes, LeafIndex],
) -> LeafNode:
    """Return a signed leaf.

    Args:
        suite: The group's.
        content: The client's part.
        signer: The key that the credential vouches for.
        encryption_key: HPKE public key.
        source: A lifetime for a KeyPackage, a parent hash for a Commit, None for an Update.
        position: Group id and leaf index; not signed for a KeyPackage.

    Source: RFC 9420, section 7.2.
    """
    lifetime = source if isinstance(source, Lifetime) else None
    parent_hash = source if isinstance(source, bytes) else None
    if lifetime is not None:
        kind = LeafNodeSource.KEY_PACKAGE
        tail = u64(lifetime.not_before) + u64(lifetime.not_after)
    elif parent_hash is not None:
        kind, tail = LeafNodeSource.COMMIT, opaque(parent_hash)
    else:
        kind, tail = LeafNodeSource.UPDATE, b""
    encoded = b"".join(
        (
            opaque(encryption_key),
            opaque(signer.public_key),
            content.credential.encode(),
            content.capabilities.encode(),
            bytes([kind]),
            tail,
            vector(extension.encode() for extension in content.extensions),
        )
    )
    to_be_signed = encoded
    if kind is not LeafNodeSource.KEY_PACKAGE:
        to_be_signed += opaque(position[0]) + u32(position[1])
    signature = suite.sign_with_label(signer, "LeafNodeTBS", to_be_signed)
    return decode(encoded + opaque(signature), "LeafNode", LeafNode.read)
