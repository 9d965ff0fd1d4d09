"""Hand-offs at each wall clock that occurs twice or never: they overlap, and leave no gap."""

from __future__ import annotations

from datetime import date

import pytest

from protocol.identifiers import UserName
from protocol.oncall import wall_clock
from protocol.oncall.hours import EVERY_DAY, MONDAY_TO_FRIDAY, Holidays, Hours
from protocol.oncall.rotation import Rotation, Unit
from protocol.oncall.schedule import Layer, Schedule, Shift, on_call, shifts
from protocol.oncall.wall_clock import DAY_MINUTES, DAY_MS, HOUR_MS, MINUTE_MS
from tests.protocol.oncall.test_wall_clock import RULES, ms

ANN, BOB, CLEO = UserName("ann"), UserName("bob"), UserName("cleo")
TWICE = [rule for rule in RULES if rule[2] != rule[3]]
NOT_TWICE = [rule for rule in RULES if rule[2] == rule[3]]


def rotation(zone: str, wall_minute: int, unit: Unit) -> Schedule:
    """Return turns of ann, bob and cleo, in which bob's starts at the given wall clock."""
    length = 2 if unit is Unit.HOURLY else 1
    before = {Unit.HOURLY: 120, Unit.DAILY: DAY_MINUTES, Unit.WEEKLY: 7 * DAY_MINUTES}[unit]
    turns = Rotation(
        zone=zone,
        unit=unit,
        shift_length=length,
        start_minute=wall_minute - 4 * before,
        turns=((ANN,), (BOB,), (CLEO,)),
    )
    return Schedule(zone="UTC", layers=(Layer(name="turns", rotation=turns),))


def two_ranges(zone: str, wall_minute: int) -> Schedule:
    """Return ann's twelve hours until a wall clock, and bob's from it on."""
    minute = wall_minute % DAY_MINUTES
    other = (minute + DAY_MINUTES // 2) % DAY_MINUTES
    until = Hours(weekdays=EVERY_DAY, start_minute=other, end_minute=minute)
    since = Hours(weekdays=EVERY_DAY, start_minute=minute, end_minute=other)
    layers = (
        Layer(name="ann", hours=(until,), users=(ANN,)),
        Layer(name="bob", hours=(since,), users=(BOB,)),
    )
    return Schedule(zone=zone, layers=layers)


def schedules(zone: str, wall: str) -> list[Schedule]:
    minute = ms(wall) // MINUTE_MS
    units = (Unit.HOURLY, Unit.DAILY, Unit.WEEKLY)
    return [two_ranges(zone, minute), *(rotation(zone, minute, unit) for unit in units)]


@pytest.mark.parametrize(("zone", "wall", "first", "last"), TWICE)
def test_a_hand_off_at_a_wall_clock_that_occurs_twice_overlaps_from_the_first_to_the_last(
    zone: str, wall: str, first: str, last: str
) -> None:
    for schedule in schedules(zone, wall):
        assert on_call(schedule, ms(first) - 1) == (ANN,)
        assert on_call(schedule, ms(first)) == (ANN, BOB)
        assert on_call(schedule, ms(last) - 1) == (ANN, BOB)
        assert on_call(schedule, ms(last)) == (BOB,)
        around = shifts(schedule, ms(first) - MINUTE_MS, ms(last) + MINUTE_MS)
        assert [shift.people for shift in around] == [(ANN,), (ANN, BOB), (BOB,)]


@pytest.mark.parametrize(("zone", "wall", "first", "last"), NOT_TWICE)
def test_a_hand_off_at_any_other_wall_clock_is_at_one_instant_without_a_gap(
    zone: str, wall: str, first: str, last: str
) -> None:
    for unit in (Unit.DAILY, Unit.WEEKLY):
        schedule = rotation(zone, ms(wall) // MINUTE_MS, unit)
        # Apia had no 30 December 2011: a turn of that day alone is nobody's.
        skipped = (wall, unit) == ("2011-12-30T00:00", Unit.DAILY)
        (before,) = on_call(schedule, ms(first) - 1)
        assert before != BOB
        assert on_call(schedule, ms(last)) == ((CLEO,) if skipped else (BOB,))


def test_a_night_shift_is_an_hour_shorter_in_spring_and_longer_in_autumn() -> None:
    night = Hours(weekdays=EVERY_DAY, start_minute=20 * 60, end_minute=8 * 60)
    layer = Layer(name="night", hours=(night,), users=(ANN,))
    schedule = Schedule(zone="Europe/Berlin", layers=(layer,))
    lengths = {}
    for day in ("2026-03-28", "2026-06-28", "2026-10-24"):
        found = shifts(schedule, ms(f"{day}T12:00"), ms(f"{day}T12:00") + DAY_MS)
        lengths[day] = [(s.end_ms - s.start_ms) / HOUR_MS for s in found if s.people]
    assert lengths == {"2026-03-28": [11], "2026-06-28": [12], "2026-10-24": [13]}


def test_a_monthly_turn_hands_off_on_the_months_last_day_where_it_has_no_such_day() -> None:
    monthly = Rotation(
        zone="UTC",
        unit=Unit.MONTHLY,
        shift_length=1,
        start_minute=ms("2027-12-31T08:00") // MINUTE_MS,
        turns=((ANN,), (BOB,)),
    )
    schedule = Schedule(zone="UTC", layers=(Layer(name="monthly", rotation=monthly),))
    found = list(shifts(schedule, ms("2027-12-30T00:00"), ms("2028-05-01T00:00")))
    starts = [ms(f"{day}T08:00") for day in ("2027-12-31", "2028-01-31", "2028-02-29",
                                            "2028-03-31", "2028-04-30")]  # fmt: skip
    assert [shift.start_ms for shift in found[1:]] == starts
    assert [shift.people for shift in found] == [(), (ANN,), (BOB,), (ANN,), (BOB,), (ANN,)]


def test_weekday_night_and_holiday_shifts_are_hours_and_a_night_belongs_to_its_first_day() -> None:
    def hours(weekdays: int, start: int, end: int, holidays: Holidays) -> Hours:
        return Hours(
            weekdays=weekdays, start_minute=start * 60, end_minute=end * 60, holidays=holidays
        )

    schedule = Schedule(
        zone="Europe/Berlin",
        holidays=(wall_clock.day_number(date(2026, 12, 25)),),
        layers=(
            Layer(
                name="day",
                hours=(hours(MONDAY_TO_FRIDAY, 8, 20, Holidays.EXCEPT),),
                users=(ANN,),
            ),
            Layer(name="night", hours=(hours(EVERY_DAY, 20, 8, Holidays.EXCEPT),), users=(BOB,)),
            Layer(name="holiday", hours=(hours(EVERY_DAY, 8, 8, Holidays.ONLY),), users=(CLEO,)),
        ),
    )
    found = list(shifts(schedule, ms("2026-12-24T07:00"), ms("2026-12-27T07:00")))
    assert found == [
        Shift(start_ms=ms("2026-12-24T07:00"), end_ms=ms("2026-12-24T19:00"), people=(ANN,)),
        Shift(start_ms=ms("2026-12-24T19:00"), end_ms=ms("2026-12-25T07:00"), people=(BOB,)),
        Shift(start_ms=ms("2026-12-25T07:00"), end_ms=ms("2026-12-26T07:00"), people=(CLEO,)),
        Shift(start_ms=ms("2026-12-26T07:00"), end_ms=ms("2026-12-26T19:00"), people=()),
        Shift(start_ms=ms("2026-12-26T19:00"), end_ms=ms("2026-12-27T07:00"), people=(BOB,)),
    ]
