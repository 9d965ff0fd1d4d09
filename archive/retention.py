"""Which buckets have ended, and their end: shredded at the archive, keys destroyed by officers.

It is for the process that records: nothing else changes the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from archive.errors import HeldError
from archive.log import Log
from archive.record import bucket_tag
from archive.shredding import is_kept, shred
from protocol.retention import CLASSES, Bucket

YEAR_MS = 365 * 24 * 3600 * 1000

LATE_MS = 2 * 24 * 3600 * 1000
"""How long after its end, in ms, a bucket may still be there: ends are looked for once a day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What came of a bucket's end.

    Attributes:
        bucket: The bucket.
        records: Indices of the records that say what was shredded; none where there was nothing.
        hold: Index of the hold that stops it; None where nothing does.
    """

    bucket: Bucket
    records: tuple[int, ...] = ()
    hold: int | None = None


def ended_buckets(log: Log, *, now_ms: int, classes: Mapping[str, int] = CLASSES) -> list[Bucket]:
    """Return the buckets whose end has come and that still have bodies, oldest first.

    Args:
        log: The log.
        now_ms: Now.
        classes: Years that each class is kept.
    """
    kept = {record.bucket for record in log.records() if log.has_body(record.index)}
    first_ms = min((record.at_ms for record in log.records()), default=now_ms)
    return sorted(
        bucket
        for bucket in _buckets(classes, first_ms, now_ms)
        if bucket.ends_ms(classes) <= now_ms and bucket_tag(bucket.name) in kept
    )


def late_buckets(log: Log, *, now_ms: int) -> list[Bucket]:
    """Return the buckets that a hold keeps whole ``LATE_MS`` after their end."""
    at_ms = now_ms - LATE_MS
    # Before the oldest record could have ended nothing is read: a large log takes its time.
    if not log.size or at_ms - log.read(0).at_ms < min(CLASSES.values()) * YEAR_MS:
        return []
    return [one for one in ended_buckets(log, now_ms=at_ms) if is_kept(log, one.name)]


def end_buckets(log: Log, *, now_ms: int, classes: Mapping[str, int] = CLASSES) -> list[Ending]:
    """Shred every bucket whose end has come; a hold stops that until what it covers is re-shared.

    Args:
        log: Publish it afterwards.
        now_ms: Now.
        classes: Years that each class is kept.

    Raises:
        ArchiveError: The log cannot be used.
    """
    return [
        _end(log, bucket, now_ms) for bucket in ended_buckets(log, now_ms=now_ms, classes=classes)
    ]


def _end(log: Log, bucket: Bucket, now_ms: int) -> Ending:
    try:
        return Ending(bucket=bucket, records=shred(log, bucket.name, now_ms=now_ms))
    except HeldError as held:
        return Ending(bucket=bucket, hold=held.hold)


def _buckets(classes: Iterable[str], first_ms: int, now_ms: int) -> Iterable[Bucket]:
    for name in classes:
        bucket = Bucket.at(name, min(first_ms, now_ms))
        while bucket.begins_ms <= now_ms:
            yield bucket
            bucket = bucket.next
