"""The two SQLite drivers behind one account of what went wrong.

``sqlcipher3`` brings its own copies of the exceptions of ``sqlite3``: none of them is a
``sqlite3.Error``. Whoever talks to a database catches ``DATABASE_ERRORS`` and raises an error of
its own for ``fault_of`` what was caught, without its cause: the drivers' texts quote statements and
values.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

from sqlcipher3 import dbapi2 as sqlcipher


class SchemaError(Exception):
    """A file's tables are not those that its program made."""


class NewerSchemaError(SchemaError):
    """A newer version of the program has written the file; nothing was touched."""


DATABASE_ERRORS: tuple[type[Exception], ...] = (
    sqlite3.Error,
    sqlcipher.Error,
    SchemaError,
    # Of a damaged schema, SQLite quotes a text in its error that the driver cannot read.
    UnicodeDecodeError,
)
"""What drivers and this package raise over a database; an ``OSError`` is the caller's own."""

_PRIMARY = 0xFF
"""Mask of the primary code in an extended one."""


class Fault(Enum):
    """Why a statement failed, as far as it matters to what the caller does next."""

    FULL = "full"
    """The disk has no room."""
    BUSY = "busy"
    """Another connection holds the file."""
    DAMAGED = "damaged"
    """A page or a schema is not what was written."""
    CONTRADICTED = "contradicted"
    """A row breaks a constraint of its table."""
    DISK = "disk"
    """The file cannot be read, written or opened."""
    REFUSED = "refused"
    """The driver itself refuses what it was given, before SQLite saw it."""
    OTHER = "other"
    """Whatever else SQLite reports."""


_FAULTS = {
    0: Fault.REFUSED,
    sqlite3.SQLITE_FULL: Fault.FULL,
    sqlite3.SQLITE_BUSY: Fault.BUSY,
    sqlite3.SQLITE_LOCKED: Fault.BUSY,
    sqlite3.SQLITE_CORRUPT: Fault.DAMAGED,
    sqlite3.SQLITE_NOTADB: Fault.DAMAGED,
    sqlite3.SQLITE_FORMAT: Fault.DAMAGED,
    # The programs' statements are fixed: nothing but a schema that lost a table or column, or a
    # value of another type, can make them fail so.
    sqlite3.SQLITE_ERROR: Fault.DAMAGED,
    sqlite3.SQLITE_MISMATCH: Fault.DAMAGED,
    sqlite3.SQLITE_CONSTRAINT: Fault.CONTRADICTED,
    sqlite3.SQLITE_IOERR: Fault.DISK,
    sqlite3.SQLITE_CANTOPEN: Fault.DISK,
    sqlite3.SQLITE_READONLY: Fault.DISK,
}


def fault_of(error: Exception) -> Fault:
    """Return why a statement failed that raised ``error``."""
    if isinstance(error, SchemaError | UnicodeDecodeError):
        return Fault.DAMAGED
    code = (getattr(error, "sqlite_errorcode", None) or 0) & _PRIMARY
    return _FAULTS.get(code, Fault.OTHER)


def uri(path: Path, mode: str) -> str:
    """Return the name under which SQLite opens ``path`` and never makes it."""
    return f"{path.absolute().as_uri()}?mode={mode}"


@contextmanager
def transaction(db: Any) -> Iterator[None]:
    """Make what happens inside one change, or none; the connection begins none by itself.

    Raises:
        DATABASE_ERRORS: It is none.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
