"""A locked device: it rings, says so, and takes its person's answer with its connection key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from client.errors import ClosedError, LostError, RefusedError
from client.ringing import RINGS_MOST, Ringing, Rung
from crypto.names import Role
from protocol.authenticated_data import Priority
from protocol.errors import Code
from protocol.frames import Ring, RingReason
from protocol.identifiers import ConversationId, UserName
from protocol.oncall.page_state import Event, State, Status
from tests.client.relay import address_of, credentials_of, serving
from tests.protocol.oncall.ward import always, policy
from tests.server import harness
from tests.server.harness import Hospital, Site
from tests.server.paging import Floor
from tests.waiting import WITHIN_S


@asynccontextmanager
async def floor(folder: Path, of: Hospital) -> AsyncIterator[Floor]:
    async with serving(folder, of) as site:
        yield Floor(site)


def ringing(site: Site, name: str) -> Ringing:
    person = site.hospital.people[name]
    return Ringing(address_of(site), credentials_of(person), now_ms=site.relay.now_ms)


async def next_rung(rings: AsyncIterator[Rung]) -> Rung:
    async with asyncio.timeout(WITHIN_S):
        return await anext(rings)


async def night(ward: Floor) -> ConversationId:
    await ward.open("nurse", "intern", "registrar")
    for name in ("intern", "registrar"):
        asks = policy("intern", "registrar") if name == "intern" else None
        await ward.role(name, always(UserName(name)), policy=asks)
    return await ward.conversation("nurse", "intern", "registrar")


@asynccontextmanager
async def called(
    folder: Path,
) -> AsyncIterator[tuple[Floor, ConversationId, Ringing, AsyncIterator[Rung]]]:
    """Have the intern paged, whose device is locked."""
    async with floor(folder, harness.hospital()) as ward:
        page = await night(ward)
        await ward.clients.pop("intern").socket.close()
        async with ringing(ward.site, "intern/phone") as device:
            rings = device.rings()
            await device.reached()
            await ward.page("nurse", page, "intern")
            yield ward, page, device, rings


async def test_a_locked_device_rings_reports_it_and_accepts(tmp_path: Path) -> None:
    async with called(tmp_path) as (ward, page, device, rings):
        rung = await next_rung(rings)
        assert (rung.priority, rung.role, rung.reason) == (
            Priority.STAT,
            "intern",
            RingReason.PAGE,
        )
        assert [one.conversation for one in device.ringing] == [page]
        await device.answer(page, Event.ACCEPT)
        assert (await next_rung(rings)).ended
        assert not device.ringing
        await ward.settle()
        await ward.drain()
        assert ward.state(page).status is Status.ACCEPTED
        intern = ward.state(page).recipient(UserName("intern"))
        assert intern is not None
        assert State.DELIVERED in dict(intern.times)
        await device.answer(page, Event.FINISH)
        with pytest.raises(RefusedError) as refused:
            await device.answer(page, Event.ACCEPT)
        assert refused.value.code is Code.PAGE_ENDED


async def test_what_rang_stops_when_somebody_else_accepts(tmp_path: Path) -> None:
    async with called(tmp_path) as (ward, page, device, rings):
        assert not (await next_rung(rings)).ended
        await ward.wait(60_000)
        assert len(device.ringing) == 1
        await ward.say("registrar", page, Event.ACCEPT)
        assert (await next_rung(rings)).ended


async def test_what_is_cancelled_while_the_relay_is_away_stops_once_it_is_back(
    tmp_path: Path,
) -> None:
    async with called(tmp_path) as (ward, page, device, rings):
        assert not (await next_rung(rings)).ended
        await ward.wait(60_000)
        (there,) = ward.relay.delivery.of_user(ward.organisation.id, UserName("intern"))
        there.close(Code.DRAINING)
        await ward.say("registrar", page, Event.ACCEPT)
        ended = await next_rung(rings)
        assert (ended.conversation, ended.ended) == (page, True)
        assert not device.ringing


async def test_whatever_a_relay_rings_a_locked_device_goes_on_and_shows_nothing_made_up(
    tmp_path: Path,
) -> None:
    async with called(tmp_path) as (ward, page, device, rings):
        assert not (await next_rung(rings)).ended
        (there,) = ward.relay.delivery.of_user(ward.organisation.id, UserName("intern"))
        strange = Ring(priority=77, role="Call 555: your PIN", conversation=b"x", step=0, reason=99)
        there.send(strange)
        rung = await next_rung(rings)
        assert (rung.priority, rung.role, rung.reason) == (Priority.STAT, "", RingReason.MESSAGE)
        for number in range(2 * RINGS_MOST):
            conversation = number.to_bytes(32, "big")
            there.send(Ring(priority=3, role="", conversation=conversation, step=0, reason=2))
            await next_rung(rings)
        assert len(device.ringing) == RINGS_MOST
        await ward.wait(60_000)
        await ward.say("registrar", page, Event.ACCEPT)
        while not (await next_rung(rings)).ended:
            pass


async def test_a_test_rings_and_hearing_it_is_kept(tmp_path: Path) -> None:
    async with floor(tmp_path, harness.hospital()) as ward:
        await ward.open("intern")
        await ward.clients.pop("intern").socket.close()
        async with ringing(ward.site, "intern/phone") as device:
            rings = device.rings()
            await device.reached()
            await device.test()
            assert (await next_rung(rings)).reason is RingReason.TEST
            await device.heard()
            assert ward.organisation.tested["intern/phone"] > 0
        with pytest.raises(LostError):
            await device.test()


async def test_a_device_that_the_relay_refuses_for_good_is_told(tmp_path: Path) -> None:
    async with floor(tmp_path, harness.hospital()) as ward:
        stranger = harness.hospital().enrol("eve/phone", Role.CLINICIAN)
        device = Ringing(
            address_of(ward.site), credentials_of(stranger), now_ms=ward.site.relay.now_ms
        )
        async with device:
            with pytest.raises(ClosedError):
                await next_rung(device.rings())
