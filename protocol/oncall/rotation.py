"""Rotations: people take turns, and hand off on the wall clock of a zone."""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import date
from enum import IntEnum
from typing import Annotated

from crypto.codec import U16, U32, Struct, vector_of
from crypto.errors import InvalidError
from protocol.identifiers import UserName
from protocol.oncall import wall_clock
from protocol.oncall.wall_clock import DAY_MS, HOUR_MS, MINUTE_MS
from protocol.oncall.wire import EARLIEST_MS, LATEST_MS, USERS, Text, check_users, enum_of

TURNS = 256
"""Turns of one rotation: a ward's list of people, several times over."""
PEOPLE = 64
"""People in one turn, layer, shift or step: a team, beyond which a page helps nobody."""
SHIFT_LENGTH = 366
"""Units in a turn: longer ones are no turns."""


class Unit(IntEnum):
    """What a turn's length counts."""

    HOURLY = 1
    DAILY = 2
    WEEKLY = 3
    MONTHLY = 4


_LENGTH_MS = {Unit.HOURLY: HOUR_MS, Unit.DAILY: DAY_MS, Unit.WEEKLY: 7 * DAY_MS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation(Struct):
    """People who take turns for ever, from a start on.

    Attributes:
        zone: The IANA zone on whose wall clock they hand off.
        unit: What ``shift_length`` counts.
        shift_length: Units in a turn. A monthly turn hands off on the day of the month of the
            start, or on the month's last where it has no such day.
        start_minute: Wall clock of the first turn's start, in minutes since 1970-01-01T00:00;
            nobody is on call before it.
        turns: The people of each turn, in order; one person may be in several.
    """

    zone: Text
    unit: Annotated[Unit, enum_of(Unit)]
    shift_length: U16
    start_minute: U32
    turns: Annotated[tuple[tuple[UserName, ...], ...], vector_of(USERS.read, USERS.write)]

    def __post_init__(self) -> None:
        wall_clock.zone_name(self.zone)
        if not 1 <= self.shift_length <= SHIFT_LENGTH:
            raise InvalidError("a turn has 1 to SHIFT_LENGTH units")
        if not EARLIEST_MS <= self.start_minute * MINUTE_MS < LATEST_MS:
            raise InvalidError("a rotation starts between the years 2000 and 2100")
        if not 1 <= len(self.turns) <= TURNS:
            raise InvalidError("a rotation has 1 to TURNS turns")
        for people in self.turns:
            check_users(people, at_most=PEOPLE)

    def on_call(self, at_ms: int) -> frozenset[UserName]:
        """Return whose turn it is: of two turns where they hand off in a repeated hour."""
        reading = wall_clock.read(self.zone, at_ms)
        oldest = max(0, self._turn(reading.lasting_ms))
        newest = self._turn(reading.begun_ms)
        turns = (self.turns[index % len(self.turns)] for index in range(oldest, newest + 1))
        return frozenset(user for people in turns for user in people)

    def next_change(self, at_ms: int) -> int:
        """Return the next instant at which a turn starts or ends."""
        reading = wall_clock.read(self.zone, at_ms)
        starting = max(0, self._turn(reading.begun_ms) + 1)
        ending = max(0, self._turn(reading.lasting_ms) + 1)
        return min(
            wall_clock.first(self.zone, self._hand_off(starting)),
            wall_clock.last(self.zone, self._hand_off(ending)),
        )

    def _hand_off(self, index: int) -> int:
        """Return the wall clock, in ms, at which a turn starts and the one before it ends."""
        start_ms = self.start_minute * MINUTE_MS
        if self.unit is not Unit.MONTHLY:
            return start_ms + index * self.shift_length * _LENGTH_MS[self.unit]
        start = wall_clock.date_of(wall_clock.day_of(start_ms))
        year, month = divmod(start.year * 12 + start.month - 1 + index * self.shift_length, 12)
        day = min(start.day, monthrange(year, month + 1)[1])
        number = wall_clock.day_number(date(year, month + 1, day))
        return number * DAY_MS + start_ms % DAY_MS

    def _turn(self, wall_ms: int) -> int:
        """Return the index of the turn in which a wall clock lies; negative before the start."""
        start_ms = self.start_minute * MINUTE_MS
        if self.unit is not Unit.MONTHLY:
            return (wall_ms - start_ms) // (self.shift_length * _LENGTH_MS[self.unit])
        start = wall_clock.date_of(wall_clock.day_of(start_ms))
        day = wall_clock.date_of(wall_clock.day_of(wall_ms))
        months = (day.year - start.year) * 12 + day.month - start.month
        index = months // self.shift_length
        return index if self._hand_off(index) <= wall_ms else index - 1
