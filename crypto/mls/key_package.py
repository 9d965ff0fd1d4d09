"""Key packages: how a client offers to be added (RFC 9420, section 10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crypto.codec import Reader, decode, opaque
from crypto.errors import InvalidError
from crypto.mls.leaf_node import MLS10, Extension, Extensions, LeafNode, LeafNodeSource
from crypto.mls.tree_math import LeafIndex

if TYPE_CHECKING:
    from crypto.mls.cipher_suite import CipherSuite


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class KeyPackage:
    """A client's signed offer to be added to a group (RFC 9420, section 10)."""

    cipher_suite: int
    init_key: bytes
    leaf_node: LeafNode
    extensions: Extensions
    signature: bytes
    content: bytes

    @classmethod
    def read(cls, reader: Reader) -> KeyPackage:
        """Read the struct."""
        start = reader.pos
        if reader.u16() != MLS10:
            raise reader.fail()
        suite = reader.u16()
        init_key = reader.opaque()
        leaf_node = LeafNode.read(reader)
        extensions = reader.vector(Extension.read)
        content = reader.data[start : reader.pos]
        return cls(
            cipher_suite=suite,
            init_key=init_key,
            leaf_node=leaf_node,
            extensions=extensions,
            signature=reader.opaque(),
            content=content,
        )

    @classmethod
    def decode(cls, data: bytes) -> KeyPackage:
        """Decode the struct; ``DecodeError`` where ``data`` is none."""
        return decode(data, "KeyPackage", cls.read)

    def encode(self) -> bytes:
        """Return the struct's encoding."""
        return self.content + opaque(self.signature)

    def reference(self, suite: CipherSuite) -> bytes:
        """Return the KeyPackageRef (RFC 9420, section 5.2)."""
        return suite.ref_hash("MLS 1.0 KeyPackage Reference", self.encode())

    def verify(self, suite: CipherSuite) -> None:
        """Check everything about the package but its credential and its dates.

        Raises:
            InvalidError: A rule of RFC 9420, section 10.1, is broken.
            VerificationError: One of the two signatures does not verify.
        """
        leaf = self.leaf_node
        if self.cipher_suite != suite.value:
            raise InvalidError("KeyPackage is for another cipher suite (10.1)")
        if leaf.source is not LeafNodeSource.KEY_PACKAGE:
            raise InvalidError("leaf of a KeyPackage has another source (10.1)")
        if self.init_key == leaf.encryption_key:
            raise InvalidError("init_key equals the leaf's encryption_key (10.1)")
        suite.hpke.group.check_public_key(self.init_key)
        leaf.verify_signature(suite, group_id=b"", leaf_index=LeafIndex(0))
        suite.verify_with_label(leaf.signature_key, "KeyPackageTBS", self.content, self.signature)
