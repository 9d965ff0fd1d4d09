"""X-Wing keys: ML-KEM-768 with X25519, in the byte formats of the draft that defines the KEM.

A private key is its 32-byte seed; a public key the 1,216 bytes that certificates and files hold.

Source: draft-connolly-cfrg-xwing-kem, section 5.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from hashlib import shake_256

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey

from crypto.errors import InvalidError, UsageError

SEED_BYTES = 32
PUBLIC_KEY_BYTES = 1216
ENC_BYTES = 1120
"""Length of an encapsulated key (``Nenc``)."""

_MLKEM_PUBLIC_BYTES = 1184
_MLKEM_SEED_BYTES = 64
_X25519_PRIME = 2**255 - 19


@dataclass(frozen=True, slots=True)
class XWingKey:
    """A private key; no ``repr`` shows the seed.

    Attributes:
        public_key: ``PUBLIC_KEY_BYTES`` bytes.
    """

    public_key: bytes = field(repr=False)
    _seed: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> XWingKey:
        """Return a fresh key."""
        return cls.from_seed(secrets.token_bytes(SEED_BYTES))

    @classmethod
    def from_seed(cls, seed: bytes) -> XWingKey:
        """Return the key of a ``SEED_BYTES`` seed.

        Raises:
            UsageError: The seed has another length.

        Source: draft-connolly-cfrg-xwing-kem, section 5.2.
        """
        if len(seed) != SEED_BYTES:
            raise UsageError("an X-Wing seed has 32 bytes")
        mlkem, x25519 = _expand(seed)
        public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        return cls(public, seed)

    @property
    def seed(self) -> bytes:
        """The secret seed, for the owner's encrypted store."""
        return self._seed

    def hpke_key(self) -> MLKEM768X25519PrivateKey:
        """Return the key as the HPKE implementation takes it."""
        return MLKEM768X25519PrivateKey(*_expand(self._seed))


def _expand(seed: bytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    expanded = shake_256(seed).digest(_MLKEM_SEED_BYTES + 32)
    return (
        MLKEM768PrivateKey.from_seed_bytes(expanded[:_MLKEM_SEED_BYTES]),
        X25519PrivateKey.from_private_bytes(expanded[_MLKEM_SEED_BYTES:]),
    )


def hpke_public_key(public_key: bytes) -> MLKEM768X25519PublicKey:
    """Return a public key as the HPKE implementation takes it, checked.

    Raises:
        InvalidError: It has another length, its ML-KEM half is not reduced (FIPS 203, section 7.2),
            or its X25519 half is not canonical or of low order (RFC 7748, section 6.1).
    """
    mlkem, x25519 = public_key[:_MLKEM_PUBLIC_BYTES], public_key[_MLKEM_PUBLIC_BYTES:]
    if len(public_key) != PUBLIC_KEY_BYTES or int.from_bytes(x25519, "little") >= _X25519_PRIME:
        raise InvalidError("an X-Wing public key has 1216 bytes, its X25519 half canonical")
    try:
        point = X25519PublicKey.from_public_bytes(x25519)
        # X-Wing itself would accept a point of low order; an exchange with one gives only zeroes,
        # which this library refuses.
        X25519PrivateKey.generate().exchange(point)
        return MLKEM768X25519PublicKey(MLKEM768PublicKey.from_public_bytes(mlkem), point)
    except ValueError:
        raise InvalidError("an X-Wing public key with an invalid half") from None
