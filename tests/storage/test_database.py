"""Both drivers' errors come to the same faults, and a change is whole or is none."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlcipher3 import dbapi2 as sqlcipher

from storage.database import DATABASE_ERRORS, Fault, SchemaError, fault_of, transaction, uri


@pytest.fixture(params=[sqlite3, sqlcipher], ids=["sqlite3", "sqlcipher3"])
def driver(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def db(driver: Any, tmp_path: Path) -> Iterator[Any]:
    with closing(driver.connect(str(tmp_path / "db"), isolation_level=None, timeout=0)) as made:
        made.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b BLOB)")
        yield made


def fault(db: Any, sql: str, *values: object) -> Fault:
    with pytest.raises(DATABASE_ERRORS) as caught:
        db.execute(sql, values).fetchall()
    return fault_of(caught.value)


def test_a_full_disk_is_told(db: Any) -> None:
    db.execute("PRAGMA max_page_count=1")
    assert fault(db, "INSERT INTO t VALUES(1, zeroblob(100000))") is Fault.FULL


def test_another_connections_turn_is_told(db: Any, driver: Any, tmp_path: Path) -> None:
    with closing(driver.connect(str(tmp_path / "db"), isolation_level=None, timeout=0)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert fault(db, "BEGIN IMMEDIATE") is Fault.BUSY


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT c FROM t", Fault.DAMAGED),
        ("SELECT * FROM gone", Fault.DAMAGED),
        ("INSERT INTO t VALUES('no number', NULL)", Fault.DAMAGED),
    ],
)
def test_a_schema_that_lost_something_is_damage(db: Any, sql: str, expected: Fault) -> None:
    assert fault(db, sql) is expected


def test_a_number_given_twice_contradicts_the_table(db: Any) -> None:
    db.execute("INSERT INTO t VALUES(1, NULL)")
    assert fault(db, "INSERT INTO t VALUES(1, NULL)") is Fault.CONTRADICTED


def test_a_file_that_is_no_database_is_damage(driver: Any, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"something else" * 1000)
    with closing(driver.connect(str(tmp_path / "other"))) as db:
        assert fault(db, "SELECT * FROM t") is Fault.DAMAGED


def test_a_file_that_cannot_be_opened_or_written_is_the_disks_fault(
    db: Any, driver: Any, tmp_path: Path
) -> None:
    with pytest.raises(DATABASE_ERRORS) as caught:
        driver.connect(uri(tmp_path / "none", "rw"), uri=True)
    assert fault_of(caught.value) is Fault.DISK
    with closing(driver.connect(uri(tmp_path / "db", "ro"), uri=True)) as reader:
        assert fault(reader, "INSERT INTO t VALUES(1, NULL)") is Fault.DISK
    assert not (tmp_path / "none").exists()


def test_what_the_driver_refuses_by_itself_is_no_fault_of_the_file(db: Any) -> None:
    assert fault(db, "INSERT INTO t VALUES(?, ?)", 1) is Fault.REFUSED


def test_a_statement_that_was_interrupted_is_neither_damage_nor_the_disk(
    db: Any, driver: Any
) -> None:
    error = driver.OperationalError()
    error.sqlite_errorcode = sqlite3.SQLITE_INTERRUPT
    assert fault_of(error) is Fault.OTHER


def test_other_tables_than_the_programs_are_damage() -> None:
    assert isinstance(SchemaError(), DATABASE_ERRORS)
    assert fault_of(SchemaError()) is Fault.DAMAGED


def test_a_name_with_signs_that_mean_something_in_a_uri_is_still_that_file(
    driver: Any, tmp_path: Path
) -> None:
    path = tmp_path / "a file?mode=memory#x%20"
    path.touch()
    with closing(driver.connect(uri(path, "rw"), uri=True)) as db:
        db.execute("CREATE TABLE t(a)")
    assert path.stat().st_size > 0


def test_a_change_that_fails_is_none_and_leaves_the_next_one_free(db: Any) -> None:
    def change() -> None:
        with transaction(db):
            db.execute("INSERT INTO t VALUES(1, NULL)")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change()
    with transaction(db):
        db.execute("INSERT INTO t VALUES(2, NULL)")
    assert db.execute("SELECT a FROM t").fetchall() == [(2,)]


def test_a_change_keeps_its_first_error_where_sqlite_has_rolled_back_by_itself(db: Any) -> None:
    def change() -> None:
        with transaction(db):
            db.execute("INSERT INTO t VALUES(1, NULL)")
            db.execute("INSERT OR ROLLBACK INTO t VALUES(1, NULL)")

    with pytest.raises(DATABASE_ERRORS) as caught:
        change()
    assert fault_of(caught.value) is Fault.CONTRADICTED
    assert db.execute("SELECT a FROM t").fetchall() == []
