"""Leaving a shared workstation: nothing stays on the disk, and nothing unsent is lost unsaid."""

from __future__ import annotations

import asyncio
import errno
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from client import signing_out, wipe, wiping
from client.device import Device
from client.errors import (
    ClosedError,
    FailedError,
    FullError,
    StoreError,
    UnsentError,
    WipingError,
    WithheldError,
)
from client.profile import END, WIPE, Profile, profiles
from client.signing_out import (
    SHARED,
    UNCOUNTED,
    End,
    end_of,
    give_up,
    is_over,
    note,
    remove_ended,
    witness_of_ended,
)
from client.unlocking import Opened, unlock
from client_cli import terminal
from crypto.mls import Group
from protocol.identifiers import DeviceId
from protocol.policy import DeviceRules, Policy, SignOut
from tests.client.devices import WAIT_S
from tests.client.openable import KEY, PIN, local_profile, profile_of
from tests.client.relay import serving
from tests.client.ward import WARD, assembled, everything, send
from tests.server import harness
from tests.server.harness import Site, now_ms
from tests.waiting import comes_true

REMOVE = Policy(version=1, devices=DeviceRules(sign_out=SignOut.REMOVE))
END_MS = 1_800_000_000_000
DAY_MS = 24 * 3600 * 1000


@pytest.fixture(autouse=True)
def _no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)


@pytest.fixture(scope="module")
def group() -> Group:
    return assembled()[0]


@asynccontextmanager
async def workstation(folder: Path) -> AsyncIterator[tuple[Site, Path, Profile]]:
    """Run a relay; Ann's store lies beside Ben's."""
    people = folder / "people"
    async with serving(folder, harness.hospital()) as site:
        ann = await profile_of(people, site, site.hospital.enrol("ann/desk"))
        local_profile(people, site, site.hospital.enrol("ben/desk"))
        yield site, people, ann


def device_of(opened: Opened) -> Device:
    return Device.over(
        opened.store, credentials=opened.credentials, address=opened.address, clock=now_ms
    )


async def gave_up(opened: Opened, profile: Profile) -> DeviceId:
    """Let a connected device give itself up, and end."""
    device = device_of(opened)
    running = asyncio.create_task(device.run())
    await device.online(WAIT_S)
    await give_up(device, profile)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled() or isinstance(running.exception(), ClosedError)
    return device.me


def counting(unsent: int, policy: Policy = REMOVE) -> Device:
    """Return what ``note`` looks at of a device."""
    outbox = SimpleNamespace(said=unsent)
    return cast("Device", SimpleNamespace(policy=policy, store=SimpleNamespace(outbox=outbox)))


def locked(
    unsent: int, profile: Profile, *, shift_ends_ms: int | None, policy: Policy = REMOVE
) -> None:
    """Note what is noted of a store that is locked now."""
    note(counting(unsent, policy), profile, shift_ends_ms=shift_ends_ms, locking=True)


async def test_who_signs_out_leaves_nothing_on_the_disk_and_a_device_that_is_no_more(
    tmp_path: Path, group: Group
) -> None:
    async with workstation(tmp_path) as (site, people, profile):
        opened = await unlock(profile, PIN, now_ms=now_ms())
        opened.store.began(WARD, group)
        (profile.files / "scan").write_bytes(b"encrypted")
        me = await gave_up(opened, profile)
        wipe.remove(profile, store=opened.store)
        (ben,) = profiles(people)
        assert ben.directory != profile.directory
        assert {path.name for path in people.iterdir()} == {ben.directory.name}
        assert b"ann/desk" not in everything(people)
        assert site.relay.organisations[site.hospital.id].devices[me].suspended


async def test_what_has_not_gone_out_stops_a_removal_until_its_person_agrees(
    tmp_path: Path, group: Group
) -> None:
    async with workstation(tmp_path) as (_, people, profile):
        opened = await unlock(profile, PIN, now_ms=now_ms())
        opened.store.began(WARD, group)
        send(opened.store, "potassium 6.8")
        device = device_of(opened)
        with pytest.raises(UnsentError) as caught:
            await give_up(device, profile)
        assert caught.value.unsent == 1
        assert not (profile.directory / WIPE).exists()
        # Not connected either: nobody waits for the organisation to hear of it.
        await give_up(device, profile, lose_unsent=True)
        assert profile.wiping
        wipe.remove(profile, store=opened.store)
        assert len(profiles(people)) == 1


@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, FullError), (errno.EIO, FailedError)])
async def test_a_removal_that_cannot_be_noted_does_nothing_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[StoreError]
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, "")

    async with workstation(tmp_path) as (_, people, profile):
        opened = await unlock(profile, PIN, now_ms=now_ms())
        monkeypatch.setattr(wipe, "write_checked", fail)
        with pytest.raises(error):
            await give_up(device_of(opened), profile)
        opened.store.close()
        assert not profile.wiping
        assert len(profiles(people)) == 2


async def test_a_removal_that_was_interrupted_is_finished_by_the_next_start(
    tmp_path: Path,
) -> None:
    async with workstation(tmp_path) as (_, people, profile):
        wipe.leave(profile)
        with pytest.raises(WipingError):
            await unlock(profile, PIN, now_ms=now_ms())
        await wiping.resume(people, clock=now_ms)
        assert not profile.directory.exists()


async def test_a_copy_of_a_store_that_was_given_up_opens_no_more(tmp_path: Path) -> None:
    async with workstation(tmp_path) as (_, people, profile):
        opened = await unlock(profile, PIN, now_ms=now_ms())
        await gave_up(opened, profile)
        opened.store.close()
        # Somebody stopped it there, and took the mark away.
        (profile.directory / WIPE).unlink()
        with pytest.raises(WithheldError):
            await unlock(profile, PIN, now_ms=now_ms())
        assert len(profiles(people)) == 2


async def test_a_workstation_is_shared_from_the_second_person_on_and_stays_so(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        people = tmp_path / "people"
        first, _ = local_profile(people, site, site.hospital.enrol("ann/desk"))
        assert not signing_out.removes(REMOVE, people)
        local_profile(people, site, site.hospital.enrol("ben/desk"))
        assert signing_out.removes(REMOVE, people)
        assert not signing_out.removes(Policy(), people)
        wipe.remove(first)
        assert signing_out.removes(REMOVE, people)
        assert (people / SHARED).read_bytes() == b""


@pytest.fixture
def shared(tmp_path: Path) -> Profile:
    """Return a directory on a workstation that is shared."""
    (tmp_path / SHARED).touch()
    (tmp_path / ("0" * 32)).mkdir()
    return Profile(tmp_path / ("0" * 32))


async def test_a_store_that_was_not_locked_may_hold_unsent_messages_and_stays(
    tmp_path: Path, group: Group
) -> None:
    async with workstation(tmp_path) as (_, people, profile):
        locked(0, profile, shift_ends_ms=END_MS)
        opened = await unlock(profile, PIN, now_ms=now_ms())
        opened.store.began(WARD, group)
        send(opened.store, "potassium 6.8")
        # The program is killed: nobody counts what has not gone out.
        opened.store.close()
        assert end_of(profile) == End(at_ms=END_MS, unsent=UNCOUNTED)
        assert not remove_ended(people, sure_ms=END_MS)
        assert profile.directory.exists()


def test_on_a_full_disk_an_open_store_has_no_end_that_was_noted_before(
    shared: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError

    locked(0, shared, shift_ends_ms=END_MS)
    monkeypatch.setattr(signing_out, "write_checked", fail)
    signing_out.opened(shared)
    assert not (shared.directory / END).exists()


def test_the_end_of_a_store_is_noted_with_what_it_holds_and_follows_roster_and_policy(
    shared: Profile,
) -> None:
    locked(2, shared, shift_ends_ms=END_MS)
    assert end_of(shared) == End(at_ms=END_MS, unsent=2)
    assert not is_over(shared, sure_ms=END_MS - 1)
    assert is_over(shared, sure_ms=END_MS)
    # While it is open, nobody knows what it holds as its program ends.
    note(counting(2), shared, shift_ends_ms=END_MS)
    assert end_of(shared) == End(at_ms=END_MS, unsent=UNCOUNTED)
    # Off duty, the shift that ended counts; in the next one, its own end.
    locked(0, shared, shift_ends_ms=0)
    assert end_of(shared) == End(at_ms=END_MS, unsent=0)
    locked(0, shared, shift_ends_ms=END_MS + 1)
    assert end_of(shared) == End(at_ms=END_MS + 1, unsent=0)
    locked(0, shared, shift_ends_ms=END_MS, policy=Policy(version=2))
    assert end_of(shared) is None


@pytest.mark.parametrize("shift_ends_ms", [None, 0])
def test_without_a_shift_that_ends_nothing_goes_by_itself(
    shared: Profile, shift_ends_ms: int | None
) -> None:
    locked(0, shared, shift_ends_ms=shift_ends_ms)
    assert end_of(shared) is None
    assert not is_over(shared, sure_ms=END_MS)


def test_a_damaged_note_removes_nothing(shared: Profile) -> None:
    locked(0, shared, shift_ends_ms=END_MS)
    (shared.directory / END).write_bytes(b"damaged")
    assert not remove_ended(shared.directory.parent, sure_ms=END_MS + 1)
    assert shared.directory.exists()


async def test_a_locked_store_goes_at_the_end_of_the_shift_unless_it_holds_unsent_messages(
    tmp_path: Path,
) -> None:
    async with workstation(tmp_path) as (_, people, profile):
        locked(1, profile, shift_ends_ms=END_MS)
        assert not remove_ended(people, sure_ms=END_MS)
        locked(0, profile, shift_ends_ms=END_MS)
        assert not remove_ended(people, sure_ms=END_MS - 1)
        assert len(profiles(people)) == 2
        assert remove_ended(people, sure_ms=END_MS)
        assert len(profiles(people)) == 1
        assert not profile.directory.exists()


async def test_a_workstation_whose_clock_is_ahead_removes_no_store_before_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal._witnessed.cache_clear()
    monkeypatch.setattr(terminal, "now_ms", lambda: now_ms() + 365 * DAY_MS)
    async with workstation(tmp_path) as (_, people, profile):
        locked(0, profile, shift_ends_ms=now_ms() + DAY_MS)
        assert not terminal._remove_ended(people)
        await comes_true(lambda: terminal._witnessed().now_ms() > 0)
        assert not terminal._remove_ended(people)
        assert profile.directory.exists()
        locked(0, profile, shift_ends_ms=now_ms() - DAY_MS)
        assert terminal._remove_ended(people)
        assert not profile.directory.exists()


async def test_without_the_relay_a_store_stays_locked_whatever_this_machines_clock_says(
    tmp_path: Path,
) -> None:
    terminal._witnessed.cache_clear()
    async with workstation(tmp_path) as (_, people, profile):
        pass
    locked(0, profile, shift_ends_ms=now_ms() - DAY_MS)
    relay = witness_of_ended(people, now_ms=now_ms())
    assert relay is not None
    await terminal._witnessed().ask(relay)
    assert not terminal._remove_ended(people)
    assert profile.directory.exists()


async def test_a_store_that_another_program_has_open_is_left_to_it(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        people = tmp_path / "people"
        profile, share = local_profile(people, site, site.hospital.enrol("ann/desk"))
        (people / SHARED).touch()
        locked(0, profile, shift_ends_ms=END_MS)
        program = (
            "import sys; from pathlib import Path; from client.signing_out import remove_ended;"
            f"sys.exit(5 if remove_ended(Path(sys.argv[1]), sure_ms={END_MS}) else 4)"
        )
        command = [sys.executable, "-c", program, str(people)]
        store = profile.open(KEY, share)
        tried = await asyncio.to_thread(subprocess.run, command, check=False)
        assert tried.returncode == 4
        assert profile.directory.exists()
        store.close()
        tried = await asyncio.to_thread(subprocess.run, command, check=False)
        assert tried.returncode == 5
        assert not profile.directory.exists()
