"""Hours: weekdays, a range on the wall clock, and holidays; a weekday, a night, a holiday shift."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from crypto.codec import U8, U16, Struct
from crypto.errors import InvalidError
from protocol.oncall import wall_clock
from protocol.oncall.wall_clock import DAY_MINUTES, DAY_MS, MINUTE_MS
from protocol.oncall.wire import enum_of

EVERY_DAY = 0b1111111
"""Every weekday."""
MONDAY_TO_FRIDAY = 0b0011111
"""Bit 0 is Monday."""


class Holidays(IntEnum):
    """What a holiday calendar has to say of a day."""

    IGNORED = 0
    ONLY = 1
    EXCEPT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours(Struct):
    """A range on the wall clock of certain days.

    Attributes:
        weekdays: Days on which the range starts, bit 0 for Monday; ``1`` to ``EVERY_DAY``.
        holidays: Whether it starts on holidays too, only, or never.
        start_minute: Start on the wall clock, in minutes from midnight.
        end_minute: End likewise; at or before the start it is that of the next day, so that equal
            ones are a whole day.
    """

    weekdays: U8
    holidays: Annotated[Holidays, enum_of(Holidays)] = Holidays.IGNORED
    start_minute: U16
    end_minute: U16

    def __post_init__(self) -> None:
        if not 1 <= self.weekdays <= EVERY_DAY:
            raise InvalidError("hours have at least one weekday")
        if max(self.start_minute, self.end_minute) >= DAY_MINUTES:
            raise InvalidError("hours start and end within a day")

    def contains(self, reading: wall_clock.Reading, *, holidays: Collection[int]) -> bool:
        """Return whether a wall clock lies in the range.

        Args:
            reading: What the wall clock shows.
            holidays: The calendar, in days since 1970-01-01.
        """
        oldest = wall_clock.day_of(reading.lasting_ms) - 1
        newest = wall_clock.day_of(reading.begun_ms)
        return any(
            self._start(day) <= reading.begun_ms
            and self._end(day) > reading.lasting_ms
            and self._on(day, holidays)
            for day in range(oldest, newest + 1)
        )

    def next_change(self, zone: str, at_ms: int) -> int:
        """Return the next instant at which the range may start or end, on whatever day."""
        reading = wall_clock.read(zone, at_ms)
        oldest = wall_clock.day_of(reading.lasting_ms) - 1
        days = range(oldest, wall_clock.day_of(reading.begun_ms) + 2)
        starts = (w for day in days if (w := self._start(day)) > reading.begun_ms)
        ends = (w for day in days if (w := self._end(day)) > reading.lasting_ms)
        return min(wall_clock.first(zone, min(starts)), wall_clock.last(zone, min(ends)))

    def _on(self, day: int, holidays: Collection[int]) -> bool:
        if not self.weekdays >> wall_clock.weekday_of(day) & 1:
            return False
        if self.holidays is Holidays.IGNORED:
            return True
        return (day in holidays) is (self.holidays is Holidays.ONLY)

    def _start(self, day: int) -> int:
        return day * DAY_MS + self.start_minute * MINUTE_MS

    def _end(self, day: int) -> int:
        following = day + 1 if self.end_minute <= self.start_minute else day
        return following * DAY_MS + self.end_minute * MINUTE_MS
