"""The disk itself: flipped bits, what a locked store shows, what a thief with the key finds.

``WARDLINE_FLIPS`` (default 300) says how many bits of the small store are flipped, spread over all
of it; 0 flips each.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from client.errors import DamagedError
from client.profile import create_profile
from client.store import Entry, Store
from crypto.mls import Group
from crypto.pin import PinParameters, stretch
from protocol.identifiers import inbox_log
from tests.client.ward import (
    ANN,
    KEY,
    PATH,
    THEATRE,
    WARD,
    assembled,
    entry,
    everything,
    hear,
    saved,
    send,
)
from tests.crypto.mls.clients import key_package
from tests.crypto.mls.clients import saved as records

FLIPS = int(os.environ.get("WARDLINE_FLIPS", "300"))
PAGE = 4096
RESERVED = 80
IV = 16
CANARIES = (b"canary-text", b"cora-canary", b"canary-setting", b"canary-person")


def fill(path: Path, key: bytes = KEY) -> Store:
    """A small store with a bit of everything in it."""
    store = Store.create(path, key)
    ann, bob = assembled()
    store.began(WARD, ann)
    for number in range(1, 8):
        bob, message = bob.encrypt(b"canary-text %d" % number)
        hear(store, message, number)
    send(store, "canary-text of mine")
    store.cache.replace("directory", {b"cora-canary": b"canary-person"}, at_ms=1)
    store.settings.put("canary-setting", b"canary-setting")
    store.keys.put("signature", b"canary-key" * 3)
    store.keys.add_packages([key_package("ann")])
    return store


def told(store: Store) -> list[Any]:
    """All that a store tells."""
    group = store.groups.get(WARD)
    return [
        store.messages.page(WARD, limit=100),
        [message.key for message in store.messages.search("canary")],
        store.outbox.to_send(0),
        records(group) if group else None,
        store.groups.get(THEATRE),
        store.cache.all("directory"),
        store.settings.get("canary-setting"),
        store.keys.get("signature"),
        [store.keys.package(reference) for reference in store.keys.package_references()],
    ]


def test_every_flipped_bit_is_an_error_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / PATH
    store = fill(path)
    before = told(store)
    store.close()
    content = path.read_bytes()
    bits = range(0, 8 * len(content), max(1, 8 * len(content) // FLIPS | 1) if FLIPS else 1)
    errors = 0
    for bit in bits:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            opened = Store.open(path, KEY)
        except DamagedError:
            errors += 1
            continue
        try:
            assert told(opened) == before
        except DamagedError:
            errors += 1
        with pytest.raises(DamagedError):
            opened.verify()
        opened.close()
    # The rest lie in pages that nothing above reads, the empty tables' among them.
    assert errors > len(bits) // 3


@pytest.mark.parametrize("cut", [0, 1, 511, PAGE, 3 * PAGE, 3 * PAGE + 7])
def test_a_store_that_was_cut_short_is_damage(tmp_path: Path, cut: int) -> None:
    path = tmp_path / PATH
    fill(path).close()
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DamagedError):
        told(Store.open(path, KEY))


def test_two_pages_that_changed_places_are_damage(tmp_path: Path) -> None:
    path = tmp_path / PATH
    fill(path).close()
    content = path.read_bytes()
    pages = [content[at : at + PAGE] for at in range(0, len(content), PAGE)]
    pages[2], pages[3] = pages[3], pages[2]
    path.write_bytes(b"".join(pages))
    opened = Store.open(path, KEY)
    with pytest.raises(DamagedError):
        opened.verify()
    opened.close()


def test_a_flipped_bit_under_an_open_store_is_found_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / PATH
    fill(path).close()
    opened = Store.open(path, KEY)
    content = path.read_bytes()
    path.write_bytes(content[: 2 * PAGE] + bytes(len(content) - 2 * PAGE))
    with pytest.raises(DamagedError):
        told(opened)
    opened.close()


def test_nothing_that_was_answered_lies_in_the_write_ahead_log(tmp_path: Path) -> None:
    path = tmp_path / PATH
    store = fill(path)
    log = path.with_name(PATH + "-wal")
    assert log.stat().st_size == 0
    copy = tmp_path / "copy.db"
    copy.write_bytes(path.read_bytes())
    opened = Store.open(copy, KEY)
    assert told(opened) == told(store)
    opened.close()
    store.close()


@pytest.mark.parametrize("locked", [True, False])
def test_a_disk_image_shows_no_plaintext_name_or_key(tmp_path: Path, locked: bool) -> None:
    parameters = PinParameters.minimum_for_tests()
    key, share = stretch("481516", parameters), b"canary-share".ljust(32, b"!")
    profile = create_profile(
        tmp_path / "people", parameters=parameters, key=key, share=share, connection=b"connection"
    )
    store_key = key.store_key(share)
    (profile.directory / "store.db").unlink()
    store = fill(profile.directory / "store.db", store_key)
    group = records(saved(store))
    if locked:
        store.close()
        assert {path.name for path in profile.directory.iterdir()} == {
            "header",
            "store.db",
            "connection",
            "files",
        }
    image = everything(tmp_path / "people")
    secrets = [*CANARIES, b"canary", share, store_key, store_key.hex().encode(), WARD, b"481516"]
    secrets += [record for record in group.values() if len(record) >= 32]
    secrets += [b"SQLite format 3", b"CREATE TABLE", b"ann/phone", b"bob/phone"]
    assert [secret for secret in secrets if secret in image] == []
    store.close()


def test_nothing_is_written_beside_the_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Sorting and large transactions spill into temporary files where that is not forbidden.
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    for name in ("TMPDIR", "SQLITE_TMPDIR"):
        monkeypatch.setenv(name, str(temporary))
    store = fill(tmp_path / PATH)
    rows = {str(number).encode(): os.urandom(2_000) for number in range(3_000)}
    store.cache.replace("large", rows, at_ms=1)
    store._database.rows("SELECT value FROM cached ORDER BY substr(value, 5)")
    assert {path.name for path in tmp_path.iterdir()} == {"temporary", PATH, PATH + "-wal"}
    assert list(temporary.iterdir()) == []
    store.close()


def decrypted(path: Path, key: bytes) -> Iterator[bytes]:
    """Give each page's whole plaintext, as a thief would see it who has the store's key.

    Source: SQLCipher's design: AES-256-CBC a page; behind its content an IV of 16 bytes and
    HMAC-SHA512 over both and the page's number.
    """
    content = path.read_bytes()
    salt = content[:16]
    tag_key = hashlib.pbkdf2_hmac("sha512", key, bytes(byte ^ 0x3A for byte in salt), 2, 32)
    for number, at in enumerate(range(0, len(content), PAGE), 1):
        page = content[at : at + PAGE]
        start = 16 if number == 1 else 0
        body, reserved = page[start : PAGE - RESERVED], page[PAGE - RESERVED :]
        tagged = body + reserved[:IV] + number.to_bytes(4, "little")
        assert hmac.digest(tag_key, tagged, "sha512") == reserved[IV:]
        cipher = Cipher(algorithms.AES(key), modes.CBC(reserved[:IV])).decryptor()
        yield cipher.update(body) + cipher.finalize()


def parts(record: bytes, size: int = 32) -> set[bytes]:
    """Return every run of ``size`` bytes in a record: a key may stand at any place."""
    return {record[at : at + size] for at in range(len(record) - size + 1)}


def secrets_of(group: Group) -> list[bytes]:
    return [record for key, record in records(group).items() if key.startswith("secret/")]


def used_keys(store: Store, *, rounds: int) -> set[bytes]:
    """Talk in the theatre's conversation; return each run of key bytes that is gone since."""
    ann, bob = assembled(THEATRE)
    store.began(THEATRE, ann)
    seen: set[bytes] = set()
    for number in range(1, rounds + 1):
        for record in secrets_of(saved(store, THEATRE)):
            seen |= parts(record)
        bob, message = bob.encrypt(b"x" * 50)
        store.received([entry(saved(store, THEATRE), message, number)])
        send(store, f"answer {number}", THEATRE)
    for record in secrets_of(saved(store, THEATRE)):
        seen -= parts(record)
    # Runs of zeros and the like are no keys.
    return {run for run in seen if len(set(run)) > 16}


def test_a_stolen_copy_with_its_key_holds_no_key_that_was_used(tmp_path: Path) -> None:
    path = tmp_path / PATH
    store = fill(path)
    package = key_package("ann")
    reference = package.key_package.reference(package.suite)
    store.keys.add_packages([package])
    used = used_keys(store, rounds=60)
    welcomed = entry_of_welcome(store, reference)
    store.received([welcomed])
    used |= {package.init_key, package.encryption_key}
    store.close()
    plain = b"".join(decrypted(path, KEY))
    assert b"answer 60" in plain
    assert len(used) > 1_000
    assert used & parts(plain) == set()


def entry_of_welcome(store: Store, reference: bytes) -> Entry:
    group = saved(store)
    return Entry(
        log=inbox_log(ANN),
        sequence=1,
        conversation=WARD,
        before=group,
        after=group,
        key_package=reference,
    )
