"""What a small screen never cuts: what is to be known before a key is pressed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from client.emergency import Visit
from client.views import Change, ChangeKind, Roster, Shown, Trouble
from protocol.authenticated_data import Priority
from protocol.identifiers import ConversationId, DeviceId
from protocol.oncall.page_state import State as Place
from tests.client_cli.fake_ward import (
    ANN,
    BED_7,
    BEN,
    CARLA,
    DAN,
    EVA,
    HOUR_MS,
    NOW_MS,
    WITH_BEN,
    FakeWard,
    example_ward,
    stat_page,
)
from tests.client_cli.pilot import armed, desk, flat, keys, typed, until


@pytest.fixture
def ward() -> FakeWard:
    return example_ward()


async def test_nothing_that_is_said_before_sending_is_cut(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter", "escape", "r", "ctrl+t", "ctrl+r")
        await until(pilot, lambda: "Off duty: Carla Ruiz until Fri 07:00" in flat(pilot.app))
        for words in ("replying to Ben Adler", "priority URGENT", "asks for an acknowledgement"):
            assert words in flat(pilot.app)


async def test_who_comes_in_is_told_who_is_in_it(ward: FakeWard) -> None:
    ward.say(BED_7, "ann/desk", Roster(by=DeviceId(""), joined=(BEN, ANN)), at_ms=NOW_MS)
    async with desk(ward) as pilot:
        await keys(pilot, "enter")
        assert "-- In it: Ben Adler, You" in flat(pilot.app)


async def test_the_newest_message_stays_in_sight_while_a_long_one_is_written(
    ward: FakeWard,
) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter")
        assert "NOT YET READ BACK" in flat(pilot.app)
        await keys(pilot, *["ctrl+j"] * 6)
        await until(pilot, lambda: "NOT YET READ BACK" in flat(pilot.app))


async def test_a_long_page_leaves_its_keys_and_where_it_stands_in_sight(ward: FakeWard) -> None:
    page = stat_page(ward)
    everybody = dict.fromkeys((ANN, BEN, CARLA, DAN, EVA), Place.SHOWN)
    text = "Bed 12: unresponsive, BP 60/30, starting CPR. " * 40
    ward.duty.sheet[:] = [replace(page, text=text, asked=everybody)]
    async with desk(ward) as pilot:
        await armed(pilot)
        for words in (
            "*** STAT ***",
            "Bed 12: unresponsive",
            "... Enter reads the rest",
            "Eva Lindqvist (seen)",
            "it goes to the next in 1:30",
            "a accept d decline n not mine",
            "Esc later",
        ):
            assert words in flat(pilot.app)


async def test_a_long_title_hides_nobody_who_is_in_by_emergency_access(ward: FakeWard) -> None:
    title = "Bed 7, after laparotomy, with her daughter's telephone at the ward's desk"
    ward.cards[BED_7] = replace(ward.cards[BED_7], title=title)
    visit = Visit(user=EVA, until_ms=NOW_MS + 2 * HOUR_MS, vouchers=(BEN, DAN))
    ward.emergency.inside[BED_7] = [visit]
    async with desk(ward) as pilot:
        await keys(pilot, "enter")
        await until(pilot, lambda: "EMERGENCY ACCESS: Eva Lindqvist until 16:00" in flat(pilot.app))


async def test_a_file_on_its_way_shows_how_far_it_is(
    ward: FakeWard, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, attach = asyncio.Event(), ward.attach

    async def slowly(
        conversation: ConversationId, path: Path, *, on_progress: Callable[[int, int], None]
    ) -> Shown:
        on_progress(30, 100)
        await sent.wait()
        return await attach(conversation, path, on_progress=on_progress)

    monkeypatch.setattr(ward, "attach", slowly)
    async with desk(ward) as pilot:
        await keys(pilot, "enter", "f4")
        await typed(pilot, "scan.jpg")
        await keys(pilot, "enter")
        await until(pilot, lambda: "30%" in flat(pilot.app))
        assert "Sending scan.jpg" in flat(pilot.app)
        sent.set()
        await until(pilot, lambda: "30%" not in flat(pilot.app))


async def test_what_did_not_come_as_it_should_is_told_where_the_top_line_says(
    ward: FakeWard,
) -> None:
    trouble = Trouble(log=BED_7, cause="HOLE", at_ms=NOW_MS)
    ward.status = replace(ward.status, faults=1, troubles=(trouble,))
    async with desk(ward) as pilot:
        await until(pilot, lambda: "1 FAULT (key v)" in flat(pilot.app))
        await keys(pilot, "v")
        await until(pilot, lambda: "Bed 7: Something that was sent never came" in flat(pilot.app))


async def test_whoever_has_just_come_in_reads_what_to_press(ward: FakeWard) -> None:
    ward.cards.clear()
    async with desk(ward) as pilot:
        await until(pilot, lambda: "No conversation yet. c begins one" in flat(pilot.app))
        await keys(pilot, "enter", "question_mark")
        await until(pilot, lambda: "EVERYWHERE" in flat(pilot.app))


async def test_the_line_about_something_stat_never_quotes_another_message(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter")
        ward.say(WITH_BEN, "ben/phone", "Arrest", at_ms=NOW_MS, priority=Priority.STAT)
        ward.say(WITH_BEN, "ben/phone", "Thank you all", at_ms=NOW_MS)
        ward.tell(Change(kind=ChangeKind.MESSAGES, conversation=WITH_BEN))
        await until(pilot, lambda: "STAT in Ben Adler: 2 unread" in flat(pilot.app))
        assert "STAT in Ben Adler: Ben Adler: Thank" not in flat(pilot.app)
