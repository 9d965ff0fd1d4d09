"""Two people at one workstation, with the real program under a terminal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from client import unlocking
from client.device import Device
from client.profile import Profile, profiles
from client_cli.terminal import TOUR
from crypto.names import Role
from crypto.statement import Purpose, StatementType
from protocol.commands import SetPolicy, Suspension
from protocol.identifiers import DeviceId
from protocol.policy import DeviceRules, Policy, SignOut
from server import control
from tests.client.authority import submit
from tests.client.devices import Running
from tests.client.openable import PIN, profile_of
from tests.client.orders import administrator, body_of, countersigned, single_signed
from tests.client.relay import link_of, serving
from tests.client.ward import everything
from tests.scenarios.workstation import (
    CURSOR_AT_PIN,
    LOCKED,
    QUIT,
    SIGN_OUT,
    program,
    started,
    switch,
    unlock,
)
from tests.server.harness import Person, Site, hospital, now_ms
from tests.waiting import comes_true

PEOPLE = ("ann/desk", "ben/desk")


async def prepared(home: Path, site: Site) -> Profile:
    """Put two people's stores side by side; return the first one's."""
    first, _ = [await profile_of(home, site, site.hospital.enrol(name)) for name in PEOPLE]
    (home / TOUR).touch()
    return first


async def test_two_people_take_turns_at_a_workstation(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with serving(tmp_path, hospital()) as site:
        await prepared(home, site)

        def turns() -> None:
            with program(home) as window:
                unlock(window, "ann", place=0, pin=PIN)
                switch(window, "ben", place=1, pin=PIN)

        await asyncio.to_thread(turns)
        await comes_true(lambda: not len(site.relay.keeper))
    assert len(profiles(home)) == 2


async def told(site: Site, policy: Policy, profile: Profile) -> None:
    """Have an administrator set a policy, and a device take it in."""
    adam = site.hospital.enrol("adam/desk", Role.ADMINISTRATOR)
    await (await link_of(site, adam)).close()
    signatory = adam.signatory(Purpose.ADMINISTRATOR)
    body = SetPolicy(policy=policy).encode()
    statement = site.hospital.signed(StatementType.COMMAND, body, by=signatory)
    organisation = site.relay.organisations[site.hospital.id]
    await control.take_in(site.relay, organisation, statement, at_ms=now_ms())
    opened = await unlocking.unlock(profile, PIN, now_ms=now_ms())
    device = Device.over(
        opened.store, credentials=opened.credentials, address=opened.address, clock=now_ms
    )
    running = Running(device)
    await running.begin()
    await running.until(lambda: device.policy == policy)
    await running.end()
    device.close()


async def test_who_signs_out_where_policy_removes_stores_is_gone_from_disk_and_lock_screen(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    policy = Policy(version=1, devices=DeviceRules(sign_out=SignOut.REMOVE))
    async with serving(tmp_path, hospital()) as site:
        ann = await prepared(home, site)
        await told(site, policy, ann)

        def leaves() -> None:
            with program(home) as window:
                unlock(window, "ann", place=0, pin=PIN)
                # Whoever is not connected is gone from the disk as well, and cannot say so.
                window.until(b"online")
                window.press(SIGN_OUT)
                window.until(b"remove your store from here?")
                before = len(window.written)
                window.press(b"y")
                window.until(CURSOR_AT_PIN, after=before)
                assert b"ann" not in window.written[window.written.rindex(LOCKED) :]
                assert b"ben/desk" in window.written[window.written.rindex(LOCKED) :]

        await asyncio.to_thread(leaves)
        await comes_true(lambda: not len(site.relay.keeper))
        devices = site.relay.organisations[site.hospital.id].devices
        await comes_true(lambda: devices[DeviceId("ann/desk")].suspended)
    assert not ann.directory.exists()
    assert b"ann/desk" not in everything(home)
    assert len(profiles(home)) == 1


@asynccontextmanager
async def reported_to(folder: Path) -> AsyncIterator[tuple[Site, Person, Person, Profile]]:
    """Ann's only store, and the administrator to whom its device is reported."""
    async with serving(folder, hospital()) as site:
        ann, adam = site.hospital.enrol("ann/phone"), administrator(site.hospital)
        await (await link_of(site, adam)).close()
        profile = await profile_of(folder / "home", site, ann)
        (folder / "home" / TOUR).touch()
        yield site, ann, adam, profile


async def test_a_device_that_lies_open_is_locked_when_it_is_reported_and_then_wiped_unattended(
    tmp_path: Path,
) -> None:
    """Whoever has it in hand types nothing: neither a PIN nor anything else."""
    async with reported_to(tmp_path) as (site, ann, _, profile):
        of = site.hospital
        with started(profile.directory.parent) as window:
            await asyncio.to_thread(unlock, window, "ann", place=0, pin=PIN)
            await asyncio.to_thread(window.until, b"online")
            before = len(window.written)
            # One administrator reports it: what it showed is gone, and the store is closed.
            reported = single_signed(of, body_of(ann))
            await submit(site, reported)
            await asyncio.to_thread(window.until, LOCKED, after=before)
            await asyncio.to_thread(window.until, b"This device is suspended.", after=before)
            assert profile.directory.exists()
            # The authority makes it an order.
            await submit(site, countersigned(of, reported))
            assert await asyncio.to_thread(window.ended) != 0
        assert b"This device has been wiped by order of the hospital." in window.written
    assert not profile.directory.exists()
    assert b"ann/phone" not in everything(profile.directory.parent)


async def test_a_device_that_lay_open_when_it_was_suspended_is_online_again_once_it_is_restored(
    tmp_path: Path,
) -> None:
    """The program is the same one all the time: nobody starts it anew."""
    async with reported_to(tmp_path) as (site, ann, adam, profile):

        async def suspend(*, lifted: bool) -> None:
            body = Suspension(devices=(ann.name,), lifted=lifted).encode()
            by = adam.signatory(Purpose.ADMINISTRATOR)
            await submit(site, site.hospital.signed(StatementType.SUSPENSION, body, by=by))

        async def drawn(text: bytes, after: int) -> int:
            await asyncio.to_thread(window.until, text, after=after)
            return len(window.written)

        with started(profile.directory.parent) as window:
            await asyncio.to_thread(unlock, window, "ann", place=0, pin=PIN)
            before = await drawn(b"online", 0)
            await suspend(lifted=False)
            before = await drawn(b"This device is suspended.", before)
            await suspend(lifted=True)
            before = await drawn(b"in use again", before)
            window.press(PIN.encode() + b"\r")
            before = await drawn(b"online", before)
            window.press(QUIT)
            assert await asyncio.to_thread(window.ended) == 0
