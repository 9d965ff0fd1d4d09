"""The two database drivers behind one set of errors.

``sqlcipher3`` brings its own copies of the exceptions of ``sqlite3``: none of them is a
``sqlite3.Error``. Whoever talks to a database catches ``DATABASE_ERRORS`` and raises ``translated``
of what was caught.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from sqlcipher3 import dbapi2 as sqlcipher

from server.store import DamagedError, StoreError, StoreFailedError, StoreFullError

DATABASE_ERRORS: tuple[type[Exception], ...] = (sqlite3.Error, sqlcipher.Error)
"""What the drivers raise; an ``OSError`` is the caller's own."""

_FULL = frozenset({sqlite3.SQLITE_FULL})
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})
_PRIMARY = 0xFF
"""Mask of the primary code in an extended one."""


def translated(error: Exception, where: str) -> StoreError:
    """Give the store's error for a driver's; ``where`` names the file, never its content."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & _PRIMARY
    if code in _FULL:
        return StoreFullError()
    # A schema that lost a table or column, and a value of another type, are damage as well: the
    # statements are fixed, so that nothing else can make them fail so.
    if code in _DAMAGED or code in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH):
        return DamagedError(where)
    return StoreFailedError()


def sync_directory(directory: Path) -> None:
    """Make the names in ``directory`` durable: a new file's bytes are lost where its name is."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, content: bytes) -> None:
    """Write a file that exists, durable when this returns."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def create_private(path: Path) -> None:
    """Make an empty file that only its owner can read.

    Raises:
        FileExistsError: There is one.
    """
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
