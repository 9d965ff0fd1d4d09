"""The relay's half of a PIN: what it stores to check a proof, without anything that opens a store.

The relay imports this and not ``crypto.pin``, which derives keys.
"""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256

from crypto.errors import InvalidError, VerificationError

PROOF_BYTES = 32
VERIFIER_BYTES = 32
SHARE_BYTES = 32

_LABEL = b"Wardline 1 pin verifier"


def new_share() -> bytes:
    """Return a fresh share: 32 random bytes that the relay keeps, gives and deletes.

    It is made by the device at enrolment and at each change of PIN, and stored by the relay beside
    the verifier.
    """
    return secrets.token_bytes(SHARE_BYTES)


def verifier(proof: bytes) -> bytes:
    """Return what the relay stores: a hash, so that its database gives nobody a proof to send.

    Args:
        proof: ``PROOF_BYTES`` bytes from the device.

    Raises:
        InvalidError: The proof has another length.
    """
    if len(proof) != PROOF_BYTES:
        raise InvalidError("a PIN proof has 32 bytes")
    return sha256(_LABEL + proof).digest()


def verify_proof(proof: bytes, *, expected: bytes) -> None:
    """Check the proof that a device sends when it asks for its share.

    The caller counts the wrong ones, backs off and locks the share after ten: that count, and not
    the hash, is what a short PIN's safety rests on.

    Args:
        proof: As it came, of any length.
        expected: The stored verifier.

    Raises:
        VerificationError: The PIN was not the right one.
    """
    if not hmac.compare_digest(sha256(_LABEL + proof).digest(), expected):
        raise VerificationError
