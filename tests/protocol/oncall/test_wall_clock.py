"""Starts and ends on wall clocks that occur twice or never, in zones that do it differently."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from crypto.errors import InvalidError, UsageError
from protocol.oncall import wall_clock
from protocol.oncall.wall_clock import DAY_MS
from protocol.oncall.wire import EARLIEST_MS, LATEST_MS

# Zone, wall clock, the first instant and the last; found by hand from the zones' published changes.
RULES = [
    ("Europe/Berlin", "2026-03-29T02:30", "2026-03-29T01:00", "2026-03-29T01:00"),
    ("Europe/Berlin", "2026-10-25T02:00", "2026-10-25T00:00", "2026-10-25T01:00"),
    ("Europe/Berlin", "2026-10-25T02:30", "2026-10-25T00:30", "2026-10-25T01:30"),
    ("Europe/Berlin", "2026-10-25T03:00", "2026-10-25T02:00", "2026-10-25T02:00"),
    ("America/New_York", "2026-03-08T02:30", "2026-03-08T07:00", "2026-03-08T07:00"),
    ("America/New_York", "2026-11-01T01:30", "2026-11-01T05:30", "2026-11-01T06:30"),
    ("Australia/Lord_Howe", "2026-04-05T01:45", "2026-04-04T14:45", "2026-04-04T15:15"),
    ("Australia/Lord_Howe", "2026-10-04T02:15", "2026-10-03T15:30", "2026-10-03T15:30"),
    ("Africa/Casablanca", "2026-02-15T02:30", "2026-02-15T01:30", "2026-02-15T02:30"),
    ("Africa/Casablanca", "2026-03-22T02:30", "2026-03-22T02:00", "2026-03-22T02:00"),
    ("Asia/Kathmandu", "2026-03-29T02:30", "2026-03-28T20:45", "2026-03-28T20:45"),
    ("America/St_Johns", "2010-11-06T23:30", "2010-11-07T02:00", "2010-11-07T03:00"),
    ("America/St_Johns", "2026-03-08T02:30", "2026-03-08T05:30", "2026-03-08T05:30"),
    ("Pacific/Apia", "2011-12-30T00:00", "2011-12-30T10:00", "2011-12-30T10:00"),
    ("Pacific/Apia", "2011-12-30T12:00", "2011-12-30T10:00", "2011-12-30T10:00"),
    ("Pacific/Apia", "2011-12-31T00:00", "2011-12-30T10:00", "2011-12-30T10:00"),
    ("America/Sao_Paulo", "2018-11-04T00:00", "2018-11-04T03:00", "2018-11-04T03:00"),
    ("America/Sao_Paulo", "2019-02-16T23:30", "2019-02-17T01:30", "2019-02-17T02:30"),
    ("Antarctica/Troll", "2026-10-25T02:30", "2026-10-25T00:30", "2026-10-25T02:30"),
    ("Europe/Dublin", "2026-10-25T01:30", "2026-10-25T00:30", "2026-10-25T01:30"),
    ("UTC", "2026-10-25T01:30", "2026-10-25T01:30", "2026-10-25T01:30"),
]


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


@pytest.mark.parametrize(("zone", "wall", "first", "last"), RULES)
def test_a_start_is_the_first_occurrence_an_end_the_last_and_a_skipped_one_the_skip(
    zone: str, wall: str, first: str, last: str
) -> None:
    assert wall_clock.first(zone, ms(wall)) == ms(first)
    assert wall_clock.last(zone, ms(wall)) == ms(last)


@pytest.mark.parametrize(("zone", "wall", "first", "last"), RULES)
def test_a_reading_agrees_with_first_and_last_to_the_millisecond(
    zone: str, wall: str, first: str, last: str
) -> None:
    for at in {ms(first) - 1, ms(first), ms(first) + 1, ms(last) - 1, ms(last), ms(last) + 1}:
        reading = wall_clock.read(zone, at)
        assert (ms(wall) <= reading.begun_ms) is (ms(first) <= at)
        assert (ms(wall) > reading.lasting_ms) is (at < ms(last))


@pytest.mark.parametrize(
    "name",
    ["", "Europe", "Europe/Nowhere", "../etc/passwd", "Europe/../UTC", "right/UTC", "/etc/x/y",
     "posix/Europe/Berlin", "America/Argentina", "a" * 65, "Europe/" + "a" * 60, "Europe/Berlin\n"],
)  # fmt: skip
def test_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(InvalidError):
        wall_clock.zone_name(name)


@pytest.mark.parametrize("at_ms", [EARLIEST_MS - 1, LATEST_MS + 1])
def test_an_instant_that_no_schedule_knows_is_a_bug_of_the_caller(at_ms: int) -> None:
    with pytest.raises(UsageError):
        wall_clock.read("Europe/Berlin", at_ms)


def test_days_are_counted_from_a_thursday() -> None:
    assert wall_clock.weekday_of(0) == 3
    assert wall_clock.date_of(wall_clock.day_of(-1)).isoformat() == "1969-12-31"
    assert (
        wall_clock.day_number(wall_clock.date_of(20_000)) == 20_000 == (20_000 * DAY_MS) // DAY_MS
    )
