"""A write-ahead log is kept only while everything in it is new, and deleted bytes leave it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from server import sqlite_schema, sqlite_wal
from server.sqlite_wal import Left, WriteAheadLog
from storage.database import transaction, uri

ROWS = 60
CANARY = b"CANARY" * 200


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "relay.db"
    sqlite_schema.create(path)
    return path


@pytest.fixture
def db(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    monkeypatch.setattr(sqlite_wal, "KEPT_BYTES", 64 * sqlite_schema.PAGE_BYTES // 4)
    db = sqlite_schema.connect(path)
    yield db
    db.close()


def fill(db: sqlite3.Connection, body: bytes, *, rows: int = ROWS) -> None:
    """Insert rows one by one, each durable, and delete them."""
    for row in range(1, rows + 1):
        with transaction(db):
            db.execute("INSERT INTO entry VALUES(?, NULL, ?)", (row, body))
    with transaction(db):
        db.execute("DELETE FROM entry")


def in_files(path: Path, canary: bytes) -> bool:
    return any(canary in file.read_bytes() for file in path.parent.iterdir())


def test_a_log_that_was_filled_stays_once_and_is_cut_when_nothing_follows(
    path: Path, db: sqlite3.Connection
) -> None:
    log = WriteAheadLog(path)
    fill(db, CANARY)
    assert log.checkpoint(db) is Left.LAST
    assert in_files(path, CANARY)
    assert log.checkpoint(db) is Left.NOTHING
    assert not in_files(path, CANARY)
    assert log.checkpoint(db) is Left.NOTHING


def test_a_log_that_is_written_over_stays_and_has_nothing_of_before(
    path: Path, db: sqlite3.Connection
) -> None:
    log = WriteAheadLog(path)
    fill(db, CANARY)
    assert log.checkpoint(db) is Left.LAST
    for body in (b"second" * 200, b"third." * 200, b"fourth" * 200):
        fill(db, body)
        assert log.checkpoint(db) is Left.LAST
        assert not in_files(path, CANARY)
    fill(db, CANARY)
    assert log.checkpoint(db) is Left.LAST


def test_a_little_that_was_not_written_over_is_zeroed(path: Path, db: sqlite3.Connection) -> None:
    log = WriteAheadLog(path)
    fill(db, b"first." * 200)
    with transaction(db):
        db.execute("INSERT INTO entry VALUES(1, NULL, ?)", (CANARY,))
    assert log.checkpoint(db) is Left.LAST
    size = path.with_name("relay.db-wal").stat().st_size
    with transaction(db):
        db.execute("DELETE FROM entry")
    fill(db, b"second" * 200, rows=ROWS * 5 // 6)
    assert in_files(path, CANARY)
    assert log.checkpoint(db) is Left.LAST
    assert not in_files(path, CANARY)
    assert path.with_name("relay.db-wal").stat().st_size == size
    fill(db, b"third." * 200)
    with closing(sqlite3.connect(uri(path, "ro"), uri=True)) as other:
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_log_is_cut_where_what_followed_was_shorter(path: Path, db: sqlite3.Connection) -> None:
    log = WriteAheadLog(path)
    fill(db, CANARY)
    assert log.checkpoint(db) is Left.LAST
    fill(db, b"second" * 200, rows=ROWS // 3)
    assert in_files(path, CANARY)
    assert log.checkpoint(db) is Left.NOTHING
    assert not in_files(path, CANARY)


def test_a_short_log_is_cut_at_once(path: Path, db: sqlite3.Connection) -> None:
    fill(db, CANARY, rows=1)
    assert WriteAheadLog(path).checkpoint(db) is Left.NOTHING
    assert not in_files(path, CANARY)


def test_a_reader_holds_the_log_until_it_is_done(path: Path, db: sqlite3.Connection) -> None:
    log = WriteAheadLog(path)
    reader = sqlite3.connect(uri(path, "ro"), uri=True, isolation_level=None)
    fill(db, CANARY)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM entry").fetchone()
    fill(db, b"second" * 200)
    assert log.checkpoint(db) is Left.HELD
    reader.execute("COMMIT")
    reader.close()
    assert log.checkpoint(db) is Left.LAST
    assert log.checkpoint(db) is Left.NOTHING


def test_a_log_that_is_written_on_behind_what_it_held_is_cut(
    path: Path, db: sqlite3.Connection
) -> None:
    """As one is whose writer could not begin again at its start: its number stays."""
    log = WriteAheadLog(path)
    fill(db, CANARY)
    assert log.checkpoint(db) is Left.LAST
    number = path.with_name("relay.db-wal").read_bytes()[12:16]
    fill(db, b"second" * 200)
    file = path.with_name("relay.db-wal")
    behind = file.read_bytes()
    file.write_bytes(behind[:12] + number + behind[16:])
    assert log.checkpoint(db) is Left.NOTHING
