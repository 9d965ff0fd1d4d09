"""Ed25519, by libsodium alone: one verifier decides everything (RFC 8032 with libsodium's checks).

libsodium refuses small-order and non-canonical public keys, small-order ``R`` and a non-reduced
``S``, so two verifiers can never disagree about a signature here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nacl.bindings import (
    crypto_core_ed25519_is_valid_point,
    crypto_sign,
    crypto_sign_keypair,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import CryptoError as NaClError

from crypto.errors import InvalidError, UsageError, VerificationError

PUBLIC_KEY_BYTES = 32
SEED_BYTES = 32
SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 private key; its ``repr`` and every error are without the secret.

    Attributes:
        public_key: ``PUBLIC_KEY_BYTES`` bytes.
    """

    public_key: bytes
    _secret: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> SigningKey:
        """Return a fresh key."""
        return cls(*crypto_sign_keypair())

    @classmethod
    def from_seed(cls, seed: bytes) -> SigningKey:
        """Return the key of a ``SEED_BYTES`` seed (RFC 8032, section 5.1.5).

        Raises:
            UsageError: The seed has another length.
        """
        if len(seed) != SEED_BYTES:
            raise UsageError("an Ed25519 seed has 32 bytes")
        return cls(*crypto_sign_seed_keypair(seed))

    @property
    def seed(self) -> bytes:
        """The secret seed, for the owner's encrypted store."""
        return self._secret[:SEED_BYTES]

    def sign(self, message: bytes) -> bytes:
        """Return the ``SIGNATURE_BYTES`` signature of ``message``."""
        return crypto_sign(message, self._secret)[:SIGNATURE_BYTES]


def verify(*, public_key: bytes, message: bytes, signature: bytes) -> None:
    """Check a signature.

    Raises:
        VerificationError: It does not verify, or a key or signature is malformed.
    """
    if len(signature) != SIGNATURE_BYTES or len(public_key) != PUBLIC_KEY_BYTES:
        raise VerificationError
    try:
        crypto_sign_open(signature + message, public_key)
    except NaClError:
        raise VerificationError from None


def check_public_key(public_key: bytes) -> None:
    """Refuse a public key that is not a canonical point of the prime-order group.

    Raises:
        InvalidError: Wrong length, non-canonical, of small order, or not in the main subgroup.
    """
    if len(public_key) != PUBLIC_KEY_BYTES or not crypto_core_ed25519_is_valid_point(public_key):
        raise InvalidError("Ed25519 public key is not a canonical point of the main subgroup")
