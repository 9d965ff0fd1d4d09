"""Who is on call, found naively: every minute is asked what the clock on the wall shows.

It shares nothing with the code under test but the values: starts and ends of wall clocks are looked
up in a table of minutes, turns are counted one by one, and each minute is painted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from protocol.oncall.hours import Holidays, Hours
from protocol.oncall.override import Override, Swap, TemporarySchedule
from protocol.oncall.rotation import Rotation, Unit
from protocol.oncall.schedule import Layer, Schedule

MINUTE = timedelta(minutes=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
People = frozenset[str]

LEAD_DAYS = 45
"""Days of the table before the instant of interest: rotations start within them."""
TAIL_DAYS = 4
WINDOW_DAYS = 2
WINDOW_MINUTES = WINDOW_DAYS * 24 * 60

# Each zone with days on which its clocks change, or where everything is asked of them.
PLACES = [
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-04-05"),
    ("Australia/Lord_Howe", "2026-10-04"),
    ("Africa/Casablanca", "2026-02-15"),
    ("Africa/Casablanca", "2026-03-22"),
    ("Asia/Kathmandu", "2026-03-29"),
    ("America/St_Johns", "2010-11-07"),
    ("America/St_Johns", "2026-03-08"),
    ("Pacific/Apia", "2011-12-30"),
    ("Pacific/Apia", "2012-04-01"),
    ("America/Sao_Paulo", "2018-11-04"),
    ("America/Sao_Paulo", "2019-02-17"),
    ("Antarctica/Troll", "2026-10-25"),
    ("America/Havana", "2026-11-01"),
    ("Europe/Dublin", "2026-10-25"),
    ("Asia/Beirut", "2026-03-29"),
]


def ms(at: datetime) -> int:
    return (at - EPOCH) // timedelta(milliseconds=1)


@dataclass(frozen=True)
class Table:
    """What the wall shows at each minute; a wall clock is written as if it were UTC's."""

    minutes: list[datetime]
    walls: list[datetime]
    first: dict[datetime, datetime]
    last: dict[datetime, datetime]

    def start(self, wall: datetime) -> datetime:
        return self._find(wall, self.first)

    def end(self, wall: datetime) -> datetime:
        return self._find(wall, self.last)

    def _find(self, wall: datetime, occurrences: dict[datetime, datetime]) -> datetime:
        if wall in occurrences:
            return occurrences[wall]
        if wall < self.walls[0]:
            return self.minutes[0]
        while wall not in self.first:
            wall += MINUTE
            if wall > self.walls[-1]:
                return self.minutes[-1]
        return self.first[wall]


@lru_cache(maxsize=64)
def table(zone: str, day: str) -> Table:
    middle = datetime.fromisoformat(day).replace(tzinfo=UTC)
    start = middle - timedelta(days=LEAD_DAYS)
    count = (LEAD_DAYS + TAIL_DAYS) * 24 * 60
    minutes = [start + index * MINUTE for index in range(count)]
    place = ZoneInfo(zone)
    walls = [minute.astimezone(place).replace(tzinfo=UTC, fold=0) for minute in minutes]
    first: dict[datetime, datetime] = {}
    last: dict[datetime, datetime] = {}
    for wall, minute in zip(walls, minutes, strict=True):
        first.setdefault(wall, minute)
        last[wall] = minute
    return Table(minutes, walls, first, last)


def window_start(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(days=1)


def add_months(start: datetime, months: int) -> datetime:
    month = start.month - 1 + months
    year, month = start.year + month // 12, month % 12 + 1
    for day in range(start.day, 27, -1):
        try:
            return start.replace(year=year, month=month, day=day)
        except ValueError:
            continue
    return start.replace(year=year, month=month)


def turns(rotation: Rotation, until: datetime) -> Iterator[tuple[datetime, datetime, People]]:
    start = EPOCH + rotation.start_minute * MINUTE
    index = 0

    def hand_off(number: int) -> datetime:
        count = number * rotation.shift_length
        if rotation.unit is Unit.MONTHLY:
            return add_months(start, count)
        step = {Unit.HOURLY: 1, Unit.DAILY: 24, Unit.WEEKLY: 7 * 24}[rotation.unit]
        return start + timedelta(hours=count * step)

    while hand_off(index) <= until:
        people = frozenset(rotation.turns[index % len(rotation.turns)])
        yield hand_off(index), hand_off(index + 1), people
        index += 1


def ranges(
    hours: Hours, holidays: set[int], about: datetime
) -> Iterator[tuple[datetime, datetime]]:
    for offset in range(-4, 5):
        day = about + timedelta(days=offset)
        holiday = (day - EPOCH).days in holidays
        if not hours.weekdays & (1 << day.weekday()):
            continue
        if hours.holidays is Holidays.ONLY and not holiday:
            continue
        if hours.holidays is Holidays.EXCEPT and holiday:
            continue
        length = hours.end_minute - hours.start_minute
        start = day + hours.start_minute * MINUTE
        yield start, start + (length if length > 0 else length + 24 * 60) * MINUTE


Painted = list[People]
"""Who is on, for each minute of the window."""


def paint(spans: Iterator[tuple[datetime, datetime, People]], day: str) -> Painted:
    begin = window_start(day)
    painted: Painted = [frozenset()] * WINDOW_MINUTES
    for start, end, people in spans:
        since, until = (start - begin) // MINUTE, (end - begin) // MINUTE
        for index in range(max(since, 0), min(until, WINDOW_MINUTES)):
            painted[index] |= people
    return painted


def layer_on(layer: Layer, schedule: Schedule, day: str, tables: dict[str, Table]) -> Painted:
    people: Painted
    if layer.rotation is None:
        people = [frozenset(layer.users)] * WINDOW_MINUTES
    else:
        there = tables[layer.rotation.zone]
        until = window_start(day) + timedelta(days=WINDOW_DAYS + 2)
        spans = ((there.start(a), there.end(b), who) for a, b, who in turns(layer.rotation, until))
        people = paint(spans, day)
    if not layer.hours:
        return people
    here = tables[schedule.zone]
    about = datetime.fromisoformat(day).replace(tzinfo=UTC)
    on = paint(
        (
            (here.start(a), here.end(b), frozenset({"on"}))
            for hours in layer.hours
            for a, b in ranges(hours, set(schedule.holidays), about)
        ),
        day,
    )
    return [who if there_is else frozenset() for who, there_is in zip(people, on, strict=True)]


def apply(change: Override | Swap | TemporarySchedule, people: People, at: int) -> People:
    if isinstance(change, TemporarySchedule):
        if not change.start_ms <= at < change.end_ms:
            return people
        on = [s.users for s in change.shifts if s.start_ms <= at < s.end_ms]
        return frozenset(user for users in on for user in users)
    if isinstance(change, Swap):
        exchanged = set(people)
        if change.first_start_ms <= at < change.first_end_ms and change.first in people:
            exchanged = exchanged - {change.first} | {change.second}
        if change.second_start_ms <= at < change.second_end_ms and change.second in people:
            exchanged = exchanged - {change.second} | {change.first}
        return frozenset(exchanged)
    if not change.start_ms <= at < change.end_ms:
        return people
    result = set(people)
    if change.removed is None and change.added is not None:
        result.add(change.added)
    elif change.removed in result:
        result.discard(change.removed)
        if change.added is not None:
            result.add(change.added)
    return frozenset(result)


def on_call(schedule: Schedule, day: str, zones: dict[str, Table]) -> dict[int, tuple[str, ...]]:
    """Return who is on call at each minute of the two days about ``day``."""
    painted = [(layer.level, layer_on(layer, schedule, day, zones)) for layer in schedule.layers]
    begin = ms(window_start(day))
    answer = {}
    for index in range(WINDOW_MINUTES):
        at = begin + index * 60_000
        highest = max((level for level, people in painted if people[index]), default=None)
        on: People = frozenset()
        for level, people in painted:
            if level == highest:
                on |= people[index]
        for change in schedule.stack:
            on = apply(change, on, at)
        answer[at] = tuple(sorted(on))
    return answer
