"""What is written in a form: keys are pressed, and what was sent is looked at."""

from __future__ import annotations

import time
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from client_cli.output import CommandError
from client_cli.rows import Reading
from protocol.content import HandOff, IncidentEvent, OpenShift, Stage, Task
from tests.client_cli.fake_ward import ANN, BEN, HOUR_MS, NOW_MS, FakeWard, example_ward
from tests.client_cli.pilot import desk, fill, flat, keys, said, text_of, typed


@pytest.fixture
def ward() -> FakeWard:
    return example_ward()


async def test_a_task_and_a_hand_off_are_written_in_a_form(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter", "escape", "n", "t")
        await typed(pilot, "Call family")
        await keys(pilot, "enter", "enter", "enter")
        await keys(pilot, "n", "h")
        for part in ("Bed 7", "stable", "", "", "lactate", "ben"):
            await typed(pilot, part)
            await keys(pilot, "enter")
        task, note = said(ward)
        assert isinstance(task, Task)
        assert task.title == "Call family"
        assert isinstance(note, HandOff)
        assert (note.situation, note.recommendation, note.to) == ("stable", "lactate", (BEN,))
        assert "NOT YET ACCEPTED by Ben Adler" in text_of(pilot.app)


async def test_a_form_that_lacks_something_comes_back_with_what_was_typed(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter", "escape", "n", "c")
        await keys(pilot, "enter")
        await typed(pilot, "Lactate")
        await keys(pilot, "enter", "enter", "enter")
        text = text_of(pilot.app)
        assert "Lactate" in text
        assert said(ward) == []


async def test_an_open_shift_a_room_and_an_incident_are_written_in_a_form(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter", "escape", "n", "s")
        for part in ("surgeon", "19:00", "07:00", ""):
            fill(pilot, part)
            await keys(pilot, "enter")
        (shift,) = said(ward)
        assert isinstance(shift, OpenShift)
        assert shift.start_ms == NOW_MS + 5 * HOUR_MS
        assert shift.end_ms == NOW_MS + 17 * HOUR_MS
        assert "STILL OPEN" in text_of(pilot.app)
        await keys(pilot, "n", "i")
        await keys(pilot, "enter")
        await typed(pilot, "Lifts stand still")
        await keys(pilot, "enter")
        event = said(ward)[-1]
        assert isinstance(event, IncidentEvent)
        assert (event.stage, event.at_ms) == (Stage.UPDATE, NOW_MS)
        await keys(pilot, "n", "r")
        for part in ("Theatre 2", "2026-11-20 08:00", "10:00", "tomorrow", ""):
            fill(pilot, part)
            await keys(pilot, "enter")
        await pilot.pause(0.1)
        assert "Write a time as 19:00" in flat(pilot.app)
        assert "2026-11-20 08:00" in flat(pilot.app)


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("now", "typed", "meant"),
    [
        ("2026-10-20T12:00", "2026-11-22 19:00", "2026-11-22T19:00+01:00"),
        ("2026-10-24T20:00", "07:00", "2026-10-25T07:00+01:00"),
        ("2027-03-27T20:00", "07:00", "2027-03-28T07:00+02:00"),
        ("2026-11-22T20:00", "21:00", "2026-11-22T21:00+01:00"),
    ],
)
@pytest.mark.parametrize("of_the_machine", [False, True])
def test_a_typed_time_is_one_by_the_wall_also_when_the_clocks_are_changed(
    now: str, typed: str, meant: str, of_the_machine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ms = int(datetime.fromisoformat(now).replace(tzinfo=BERLIN).timestamp()) * 1000
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Europe/Berlin")
        time.tzset()
        reading = Reading(me=ANN, now_ms=now_ms, zone=None if of_the_machine else BERLIN)
        found_ms = reading.instant(typed)
    time.tzset()
    assert found_ms == int(datetime.fromisoformat(meant).timestamp()) * 1000


@pytest.mark.parametrize("typed", ["9999-12-31 23:59 x", "25:00", "soon", ""])
def test_what_is_no_time_is_said_to_be_none(typed: str) -> None:
    with pytest.raises(CommandError, match="Write a time as 19:00"):
        Reading(me=ANN, now_ms=NOW_MS, zone=BERLIN).instant(typed)
