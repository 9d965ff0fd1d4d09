"""Shift changes at the relay: pages under way go to whoever comes on call, whatever happens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from protocol import frames
from protocol.identifiers import ConversationId, DeviceId, RoleName, UserName
from protocol.oncall.commands import AddChange
from protocol.oncall.override import Override
from protocol.oncall.page_event import Cause
from protocol.oncall.page_state import Event, State, Status
from server.relay import Relay
from tests.protocol.oncall.ward import HOUR, MINUTE, always, policy
from tests.server import harness
from tests.server.paging import Floor, floor

TEAM = ("nurse", "ann", "bob", "chris")
ICU = RoleName("icu")
ANN, BOB = UserName("ann"), UserName("bob")
CHRIS = UserName("chris")


async def ready(ward: Floor) -> ConversationId:
    """Put ann on call for an hour, and bob after her; chris is the next step."""
    await ward.open(*TEAM)
    now = ward.now_ms()
    day = [
        Override(name=name, start_ms=start, end_ms=start + HOUR, added=user)
        for name, start, user in (("first", now - MINUTE, ANN), ("then", now + HOUR - MINUTE, BOB))
    ]
    schedule = replace(always(), stack=tuple(day))
    await ward.role("icu", schedule, policy=policy("icu", "consultant"), effective_ms=now - HOUR)
    await ward.role("consultant", always(CHRIS))
    await ward.role("supervisor", always(UserName("dora")))
    return await ward.conversation(*TEAM)


async def to_the_shift(ward: Floor) -> None:
    """Move the clock on to the change, and let the relay look at it."""
    await ward.wait(HOUR - 2 * MINUTE)
    ward.site.later_ms += MINUTE + 1_000
    ward.relay.pages.look()
    await ward.settle()


def state(ward: Floor, page: ConversationId, user: UserName) -> State | None:
    one = ward.state(page).recipient(user)
    return None if one is None else one.state


async def test_a_page_that_was_accepted_goes_to_who_comes_on_and_then_from_who_leaves(
    tmp_path: Path,
) -> None:
    async with floor(tmp_path) as ward:
        page = await ready(ward)
        await ward.page("nurse", page, "icu")
        await ward.expect("ann")
        await ward.say("ann", page, Event.ACCEPT)
        await to_the_shift(ward)
        await ward.expect("ann", "bob")
        assert ward.events[page][-1].cause is Cause.SHIFT
        assert ward.state(page).status is Status.ACCEPTED
        ward.silenced.clear()
        assert isinstance(await ward.say("bob", page, Event.ACCEPT), frames.Done)
        await ward.expect()
        assert {"ann", "bob"} <= set(ward.silenced)
        assert state(ward, page, ANN) is State.RELIEVED
        assert state(ward, page, BOB) is State.ACCEPTED
        assert isinstance(await ward.say("bob", page, Event.FINISH), frames.Done)


async def test_one_that_nobody_takes_over_rings_both_again_and_then_the_next_step(
    tmp_path: Path,
) -> None:
    async with floor(tmp_path) as ward:
        page = await ready(ward)
        await ward.page("nurse", page, "icu")
        await ward.say("ann", page, Event.ACCEPT)
        await ward.expect("ann")
        await to_the_shift(ward)
        await ward.expect("ann", "bob")
        await ward.wait(MINUTE)
        await ward.expect("chris")
        assert isinstance(await ward.say("chris", page, Event.ACCEPT), frames.Done)
        await ward.expect()
        assert state(ward, page, ANN) is State.RELIEVED


async def test_a_change_of_the_schedule_is_a_shift_change_too(tmp_path: Path) -> None:
    async with floor(tmp_path) as ward:
        page = await ready(ward)
        await ward.page("nurse", page, "icu")
        await ward.expect("ann")
        now = ward.now_ms()
        ill = Override(name="ill", start_ms=now, end_ms=now + HOUR, removed=ANN, added=BOB)
        version = ward.organisation.duty.configuration.version(ICU)
        await ward.command(AddChange(role=ICU, version=version + 1, change=ill))
        ward.relay.pages.look()
        await ward.settle()
        await ward.expect("bob")
        assert ward.state(page).alerting == (ANN, BOB)


async def test_a_shift_that_changes_while_the_relay_is_down_is_seen_when_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = harness.hospital()
    async with floor(tmp_path, of) as ward:
        page = await ready(ward)
        await ward.page("nurse", page, "icu")
        await ward.expect("ann")
        await ward.say("ann", page, Event.ACCEPT)
    monkeypatch.setattr(Relay, "now_ms", lambda _: harness.now_ms() + HOUR)
    async with floor(tmp_path, of) as ward:
        ward.site.later_ms = HOUR
        ward.relay.reach.started_s = ward.relay.now_s()
        await ward.open(*TEAM)
        await ward.drain()
        assert ward.state(page).alerting == (ANN, BOB)
        assert ward.events[page][-1].cause is Cause.SHIFT
        # Nobody is asked a second time.
        ward.relay.pages.look()
        await ward.settle()
        await ward.expect()


async def test_who_comes_on_and_cannot_be_woken_is_passed_over_at_once(tmp_path: Path) -> None:
    async with floor(tmp_path) as ward:
        page = await ready(ward)
        await ward.page("nurse", page, "icu")
        await ward.expect("ann")
        await ward.say("ann", page, Event.ACCEPT)
        await ward.leave("bob")
        await to_the_shift(ward)
        ward.relay.pages.look()
        await ward.settle()
        await ward.expect("ann", "chris")


async def test_who_comes_on_and_is_no_member_is_named_so_that_a_member_adds_them(
    tmp_path: Path,
) -> None:
    async with floor(tmp_path) as ward:
        await ready(ward)
        page = await ward.conversation("nurse", "ann", "chris")
        await ward.page("nurse", page, "icu")
        await ward.say("ann", page, Event.ACCEPT)
        await ward.expect("ann")
        await to_the_shift(ward)
        assert set(await ward.drain()) == {"ann", "bob"}
        assert ward.events[page][-1].missing == (BOB,)


async def test_who_has_no_device_any_more_has_no_page_and_the_next_step_is_due_at_once(
    tmp_path: Path,
) -> None:
    async with floor(tmp_path) as ward:
        asked, taken = await ready(ward), await ward.conversation(*TEAM)
        for page in (asked, taken):
            await ward.page("nurse", page, "icu")
            await ward.expect("ann")
        await ward.say("ann", taken, Event.ACCEPT)
        await ward.expect()
        # A device that stands still is enough.
        ward.relay.pages.gone(ward.organisation, {ANN})
        await ward.settle()
        await ward.expect()
        known = ward.organisation.devices
        known[DeviceId("ann/phone")] = replace(known[DeviceId("ann/phone")], suspended=True)
        ward.relay.pages.gone(ward.organisation, {ANN})
        await ward.settle()
        await ward.expect("chris", "chris")
        for page in (asked, taken):
            assert state(ward, page, ANN) is State.RELIEVED
            assert ward.events[page][-1].cause is Cause.GONE
        # Who has gone a moment ago with no device that stands is not waited for.
        assert not ward.relay.reach.has_device(ward.organisation, ANN)
