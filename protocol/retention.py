"""Retention: classes with an end, and the buckets (class, quarter) that end together.

Officers hold one key pair a bucket and destroy it at the bucket's end, so a bucket is what ends as
one. Quarters are those of UTC: two programs in two zones name the same bucket.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from crypto.errors import DecodeError, InvalidError
from protocol.group_context import ConversationType
from protocol.identifiers import retention_class

QUARTERS_AHEAD = 4
"""Quarters for which officers certify keys beyond the present one: a year's absence of an officer
stops no recording."""

BUCKET_NAME_BYTES = 40
"""Longest name of a bucket: the longest class, a blank, year and quarter."""

_NAME = re.compile(rb"([a-z0-9-]{1,32}) ([0-9]{4})Q([1-4])")
_FIRST_YEAR, _LAST_YEAR = 1970, 9998
_MONTHS_A_QUARTER = 3
_DAYS_A_YEAR = 366
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

CLINICAL = "clinical"
"""Talk about patients: part of the record, kept as long as records are."""
NOTICE = "notice"
"""Announcements to many: kept as documentation of what staff were told (45 CFR 164.316)."""
COMPLIANCE = "compliance"
"""What officers and archive tell each other: outlives whatever it is about."""
HELD = "held"
"""Segments that a legal hold kept beyond their class's end, shared anew."""

CLASSES: Mapping[str, int] = MappingProxyType(
    {CLINICAL: 10, NOTICE: 6, COMPLIANCE: 12, HELD: 10},
)
"""Years that each class is kept after its quarter's end, where the organisation says nothing
else."""

_DEFAULTS = {ConversationType.ANNOUNCEMENT: NOTICE}


def default_class(kind: ConversationType) -> str:
    """Return the retention class of a new conversation of a type."""
    return _DEFAULTS.get(kind, CLINICAL)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Bucket:
    """What is kept, and ends, together.

    Attributes:
        retention_class: Name of the class.
        year: Of its quarter, UTC.
        quarter: 1 to 4.
    """

    retention_class: str
    year: int
    quarter: int

    def __post_init__(self) -> None:
        retention_class(self.retention_class)
        if not (_FIRST_YEAR <= self.year <= _LAST_YEAR and 1 <= self.quarter <= 4):
            raise InvalidError("a bucket's quarter lies between 1970 and 9998")

    @classmethod
    def at(cls, retention_class: str, at_ms: int) -> Bucket:
        """Return the bucket of what a class records at an instant.

        Raises:
            InvalidError: The class's name is none, or the instant out of range.
        """
        year, quarter = _quarter(at_ms)
        return cls(retention_class=retention_class, year=year, quarter=quarter)

    @classmethod
    def decode(cls, name: bytes) -> Bucket:
        """Return the bucket of a name.

        Raises:
            DecodeError: It names none.
            InvalidError: Its quarter is out of range.
        """
        found = _NAME.fullmatch(name)
        if found is None:
            raise DecodeError("Bucket", 0)
        title, year, quarter = found.groups()
        return cls(retention_class=title.decode(), year=int(year), quarter=int(quarter))

    @property
    def name(self) -> bytes:
        """The name by which records, keys and shares are bound to it: ``clinical 2026Q4``."""
        return f"{self.retention_class} {self.year:04}Q{self.quarter}".encode()

    @property
    def next(self) -> Bucket:
        """The bucket of the same class and the following quarter."""
        year, quarter = divmod(self.year * 4 + self.quarter, 4)
        return Bucket(retention_class=self.retention_class, year=year, quarter=quarter + 1)

    @property
    def begins_ms(self) -> int:
        """First instant of its quarter, in ms since the epoch."""
        month = (self.quarter - 1) * _MONTHS_A_QUARTER + 1
        return _milliseconds(datetime(self.year, month, 1, tzinfo=UTC))

    @property
    def closes_ms(self) -> int:
        """First instant after its quarter."""
        return self.next.begins_ms

    def ends_ms(self, classes: Mapping[str, int] = CLASSES) -> int:
        """Return the instant from which it may be shredded and its keys destroyed.

        Args:
            classes: Years that each class is kept; one that is missing is kept as the longest.
        """
        years = classes.get(self.retention_class, max(classes.values()))
        return self.closes_ms + years * _DAYS_A_YEAR * 86_400_000


def wanted_buckets(classes: Iterable[str], now_ms: int) -> tuple[Bucket, ...]:
    """Return the buckets for which an officer must have certified keys: now and four ahead."""
    wanted = []
    for name in sorted(set(classes)):
        bucket = Bucket.at(name, now_ms)
        wanted.append(bucket)
        for _ in range(QUARTERS_AHEAD):
            bucket = bucket.next
            wanted.append(bucket)
    return tuple(wanted)


def _quarter(at_ms: int) -> tuple[int, int]:
    try:
        at = _EPOCH + timedelta(milliseconds=at_ms)
    except OverflowError:
        raise InvalidError("a bucket's quarter lies between 1970 and 9998") from None
    return at.year, (at.month - 1) // _MONTHS_A_QUARTER + 1


def _milliseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(milliseconds=1)
