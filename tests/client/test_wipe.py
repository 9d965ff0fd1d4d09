"""Wiping: nothing opens once it has begun, and whatever kills it, the next start finishes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from client import lease, profile, wipe
from client.errors import DamagedError, WipingError
from client.lease import Terms
from client.profile import CONNECTION, STORE, WIPE, Profile, create_profile, profiles
from client.store import Store
from client.wipe import WipeState, begin, finish, order, resume, state
from crypto.errors import UsageError
from crypto.mls import Group
from crypto.pin import MIN_MEMORY_KIB, MIN_PASSES, PinKey, PinParameters, stretch
from storage.files import replace_private
from tests.client.ward import WARD, everything

PIN = "481516"
SHARE = b"s" * 32
PARAMETERS = PinParameters(passes=MIN_PASSES, memory_kib=MIN_MEMORY_KIB, salt=b"salt" * 4)
ORDER = b"the signed order"
CONNECTING = b"connection key"


class Killed(BaseException):
    """Stands for the end of the process: nothing after it is done."""


@pytest.fixture(scope="module")
def key() -> PinKey:
    return stretch(PIN, PARAMETERS)


@pytest.fixture
def person(tmp_path: Path, key: PinKey, groups: list[Group]) -> Profile:
    made = create_profile(
        tmp_path / "people",
        parameters=PARAMETERS,
        key=key,
        share=SHARE,
        connection=CONNECTING,
    )
    store = made.open(key, SHARE)
    store.began(WARD, groups[0])
    store.close()
    (made.files / "scan").mkdir()
    (made.files / "scan" / "1").write_bytes(b"chunk")
    return made


def test_a_wipe_destroys_the_lease_wherever_it_lies(
    person: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runtime").mkdir(mode=0o700)
    lease.grant(person, SHARE, terms=Terms(), now_ms=1)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    lease.grant(person, SHARE, terms=Terms(), now_ms=1)
    begin(person, ORDER)
    assert list(tmp_path.rglob(lease.LEASE)) == []


def test_a_wipe_leaves_the_connection_key_until_the_receipt_has_gone(
    person: Profile, key: PinKey
) -> None:
    assert state(person) is WipeState.NONE
    begin(person, ORDER, store=person.open(key, SHARE))
    assert state(person) is WipeState.DESTROYED
    assert {path.name for path in person.directory.iterdir()} == {CONNECTION, WIPE}
    assert (order(person), person.connection()) == (ORDER, CONNECTING)
    finish(person)
    finish(person)
    assert not person.directory.exists()


def test_nothing_opens_once_a_wipe_has_begun(person: Profile, key: PinKey) -> None:
    replace_private(person.directory / WIPE, b"not even a whole order")
    with pytest.raises(WipingError):
        person.stretch(PIN)
    with pytest.raises(WipingError):
        person.open(key, SHARE)
    with pytest.raises(DamagedError):
        order(person)
    with pytest.raises(UsageError):
        finish(person)
    resume(person)
    assert state(person) is WipeState.DESTROYED


def test_a_wipe_that_has_not_begun_is_not_resumed(person: Profile, key: PinKey) -> None:
    for step in (resume, finish):
        with pytest.raises(UsageError):
            step(person)
    person.open(key, SHARE).close()


def test_an_open_store_loses_its_keys_before_anything_else(
    person: Profile, key: PinKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: Profile) -> None:
        raise Killed

    monkeypatch.setattr(wipe, "resume", stop)
    with pytest.raises(Killed):
        begin(person, ORDER, store=person.open(key, SHARE))
    (person.directory / WIPE).unlink()
    store = person.open(key, SHARE)
    assert store.groups.get(WARD) is None
    store.close()


def test_a_damaged_store_is_wiped_all_the_same(person: Profile, key: PinKey) -> None:
    store = person.open(key, SHARE)
    store._database._failed = True
    begin(person, ORDER, store=store)
    assert state(person) is WipeState.DESTROYED


def counted(monkeypatch: pytest.MonkeyPatch, stop_at: int) -> Callable[[], int]:
    """End the process, as far as a test can, before its n-th change of the disk."""
    done = 0

    def before(act: Callable[..., object]) -> Callable[..., object]:
        def acting(*args: object, **kwargs: object) -> object:
            nonlocal done
            done += 1
            if done == stop_at:
                raise Killed
            return act(*args, **kwargs)

        return acting

    for owner, name in (
        (Path, "unlink"),
        (Path, "rmdir"),
        (Path, "replace"),
        (Path, "open"),
        (shutil, "rmtree"),
        (os, "fsync"),
        (profile, "sync_directory"),
        (wipe, "sync_directory"),
    ):
        monkeypatch.setattr(owner, name, before(getattr(owner, name)))
    return lambda: done


def test_a_wipe_killed_at_any_step_is_finished_by_the_next_start(
    tmp_path: Path, person: Profile, key: PinKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(person.directory, whole)
    step, finished = 0, False
    while not finished:
        step += 1
        shutil.rmtree(person.directory, ignore_errors=True)
        shutil.copytree(whole, person.directory)
        with monkeypatch.context() as patch:
            counted(patch, step)
            try:
                begin(person, ORDER)
                finish(person)
                finished = True
            except Killed:
                pass
        if state_after_start(person, key):
            assert not person.directory.exists()
    assert step > 20


def state_after_start(person: Profile, key: PinKey) -> bool:
    """Do what the next start does; return whether the wipe had begun and so is over."""
    if not person.directory.exists():
        return True
    if state(person) is WipeState.NONE:
        if any(person.directory.iterdir()):
            # It had not begun: all is as before, and the order comes again.
            person.open(key, SHARE).close()
            return False
        profile.remove_unfinished(person.directory.parent, now_ms=0)
        return True
    with pytest.raises(WipingError):
        person.open(key, SHARE)
    resume(person)
    finish(person)
    return True


def test_after_each_step_of_the_destruction_the_store_is_unreadable_even_without_the_journal(
    tmp_path: Path, person: Profile, key: PinKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if a thief took the disk at that moment and removed the file that says "wiping".
    whole = tmp_path / "whole"
    shutil.copytree(person.directory, whole)
    opened = []
    for step in range(1, 30):
        shutil.rmtree(person.directory, ignore_errors=True)
        shutil.copytree(whole, person.directory)
        (person.directory / WIPE).write_bytes(b"begun")
        with monkeypatch.context() as patch:
            counted(patch, step)
            with suppress(Killed):
                resume(person)
        (person.directory / WIPE).unlink(missing_ok=True)
        try:
            person.open(key, SHARE).close()
            opened.append(step)
        except DamagedError:
            pass
    # Only before the first byte of the header was overwritten.
    assert opened == [1]


def test_a_wiped_profile_leaves_no_byte_of_header_or_store_in_the_directory(
    tmp_path: Path, person: Profile, key: PinKey
) -> None:
    pages = (person.directory / STORE).read_bytes()
    begin(person, ORDER)
    left = everything(person.directory)
    assert pages[:16] not in left
    assert pages[4096 : 4096 + 64] not in left
    assert profiles(person.directory.parent) == [person]
    with pytest.raises(DamagedError):
        Store.open(person.directory / STORE, b"k" * 32)
