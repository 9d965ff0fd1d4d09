"""Encryption under keys that are used once.

The key is made where it is used, so that no caller can use one twice: the nonce is constant for
that reason. Which key a ciphertext opens under is not fixed by ChaCha20-Poly1305 itself: whoever
must not be shown two plaintexts of one ciphertext compares a hash of the key, or of the plaintext.

Source: RFC 8439, section 2.8.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from crypto.errors import UsageError, VerificationError

KEY_BYTES = 32
TAG_BYTES = 16

_NONCE = bytes(12)


def seal_once(plaintext: bytes, *, context: bytes) -> tuple[bytes, bytes]:
    """Return a fresh key of ``KEY_BYTES``, and ``plaintext`` encrypted under it.

    Args:
        plaintext: Any bytes; the ciphertext has ``TAG_BYTES`` more.
        context: What the ciphertext is for; it is authenticated and not stored.

    Source: RFC 8439, section 2.8.
    """
    key = ChaCha20Poly1305.generate_key()
    return key, ChaCha20Poly1305(key).encrypt(_NONCE, plaintext, context)


def open_once(ciphertext: bytes, *, key: bytes, context: bytes) -> bytes:
    """Return what ``seal_once`` encrypted.

    Raises:
        UsageError: The key has another length.
        VerificationError: It is another's key or context, or the ciphertext was changed.

    Source: RFC 8439, section 2.8.
    """
    if len(key) != KEY_BYTES:
        raise UsageError("a key has 32 bytes")
    try:
        return ChaCha20Poly1305(key).decrypt(_NONCE, ciphertext, context)
    except InvalidTag:
        raise VerificationError from None
