"""Encryption of rows that lie in another's keeping, under a key that stays at home.

Many rows are sealed under one key: each draws a nonce of its own, so long that two never meet.

Source: draft-irtf-cfrg-xchacha-03 (XChaCha20-Poly1305), as libsodium has it.
"""

from __future__ import annotations

import secrets

from nacl import bindings
from nacl.exceptions import CryptoError as SodiumError

from crypto.errors import UsageError, VerificationError

KEY_BYTES = bindings.crypto_aead_xchacha20poly1305_ietf_KEYBYTES
NONCE_BYTES = bindings.crypto_aead_xchacha20poly1305_ietf_NPUBBYTES


def seal_at_rest(plaintext: bytes, *, key: bytes, context: bytes) -> bytes:
    """Return nonce and ciphertext of ``plaintext``.

    Args:
        plaintext: Any bytes.
        key: ``KEY_BYTES``, uniformly random, used for nothing else.
        context: Where the row stands; it is authenticated and not stored.

    Raises:
        UsageError: The key has another length.
    """
    _check(key)
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(
        plaintext, context, nonce, key
    )


def open_at_rest(sealed: bytes, *, key: bytes, context: bytes) -> bytes:
    """Return what ``seal_at_rest`` sealed.

    Raises:
        UsageError: The key has another length.
        VerificationError: It is another's key or place, or was changed.
    """
    _check(key)
    if len(sealed) < NONCE_BYTES + bindings.crypto_aead_xchacha20poly1305_ietf_ABYTES:
        raise VerificationError
    nonce, ciphertext = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
    try:
        return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(ciphertext, context, nonce, key)
    except SodiumError:
        raise VerificationError from None


def _check(key: bytes) -> None:
    if len(key) != KEY_BYTES:
        raise UsageError(f"a key has {KEY_BYTES} bytes")
