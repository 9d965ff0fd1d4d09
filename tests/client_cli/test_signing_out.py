"""Signing out at the screen: asked before a store is removed, and told what would be lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.errors import FailedError, FullError, UnsentError
from client.profile import END, Profile, write_checked
from client.signing_out import UNCOUNTED, End
from client_cli.app import Ending, Wardline
from client_cli.terminal import _waiting
from tests.client_cli.fake_ward import NOW_MS, FakeWard, example_ward
from tests.client_cli.pilot import desk, keys, shows, until


@pytest.fixture
def ward() -> FakeWard:
    return example_ward()


class Leaving:
    """What a removal asks of the device; ``unsent`` messages have not gone out."""

    def __init__(self, unsent: int = 0) -> None:
        self.unsent = unsent
        self.given_up = False

    async def give_up(self, *, lose_unsent: bool) -> None:
        if self.unsent and not lose_unsent:
            raise UnsentError(self.unsent)
        self.given_up = True


def yes() -> bool:
    return True


async def test_signing_out_locks_where_policy_keeps_stores(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "ctrl+o")
        await until(pilot, lambda: pilot.app.return_value is Ending.LOCK)


async def test_signing_out_removes_only_after_it_was_asked(ward: FakeWard) -> None:
    leaving = Leaving()
    async with desk(ward, removes=yes, give_up=leaving.give_up) as pilot:
        await keys(pilot, "ctrl+o")
        await shows(pilot, "remove your store from here?")
        await keys(pilot, "enter", "escape")
        assert not leaving.given_up
        await keys(pilot, "ctrl+o")
        await shows(pilot, "remove your store from here?")
        await keys(pilot, "y")
        await until(pilot, lambda: pilot.app.return_value is Ending.REMOVE)
    assert leaving.given_up


@pytest.mark.parametrize(("key", "ending"), [("l", Ending.LOCK), ("x", Ending.REMOVE)])
async def test_what_has_not_gone_out_is_said_before_it_is_lost(
    ward: FakeWard, key: str, ending: Ending
) -> None:
    leaving = Leaving(unsent=2)
    async with desk(ward, removes=yes, give_up=leaving.give_up) as pilot:
        await keys(pilot, "ctrl+o", "y")
        await shows(pilot, "2 messages have not gone out")
        await keys(pilot, "s")
        assert pilot.app.is_running
        await keys(pilot, "ctrl+o", "y")
        await shows(pilot, "2 messages have not gone out")
        await keys(pilot, key)
        await until(pilot, lambda: pilot.app.return_value is ending)
    assert leaving.given_up is (ending is Ending.REMOVE)


@pytest.mark.parametrize(("unsent", "ending"), [(0, Ending.REMOVE), (1, Ending.LOCK)])
async def test_after_the_shift_a_store_goes_when_its_person_stops_and_not_in_mid_sentence(
    ward: FakeWard, unsent: int, ending: Ending
) -> None:
    ends_ms = [NOW_MS - 1, 0]
    leaving = Leaving(unsent)
    async with desk(
        ward, shift_ends=lambda: ends_ms.pop(0), over=yes, give_up=leaving.give_up
    ) as pilot:
        wardline = pilot.app
        assert isinstance(wardline, Wardline)
        wardline._tend()
        await shows(pilot, "Your shift has ended")
        assert wardline.is_running
        await keys(pilot, "ctrl+l")
        await until(pilot, lambda: pilot.app.return_value is ending)


async def test_where_the_disk_has_no_room_to_note_it_a_store_is_locked_and_it_is_said(
    ward: FakeWard,
) -> None:
    async def full(*, lose_unsent: bool) -> None:
        assert not lose_unsent
        raise FullError

    async with desk(ward, removes=yes, give_up=full) as pilot:
        await keys(pilot, "ctrl+o", "y")
        await shows(pilot, "Locked, and not removed")
        await keys(pilot, "escape")
        await until(pilot, lambda: pilot.app.return_value is Ending.LOCK)


async def test_a_store_that_failed_as_it_was_tended_is_locked(ward: FakeWard) -> None:
    def fail() -> None:
        raise FailedError

    async with desk(ward, tend=fail) as pilot:
        assert isinstance(pilot.app, Wardline)
        pilot.app._tend()
        await until(pilot, lambda: pilot.app.return_value is Ending.LOCK)


@pytest.mark.parametrize(
    ("unsent", "ended", "said"),
    [(2, True, "2 not sent"), (UNCOUNTED, True, "was not locked"), (0, True, ""), (2, False, "")],
)
def test_the_lock_screen_says_why_a_store_is_still_there(
    tmp_path: Path, unsent: int, ended: bool, said: str
) -> None:
    at_ms = 1 if ended else (1 << 62)
    write_checked(tmp_path / END, End(at_ms=at_ms, unsent=unsent).encode())
    found = _waiting(Profile(tmp_path))
    assert said in found
    assert bool(found) is bool(said)
