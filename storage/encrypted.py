"""SQLCipher files: every page encrypted, and authenticated with its number when it is read.

The driver has no types: a connection is ``Any`` here and in whoever holds one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlcipher3 import dbapi2 as sqlcipher

from crypto.errors import UsageError
from storage.database import NewerSchemaError, SchemaError, transaction, uri
from storage.files import create_private, sync_directory

KEY_BYTES = 32
"""SQLCipher's raw key, in bytes."""

WAIT_S = 5.0
"""Seconds that a statement waits for another connection's turn to end: none takes a tenth of it."""

# It would tell on the standard error of a page that fails, so it stands before the key.
_BEFORE_KEY = ("cipher_log_level=NONE",)
_AFTER_KEY = (
    "cipher_page_size=4096",
    "cipher_use_hmac=ON",
    "temp_store=MEMORY",
    "journal_mode=WAL",
    "synchronous=FULL",
    # What is deleted is overwritten.
    "secure_delete=ON",
    "trusted_schema=OFF",
    "foreign_keys=ON",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """What a file holds.

    Attributes:
        statements: They make its tables and indices.
        version: Of the tables and of what stands in them.
        upgrades: What leads from an older version to the next, by the older one's number.
    """

    statements: tuple[str, ...]
    version: int
    upgrades: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


def connect(path: Path, key: bytes, *, alone: bool = False) -> Any:
    """Open an encrypted database whose commits are durable and whose deletions overwrite.

    Args:
        path: A file, which may be empty.
        key: ``KEY_BYTES`` bytes.
        alone: One thread of one process has the file to itself: nobody waits for another
            connection, and there is no file of memory shared with one.

    Raises:
        UsageError: The key has another length.
        DATABASE_ERRORS: The file cannot be read, or not with this key.
    """
    if len(key) != KEY_BYTES:
        raise UsageError(f"a database's key has {KEY_BYTES} bytes")
    db = sqlcipher.connect(
        uri(path, "rw"),
        uri=True,
        isolation_level=None,
        check_same_thread=alone,
        timeout=0 if alone else WAIT_S,
    )
    locking = ("locking_mode=EXCLUSIVE",) if alone else ()
    try:
        for setting in (*_BEFORE_KEY, f"key=\"x'{key.hex()}'\"", *locking, *_AFTER_KEY):
            db.execute(f"PRAGMA {setting}").fetchall()
    except BaseException:
        db.close()
        raise
    return db


def open_with(schema: Schema, path: Path, key: bytes) -> Any:
    """Open the file that ``creating`` made; one of an older version becomes one of this.

    Raises:
        FileNotFoundError: There is none.
        UsageError: The key has another length.
        DATABASE_ERRORS: It cannot be read, its key is another, or its tables are.
    """
    if not path.exists():
        raise FileNotFoundError(path.name)
    db = connect(path, key)
    try:
        if _version(db) > schema.version:
            raise NewerSchemaError
        if _version(db) in schema.upgrades:
            _upgrade(schema, db)
        query = "SELECT sql FROM sqlite_master WHERE sql NOTNULL AND name NOT LIKE 'sqlite_%'"
        found = {row[0] for row in db.execute(query)}
        if found != set(schema.statements) or _version(db) != schema.version:
            raise SchemaError
    except BaseException:
        db.close()
        raise
    return db


def _version(db: Any) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _upgrade(schema: Schema, db: Any) -> None:
    """Bring a file to this version, whole or not at all."""
    with transaction(db):
        # Asked again in the turn: another process may have done it meanwhile.
        while (statements := schema.upgrades.get(older := _version(db))) is not None:
            for statement in statements:
                db.execute(statement)
            db.execute(f"PRAGMA user_version={older + 1}")


@contextmanager
def creating(schema: Schema, path: Path, key: bytes) -> Iterator[Any]:
    """Make a file with these tables; durable with its first rows when the block ends.

    Raises:
        FileExistsError: There is a file.
        UsageError: The key has another length.
        DATABASE_ERRORS: It cannot be written.
    """
    create_private(path)
    with closing(connect(path, key)) as db, transaction(db):
        for statement in schema.statements:
            db.execute(statement)
        db.execute(f"PRAGMA user_version={schema.version}")
        yield db
    sync_directory(path.parent)


def copy(db: Any, path: Path, key: bytes) -> None:
    """Write a copy of an open database, encrypted under ``key``, to a new file.

    Raises:
        FileExistsError: There is a file.
        UsageError: The key has another length.
        DATABASE_ERRORS: The database cannot be read, or the copy not be written.
    """
    create_private(path)
    with closing(connect(path, key)) as target:
        db.backup(target)
    sync_directory(path.parent)
