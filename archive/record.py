"""The record: the short leaf of the archive's log.

A leaf holds no content, only a commitment to it, so that a body can be shredded and every proof
stays valid. Each leaf names its conversation's previous one: an omission shows without the rest of
the log.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from hashlib import sha256
from typing import Annotated, NamedTuple

from crypto.codec import U8, U32, U64, Reader, Struct, Wire, u8
from crypto.errors import InvalidError, UsageError
from crypto.note import VerifierKey

VERSION = 1

HASH_BYTES = 32
TAG_BYTES = 16
RECORD_BYTES = 199
"""Length of every record: fixed, so that a leaf says nothing by it."""

NO_PREVIOUS = bytes(HASH_BYTES)
"""``conv_prev`` of a conversation's first record."""

_LOG_LABEL = b"Wardline 1 log id"
_BUCKET_LABEL = b"Wardline 1 retention bucket"


class RecordType(IntEnum):
    """What a record is about."""

    MESSAGE = 1
    HANDSHAKE = 2
    EPOCH_KEYS = 3
    ROSTER = 4
    ADMINISTRATIVE_COMMAND = 5
    ON_CALL_CHANGE = 6
    ESCALATION = 7
    WIPE_ORDER = 8
    WIPE_RECEIPT = 9
    RELAY_SECURITY_EVENT = 10
    REVIEW_REQUEST = 11
    APPROVAL = 12
    SHARE_RELEASE = 13
    VIEW = 14
    EXPORT = 15
    HOLD_SET = 16
    HOLD_RELEASED = 17
    SHRED = 18
    RESTORE_OR_GAP = 19
    KEY_CEREMONY = 20
    POLICY_CHANGE = 21
    CLOCK_ANOMALY = 22
    FAULT_EVIDENCE = 23
    HEARTBEAT = 24


class RecordFlags(IntFlag):
    """What the archive notes of a record without opening it again."""

    SIGNATURE_CHECKED = 1
    PRIORITY = 2
    ATTACHMENT = 4


NO_FLAGS = RecordFlags(0)

KNOWN_FLAGS = 7
"""Every flag there is; another bit makes no record."""


def _fixed(size: int) -> Wire[bytes]:
    def write(value: bytes) -> bytes:
        if len(value) != size:
            raise UsageError("a field of a record has a fixed length")
        return value

    return Wire(lambda reader: reader.take(size), write)


def _read_type(reader: Reader) -> RecordType:
    try:
        return RecordType(reader.u8())
    except ValueError:
        raise reader.fail() from None


def _read_flags(reader: Reader) -> RecordFlags:
    flags = reader.u8()
    if flags & ~KNOWN_FLAGS:
        raise reader.fail()
    return RecordFlags(flags)


Hash = Annotated[bytes, _fixed(HASH_BYTES)]
Tag = Annotated[bytes, _fixed(TAG_BYTES)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(Struct):
    """A leaf of the log.

    Attributes:
        version: ``VERSION``.
        type: What it is about.
        flags: What was noted of it.
        index: Its place in the log, from 0.
        at_ms: When the archive recorded it, in ms since the epoch.
        log_id: The log that it stands in, ``log_id``.
        conv_tag: Its conversation, ``conversation_tag``.
        epoch: MLS epoch; 0 where there is none.
        conv_seq: Its place in the conversation, from 0.
        conv_prev: Leaf hash of the conversation's record before it, or ``NO_PREVIOUS``.
        commit: Commitment to the body, see ``archive.body``.
        body_length: Bytes of the body.
        bucket: Retention bucket, ``bucket_tag``.
        record_key_id: Hash of the key that the body is encrypted under, see ``archive.body``.
    """

    version: U8 = VERSION
    type: Annotated[RecordType, Wire(_read_type, u8)]
    flags: Annotated[RecordFlags, Wire(_read_flags, u8)]
    index: U64
    at_ms: U64
    log_id: Hash
    conv_tag: Hash
    epoch: U64
    conv_seq: U64
    conv_prev: Hash
    commit: Hash
    body_length: U32
    bucket: Tag
    record_key_id: Tag

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise InvalidError("a record has a known version")
        if (self.conv_seq == 0) != (self.conv_prev == NO_PREVIOUS):
            raise InvalidError("a conversation's first record, and no other, has none before it")


class RecordView(NamedTuple):
    """A record's fields in their order, read without making a ``Record``: for whoever reads all.

    ``place`` is the index, a name that a tuple has taken.
    """

    version: int
    type: int
    flags: int
    place: int
    at_ms: int
    log_id: bytes
    conv_tag: bytes
    epoch: int
    conv_seq: int
    conv_prev: bytes
    commit: bytes
    body_length: int
    bucket: bytes
    record_key_id: bytes


_LAYOUT = struct.Struct(">BBBQQ32s32sQQ32s32sI16s16s")
_TYPES = frozenset(RecordType)


def view(data: bytes) -> RecordView | None:
    """Return the fields of a record's encoding, or ``None`` where ``Record.decode`` refuses it."""
    if len(data) != RECORD_BYTES:
        return None
    found = RecordView._make(_LAYOUT.unpack(data))
    well_formed = (
        found.version == VERSION
        and found.type in _TYPES
        and not found.flags & ~KNOWN_FLAGS
        and (found.conv_seq == 0) == (found.conv_prev == NO_PREVIOUS)
    )
    return found if well_formed else None


def log_id(key: VerifierKey) -> bytes:
    """Return the identifier of the log that ``key`` signs: a leaf stands in no other log."""
    return sha256(_LOG_LABEL + key.encode().encode()).digest()


def conversation_tag(conversation_key: bytes, group_id: bytes) -> bytes:
    """Return what names a conversation in the log to those alone who hold ``conversation_key``.

    Args:
        conversation_key: The archive's secret of ``HASH_BYTES``.
        group_id: The MLS group; empty for records that belong to no conversation.
    """
    return hmac.digest(conversation_key, group_id, "sha256")


def bucket_tag(bucket: bytes) -> bytes:
    """Return the short name of a retention bucket (class and quarter) in a record."""
    return sha256(_BUCKET_LABEL + bucket).digest()[:TAG_BYTES]
