"""What alerts: the most urgent page is on top, none is lost beneath it, nothing else sounds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from client.duty import PageView
from client.views import Change, ChangeKind
from client_cli.app import Wardline
from client_cli.screens.page_alert import PageAlert
from client_cli.screens.sheets import Menu
from protocol.authenticated_data import Priority
from protocol.identifiers import ConversationId
from protocol.oncall.page_state import Event
from tests.client_cli.fake_ward import NOW_MS, PAGE, TEAM, FakeWard, example_ward, stat_page
from tests.client_cli.pilot import armed, desk, flat, keys, shows, text_of, until

OTHER = ConversationId(bytes([77]) * 32)


@pytest.fixture
def ward() -> FakeWard:
    return example_ward()


def urgent_page(ward: FakeWard) -> PageView:
    """Somebody pages with something that can wait for a STAT."""
    page = replace(
        stat_page(ward), conversation=OTHER, priority=Priority.URGENT, text="Bed 3: fever"
    )
    ward.duty.sheet[:] = [page]
    ward.tell(Change(kind=ChangeKind.PAGE, conversation=OTHER))
    return page


async def test_a_stat_page_comes_over_an_urgent_one_which_is_there_again_after_it(
    ward: FakeWard,
) -> None:
    async with desk(ward) as pilot:
        waiting = urgent_page(ward)
        await shows(pilot, "Bed 3: fever")
        # The sheet has the most urgent first.
        stat_page(ward)
        ward.duty.sheet.reverse()
        assert ward.duty.sheet[1] is waiting
        await shows(pilot, "Bed 12: unresponsive")
        await armed(pilot)
        await keys(pilot, "a")
        await shows(pilot, "Bed 3: fever")
        await armed(pilot)
        await keys(pilot, "d")
        await until(pilot, lambda: not isinstance(pilot.app.screen, PageAlert))
        assert [(where, event) for where, event, _, _ in ward.duty.answered] == [
            (PAGE, Event.ACCEPT),
            (OTHER, Event.DECLINE),
        ]


async def test_a_page_does_not_cover_the_question_whose_it_is(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        stat_page(ward)
        await armed(pilot)
        await keys(pilot, "n")
        assert isinstance(pilot.app, Wardline)
        pilot.app._look()
        await pilot.pause()
        assert isinstance(pilot.app.screen, Menu)
        assert "Whose is it?" in flat(pilot.app)


async def test_a_terminal_sounds_for_what_may_alert_and_for_nothing_else(
    ward: FakeWard, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[bool] = []
    async with desk(ward) as pilot:
        monkeypatch.setattr(pilot.app, "bell", lambda: rung.append(True))
        ward.say(TEAM, "carla/phone", "Held until your shift", at_ms=NOW_MS)
        ward.tell(Change(kind=ChangeKind.MESSAGES, conversation=TEAM))
        await until(pilot, lambda: "2        Ward 3B team" in text_of(pilot.app))
        assert rung == []
        ward.tell(Change(kind=ChangeKind.ALERT, conversation=TEAM, priority=Priority.URGENT))
        await until(pilot, lambda: rung == [True])
