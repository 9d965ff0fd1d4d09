"""What the archive's databases share, and their errors as the archive's."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from archive.errors import (
    ArchiveError,
    ConflictError,
    DamagedError,
    StoreFailedError,
    StoreFullError,
)
from storage import database, encrypted
from storage.database import DATABASE_ERRORS, Fault, NewerSchemaError, fault_of, uri
from storage.encrypted import Schema


def connect_plain(path: Path) -> sqlite3.Connection:
    """Open a small database without secrets, whose every commit is durable with its name."""
    db = sqlite3.connect(uri(path, "rw"), uri=True, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode=TRUNCATE").fetchall()
        db.execute("PRAGMA synchronous=EXTRA")
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def translating(where: str) -> Iterator[None]:
    """Raise the archive's errors for a driver's; ``where`` names the file, never its content."""
    try:
        yield
    except DATABASE_ERRORS as error:
        raise _translated(error, where) from None


def _translated(error: Exception, where: str) -> ArchiveError:
    fault = fault_of(error)
    if fault is Fault.FULL:
        return StoreFullError()
    if fault is Fault.DISK:
        return StoreFailedError()
    if fault is Fault.BUSY:
        return ConflictError()
    if isinstance(error, NewerSchemaError):
        return DamagedError(f"{where}, for this program: a newer version has written it")
    # A number given twice, and whatever else fixed statements cannot bring about, is damage too.
    return DamagedError(where)


@contextmanager
def transaction(db: Any, where: str) -> Iterator[None]:
    """Make what happens inside one durable change, or none.

    Raises:
        ArchiveError: It is none: no room, a failing or damaged disk, or another writer's turn.
    """
    with translating(where), database.transaction(db):
        yield


class EncryptedTables:
    """An open encrypted database, used by one thread at a time: what the archive's have in common.

    Every method raises the archive's errors: ``DamagedError`` where a page fails its
    authentication, ``StoreFailedError`` where the disk fails, ``StoreFullError`` where there is no
    room and ``ConflictError`` where another instance holds the file.
    """

    def __init__(self, path: Path, key: bytes, schema: Schema, *, where: str) -> None:
        """Open the file that ``creating`` made.

        Args:
            path: The file.
            key: ``storage.encrypted.KEY_BYTES`` bytes.
            schema: Its tables.
            where: What errors call it.

        Raises:
            FileNotFoundError: There is none.
            DamagedError: The key is another's, or the file has other tables.
            UsageError: The key has another length.
        """
        self._where = where
        with translating(where):
            self._db: Any = encrypted.open_with(schema, path, key)

    def transaction(self) -> AbstractContextManager[None]:
        """Make what is changed inside durable together, or not at all."""
        return transaction(self._db, self._where)

    def copy_to(self, path: Path, key: bytes) -> None:
        """Write a copy of the database, encrypted under ``key``, to a new file.

        Raises:
            FileExistsError: There is a file.
        """
        with translating(self._where):
            encrypted.copy(self._db, path, key)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _one(self, query: str, *values: object) -> Any:
        with translating(self._where):
            return self._db.execute(query, values).fetchone()

    def _rows(self, query: str, *values: object) -> list[Any]:
        with translating(self._where):
            found: list[Any] = self._db.execute(query, values).fetchall()
        return found


@contextmanager
def creating(schema: Schema, path: Path, key: bytes, *, where: str) -> Iterator[Any]:
    """Make a file with these tables; durable with its first rows when the block ends.

    Raises:
        FileExistsError: There is a file.
        StoreFullError: There is no room.
        StoreFailedError: The disk failed.
        UsageError: The key has another length.
    """
    with translating(where), encrypted.creating(schema, path, key) as db:
        yield db
