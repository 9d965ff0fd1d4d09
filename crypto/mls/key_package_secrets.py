"""Key packages with the private keys that they promise (RFC 9420, section 10)."""

from __future__ import annotations

from dataclasses import dataclass, field

from crypto.codec import Reader, decode, opaque, u16, vector
from crypto.errors import InvalidError
from crypto.mls.cipher_suite import CipherSuite, Signer, cipher_suite
from crypto.mls.key_package import KeyPackage
from crypto.mls.leaf_node import MLS10, Extensions, LeafContent, Lifetime, sign_leaf_node
from crypto.mls.tree_math import LeafIndex

_NO_POSITION = (b"", LeafIndex(0))  # a leaf from a KeyPackage is signed without one (7.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPackageSecrets:
    """A key package with the private keys that it promises; used for one join, then erased.

    Attributes:
        key_package: What is published.
        init_key: HPKE private key to which a Welcome is encrypted.
        encryption_key: HPKE private key of the leaf.
        signer: The leaf's signature key.
    """

    suite: CipherSuite
    key_package: KeyPackage
    init_key: bytes = field(repr=False)
    encryption_key: bytes = field(repr=False)
    signer: Signer = field(repr=False)

    @classmethod
    def generate(
        cls,
        suite: CipherSuite,
        content: LeafContent,
        *,
        signer: Signer,
        not_before_s: int,
        not_after_s: int,
        extensions: Extensions = (),
    ) -> KeyPackageSecrets:
        """Return a fresh key package and its secrets.

        Args:
            suite: The suite of the groups that it is for.
            content: What the client says of itself.
            signer: The key that the credential vouches for.
            not_before_s: Start of the package's use, seconds since the Unix epoch.
            not_after_s: Its end.
            extensions: Of the package, not of the leaf.

        Source: RFC 9420, section 10.
        """
        init_private, init_public = suite.hpke.generate_key_pair()
        leaf_private, leaf_public = suite.hpke.generate_key_pair()
        leaf = sign_leaf_node(
            suite,
            content,
            signer=signer,
            encryption_key=leaf_public,
            source=Lifetime(not_before=not_before_s, not_after=not_after_s),
            position=_NO_POSITION,
        )
        encoded = b"".join(
            (
                u16(MLS10),
                u16(suite.value),
                opaque(init_public),
                leaf.encode(),
                vector(extension.encode() for extension in extensions),
            )
        )
        signature = suite.sign_with_label(signer, "KeyPackageTBS", encoded)
        return cls(
            suite=suite,
            key_package=KeyPackage.decode(encoded + opaque(signature)),
            init_key=init_private,
            encryption_key=leaf_private,
            signer=signer,
        )

    @classmethod
    def decode(cls, data: bytes) -> KeyPackageSecrets:
        """Decode what ``encode`` gave."""
        return decode(data, "KeyPackageSecrets", cls._read)

    @classmethod
    def _read(cls, reader: Reader) -> KeyPackageSecrets:
        key_package = KeyPackage.read(reader)
        suite = cipher_suite(key_package.cipher_suite)
        secrets = cls(
            suite=suite,
            key_package=key_package,
            init_key=reader.opaque(),
            encryption_key=reader.opaque(),
            signer=suite.signature.load(reader.opaque()),
        )
        secrets.check()
        return secrets

    def check(self) -> None:
        """Refuse private keys that are not those of the package.

        Raises:
            InvalidError: One of the three does not fit its public key.
        """
        public_key = self.suite.hpke.group.public_key
        leaf = self.key_package.leaf_node
        if (
            public_key(self.init_key) != self.key_package.init_key
            or public_key(self.encryption_key) != leaf.encryption_key
            or self.signer.public_key != leaf.signature_key
        ):
            raise InvalidError("a private key is not that of the KeyPackage (10)")

    def encode(self) -> bytes:
        """Return bytes for the owner's encrypted store."""
        private = (self.init_key, self.encryption_key, self.signer.seed)
        return self.key_package.encode() + b"".join(map(opaque, private))
