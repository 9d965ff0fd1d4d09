"""The log: what is acknowledged, in which order, and who stops."""

from __future__ import annotations

from contextlib import closing

import pytest

from archive.errors import ConflictError, DamagedError, HistoryError
from archive.log import Log
from archive.store import UPGRADES, VERSION
from crypto.checkpoint import verify_cosignature
from crypto.errors import UsageError, VerificationError
from crypto.log_proof import LogProof
from crypto.merkle import leaf_hash
from crypto.note import NoteSignature
from crypto.witness import AddCheckpoint
from storage.encrypted import connect
from tests.archive.logs import NOW_MS, Site, fill, message, messages


class UnreachableError(Exception):
    pass


def unreachable(request: AddCheckpoint) -> NoteSignature:
    raise UnreachableError


def test_a_receipt_proves_its_record_under_a_cosigned_checkpoint(site: Site) -> None:
    log = site.create()
    for first in (0, 1, 3, 10, 110, 210, 255, 256, 300):
        entries = messages(first, 5)
        for entry, given in zip(entries, log.append(entries, now_ms=NOW_MS), strict=True):
            receipt = LogProof.decode(given.encode())
            record = log.read(receipt.index)
            checkpoint = receipt.verify(leaf=leaf_hash(record.encode()), key=site.signer.verifier)
            assert checkpoint == log.signed
            verify_cosignature(receipt.note, site.witness.key.verifier)
            assert log.body(receipt.index) == entry.body
    assert site.audit(log.signed).findings == ()


def test_a_log_of_an_older_version_goes_on_in_this_one(site: Site) -> None:
    log = site.create()
    fill(log, 3)
    log.close()
    with closing(connect(site.files.log, site.database_key)) as db:
        db.execute("DROP INDEX untold_by_device")
        db.execute("PRAGMA user_version=3")
    log = site.open()
    assert [given.index for given in log.append(messages(3, 2), now_ms=NOW_MS)] == [3, 4]
    assert site.audit(log.signed).findings == ()
    assert sorted(UPGRADES) == list(range(3, VERSION))


def test_a_body_that_was_recorded_gets_the_receipt_of_its_old_index(site: Site) -> None:
    log = site.create()
    first = log.append(messages(0, 3), now_ms=NOW_MS)
    again = log.append([message(9), *messages(0, 3), message(9)], now_ms=NOW_MS)
    assert [receipt.index for receipt in first] == [0, 1, 2]
    assert [receipt.index for receipt in again] == [3, 0, 1, 2, 3]
    assert log.size == 4
    log.close()
    assert site.open().record(messages(0, 3), now_ms=NOW_MS) == (0, 1, 2)


def test_a_conversations_records_name_the_one_before_them(site: Site) -> None:
    log = site.create()
    fill(log, 30)
    last: dict[bytes, bytes] = {}
    for record in log.records():
        assert record.conv_prev == last.get(record.conv_tag, bytes(32))
        last[record.conv_tag] = leaf_hash(record.encode())
    assert len(last) == 2


def test_nothing_is_acknowledged_while_the_witness_is_away_and_all_is_once_it_is_back(
    site: Site,
) -> None:
    site.create().close()
    log = Log(site.files, site.keys, cosigner=unreachable)
    with pytest.raises(UnreachableError):
        log.append(messages(0, 3), now_ms=NOW_MS)
    log.close()
    log = site.open()
    assert [r.index for r in log.append(messages(0, 3), now_ms=NOW_MS)] == [0, 1, 2]
    assert site.witness.head.size == 3


def test_a_log_that_was_stopped_between_two_steps_goes_on_from_there(site: Site) -> None:
    log = site.create()
    fill(log, 5)
    log.record(messages(5, 5), now_ms=NOW_MS)  # neither signed nor cosigned
    log.close()
    assert (site.audit().size, site.audit().unsigned) == (10, 5)
    log = site.open()
    assert (log.size, log.signed.size) == (10, 5)
    log.sign()  # not cosigned
    log.close()
    log = site.open()
    log.publish()
    assert site.witness.head.size == 10
    assert site.audit(log.signed).findings == ()


def test_a_cosignature_that_is_not_the_witnesss_gives_no_receipt(site: Site) -> None:
    site.create().close()
    other = Site(site.directory, signer=site.signer)
    log = Log(site.files, site.keys, cosigner=other.witness)
    with pytest.raises(VerificationError):
        log.append(messages(0, 1), now_ms=NOW_MS)


def test_of_two_instances_on_one_log_the_second_stops(site: Site) -> None:
    first, second = site.create(), site.open()
    fill(first, 3)
    with pytest.raises(ConflictError):
        second.append(messages(3, 3), now_ms=NOW_MS)
    assert first.size == 3
    fill(first, 3, first=3)
    assert site.audit(first.signed).findings == ()


def test_of_two_copies_with_one_key_the_second_stops_before_it_signs(site: Site) -> None:
    first = site.create()
    fill(first, 3)
    copy = site.copied()
    second = copy.open()
    fill(first, 3, first=3)
    with pytest.raises(ConflictError):
        second.append(messages(100, 3), now_ms=NOW_MS)
    second.close()
    with pytest.raises(HistoryError):
        copy.open()
    fill(first, 3, first=6)
    assert site.audit(first.signed).findings == ()


def test_a_log_that_was_set_back_is_refused_by_its_head_and_with_its_head_by_the_witness(
    site: Site,
) -> None:
    log = site.create()
    fill(log, 3)
    old_log, old_head = site.copied(), site.copied(head=True)
    fill(log, 3, first=3)
    with pytest.raises(HistoryError):
        old_log.open()
    restored = old_head.open()
    with pytest.raises(HistoryError):
        restored.append(messages(100, 2), now_ms=NOW_MS)  # smaller than what was cosigned
    with pytest.raises(HistoryError):
        restored.append(messages(200, 50), now_ms=NOW_MS)  # larger, and a fork


def test_a_log_of_another_key_is_not_opened(site: Site) -> None:
    site.create().close()
    other = Site(site.directory, database_key=site.database_key)
    with pytest.raises(DamagedError):
        other.open()


def test_a_batch_beyond_its_limit_is_the_callers_bug(site: Site) -> None:
    log = site.create()
    with pytest.raises(UsageError):
        log.record(messages(0, 101), now_ms=NOW_MS)
    with pytest.raises(UsageError):
        log.read(0)
    assert log.size == 0


def test_no_repr_shows_a_key_or_a_body(site: Site) -> None:
    entry = message(1)
    shown = repr((site.keys, entry))
    assert site.database_key.hex() not in shown
    assert repr(site.database_key) not in shown
    assert "of the ward" not in shown
