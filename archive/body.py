"""A record's body: committed to by the leaf, encrypted under a record key of its own.

The salt of the commitment is encrypted with the body and shredded with it: afterwards the leaf does
not even confirm a guess of what it stood for.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from hashlib import sha256

from archive.record import TAG_BYTES, Record
from crypto import codec
from crypto.errors import VerificationError
from crypto.single_use import KEY_BYTES, open_once, seal_once
from protocol.recorded import commitment

SALT_BYTES = 32

MAX_BODY_BYTES = (1 << 24) - 1
"""Bytes of a body at most: far above any message that a relay carries, below what would stall."""

_KEY_LABEL = b"Wardline 1 record key id"
_CONTEXT_LABEL = b"Wardline 1 record body"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedBody:
    """A body as the archive keeps it, and what its leaf says of it.

    Attributes:
        commit: For the leaf.
        record_key_id: For the leaf.
        salt: ``SALT_BYTES`` bytes: with the body's hash they show what the leaf commits to.
        record_key: ``KEY_BYTES`` bytes, kept apart from the ciphertext.
        ciphertext: Salt and body, encrypted.
    """

    commit: bytes
    record_key_id: bytes
    salt: bytes = field(repr=False)
    record_key: bytes = field(repr=False)
    ciphertext: bytes = field(repr=False)


def seal_body(body: bytes, *, log_id: bytes, index: int) -> SealedBody:
    """Return ``body`` encrypted under a fresh record key for its place in the log."""
    salt = secrets.token_bytes(SALT_BYTES)
    key, ciphertext = seal_once(salt + body, context=_context(log_id, index))
    return SealedBody(
        commit=commitment(salt, body),
        record_key_id=_key_id(key),
        salt=salt,
        record_key=key,
        ciphertext=ciphertext,
    )


def open_body(ciphertext: bytes, *, record_key: bytes, record: Record) -> bytes:
    """Return the body that the leaf ``record`` commits to.

    Raises:
        VerificationError: Key or ciphertext are not the leaf's, or were changed.
    """
    return open_salted(ciphertext, record_key=record_key, record=record)[1]


def open_salted(ciphertext: bytes, *, record_key: bytes, record: Record) -> tuple[bytes, bytes]:
    """Return the salt of the leaf's commitment, and the body: what proves the one by the other.

    Raises:
        VerificationError: Key or ciphertext are not the leaf's, or were changed.
    """
    if len(record_key) != KEY_BYTES or _key_id(record_key) != record.record_key_id:
        raise VerificationError
    context = _context(record.log_id, record.index)
    opened = open_once(ciphertext, key=record_key, context=context)
    salt, body = opened[:SALT_BYTES], opened[SALT_BYTES:]
    if len(body) != record.body_length or commitment(salt, body) != record.commit:
        raise VerificationError
    return salt, body


def _key_id(key: bytes) -> bytes:
    return sha256(_KEY_LABEL + key).digest()[:TAG_BYTES]


def _context(log_id: bytes, index: int) -> bytes:
    return _CONTEXT_LABEL + log_id + codec.u64(index)
