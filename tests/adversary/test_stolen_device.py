"""A device that is off is stolen: what its disk and all of the relay give, wiped and not.

The search goes through PINs of six digits, at the least cost that Argon2id has: those near the
right one in ``make test``, all million where ``WARDLINE_DEPTH`` is above 1.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlcipher3 import dbapi2 as sqlcipher

from client import lease
from client.errors import OfflineError, WithheldError, WrongKeyError
from client.lease import Terms
from client.profile import HEADER, Profile, create_profile, profiles
from client.unlocking import store_share, unlock
from crypto import pin, pin_proof
from crypto.pin import KEY_CHECK_BYTES, PinParameters, stretch
from tests.client.authority import submit
from tests.client.openable import KEY, PIN, local_profile
from tests.client.orders import administrator, body_of, countersigned, single_signed
from tests.client.relay import link_of, serving
from tests.depth import DEPTH
from tests.server import harness
from tests.server.harness import Site, now_ms

PINS = range(1_000_000) if DEPTH > 1 else range(int(PIN) - 5_000, int(PIN) + 5_000)
SECRET_BYTES = 32


@pytest.fixture(autouse=True)
def _nothing_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)


def kept_by_the_relay(folder: Path) -> list[bytes]:
    """Return every value in the relay's secrets, decrypted with its own key."""
    key = (folder / "secrets.key").read_bytes()
    with closing(sqlcipher.connect(str(folder / "secrets.db"))) as database:
        database.execute(f"PRAGMA key=\"x'{key.hex()}'\"")
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master")]
        assert {"account", "share", "wipe"} <= set(tables)
        rows = [row for name in ("account", "share", "wipe") for row in rows_of(database, name)]
    return [bytes(v) if isinstance(v, bytes) else str(v).encode() for row in rows for v in row]


def rows_of(database: sqlcipher.Connection, table: str) -> list[tuple[object, ...]]:
    return list(database.execute(f"SELECT * FROM {table}"))


def candidates(values: Iterable[bytes]) -> set[bytes]:
    """Return every run of bytes that could be a share."""
    runs = {
        value[at : at + SECRET_BYTES]
        for value in values
        for at in range(len(value) - SECRET_BYTES + 1)
    }
    return {*runs, bytes(SECRET_BYTES)}


def check_of(profile: Profile) -> bytes:
    """Return what a thief tells a right key by."""
    return (profile.directory / HEADER).read_bytes()[:-SECRET_BYTES][-KEY_CHECK_BYTES:]


def searched(
    parameters: PinParameters, check: bytes, shares: Iterable[bytes], pins: Iterable[int]
) -> Iterator[str]:
    """Yield the PINs that open, tried one after another with every share."""
    tried = list(shares)
    for number in pins:
        guess = f"{number:06d}"
        key = stretch(guess, parameters)
        if any(pin.key_check(key.store_key(share)) == check for share in tried):
            yield guess


async def stolen(site: Site, folder: Path) -> tuple[Profile, Profile, bytes]:
    """Return copies of a disk from before and after the order, and the share that there was."""
    of = site.hospital
    ann, adam = of.enrol("ann/phone"), administrator(of)
    profile, share = local_profile(folder / "device", site, ann)
    await (await link_of(site, adam)).close()
    link = await link_of(site, ann)
    await store_share(link, KEY, share)
    await link.close()
    opened = await unlock(profile, PIN, now_ms=now_ms())
    lease.keep_terms(opened.store, Terms(hours=0))
    opened.store.close()
    (await unlock(profile, PIN, now_ms=now_ms())).store.close()
    shutil.copytree(folder / "device", folder / "before")
    statement = single_signed(of, body_of(ann))
    await submit(site, statement)
    await submit(site, countersigned(of, statement))
    shutil.copytree(folder / "device", folder / "after")
    (before,), (after,) = profiles(folder / "before"), profiles(folder / "after")
    return before, after, share


async def test_no_copy_of_a_powered_off_devices_disk_opens_with_the_right_pin_after_the_order(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        before, after, share = await stolen(site, tmp_path)
        for copy in (before, after):
            with pytest.raises(WithheldError):
                await unlock(copy, PIN, now_ms=now_ms())
    for copy in (before, after):
        with pytest.raises(OfflineError):
            await unlock(copy, PIN, now_ms=now_ms())
    left = kept_by_the_relay(tmp_path)
    assert share not in left
    assert pin_proof.verifier(KEY.proof()) not in left
    whole = (tmp_path / "relay.db").read_bytes()
    for copy in (before, after):
        for guess in candidates([*left, whole[: 1 << 16]]):
            with pytest.raises(WrongKeyError):
                copy.open(KEY, guess)
        # The control: with the share, the same disk and the same PIN open.
        copy.open(KEY, share).close()


async def test_no_pin_of_six_digits_is_found_with_the_disk_and_all_that_the_relay_still_has(
    tmp_path: Path,
) -> None:
    parameters = PinParameters.minimum_for_tests()
    async with serving(tmp_path, harness.hospital()) as site:
        _, _, share = await stolen(site, tmp_path)
    cheap = create_profile(
        tmp_path / "cheap",
        parameters=parameters,
        key=stretch(PIN, parameters),
        share=share,
        connection=b"",
    )
    check = check_of(cheap)
    likely = [value for value in kept_by_the_relay(tmp_path) if len(value) == SECRET_BYTES]
    assert list(searched(parameters, check, [*likely, bytes(SECRET_BYTES)], PINS)) == []
    # The control: the same search, with the share that was there before the order.
    assert list(searched(parameters, check, [share], PINS)) == [PIN]


async def test_while_a_lease_runs_the_disk_alone_gives_the_pin_to_who_tries_them(
    tmp_path: Path,
) -> None:
    """What a lease costs, as the threat model says."""
    parameters = PinParameters.minimum_for_tests()
    share = pin_proof.new_share()
    key = stretch(PIN, parameters)
    profile = create_profile(tmp_path, parameters=parameters, key=key, share=share, connection=b"")
    lease.grant(profile, share, terms=Terms(), now_ms=now_ms())
    on_disk = candidates([(profile.directory / lease.LEASE).read_bytes()])
    near = range(int(PIN) - 20, int(PIN) + 20)
    assert list(searched(parameters, check_of(profile), on_disk, near)) == [PIN]
    lease.forget(profile)
    left = [path.read_bytes() for path in profile.directory.iterdir() if path.name == HEADER]
    assert list(searched(parameters, check_of(profile), candidates(left), near)) == []
