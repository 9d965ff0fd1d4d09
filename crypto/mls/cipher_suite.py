"""Cipher suites and the labelled operations that MLS builds on them (RFC 9420, section 5).

A suite is a value: a second KEM, a post-quantum one say, is one more instance. The product speaks
``X25519_CHACHA20POLY1305_SHA256_ED25519`` (0x0003); 0x0001 is the RFC's mandatory suite.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from crypto import ed25519
from crypto.codec import opaque, u16, u32
from crypto.errors import InvalidError, VerificationError
from crypto.hpke import (
    AES_128_GCM,
    CHACHA20_POLY1305,
    HKDF_SHA256,
    KEM_X25519_HKDF_SHA256,
    X25519,
    Aead,
    Hpke,
    Kdf,
)


class Signer(Protocol):
    """A signature key pair."""

    @property
    def public_key(self) -> bytes:
        """The public key as it stands in a leaf."""

    @property
    def seed(self) -> bytes:
        """The private key, for the owner's encrypted store."""

    def sign(self, message: bytes) -> bytes:
        """Return the signature of ``message``."""


class SignatureScheme(Protocol):
    """A signature scheme of RFC 9420, section 5.1.2."""

    def generate(self) -> Signer:
        """Return a fresh key."""

    def load(self, seed: bytes) -> Signer:
        """Return the key of ``Signer.seed``; ``InvalidError`` where it is malformed."""

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> None:
        """Check a signature; ``VerificationError`` where it does not verify."""


class Ed25519Scheme:
    """Ed25519 with libsodium's verifier."""

    def generate(self) -> Signer:
        """Return a fresh key."""
        return ed25519.SigningKey.generate()

    def load(self, seed: bytes) -> Signer:
        """Return the key of a 32-byte seed; ``InvalidError`` for another length."""
        if len(seed) != ed25519.SEED_BYTES:
            raise InvalidError("signature private key has the wrong length (RFC 8032, 5.1.5)")
        return ed25519.SigningKey.from_seed(seed)

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> None:
        """Check a signature; ``VerificationError`` where it does not verify."""
        ed25519.verify(public_key=public_key, message=message, signature=signature)


@lru_cache(maxsize=64)
def _label(label: str) -> bytes:
    return opaque(b"MLS 1.0 " + label.encode())


@lru_cache(maxsize=128)
def _length_and_label(length: int, label: str) -> bytes:
    return u16(length) + _label(label)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CipherSuite:
    """The algorithms of one suite.

    Attributes:
        value: The suite's number (RFC 9420, section 17.1).
        hash_bytes: Length of a hash, a secret and a MAC (``KDF.Nh``).
    """

    value: int
    hpke: Hpke
    aead: Aead
    kdf: Kdf
    signature: SignatureScheme

    @property
    def hash_bytes(self) -> int:
        """Length of a hash, a secret and a MAC (``KDF.Nh``)."""
        return self.kdf.hash_bytes

    def hash(self, data: bytes) -> bytes:
        """Return the suite's hash of ``data``."""
        return hashlib.new(self.kdf.hash_name, data).digest()

    def mac(self, key: bytes, data: bytes) -> bytes:
        """Return the MAC of ``data``: HMAC with the suite's hash (RFC 9420, section 5.1)."""
        return hmac.digest(key, data, self.kdf.hash_name)

    def verify_mac(self, key: bytes, data: bytes, tag: bytes) -> None:
        """Check a MAC in constant time; ``VerificationError`` where it differs."""
        if not hmac.compare_digest(self.mac(key, data), tag):
            raise VerificationError

    def expand_with_label(self, secret: bytes, label: str, context: bytes, length: int) -> bytes:
        """Derive ``length`` bytes from ``secret``, bound to ``label`` and ``context``.

        Args:
            secret: ``hash_bytes`` bytes, uniformly random.
            label: The RFC's label, without its ``"MLS 1.0 "`` prefix.
            context: Any bytes; not hashed here.
            length: Bytes wanted, 0 to 65,535.

        Source: RFC 9420, section 8, ExpandWithLabel.
        """
        return self.kdf.expand(secret, _length_and_label(length, label) + opaque(context), length)

    def derive_secret(self, secret: bytes, label: str) -> bytes:
        """Derive a secret of ``hash_bytes`` (RFC 9420, section 8, DeriveSecret)."""
        return self.expand_with_label(secret, label, b"", self.kdf.hash_bytes)

    def derive_tree_secret(self, secret: bytes, label: str, generation: int, length: int) -> bytes:
        """Derive a key of one generation (RFC 9420, section 9, DeriveTreeSecret)."""
        return self.expand_with_label(secret, label, u32(generation), length)

    def ref_hash(self, label: str, value: bytes) -> bytes:
        """Return the hash-based identifier of ``value`` (RFC 9420, section 5.2, RefHash)."""
        return self.hash(opaque(label.encode()) + opaque(value))

    def sign_with_label(self, signer: Signer, label: str, content: bytes) -> bytes:
        """Return the signature of ``content`` for ``label`` (RFC 9420, section 5.1.2)."""
        return signer.sign(_label(label) + opaque(content))

    def verify_with_label(
        self, public_key: bytes, label: str, content: bytes, signature: bytes
    ) -> None:
        """Check what ``sign_with_label`` made (RFC 9420, section 5.1.2).

        Raises:
            VerificationError: It does not verify.
        """
        self.signature.verify(public_key, _label(label) + opaque(content), signature)

    def encrypt_with_label(
        self, public_key: bytes, label: str, context: bytes, plaintext: bytes
    ) -> tuple[bytes, bytes]:
        """Encrypt to an HPKE key: (KEM output, ciphertext) (RFC 9420, section 5.1.3).

        Raises:
            InvalidError: The key is malformed or of low order.
        """
        info = _label(label) + opaque(context)
        return self.hpke.seal(public_key, info=info, plaintext=plaintext)

    def decrypt_with_label(
        self, key_pair: tuple[bytes, bytes], label: str, context: bytes, sealed: tuple[bytes, bytes]
    ) -> bytes:
        """Decrypt what ``encrypt_with_label`` made (RFC 9420, section 5.1.3).

        Args:
            key_pair: The recipient's (private key, public key).
            label: As at encryption.
            context: As at encryption.
            sealed: (KEM output, ciphertext).

        Raises:
            InvalidError: The KEM output is malformed or of low order.
            VerificationError: It does not open.
        """
        info = _label(label) + opaque(context)
        return self.hpke.open(*key_pair, enc=sealed[0], info=info, ciphertext=sealed[1])


def _x25519_suite(value: int, aead: Aead) -> CipherSuite:
    hpke = Hpke(
        kem_id=KEM_X25519_HKDF_SHA256,
        group=X25519(),
        kem_kdf=HKDF_SHA256,
        kdf=HKDF_SHA256,
        aead=aead,
    )
    return CipherSuite(
        value=value, hpke=hpke, aead=aead, kdf=HKDF_SHA256, signature=Ed25519Scheme()
    )


X25519_AES128GCM_SHA256_ED25519 = _x25519_suite(0x0001, AES_128_GCM)
X25519_CHACHA20POLY1305_SHA256_ED25519 = _x25519_suite(0x0003, CHACHA20_POLY1305)

_SUITES = {
    suite.value: suite
    for suite in (X25519_AES128GCM_SHA256_ED25519, X25519_CHACHA20POLY1305_SHA256_ED25519)
}


def cipher_suite(value: int) -> CipherSuite:
    """Return the suite of a number.

    Raises:
        InvalidError: The suite is not spoken here (RFC 9420, section 17.1).
    """
    suite = _SUITES.get(value)
    if suite is None:
        raise InvalidError("unsupported cipher suite (17.1)")
    return suite
