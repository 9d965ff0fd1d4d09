"""Who is on call: against the oracle, and the stack's own laws."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crypto.errors import DecodeError, InvalidError
from protocol.identifiers import UserName
from protocol.oncall.schedule import (
    Schedule,
    on_call,
    shifts,
)
from tests.depth import DEPTH
from tests.protocol.oncall import oracle, strategies

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
ANN, BOB, CLEO = UserName("ann"), UserName("bob"), UserName("cleo")
HOUR = 3_600_000
NOON = 1_800_014_400_000


def tables(schedule: Schedule, day: str) -> dict[str, oracle.Table]:
    rotations = {layer.rotation.zone for layer in schedule.layers if layer.rotation}
    return {zone: oracle.table(zone, day) for zone in rotations | {schedule.zone}}


@settings(max_examples=200 * DEPTH, deadline=None, suppress_health_check=SLOW)
@given(strategies.schedules(), st.sets(st.integers(0, oracle.WINDOW_MINUTES - 1), max_size=10))
def test_who_is_shown_is_who_a_clock_read_every_minute_says(
    drawn: tuple[str, Schedule], indices: set[int]
) -> None:
    day, schedule = drawn
    expected = oracle.on_call(schedule, day, tables(schedule, day))
    minutes = list(expected)
    found = list(shifts(schedule, minutes[0], minutes[-1] + 60_000))
    shown = {at: s.people for s in found for at in range(s.start_ms, s.end_ms, 60_000)}
    assert shown == expected
    asked = {shift.start_ms for shift in found} | {minutes[index] for index in indices}
    assert {at: on_call(schedule, at) for at in asked} == {at: expected[at] for at in asked}


@settings(max_examples=200 * DEPTH, deadline=None, suppress_health_check=SLOW)
@given(strategies.schedules())
def test_a_schedule_decodes_to_itself_and_cut_short_to_nothing(drawn: tuple[str, Schedule]) -> None:
    _, schedule = drawn
    data = schedule.encode()
    assert Schedule.decode(data) == schedule
    with pytest.raises(DecodeError):
        Schedule.decode(data[:-1])


@settings(max_examples=200 * DEPTH, deadline=None, suppress_health_check=SLOW)
@given(strategies.schedules(), st.data())
def test_removing_a_change_restores_what_it_covered(
    drawn: tuple[str, Schedule], data: st.DataObject
) -> None:
    day, schedule = drawn
    change = data.draw(strategies.changes(day))
    start = oracle.ms(oracle.window_start(day))
    end = start + 2 * 24 * HOUR
    again = schedule.with_change(change).without_change(change.name)
    assert again == schedule
    assert list(shifts(again, start, end)) == list(shifts(schedule, start, end))


@settings(max_examples=200 * DEPTH, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_a_schedule_or_a_documented_error(data: bytes) -> None:
    try:
        schedule = Schedule.decode(data)
    except (DecodeError, InvalidError):
        return
    assert schedule.encode() == data
