"""Wall clocks of IANA zones: when one begins and ends, also where it occurs twice or never.

The rule is GoAlert's: a start is the first occurrence of its wall clock, an end the last, and one
that is skipped is the instant at which clocks skip it. So an ambiguous hand-off overlaps, and none
leaves a gap. A wall clock is counted in ms (or minutes) since 1970-01-01T00:00 as the clock on the
wall shows it; an instant in ms since the epoch. No function here reads a clock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from crypto.errors import InvalidError, UsageError
from protocol.oncall.wire import EARLIEST_MS, LATEST_MS

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
DAY_MINUTES = 24 * 60

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL = _EPOCH.toordinal()
_MILLISECOND = timedelta(milliseconds=1)
_NAME = re.compile(r"UTC|(?!right/|posix/)[A-Za-z]+(/[A-Za-z0-9_+-]+){1,2}", re.ASCII)
_NAME_CHARACTERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a wall clock shows at an instant, as far as starts and ends go.

    The two differ only in an hour that is passed twice: everything that starts in it has started
    with the first pass, and nothing that ends in it has ended before the second.

    Attributes:
        begun_ms: Whatever starts at this wall clock or before has started.
        lasting_ms: Whatever ends after this wall clock has not yet ended.
    """

    begun_ms: int
    lasting_ms: int


def zone_name(name: str) -> str:
    """Return ``name`` as an IANA zone that this machine's database knows.

    Raises:
        InvalidError: It is malformed or unknown.
    """
    _zone(name)
    return name


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    if len(name) > _NAME_CHARACTERS or not _NAME.fullmatch(name):
        raise InvalidError("a zone is an IANA name of an area and a place, or UTC")
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError, ValueError):
        raise InvalidError("a zone is known to the tz database") from None


def check_instant(at_ms: int) -> None:
    """Refuse an instant outside the years that schedules know.

    Raises:
        UsageError: It is.
    """
    if not EARLIEST_MS <= at_ms <= LATEST_MS:
        raise UsageError("an instant lies between the years 2000 and 2100")


def _offset_at(zone: ZoneInfo, at_ms: int) -> int:
    offset = (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone).utcoffset()
    return 0 if offset is None else offset // _MILLISECOND


def _offset_of(zone: ZoneInfo, wall_ms: int, *, fold: int) -> int:
    wall = (_EPOCH + timedelta(milliseconds=wall_ms)).replace(tzinfo=zone, fold=fold)
    offset = wall.utcoffset()
    return 0 if offset is None else offset // _MILLISECOND


@lru_cache(maxsize=65_536)
def _occurrences(zone: str, wall_ms: int) -> tuple[int, int]:
    place = _zone(zone)
    first = _offset_of(place, wall_ms, fold=0)
    last = _offset_of(place, wall_ms, fold=1)
    if first >= last:
        return wall_ms - first, wall_ms - last
    skip = _change(place, wall_ms - last, wall_ms - first)
    return skip, skip


def _change(zone: ZoneInfo, before_ms: int, after_ms: int) -> int:
    """Return the instant of the one change of offset in (before, after]."""
    old = _offset_at(zone, before_ms)
    low, high = before_ms, after_ms
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_at(zone, middle) == old:
            low = middle
        else:
            high = middle
    return high


def first(zone: str, wall_ms: int) -> int:
    """Return the instant at which what starts at this wall clock starts."""
    return _occurrences(zone, wall_ms)[0]


def last(zone: str, wall_ms: int) -> int:
    """Return the instant at which what ends at this wall clock ends."""
    return _occurrences(zone, wall_ms)[1]


@lru_cache(maxsize=1024)  # one answer asks of the same instants for each layer and range
def read(zone: str, at_ms: int) -> Reading:
    """Return what the zone's wall clock shows at an instant.

    Equivalent to ``first`` and ``last``: ``first(w) <= at`` where ``w <= begun``, and
    ``at < last(w)`` where ``w > lasting``.
    """
    check_instant(at_ms)
    place = _zone(zone)
    wall = at_ms + _offset_at(place, at_ms)
    offsets = [_offset_of(place, wall, fold=fold) for fold in (0, 1)]
    repeated = offsets[0] - offsets[1]
    if repeated <= 0:
        return Reading(begun_ms=wall, lasting_ms=wall)
    if at_ms == wall - offsets[0]:
        change = _change(place, at_ms, at_ms + repeated)
        return Reading(begun_ms=wall, lasting_ms=change + offsets[1] - 1)
    change = _change(place, at_ms - repeated, at_ms)
    return Reading(begun_ms=change + offsets[0] - 1, lasting_ms=wall)


def day_of(wall_ms: int) -> int:
    """Return the day of a wall clock, in days since 1970-01-01."""
    return wall_ms // DAY_MS


def date_of(day: int) -> date:
    """Return a day, counted since 1970-01-01, as a date."""
    return date.fromordinal(_EPOCH_ORDINAL + day)


def day_number(day: date) -> int:
    """Return a date as days since 1970-01-01."""
    return day.toordinal() - _EPOCH_ORDINAL


def weekday_of(day: int) -> int:
    """Return the weekday of a day, Monday 0."""
    return (day + 3) % 7
