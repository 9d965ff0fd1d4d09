"""Shredding: the bodies go for good, the proofs stay, and a legal hold prevents it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from archive.batch import Entry
from archive.errors import HeldError, ShreddedError
from archive.log import Log
from archive.record import RecordType
from archive.segment import SealedSegment
from archive.shredding import ARCHIVE_BUCKET, Hold, Release, shred
from archive.store import Store
from archive.verify import Fault
from crypto.errors import InvalidError, UsageError
from crypto.merkle import leaf_hash
from storage import encrypted
from tests.archive.logs import BUCKET, CLINIC, NOW_MS, WARD, Site, fill, message
from tests.archive.test_segment import SEALED

OTHER = b"clinical 2027Q2"
YEAR_MS = 366 * 86_400_000


def prepared(site: Site) -> Log:
    """A log with a bucket of two conversations, its epoch keys, and another bucket's records."""
    log = site.create()
    keys = Entry(type=RecordType.EPOCH_KEYS, body=SEALED.encode(), bucket=BUCKET, group_id=WARD)
    log.append([keys], now_ms=NOW_MS)
    fill(log, 20)
    log.append([message(n, bucket=OTHER) for n in range(50, 55)], now_ms=NOW_MS)
    return log


def set_hold(log: Log, *, group_id: bytes, from_ms: int, until_ms: int, now_ms: int) -> int:
    """Return the index of the record by which a hold is in force."""
    hold = Hold(group_id=group_id, from_ms=from_ms, until_ms=until_ms, set_ms=now_ms)
    return record(log, RecordType.HOLD_SET, hold.encode(), now_ms=now_ms)


def release_hold(log: Log, hold: int, *, now_ms: int) -> None:
    record(log, RecordType.HOLD_RELEASED, Release(hold=hold).encode(), now_ms=now_ms)


def record(log: Log, kind: RecordType, body: bytes, *, now_ms: int) -> int:
    (index,) = log.record([Entry(type=kind, body=body, bucket=ARCHIVE_BUCKET)], now_ms=now_ms)
    return index


def test_after_shredding_nothing_opens_and_every_proof_holds(site: Site) -> None:
    log = prepared(site)
    assert SealedSegment.decode(log.body(0)) == SEALED
    before = log.publish()
    receipts = log.receipts(range(26), before)
    (index,) = shred(log, BUCKET, now_ms=NOW_MS + YEAR_MS)
    note = log.publish()
    for old in range(26):
        leaf = leaf_hash(log.read(old).encode())
        receipts[old].verify(leaf=leaf, key=site.signer.verifier)
        log.receipts([old], note)[0].verify(leaf=leaf, key=site.signer.verifier)
    for old in range(21):
        with pytest.raises(ShreddedError):
            log.body(old)
    assert log.body(21) == message(50).body
    assert log.read(index).type is RecordType.SHRED
    assert site.audit(log.signed).findings == ()
    assert shred(log, BUCKET, now_ms=NOW_MS + YEAR_MS) == ()


def test_nothing_of_what_was_shredded_is_left_in_the_database_or_its_journal(site: Site) -> None:
    log = prepared(site)
    with closing(encrypted.connect(site.files.log, site.database_key)) as db:
        keys = [row[0] for row in db.execute("SELECT record_key FROM record_key WHERE idx<21")]
        (kept,) = db.execute("SELECT record_key FROM record_key WHERE idx=21").fetchone()
    assert len(keys) == 21
    shred(log, BUCKET, now_ms=NOW_MS)
    journal = site.files.log.with_name("log.db-wal")
    assert journal.stat().st_size == 0
    log.close()
    plain = b"".join(pages(site))
    assert b"CREATE TABLE leaf" in plain  # the pages are read as they are, free ones too
    assert [key for key in keys if key in plain] == []
    assert kept in plain


def pages(site: Site) -> Iterator[bytes]:
    """Yield every page of the file in clear, also those that no query reaches.

    SQLCipher 4: AES-256-CBC, the page's IV and its HMAC in its last 80 bytes.
    """
    data = site.files.log.read_bytes()
    for at in range(0, len(data), 4096):
        page = data[at : at + 4096]
        page, reserved = page[16 if at == 0 else 0 : -80], page[-80:]
        cipher = Cipher(AES(site.database_key), CBC(reserved[:16])).decryptor()
        yield cipher.update(page) + cipher.finalize()


@pytest.mark.parametrize("group_id", [WARD, b""])
def test_a_hold_prevents_shredding_until_it_is_released(site: Site, group_id: bytes) -> None:
    log = prepared(site)
    hold = set_hold(
        log, group_id=group_id, from_ms=NOW_MS, until_ms=NOW_MS + 1000, now_ms=NOW_MS + 1
    )
    with pytest.raises(HeldError) as held:
        shred(log, BUCKET, now_ms=NOW_MS + YEAR_MS)
    assert held.value.hold == hold
    assert log.body(1) == message(0).body
    release_hold(log, hold, now_ms=NOW_MS + 2)
    again = set_hold(
        log, group_id=group_id, from_ms=NOW_MS, until_ms=NOW_MS + 1000, now_ms=NOW_MS + 3
    )
    with pytest.raises(HeldError):
        shred(log, BUCKET, now_ms=NOW_MS + YEAR_MS)
    release_hold(log, again, now_ms=NOW_MS + 4)
    assert len(shred(log, BUCKET, now_ms=NOW_MS + YEAR_MS)) == 1
    log.publish()
    assert site.audit(log.signed).findings == ()


@pytest.mark.parametrize(
    ("group_id", "from_ms"), [(b"another" * 4, NOW_MS), (CLINIC, NOW_MS + YEAR_MS)]
)
def test_a_hold_on_something_else_prevents_nothing(
    site: Site, group_id: bytes, from_ms: int
) -> None:
    log = prepared(site)
    set_hold(log, group_id=group_id, from_ms=from_ms, until_ms=from_ms + 1, now_ms=NOW_MS)
    assert len(shred(log, BUCKET, now_ms=NOW_MS)) == 1
    log.publish()
    assert site.audit(log.signed).findings == ()


def test_a_shredding_past_a_hold_is_found(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    log = prepared(site)
    set_hold(log, group_id=WARD, from_ms=NOW_MS, until_ms=NOW_MS + 1000, now_ms=NOW_MS)
    monkeypatch.setattr("archive.shredding.Holds.of", lambda self, record: None)
    shred(log, BUCKET, now_ms=NOW_MS)
    log.publish()
    monkeypatch.undo()
    assert {f.fault for f in site.audit(log.signed).findings} == {Fault.HELD}


def test_what_is_not_in_the_bucket_is_not_excused_by_its_shredding(site: Site) -> None:
    log = prepared(site)
    shred(log, BUCKET, now_ms=NOW_MS)
    log.publish()
    with closing(encrypted.connect(site.files.log, site.database_key)) as db:
        db.execute("DELETE FROM body WHERE idx=22")
        db.execute("DELETE FROM record_key WHERE idx=22")
    findings = site.audit(log.signed).findings
    assert [(f.fault, f.index) for f in findings] == [(Fault.BODY, 22)]


@pytest.mark.parametrize("indices", [[1, 22], [1, 2, 3]])
def test_a_shredding_that_names_what_it_may_not_or_did_not_delete_is_found(
    site: Site, monkeypatch: pytest.MonkeyPatch, indices: list[int]
) -> None:
    log = prepared(site)
    monkeypatch.setattr("archive.shredding._unheld", lambda log, tag: indices)
    if indices == [1, 2, 3]:
        delete = Store.delete_bodies
        monkeypatch.setattr(Store, "delete_bodies", lambda store, gone: delete(store, gone[:2]))
    (index,) = shred(log, BUCKET, now_ms=NOW_MS)
    log.publish()
    found = [(f.fault, f.index) for f in site.audit(log.signed).findings]
    assert found == [(Fault.BODY, index), *([(Fault.BODY, 22)] if 22 in indices else [])]


def test_the_archives_own_records_are_never_shredded(site: Site) -> None:
    log = prepared(site)
    with pytest.raises(UsageError):
        shred(log, ARCHIVE_BUCKET, now_ms=NOW_MS)
    with pytest.raises(InvalidError):
        set_hold(log, group_id=b"", from_ms=5, until_ms=5, now_ms=NOW_MS)
