"""Shredding a retention bucket at its end, and the legal holds that prevent it.

What goes are bodies and record keys, those of the sealed epoch keys among them; leaves stay, and so
does every proof. That a body is missing is right only where a record says that it was shredded: it
stands in the log in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from archive.batch import Entry
from archive.errors import HeldError
from archive.log import Log
from archive.record import Record, RecordType, bucket_tag
from crypto.codec import U8, U64, Opaque, Reader, Struct, u64, vector_of
from crypto.errors import InvalidError, UsageError

VERSION = 1

ARCHIVE_BUCKET = b"archive"
"""Bucket of the archive's own records, which is never shredded: they say what was."""

_SEALED = frozenset({RecordType.MESSAGE, RecordType.EPOCH_KEYS})
"""What is worth nothing without the officers' keys of a bucket."""

MAX_RANGES = 100_000
"""Ranges in one record of a shredding at most; a larger one makes several records."""


def _read_range(reader: Reader) -> tuple[int, int]:
    return reader.u64(), reader.u64()


def _write_range(bounds: tuple[int, int]) -> bytes:
    return u64(bounds[0]) + u64(bounds[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(Struct):
    """Body of a ``HOLD_SET`` record: what is not to be shredded.

    Attributes:
        version: ``VERSION``.
        group_id: The conversation; empty for all.
        from_ms: First instant held, in ms since the epoch, by when the archive recorded.
        until_ms: The instant at which the period ends, not held itself.
        set_ms: When it was set: the same hold may be set again after its release.
    """

    version: U8 = VERSION
    group_id: Opaque = field(repr=False)
    from_ms: U64
    until_ms: U64
    set_ms: U64

    def __post_init__(self) -> None:
        if self.version != VERSION or self.from_ms >= self.until_ms:
            raise InvalidError("a hold has a known version and a period")


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(Struct):
    """Body of a ``HOLD_RELEASED`` record.

    Attributes:
        version: ``VERSION``.
        hold: Index of the record that set the hold.
    """

    version: U8 = VERSION
    hold: U64

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise InvalidError("a release has a known version")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shredding(Struct):
    """Body of a ``SHRED`` record: whose bodies went.

    Attributes:
        version: ``VERSION``.
        bucket: The bucket that ended.
        ranges: First index and the one after the last, in order.
    """

    version: U8 = VERSION
    bucket: Opaque
    ranges: Annotated[tuple[tuple[int, int], ...], vector_of(_read_range, _write_range)]

    def __post_init__(self) -> None:
        bounds = [bound for one in self.ranges for bound in one]
        if self.version != VERSION or not self.ranges or len(self.ranges) > MAX_RANGES:
            raise InvalidError("a shredding has a known version and some ranges")
        if any(start >= end for start, end in self.ranges) or bounds != sorted(bounds):
            raise InvalidError("the ranges of a shredding are in order")


class Holds:
    """The holds in force at a place in the log, as its records up to there set them."""

    def __init__(self, tag_of: Callable[[bytes], bytes]) -> None:
        self._tag_of = tag_of
        self._held: dict[int, tuple[bytes | None, Hold]] = {}

    def follow(self, index: int, kind: int, body: bytes) -> None:
        """Take in the record of type ``kind`` at ``index``; of another kind it changes nothing.

        Raises:
            DecodeError: Its body is no such record's.
            InvalidError: It breaks a rule.
        """
        if kind == RecordType.HOLD_SET:
            hold = Hold.decode(body)
            self._held[index] = (self._tag_of(hold.group_id) if hold.group_id else None, hold)
        elif kind == RecordType.HOLD_RELEASED:
            self._held.pop(Release.decode(body).hold, None)

    def of(self, record: Record) -> int | None:
        """Return the index of a hold that covers ``record``, or ``None``."""
        for index, (tag, hold) in self._held.items():
            if tag in (None, record.conv_tag) and hold.from_ms <= record.at_ms < hold.until_ms:
                return index
        return None


def shred(log: Log, bucket: bytes, *, now_ms: int) -> tuple[int, ...]:
    """Delete the bodies and record keys of ``bucket``; return the records that say so.

    What a hold covers stays, once its segment was shared anew to another bucket. Before that all
    stays: the officers have one key for the whole bucket and could not destroy it.

    Args:
        log: Publish it afterwards.
        bucket: Name of the bucket that ended.
        now_ms: Now, in ms since the epoch.

    Raises:
        HeldError: A hold covers a record whose segment was not shared anew.
        UsageError: It is the archive's own bucket.
    """
    if bucket == ARCHIVE_BUCKET:
        raise UsageError("the archive's own records are kept")
    ranges = list(_ranges(_unheld(log, bucket_tag(bucket))))
    return tuple(
        _shred_ranges(log, bucket, ranges[at : at + MAX_RANGES], now_ms=now_ms)
        for at in range(0, len(ranges), MAX_RANGES)
    )


def is_kept(log: Log, bucket: bytes) -> bool:
    """Tell whether something of ``bucket`` is still to go, or all of it stays for a hold's sake."""
    try:
        return bool(_unheld(log, bucket_tag(bucket)))
    except HeldError:
        return True


def _unheld(log: Log, tag: bytes) -> list[int]:
    """Return the indices of a bucket's records that still have a body and are to go."""
    holds, records, elsewhere = Holds(log.tag_of), [], set()
    for record in log.records():
        if record.type in (RecordType.HOLD_SET, RecordType.HOLD_RELEASED):
            holds.follow(record.index, record.type, log.body(record.index))
        elif record.bucket == tag and log.has_body(record.index):
            records.append(record)
        elif record.type is RecordType.EPOCH_KEYS and log.has_body(record.index):
            elsewhere.add((record.conv_tag, record.epoch))
    held = {record.index: hold for record in records if (hold := holds.of(record)) is not None}
    for record in records:
        sealed = record.type in _SEALED and (record.conv_tag, record.epoch) not in elsewhere
        if record.index in held and sealed:
            raise HeldError(held[record.index])
    return [record.index for record in records if record.index not in held]


def _ranges(indices: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the runs of ascending indices."""
    start = end = None
    for index in indices:
        if index != end:
            if start is not None and end is not None:
                yield start, end
            start = index
        end = index + 1
    if start is not None and end is not None:
        yield start, end


def _shred_ranges(
    log: Log, bucket: bytes, ranges: Sequence[tuple[int, int]], *, now_ms: int
) -> int:
    body = Shredding(bucket=bucket, ranges=tuple(ranges)).encode()
    entry = Entry(type=RecordType.SHRED, body=body, bucket=ARCHIVE_BUCKET)
    indices = [index for start, end in ranges for index in range(start, end)]
    return log.replace_bodies(indices, entry, now_ms=now_ms)
