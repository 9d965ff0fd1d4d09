"""Encrypted files: nothing in them for whoever lacks the key, and no other program's tables."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crypto.errors import UsageError
from storage import encrypted
from storage.database import DATABASE_ERRORS, Fault, NewerSchemaError, fault_of
from storage.encrypted import KEY_BYTES, Schema
from tests.storage.test_files import mode

KEY = bytes(range(KEY_BYTES))
OTHER = bytes(KEY_BYTES)
SCHEMA = Schema(statements=("CREATE TABLE t(a BLOB)",), version=3)
CANARY = b"sodium 128 mmol/l"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "db"
    with encrypted.creating(SCHEMA, made, KEY) as db:
        db.execute("INSERT INTO t VALUES(?)", (CANARY,))
    return made


def content(db: Any) -> list[tuple[bytes]]:
    found: list[tuple[bytes]] = db.execute("SELECT a FROM t").fetchall()
    return found


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


def open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def fault(schema: Schema, path: Path, key: bytes) -> Fault:
    with pytest.raises(DATABASE_ERRORS) as caught:
        encrypted.open_with(schema, path, key)
    return fault_of(caught.value)


def test_a_file_opens_with_its_key_and_holds_what_was_put_there(path: Path) -> None:
    with closing(encrypted.open_with(SCHEMA, path, KEY)) as db:
        assert content(db) == [(CANARY,)]
        assert CANARY not in on_disk(path.parent)
    assert mode(path) == 0o600


def test_another_key_opens_nothing(path: Path) -> None:
    assert fault(SCHEMA, path, OTHER) is Fault.DAMAGED


def test_a_flipped_bit_is_found(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DATABASE_ERRORS) as caught:
        content(encrypted.open_with(SCHEMA, path, KEY))
    assert fault_of(caught.value) is Fault.DAMAGED


@pytest.mark.parametrize(
    "schema",
    [
        Schema(statements=SCHEMA.statements, version=4),
        Schema(statements=("CREATE TABLE t(a TEXT)",), version=3),
        Schema(statements=(*SCHEMA.statements, "CREATE TABLE u(a)"), version=3),
        Schema(statements=(), version=3),
    ],
    ids=["version", "column", "missing table", "table too many"],
)
def test_other_tables_are_not_opened(path: Path, schema: Schema) -> None:
    assert fault(schema, path, KEY) is Fault.DAMAGED


UPGRADED = Schema(
    statements=("CREATE TABLE t(a BLOB, b TEXT)", "CREATE INDEX t_by_b ON t(b)"),
    version=5,
    upgrades={3: ("ALTER TABLE t ADD COLUMN b TEXT",), 4: ("CREATE INDEX t_by_b ON t(b)",)},
)


def test_a_file_of_an_older_version_is_upgraded_and_keeps_what_it_holds(path: Path) -> None:
    for _ in range(2):
        with closing(encrypted.open_with(UPGRADED, path, KEY)) as db:
            assert db.execute("SELECT a, b FROM t").fetchall() == [(CANARY, None)]
    with pytest.raises(NewerSchemaError):
        encrypted.open_with(SCHEMA, path, KEY)


def test_an_upgrade_that_fails_leaves_the_file_as_it_was(path: Path) -> None:
    broken = {**UPGRADED.upgrades, 4: ("CREATE INDEX t_by_b ON missing(b)",)}
    assert fault(replace(UPGRADED, upgrades=broken), path, KEY) is Fault.DAMAGED
    with closing(encrypted.open_with(SCHEMA, path, KEY)) as db:
        assert content(db) == [(CANARY,)]


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        encrypted.open_with(SCHEMA, tmp_path / "none", KEY)
    with pytest.raises(DATABASE_ERRORS):
        encrypted.connect(tmp_path / "none", KEY)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_made_once(path: Path) -> None:
    with pytest.raises(FileExistsError), encrypted.creating(SCHEMA, path, KEY):
        pytest.fail("made again")
    with closing(encrypted.open_with(SCHEMA, path, KEY)) as db:
        assert content(db) == [(CANARY,)]


@pytest.mark.parametrize("key", [b"", KEY[:-1], KEY + b"\0"], ids=len)
def test_a_key_of_another_length_is_a_callers_bug(path: Path, key: bytes) -> None:
    with pytest.raises(UsageError):
        encrypted.connect(path, key)


def test_a_creation_that_breaks_off_is_no_database(tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        encrypted.creating(SCHEMA, tmp_path / "db", KEY),
    ):
        raise ZeroDivisionError
    assert fault(SCHEMA, tmp_path / "db", KEY) is Fault.DAMAGED


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 2),
        ("secure_delete", 1),
        ("temp_store", 2),
        ("trusted_schema", 0),
        ("cipher_use_hmac", "1"),
    ],
)
def test_the_settings_that_promises_rest_on_are_in_force(
    path: Path, setting: str, value: object
) -> None:
    with closing(encrypted.connect(path, KEY)) as db:
        assert db.execute(f"PRAGMA {setting}").fetchone()[0] == value


def test_who_has_a_file_alone_lets_nobody_else_in_and_shares_no_memory(path: Path) -> None:
    with closing(encrypted.connect(path, KEY, alone=True)) as db:
        assert content(db) == [(CANARY,)]
        assert not path.with_name("db-shm").exists()
        with pytest.raises(DATABASE_ERRORS) as caught:
            encrypted.connect(path, KEY, alone=True)
    assert fault_of(caught.value) is Fault.BUSY


def test_a_connection_that_fails_to_open_leaves_no_file_open(path: Path) -> None:
    before = open_files()
    assert fault(SCHEMA, path, OTHER) is Fault.DAMAGED
    assert fault(Schema(statements=(), version=1), path, KEY) is Fault.DAMAGED
    assert open_files() == before


def test_a_copy_is_under_the_key_that_was_given_for_it(path: Path, tmp_path: Path) -> None:
    with closing(encrypted.open_with(SCHEMA, path, KEY)) as db:
        encrypted.copy(db, tmp_path / "copy", KEY)
        with pytest.raises(FileExistsError):
            encrypted.copy(db, tmp_path / "copy", KEY)
    with closing(encrypted.open_with(SCHEMA, tmp_path / "copy", KEY)) as db:
        assert content(db) == [(CANARY,)]
    assert mode(tmp_path / "copy") == 0o600


def test_a_new_files_name_is_on_the_disk_as_well(
    path: Path, tmp_path: Path, synced: list[tuple[str, bytes | None]]
) -> None:
    with encrypted.creating(SCHEMA, tmp_path / "new", KEY) as db:
        assert synced == []
    assert synced == [(tmp_path.name, None)]
    with closing(encrypted.open_with(SCHEMA, path, KEY)) as db:
        encrypted.copy(db, tmp_path / "copy", KEY)
    assert synced == [(tmp_path.name, None)] * 2
