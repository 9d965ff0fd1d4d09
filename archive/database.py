"""How the archive's databases are opened, made durable, and how their errors are told.

``sqlcipher3`` brings its own copies of the exceptions of ``sqlite3``: none of them is a
``sqlite3.Error``.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlcipher3 import dbapi2 as sqlcipher

from archive.errors import (
    ArchiveError,
    ConflictError,
    DamagedError,
    StoreFailedError,
    StoreFullError,
)
from crypto.errors import UsageError

KEY_BYTES = 32
"""SQLCipher's raw key, in bytes."""

DATABASE_ERRORS: tuple[type[Exception], ...] = (sqlite3.Error, sqlcipher.Error)

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_FULL = frozenset({sqlite3.SQLITE_FULL})
_FAILED = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY})
_PRIMARY = 0xFF
"""Mask of the primary code in an extended one."""


def connect_encrypted(path: Path, key: bytes) -> Any:
    """Open an encrypted database whose commits are durable and whose deletions overwrite.

    Raises:
        UsageError: The key has another length.
    """
    if len(key) != KEY_BYTES:
        raise UsageError("a database key has 32 bytes")
    db = sqlcipher.connect(_uri(path), uri=True, isolation_level=None, check_same_thread=False)
    # Before the key: it would tell on the standard error of a page that fails.
    db.execute("PRAGMA cipher_log_level=NONE").fetchall()
    db.execute(f"PRAGMA key=\"x'{key.hex()}'\"").fetchall()
    for setting in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "secure_delete=ON",
        "temp_store=MEMORY",
    ):
        db.execute(f"PRAGMA {setting}").fetchall()
    return db


def connect_plain(path: Path) -> sqlite3.Connection:
    """Open a small database without secrets, whose every commit is durable with its name."""
    db = sqlite3.connect(_uri(path), uri=True, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode=TRUNCATE").fetchall()
    db.execute("PRAGMA synchronous=EXTRA")
    return db


def _uri(path: Path) -> str:
    return f"{path.absolute().as_uri()}?mode=rw"


@contextmanager
def translating(where: str) -> Iterator[None]:
    """Raise the archive's errors for a driver's; ``where`` names the file, never its content."""
    try:
        yield
    except DATABASE_ERRORS as error:
        raise _translated(error, where) from None


def _translated(error: Exception, where: str) -> ArchiveError:
    code = (getattr(error, "sqlite_errorcode", None) or 0) & _PRIMARY
    if code in _FULL:
        return StoreFullError()
    if code in _FAILED:
        return StoreFailedError()
    if code in _BUSY:
        return ConflictError()
    # The statements are fixed: a schema that lost a table, a number given twice and a value of
    # another type are damage like a page that fails its authentication.
    return DamagedError(where)


@contextmanager
def transaction(db: Any, where: str) -> Iterator[None]:
    """Make what happens inside one durable change, or none.

    Raises:
        ArchiveError: It is none: no room, a failing or damaged disk, or another writer's turn.
    """
    with translating(where):
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise


def create_private(path: Path) -> None:
    """Make an empty file that only its owner can read.

    Raises:
        FileExistsError: There is one.
    """
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def sync_directory(directory: Path) -> None:
    """Make the names in ``directory`` durable: a new file's bytes are lost where its name is."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
