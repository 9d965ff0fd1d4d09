"""What a device checks by itself of a record in the archive's log: that it commits to a body.

A record is fixed in length and place (docs/protocol-archive.md, *Record*); here are only those of
its parts that somebody without the archive needs.
"""

from __future__ import annotations

import hmac
from hashlib import sha256

from crypto.errors import DecodeError, VerificationError

RECORD_BYTES = 199
HASH_BYTES = 32

_COMMIT_LABEL = b"Wardline 1 record commitment"
_TYPE_AT = 1
_COMMIT_AT = 131
_LENGTH_AT = _COMMIT_AT + HASH_BYTES


def commitment(salt: bytes, body: bytes) -> bytes:
    """Return what a record says of its body: nothing, to whoever lacks the salt."""
    return commitment_of(salt, sha256(body).digest())


def commitment_of(salt: bytes, body_hash: bytes) -> bytes:
    """Return the commitment to the body with this SHA-256."""
    return sha256(_COMMIT_LABEL + salt + body_hash).digest()


def check_recorded(record: bytes, *, kind: int, salt: bytes, body: bytes) -> None:
    """Check that a record is of ``kind`` and commits to ``body``.

    Args:
        record: As it stands in the log.
        kind: The record's type, by its number.
        salt: ``HASH_BYTES`` bytes, from the archive.
        body: The caller's own copy.

    Raises:
        DecodeError: The bytes are no record.
        VerificationError: It is of another kind or commits to something else.
    """
    if len(record) != RECORD_BYTES:
        raise DecodeError("Record", 0)
    committed = record[_COMMIT_AT:_LENGTH_AT]
    length = int.from_bytes(record[_LENGTH_AT : _LENGTH_AT + 4], "big")
    if record[_TYPE_AT] != kind or length != len(body):
        raise VerificationError
    if not hmac.compare_digest(commitment(salt, body), committed):
        raise VerificationError


def check_commitment(record: bytes, *, salt: bytes, body_hash: bytes) -> None:
    """Check that a record commits to the body with this SHA-256.

    Args:
        record: As it stands in the log, ``RECORD_BYTES`` bytes.
        salt: ``HASH_BYTES`` bytes, from the archive.
        body_hash: Of the caller's own copy.

    Raises:
        DecodeError: The bytes are no record.
        VerificationError: It commits to something else.
    """
    if len(record) != RECORD_BYTES:
        raise DecodeError("Record", 0)
    if not hmac.compare_digest(commitment_of(salt, body_hash), record[_COMMIT_AT:_LENGTH_AT]):
        raise VerificationError
