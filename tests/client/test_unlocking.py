"""Unlocking: PIN and share, a lease in their place, and a PIN that changes under any accident."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from client import connection as connections
from client import lease as leases
from client import profile as profiles
from client import unlocking
from client.connection import Connection
from client.errors import (
    AbsentError,
    DamagedError,
    ImpostorError,
    LostError,
    NotEnrolledError,
    OfflineError,
    OutdatedError,
    RestingError,
    RestoringError,
    ShareLockedError,
    WipingError,
    WithheldError,
    WrongKeyError,
    WrongPasswordError,
    WrongPinError,
)
from client.lease import HOUR_MS, Terms
from client.link import Link
from client.profile import CONNECTION, ENROLLING, HEADER_NEXT, WIPE, Profile
from client.store import Store
from client.unlocking import CERTIFICATE, Opened, change_pin, prove_person, unlock
from crypto.errors import UsageError
from crypto.names import Role
from crypto.pin import PinKey, PinParameters
from crypto.statement import Purpose, StatementType
from protocol import frames
from protocol.commands import Suspension
from protocol.pin_tries import TRIES
from protocol.policy import LEASE_HOURS
from protocol.session import State
from server import accounts, control
from storage.files import beside
from tests.client.openable import KEY, PARAMETERS, PIN, local_profile, profile_of
from tests.client.relay import link_of, serving
from tests.depth import DEPTH
from tests.server import harness
from tests.server.harness import Person, Site, now_ms
from tests.server.test_accounts import DAY_MS, PASSWORD, code, enrolled

OTHER = "271828"
STRIDE = 1 if DEPTH > 1 else 3
"""At every which of its steps a change is killed: each costs a second or two."""


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """New PINs cost what the floor allows: what is tested here is not their cost."""
    monkeypatch.setattr(PinParameters, "fresh", classmethod(lambda _: PARAMETERS))


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "runtime"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    return directory


async def opens(profile: Profile, pin: str = PIN, *, at_ms: int | None = None) -> Opened:
    return await unlock(profile, pin, now_ms=now_ms() if at_ms is None else at_ms)


async def suspend(site: Site, person: Person, *, lifted: bool = False) -> None:
    """Have an administrator's suspension take effect."""
    admin = site.hospital.people.get("adam/desk") or site.hospital.enrol(
        "adam/desk", Role.ADMINISTRATOR
    )
    with suppress(LostError):
        await (await link_of(site, admin)).close()
    statement = site.hospital.signed(
        StatementType.SUSPENSION,
        Suspension(devices=(person.name,), lifted=lifted).encode(),
        by=admin.signatory(Purpose.ADMINISTRATOR),
    )
    organisation = site.relay.organisations[site.hospital.id]
    await control.take_in(site.relay, organisation, statement, at_ms=now_ms())


async def test_pin_and_the_relays_share_open_the_store(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        person = site.hospital.enrol("ann/phone")
        profile = await profile_of(tmp_path / "people", site, person)
        assert connections.read(profile).device == "ann/phone"
        opened = await opens(profile)
        assert not opened.leased
        assert opened.root == site.hospital.root.der
        assert opened.store.settings.get(CERTIFICATE) == person.certificate
        link = await Link.open(opened.address, opened.credentials)
        assert link.state is State.OPEN
        await link.close()
        opened.store.close()
        for text in (repr(opened), repr(connections.read(profile))):
            assert "ann" not in text


async def test_who_gives_up_while_the_pin_is_stretched_leaves_no_connection_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stood, goes_on, links = asyncio.Event(), threading.Event(), list[Link]()
    connect = unlocking.connect

    async def noted(record: Connection) -> Link:
        links.append(await connect(record))
        stood.set()
        return links[0]

    def slowly(_profile: Profile, _pin: str) -> Iterator[PinKey]:
        goes_on.wait()
        yield from ()

    async with serving(tmp_path, harness.hospital()) as site:
        profile = await profile_of(tmp_path / "people", site, site.hospital.enrol("ann/phone"))
        with monkeypatch.context() as slow:
            slow.setattr(unlocking, "connect", noted)
            slow.setattr(Profile, "stretches", slowly)
            opening = asyncio.ensure_future(opens(profile))
            await stood.wait()
            opening.cancel()
            await asyncio.wait([opening])
            goes_on.set()
        assert opening.cancelled()
        with pytest.raises(LostError):
            await links[0].ask(lambda ref: frames.GetShare(ref=ref, pin_proof=bytes(32)))


async def test_wrong_pins_tell_tries_and_wait_until_password_and_code_are_proved(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        person, secret = await enrolled(site)
        profile = await profile_of(tmp_path / "people", site, person)
        for number in range(1, TRIES):
            with pytest.raises(WrongPinError) as caught:
                await opens(profile, OTHER)
            assert caught.value.tries_left == TRIES - number
            assert caught.value.wait_ms == accounts.wait_after_ms(number)
            site.later_ms += caught.value.wait_ms
        for pin in (OTHER, PIN):
            with pytest.raises(ShareLockedError):
                await opens(profile, pin)
        with pytest.raises(WrongPasswordError):
            await prove_person(profile, PASSWORD, "000000")
        await prove_person(profile, PASSWORD, code(site, secret))
        (await opens(profile)).store.close()


async def test_what_can_be_no_pin_costs_no_try(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        profile = await profile_of(tmp_path / "people", site, site.hospital.enrol("ann/phone"))
        with pytest.raises(WrongPinError) as caught:
            await opens(profile, "123")
        assert caught.value.tries_left is None
        with pytest.raises(WrongPinError) as caught:
            await opens(profile, OTHER)
        assert caught.value.tries_left == TRIES - 1


async def test_a_lease_opens_without_the_relay_until_it_ends(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        profile = await profile_of(tmp_path / "people", site, site.hospital.enrol("ann/phone"))
        before_ms = now_ms()
        (await opens(profile)).store.close()
    opened = await opens(profile)
    assert opened.leased
    opened.store.close()
    last_ms = before_ms + LEASE_HOURS * HOUR_MS
    (await opens(profile, at_ms=last_ms - 1)).store.close()
    with pytest.raises(OfflineError):
        await opens(profile, at_ms=last_ms + 60_000)
    # It is gone, also for a clock that is set back.
    with pytest.raises(OfflineError):
        await opens(profile)


async def test_without_a_lease_nothing_opens_without_the_relay(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        profile = await profile_of(tmp_path / "people", site, site.hospital.enrol("ann/phone"))
        opened = await opens(profile)
        leases.keep_terms(opened.store, Terms(hours=0))
        opened.store.close()
        (await opens(profile)).store.close()
    with pytest.raises(OfflineError):
        await opens(profile)


async def test_without_a_lease_another_than_the_relay_is_called_that(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        person = site.hospital.enrol("ann/phone")
        profile = await profile_of(tmp_path / "people", site, person)
        record = connections.read(profile)
        other = replace(record, address=replace(record.address, tls_pin=bytes(32)))
        connections.keep(profile, other)
        with pytest.raises(ImpostorError):
            await opens(profile)
        connections.keep(profile, record)
        (await opens(profile)).store.close()
        # By its lease it opens, whatever answers.
        connections.keep(profile, other)
        opened = await opens(profile)
        assert opened.leased
        opened.store.close()


async def test_ten_wrong_pins_end_a_lease(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        profile = await profile_of(tmp_path / "people", site, site.hospital.enrol("ann/phone"))
        (await opens(profile)).store.close()
    for number in range(1, TRIES):
        with pytest.raises(WrongPinError) as caught:
            await opens(profile, OTHER)
        assert caught.value.tries_left == TRIES - number
    (await opens(profile)).store.close()
    for _ in range(TRIES):
        with pytest.raises(WrongPinError):
            await opens(profile, OTHER)
    with pytest.raises(OfflineError):
        await opens(profile)


async def test_a_share_that_is_withheld_ends_the_lease_as_well(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        person = site.hospital.enrol("ann/phone")
        profile = await profile_of(tmp_path / "people", site, person)
        (await opens(profile)).store.close()
        assert leases.running(profile, now_ms=now_ms()) is not None
        # The moment in which the device still connects, and its share is already kept back.
        organisation = site.relay.organisations[site.hospital.id]
        await accounts.withhold(site.relay, organisation, person.name, withheld=True)
        with pytest.raises(WithheldError):
            await opens(profile)
        assert leases.running(profile, now_ms=now_ms()) is None


async def test_a_relay_that_is_reached_is_asked_although_a_lease_runs(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        person = site.hospital.enrol("ann/phone")
        profile = await profile_of(tmp_path / "people", site, person)
        (await opens(profile)).store.close()
        await suspend(site, person)
        with pytest.raises(WithheldError):
            await opens(profile)
    # And its lease is gone.
    with pytest.raises(OfflineError):
        await opens(profile)


async def test_a_suspension_that_is_lifted_lets_the_device_open_again(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        person = site.hospital.enrol("ann/phone")
        profile = await profile_of(tmp_path / "people", site, person)
        await suspend(site, person)
        with pytest.raises(WithheldError):
            await opens(profile)
        await suspend(site, person, lifted=True)
        (await opens(profile)).store.close()


async def test_after_long_absence_the_person_is_proved_first(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        person, secret = await enrolled(site)
        profile = await profile_of(tmp_path / "people", site, person)
        site.later_ms += 31 * DAY_MS
        with pytest.raises(AbsentError):
            await opens(profile)
        await prove_person(profile, PASSWORD, code(site, secret))
        (await opens(profile)).store.close()


async def test_a_certificate_that_has_ended_or_is_unknown_is_told_as_that(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        person = site.hospital.enrol("ann/phone")
        profile = await profile_of(tmp_path / "people", site, person)
        site.later_ms += 91 * DAY_MS
        with pytest.raises(OutdatedError):
            await opens(profile)


async def test_a_relay_that_waits_for_the_archive_is_told_as_that(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        profile = await profile_of(tmp_path / "people", site, site.hospital.enrol("ann/phone"))
        harness.owe(site)
        with pytest.raises(RestoringError):
            await opens(profile)
        # Nothing is forgotten meanwhile.
        harness.owe(site, told=True)
        (await opens(profile)).store.close()
        harness.owe(site)
        (await opens(profile)).store.close()


async def test_a_profile_that_is_enrolling_or_being_wiped_does_not_open(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        profile = await profile_of(tmp_path / "people", site, site.hospital.enrol("ann/phone"))
        (profile.directory / ENROLLING).write_bytes(b"")
        with pytest.raises(NotEnrolledError):
            await opens(profile)
        (profile.directory / ENROLLING).unlink()
        profiles.write_checked(profile.directory / WIPE, b"order")
        with pytest.raises(WipingError):
            await opens(profile)
        with pytest.raises(WipingError):
            connections.keep(profile, connections.read(profile))


@pytest.mark.parametrize("content", [b"", b"\x00", b"\x02" + bytes(200)])
async def test_a_connection_file_that_is_none_is_damage(tmp_path: Path, content: bytes) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        profile, _ = local_profile(tmp_path / "people", site, site.hospital.enrol("ann/phone"))
    profiles.write_checked(profile.directory / CONNECTION, content)
    with pytest.raises(DamagedError) as caught:
        await opens(profile)
    assert caught.value.where == CONNECTION


# The lease.


def test_a_lease_ends_with_the_shift_and_after_twelve_hours_at_most() -> None:
    assert Terms().ends_ms(1000) == 1000 + 12 * HOUR_MS
    assert Terms(hours=3).ends_ms(1000) == 1000 + 3 * HOUR_MS
    assert Terms(on_duty_until_ms=5000).ends_ms(1000) == 5000
    assert Terms(hours=1, on_duty_until_ms=9 * HOUR_MS).ends_ms(0) == HOUR_MS
    assert Terms(on_duty_until_ms=0).ends_ms(1000) <= 1000
    for hours in (-1, 13):
        with pytest.raises(UsageError):
            Terms(hours=hours)


@pytest.fixture
def leased(tmp_path: Path) -> Profile:
    directory = tmp_path / "profile"
    directory.mkdir()
    profile = Profile(directory)
    leases.grant(profile, bytes(32), terms=Terms(), now_ms=1000)
    return profile


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_disk_without_room_keeps_no_lease_and_stops_nobody(
    leased: Profile, runtime: Path, in_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not in_memory:
        runtime.chmod(0o755)
        leases.grant(leased, bytes(32), terms=Terms(), now_ms=1000)
    assert leases.running(leased, now_ms=1000) is not None

    def full(path: Path, content: bytes) -> None:
        beside(path).write_bytes(content[:9])
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(leases, "write_checked", full)
    leases.grant(leased, bytes(32), terms=Terms(), now_ms=1000)
    assert leases.running(leased, now_ms=1000) is None
    assert list(leased.directory.iterdir()) == []
    runtime.chmod(0o700)


def test_a_lease_lies_in_memory_where_the_system_has_that(
    leased: Profile, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = (path for path in runtime.rglob("*") if path.is_file())
    assert path.stat().st_mode & 0o077 == 0
    assert list(leased.directory.iterdir()) == []
    # A directory that others can read is as good as none.
    runtime.chmod(0o755)
    assert leases.running(leased, now_ms=1000) is None
    leases.grant(leased, bytes(32), terms=Terms(), now_ms=1000)
    assert [path.name for path in leased.directory.iterdir()] == [leases.LEASE]
    runtime.chmod(0o700)
    leases.forget(leased)
    assert [path for path in runtime.rglob("*") if path.is_file()] == []
    assert list(leased.directory.iterdir()) == []


def test_a_lease_is_cut_short_when_the_shift_ends_and_never_made_longer(leased: Profile) -> None:
    def ends_ms() -> int:
        running = leases.running(leased, now_ms=1000)
        return running.ends_ms if running else 0

    whole = ends_ms()
    leases.limit(leased, terms=Terms(), now_ms=5000)
    assert ends_ms() == whole
    leases.limit(leased, terms=Terms(on_duty_until_ms=9000), now_ms=5000)
    assert ends_ms() == 9000
    leases.limit(leased, terms=Terms(), now_ms=5000)
    assert ends_ms() == 9000
    leases.limit(leased, terms=Terms(on_duty_until_ms=0), now_ms=5000)
    assert ends_ms() == 0
    leases.limit(leased, terms=Terms(), now_ms=5000)


def test_a_lease_is_worth_nothing_to_a_clock_that_was_set_back(leased: Profile) -> None:
    assert leases.running(leased, now_ms=999) is None
    assert leases.running(leased, now_ms=1000) is None


def test_a_damaged_lease_is_none(leased: Profile, runtime: Path) -> None:
    (path,) = (path for path in runtime.rglob("*") if path.is_file())
    data = path.read_bytes()
    for at in range(0, len(data), 7):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert leases.running(leased, now_ms=1000) is None
        assert not path.exists()


def test_a_lease_shows_no_share() -> None:
    assert "share" not in repr(leases.Lease(ends_ms=1, tries=1, share=b"share" * 6))


# Changing the PIN.


async def test_a_changed_pin_opens_and_the_old_one_does_not(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        person = site.hospital.enrol("ann/phone")
        profile = await profile_of(tmp_path / "people", site, person)
        opened = await opens(profile)
        link = await Link.open(opened.address, opened.credentials)
        with pytest.raises(WrongPinError):
            await change_pin(opened, OTHER, OTHER, link=link, now_ms=now_ms())
        with pytest.raises(WrongPinError):
            await change_pin(opened, PIN, "123", link=link, now_ms=now_ms())
        await change_pin(opened, PIN, OTHER, link=link, now_ms=now_ms())
        opened.store.settings.put("a", b"b")
        opened.store.close()
        await link.close()
        with pytest.raises(WrongPinError):
            await opens(profile, PIN)
        opened = await opens(profile, OTHER)
        assert opened.store.settings.get("a") == b"b"
        opened.store.verify()
        opened.store.close()
    # The lease was granted anew.
    (await opens(profile, OTHER)).store.close()


async def test_the_former_pin_and_share_open_nothing_of_the_changed_store(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        person = site.hospital.enrol("ann/phone")
        profile, share = local_profile(tmp_path / "people", site, person)
        link = await link_of(site, person)
        await link.ask(lambda ref: frames.StoreShare(ref=ref, share=share, pin_proof=KEY.proof()))
        await link.close()
        opened = await opens(profile)
        link = await Link.open(opened.address, opened.credentials)
        await change_pin(opened, PIN, OTHER, link=link, now_ms=now_ms())
        opened.store.close()
        await link.close()
        with pytest.raises(WrongKeyError):
            profile.open(KEY, share)
        with pytest.raises(DamagedError):
            Store.open(profile.directory / profiles.STORE, KEY.store_key(share))


class Killed(BaseException):
    """Stands for the end of the process."""


def killing_at(number: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """End the process at its n-th step of a change: each write of a file, each sync, the re-key."""
    done = 0

    def counted(act: Callable[..., object]) -> Callable[..., object]:
        def stepping(*arguments: object, **named: object) -> object:
            nonlocal done
            done += 1
            if done == number:
                raise Killed
            result = act(*arguments, **named)
            done += 1
            if done == number:
                raise Killed
            return result

        return stepping

    for owner, name in (
        (profiles, "write_checked"),
        (profiles, "overwrite"),
        (leases, "overwrite"),
        (leases, "write_checked"),
        (Store, "rekey"),
    ):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
    return lambda: done


async def test_a_pin_change_that_is_killed_at_any_step_leaves_one_pin_that_opens(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        number, held = 1 - STRIDE, set()
        while True:
            number += STRIDE
            person = site.hospital.enrol(f"ann{number}/phone")
            profile = await profile_of(tmp_path / str(number), site, person)
            opened = await opens(profile)
            opened.store.settings.put("a", b"b")
            link = await Link.open(opened.address, opened.credentials)
            with pytest.MonkeyPatch.context() as patched:
                killing_at(number, patched)
                try:
                    await change_pin(opened, PIN, OTHER, link=link, now_ms=now_ms())
                    ended = True
                except Killed:
                    ended = False
            opened.store.close()
            await link.close()
            held.add(await the_pin_that_opens(profile))
            assert not (profile.directory / HEADER_NEXT).exists()
            if ended:
                break
        assert number > 8
        assert held == {PIN, OTHER}


async def the_pin_that_opens(profile: Profile) -> str:
    """Return which of the two PINs opens; the other does not, before or after."""
    holds = []
    for pin in (OTHER, PIN, OTHER):
        with suppress(WrongPinError):
            opened = await opens(profile, pin)
            assert opened.store.settings.get("a") == b"b"
            opened.store.verify()
            opened.store.close()
            holds.append(pin)
    assert len(set(holds)) == 1
    return holds[0]


@pytest.mark.parametrize("taken", [True, False])
async def test_a_connection_that_is_lost_in_a_pin_change_leaves_one_pin_that_opens(
    tmp_path: Path, taken: bool
) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        profile = await profile_of(tmp_path / "people", site, site.hospital.enrol("ann/phone"))
        opened = await opens(profile)
        opened.store.settings.put("a", b"b")
        link = await Link.open(opened.address, opened.credentials)
        asking = link.ask

        async def losing(make: Callable[[int], frames.Frame]) -> frames.Frame:
            if not isinstance(make(0), frames.StoreShare):
                return await asking(make)
            if taken:
                await asking(make)
            raise LostError

        link.ask = losing  # type: ignore[method-assign]
        with pytest.raises(LostError):
            await change_pin(opened, PIN, OTHER, link=link, now_ms=now_ms())
        opened.store.close()
        await link.close()
        # Without the relay neither opens: which one holds is for it to say.
        assert leases.running(profile, now_ms=now_ms()) is None
        assert await the_pin_that_opens(profile) == (OTHER if taken else PIN)


async def test_a_pin_change_that_the_relay_refuses_changes_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        person = site.hospital.enrol("ann/phone")
        profile = await profile_of(tmp_path / "people", site, person)
        opened = await opens(profile)
        link = await Link.open(opened.address, opened.credentials)
        asking = link.ask

        async def refusing(make: Callable[[int], frames.Frame]) -> frames.Frame:
            if isinstance(make(0), frames.StoreShare):
                await asking(lambda ref: frames.ClaimKeyPackage(ref=ref, device="no/such"))
            return await asking(make)

        link.ask = refusing  # type: ignore[method-assign]
        with pytest.raises(RestingError):
            await change_pin(opened, PIN, OTHER, link=link, now_ms=now_ms())
        assert not (profile.directory / HEADER_NEXT).exists()
        opened.store.close()
        await link.close()
        (await opens(profile, PIN)).store.close()


def test_a_change_begins_from_the_stores_own_key_alone(tmp_path: Path) -> None:
    profile = profiles.create_profile(
        tmp_path, parameters=PARAMETERS, key=KEY, share=bytes(32), connection=b""
    )
    with pytest.raises(WrongKeyError):
        profile.begin_change(bytes(32), parameters=PARAMETERS, key=KEY, share=bytes(32))
    store = profile.open(KEY, bytes(32))
    with pytest.raises(DamagedError):
        profile.finish_change(store, key=KEY, share=bytes(32))
    store.close()
    # A file of the change that is none is damage, and nothing else.
    for content in (b"", bytes(86), b"\x01" + bytes(85)):
        profiles.write_checked(profile.directory / HEADER_NEXT, content)
        with pytest.raises(DamagedError) as caught:
            profile.open(KEY, bytes(32))
        assert caught.value.where == HEADER_NEXT
