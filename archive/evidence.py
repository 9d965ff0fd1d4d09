"""Bodies of the archive's own records: evidence, relayed events, heartbeats, gaps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from crypto.codec import U8, U64, Opaque, Reader, Struct, Wire
from crypto.errors import InvalidError, UsageError

VERSION = 1
HASH_BYTES = 32


def _write_hash(value: bytes) -> bytes:
    if len(value) != HASH_BYTES:
        raise UsageError("a hash has 32 bytes")
    return value


def _read_hash(reader: Reader) -> bytes:
    return reader.take(HASH_BYTES)


Hash = Annotated[bytes, Wire(_read_hash, _write_hash)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence(Struct):
    """Body of a ``FAULT_EVIDENCE`` record: an entry that did not have its effect.

    The entry itself is a record too, wherever it has a body.

    Attributes:
        version: ``VERSION``.
        log: The relay's log.
        sequence: The entry's number there.
        cause: Why, ``client.followed.Cause``; 0 for what the archive itself could not read.
        body_hash: SHA-256 of the entry's body.
    """

    version: U8 = VERSION
    log: Opaque = field(repr=False)
    sequence: U64
    cause: U8
    body_hash: Hash

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise InvalidError("evidence has a known version")


@dataclass(frozen=True, slots=True, kw_only=True)
class Relayed(Struct):
    """Body of a record of the relay's own events: two that say the same are two records.

    Attributes:
        version: ``VERSION``.
        log: The relay's log.
        sequence: The entry's number there.
        at_ms: When the relay wrote it.
        body: What it wrote.
    """

    version: U8 = VERSION
    log: Opaque = field(repr=False)
    sequence: U64
    at_ms: U64
    body: Opaque = field(repr=False)

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise InvalidError("a relayed event has a known version")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(Struct):
    """Body of a ``HEARTBEAT`` or ``CLOCK_ANOMALY`` record: that the archive ran, and its clock.

    Attributes:
        version: ``VERSION``.
        at_ms: This host's clock.
        relay_ms: The relay's clock when it was heard last, 0 before.
        witnessed: Leaves under the last cosigned checkpoint.
    """

    version: U8 = VERSION
    at_ms: U64
    relay_ms: U64
    witnessed: U64

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise InvalidError("a heartbeat has a known version")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap(Struct):
    """Body of a ``RESTORE_OR_GAP`` record: numbers that the archive never got, or a restore.

    Attributes:
        version: ``VERSION``.
        log: The relay's log; empty for a restore.
        after: The last number that was recorded before it.
        before: The first that was recorded behind it.
        at_ms: When it was noticed.
        origin: Origin of the log that this one continues after a restore; else empty.
        size: Leaves of that log that are known of.
    """

    version: U8 = VERSION
    log: Opaque = field(repr=False)
    after: U64
    before: U64
    at_ms: U64
    origin: Opaque = b""
    size: U64 = 0

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise InvalidError("a gap has a known version")
