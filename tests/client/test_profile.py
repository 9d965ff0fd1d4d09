"""Profiles: PIN and share open, nothing else does; side by side; locked without a trace."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from client.errors import DamagedError, WrongKeyError
from client.lock import LOCKED_STATUS, AutoLock
from client.profile import (
    CONNECTION,
    HEADER,
    STORE,
    UNFINISHED_MS,
    Profile,
    create_profile,
    profiles,
    remove_unfinished,
)
from client.store import Store
from crypto.errors import InvalidError
from crypto.pin import MIN_MEMORY_KIB, MIN_PASSES, PinKey, PinParameters, stretch
from tests.client.ward import KEY, PATH
from tests.shared import ROOT

PIN = "481516"
SHARE = b"s" * 32
PARAMETERS = PinParameters(passes=MIN_PASSES, memory_kib=MIN_MEMORY_KIB, salt=b"salt" * 4)


@pytest.fixture(scope="module")
def key() -> PinKey:
    return stretch(PIN, PARAMETERS)


def made(root: Path, key: PinKey) -> Profile:
    return create_profile(
        root, parameters=PARAMETERS, key=key, share=SHARE, connection=b"connection key"
    )


def test_pin_and_share_open_the_store_and_neither_alone_does(tmp_path: Path, key: PinKey) -> None:
    profile = made(tmp_path / "people", key)
    store = profile.open(profile.stretch(PIN), SHARE)
    store.settings.put("a", b"b")
    store.close()
    with pytest.raises(WrongKeyError):
        profile.open(profile.stretch("481517"), SHARE)
    with pytest.raises(WrongKeyError):
        profile.open(key, b"x" * 32)
    with pytest.raises(InvalidError):
        profile.open(key, SHARE[:-1])
    store = profile.open(key, SHARE)
    assert store.settings.get("a") == b"b"
    store.close()


def test_people_on_one_device_have_a_store_each(tmp_path: Path, key: PinKey) -> None:
    first, second = made(tmp_path, key), made(tmp_path, key)
    assert sorted(profiles(tmp_path), key=lambda one: one.directory) == sorted(
        (first, second), key=lambda one: one.directory
    )
    stores = [profile.open(key, SHARE) for profile in (first, second)]
    stores[0].settings.put("a", b"first")
    assert stores[1].settings.get("a") is None
    for store in stores:
        store.close()
    assert profiles(tmp_path / "missing") == []


def test_only_its_owner_reads_what_lies_outside_the_store(tmp_path: Path, key: PinKey) -> None:
    profile = made(tmp_path, key)
    assert profile.connection() == b"connection key"
    for path in profile.directory.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path.name
    assert stat.S_IMODE(profile.directory.stat().st_mode) == 0o700


def refusal(profile: Profile, key: PinKey) -> str:
    """Return what a profile says is damaged."""
    try:
        profile.open(key, SHARE).close()
        profile.connection()
    except DamagedError as error:
        return error.where
    return ""


@pytest.mark.parametrize("name", [HEADER, CONNECTION])
def test_every_flipped_bit_outside_the_store_is_damage(
    tmp_path: Path, key: PinKey, name: str
) -> None:
    profile = made(tmp_path, key)
    path = profile.directory / name
    content = path.read_bytes()
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        assert refusal(profile, key) == name
    path.unlink()
    assert refusal(profile, key) == name


def test_a_header_below_the_floor_of_costs_is_refused(tmp_path: Path) -> None:
    cheap = PinParameters.minimum_for_tests()
    profile = create_profile(
        tmp_path, parameters=cheap, key=stretch(PIN, cheap), share=SHARE, connection=b""
    )
    with pytest.raises(DamagedError):
        profile.stretch(PIN)


def test_a_right_key_and_a_damaged_store_are_told_from_a_wrong_key(
    tmp_path: Path, key: PinKey
) -> None:
    profile = made(tmp_path, key)
    path = profile.directory / STORE
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(WrongKeyError):
        profile.open(key, b"x" * 32)
    with pytest.raises(DamagedError):
        profile.open(key, SHARE)
    path.unlink()
    with pytest.raises(DamagedError):
        profile.open(key, SHARE)


def test_a_creation_that_was_interrupted_is_no_profile_and_is_removed(
    tmp_path: Path, key: PinKey
) -> None:
    profile = made(tmp_path, key)
    (tmp_path / ".new-0123").mkdir()
    (tmp_path / ".new-0123" / HEADER).touch()
    (tmp_path / ("f" * 32)).mkdir()
    (tmp_path / "something else").mkdir()
    assert profiles(tmp_path) == [profile]
    began_ms = int((tmp_path / ".new-0123").stat().st_mtime * 1000)
    left = {profile.directory.name, "something else"}
    # Another process may be at it.
    remove_unfinished(tmp_path, now_ms=began_ms + UNFINISHED_MS - 1000)
    assert {path.name for path in tmp_path.iterdir()} == left | {".new-0123"}
    remove_unfinished(tmp_path, now_ms=began_ms + UNFINISHED_MS + 1000)
    remove_unfinished(tmp_path / "missing", now_ms=0)
    assert {path.name for path in tmp_path.iterdir()} == left


def test_nothing_that_is_shown_of_a_profile_tells_a_secret(tmp_path: Path, key: PinKey) -> None:
    profile = made(tmp_path, key)
    assert profile.directory.name not in repr(profile)
    assert "salt" not in repr(profile._header())


def test_a_device_locks_when_nobody_used_it_for_long_enough() -> None:
    clock = AutoLock(after_ms=100, used_ms=0)
    assert not clock.is_due(99)
    assert clock.is_due(100)
    clock = clock.used(60)
    assert not clock.is_due(159)
    assert clock.is_due(160)


def test_once_due_a_late_key_press_does_not_unlock_and_a_clock_behind_changes_nothing() -> None:
    clock = AutoLock(after_ms=100, used_ms=50)
    assert clock.used(150).is_due(150)
    assert clock.used(20) == clock


def test_locking_ends_the_process_and_leaves_the_store_closed_on_the_disk(tmp_path: Path) -> None:
    Store.create(tmp_path / PATH, KEY).close()
    program = (
        "import sys; from pathlib import Path; from client.lock import lock;"
        "from client.store import Store; store = Store.open(Path(sys.argv[1]), bytes(range(32)));"
        "store.settings.put('a', b'b'); lock(store); print('not reached')"
    )
    command = [sys.executable, "-c", program, str(tmp_path / PATH)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (LOCKED_STATUS, b"")
    assert [path.name for path in tmp_path.iterdir()] == [PATH]
    store = Store.open(tmp_path / PATH, KEY)
    assert store.settings.get("a") == b"b"
    store.close()
