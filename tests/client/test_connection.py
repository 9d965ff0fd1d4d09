"""What a locked device connects with keeps up with the certificate that the device has."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from client import unlocking
from client.connection import read, renew
from client.device import Device
from client.profile import Profile
from client.unlocking import Opened, unlock
from client_cli.session import Settings, running
from crypto.certificate import decode_certificate
from crypto.enrolment import create_request, issue_certificate
from tests.client.openable import PIN, profile_of
from tests.client.relay import serving
from tests.server import harness
from tests.server.harness import Hospital, Person, now_ms


def next_certificate(of: Hospital, person: Person) -> bytes:
    """Return what the authority sends a device that asks for its next certificate."""
    proof = decode_certificate(person.certificate, root=of.root).proof
    request = create_request(
        person.keys,
        organisation=of.id,
        statement=proof.statement,
        binding=proof.binding,
        at_ms=now_ms(),
    )
    return issue_certificate(request, trust=of.trust, authority=of.authority, at_ms=now_ms())


def device_over(opened: Opened) -> Device:
    return Device.over(
        opened.store,
        credentials=opened.credentials,
        address=opened.address,
        clock=now_ms,
        on_certificate=partial(renew, opened.profile),
    )


async def opened_store(profile: Profile) -> Opened:
    return await unlock(profile, PIN, now_ms=now_ms())


async def test_a_locked_device_connects_with_the_certificate_that_came_last(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        person = site.hospital.enrol("ann/phone")
        profile = await profile_of(tmp_path / "people", site, person)
        before = read(profile)
        device = device_over(await opened_store(profile))
        assert read(profile) == before
        renewed = next_certificate(site.hospital, person)
        device.engine.following.inbox.on_certificate(renewed)
        device.close()
        kept = read(profile)
        assert kept.certificate == renewed != before.certificate
        assert kept.certified(before.certificate, root=before.root) == before


async def test_a_certificate_of_somebody_else_is_not_connected_with(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        profile = await profile_of(tmp_path / "people", site, site.hospital.enrol("ann/phone"))
        before = read(profile)
        device = device_over(await opened_store(profile))
        device.engine.following.inbox.on_certificate(site.hospital.enrol("bob/phone").certificate)
        device.close()
        assert read(profile) == before


async def test_a_command_makes_up_for_a_stop_between_the_store_and_the_connection(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        person = site.hospital.enrol("ann/phone")
        profile = await profile_of(tmp_path / "people", site, person)
        renewed = next_certificate(site.hospital, person)
        opened = await opened_store(profile)
        opened.store.settings.put(unlocking.CERTIFICATE, renewed)
        opened.store.close()
        pin_file = tmp_path / "pin"
        pin_file.write_text(PIN)
        async with running(Settings(home=tmp_path / "people", pin_file=pin_file, offline=True)):
            assert read(profile).certificate == renewed
