"""One SQLCipher file, its transactions, and the one place where its driver's errors are translated.

Every page is encrypted and carries an HMAC of its content and number, so a flipped bit is found
when the page is read. The write-ahead log is emptied into the file after each transaction, and only
then is the change answered, for two reasons. A flipped bit in that log makes SQLite end it there
without a word, which would lose what had been answered and take MLS keys back into use; and the log
keeps former pages, in which deleted keys would stand for a thief who has the store's key.

The driver has no types: ``Any`` stays in here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlcipher3 import dbapi2 as sqlcipher

from client.errors import DamagedError, FailedError, FullError, InUseError, StoreError
from crypto.errors import UsageError

KEY_BYTES = 32
"""SQLCipher's raw key."""

Value = bytes | str | int | None
Row = tuple[Any, ...]

_WHERE = "database"
_PRIMARY = 0xFF
"""Mask of the primary code in an extended one."""

_FULL = frozenset({sqlcipher.SQLITE_FULL})
_IN_USE = frozenset({sqlcipher.SQLITE_BUSY, sqlcipher.SQLITE_LOCKED})
# The statements are fixed: a table that is missing or a value that does not fit was not written by
# this program, so it is damage as much as a page that fails its authentication.
_DAMAGED = frozenset(
    {
        sqlcipher.SQLITE_CORRUPT,
        sqlcipher.SQLITE_NOTADB,
        sqlcipher.SQLITE_FORMAT,
        sqlcipher.SQLITE_ERROR,
        sqlcipher.SQLITE_MISMATCH,
        sqlcipher.SQLITE_CONSTRAINT,
    }
)

_BEFORE_KEY = ("cipher_log_level=NONE",)
_AFTER_KEY = (
    "cipher_page_size=4096",
    "cipher_use_hmac=ON",
    # Two processes on one store would use one key twice; it also does without a -shm file.
    "locking_mode=EXCLUSIVE",
    "temp_store=MEMORY",
    "journal_mode=WAL",
    "synchronous=FULL",
    "secure_delete=ON",
    "trusted_schema=OFF",
    "foreign_keys=ON",
)


class Database:
    """An open store file, for one thread.

    Every method raises ``DamagedError`` where a page that it reads is not what was written,
    ``FullError`` without room, and ``FailedError`` where the disk fails.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._in_transaction = False
        self._failed = False

    @classmethod
    def create(cls, path: Path, key: bytes) -> Database:
        """Return a new, empty database that only its owner can read.

        Raises:
            FileExistsError: There is a file.
        """
        create_private(path)
        return cls._connect(path, key)

    @classmethod
    def open(cls, path: Path, key: bytes) -> Database:
        """Return the database in ``path``.

        Raises:
            DamagedError: It is missing or damaged, or the key is not its own: SQLCipher cannot tell
                these apart, so the caller checks the key before (``header.Header.check``).
            InUseError: Another process has it open.
        """
        if not path.is_file():
            raise DamagedError(_WHERE)
        database = cls._connect(path, key)
        try:
            database.checkpoint()
        except BaseException:
            database.close()
            raise
        return database

    @classmethod
    def _connect(cls, path: Path, key: bytes) -> Database:
        if len(key) != KEY_BYTES:
            raise UsageError("a store's key has 32 bytes")
        with _translating():
            connection = sqlcipher.connect(str(path), isolation_level=None, timeout=0)
        database = cls(connection)
        try:
            for pragma in (*_BEFORE_KEY, f"key=\"x'{key.hex()}'\"", *_AFTER_KEY):
                database.rows(f"PRAGMA {pragma}")
        except BaseException:
            database.close()
            raise
        return database

    def rows(self, sql: str, *values: Value) -> list[Row]:
        """Return what a statement gives, read to its end."""
        self._refuse_if_failed()
        with _translating():
            found: list[Row] = self._connection.execute(sql, values).fetchall()
        return found

    def row(self, sql: str, *values: Value) -> Row | None:
        """Return the first row that a statement gives."""
        found = self.rows(sql, *values)
        return found[0] if found else None

    def change(self, sql: str, *values: Value) -> int:
        """Do a change inside a transaction; return how many rows it touched.

        Raises:
            UsageError: No transaction is open.
        """
        self._refuse_outside()
        with _translating():
            count: int = self._connection.execute(sql, values).rowcount
        return count

    def insert(self, sql: str, *values: Value) -> int:
        """Insert one row inside a transaction; return its rowid.

        Raises:
            UsageError: No transaction is open.
        """
        self._refuse_outside()
        with _translating():
            number: int = self._connection.execute(sql, values).lastrowid
        return number

    def change_many(self, sql: str, values: Iterable[tuple[Value, ...]]) -> None:
        """Do one change for each of ``values`` inside a transaction.

        Raises:
            UsageError: No transaction is open.
        """
        self._refuse_outside()
        with _translating():
            self._connection.executemany(sql, values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make everything inside one change, on the disk when the block ends, or none of it.

        Raises:
            UsageError: A transaction is open already.
        """
        self._refuse_if_failed()
        if self._in_transaction:
            raise UsageError("a transaction is open already")
        self.rows("BEGIN IMMEDIATE")
        self._in_transaction = True
        try:
            yield
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._in_transaction = False
        self._commit()

    def checkpoint(self) -> None:
        """Empty the write-ahead log into the file; every transaction ends so.

        Raises:
            InUseError: Another process reads the file.
        """
        if self.rows("PRAGMA wal_checkpoint(TRUNCATE)")[0][0] != 0:
            raise InUseError

    def verify(self) -> None:
        """Read and authenticate every page, those too that nothing refers to.

        Raises:
            DamagedError: One is not what was written.
        """
        if self.rows("PRAGMA cipher_integrity_check") or self.rows("PRAGMA integrity_check(1)") != [
            ("ok",)
        ]:
            raise DamagedError(_WHERE)

    def rekey(self, key: bytes) -> None:
        """Encrypt every page under another key, all of them or none.

        Raises:
            UsageError: The key has another length, or a transaction is open.
        """
        if len(key) != KEY_BYTES or self._in_transaction:
            raise UsageError("a store's key has 32 bytes, and is changed between transactions")
        try:
            self.rows(f"PRAGMA rekey=\"x'{key.hex()}'\"")
            self.checkpoint()
        except BaseException:
            # Under which key the file stands is known only after opening it.
            self._failed = True
            raise

    def close(self) -> None:
        """Let go of the file and the key."""
        with _translating():
            self._connection.close()

    def _commit(self) -> None:
        try:
            self.rows("COMMIT")
            self.checkpoint()
        except BaseException:
            # What reached the log may be found there at the next opening or not: whoever went on
            # from either assumption could use a key twice.
            self._failed = True
            raise

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlcipher.Error:
            self._failed = True

    def _refuse_if_failed(self) -> None:
        if self._failed:
            raise FailedError

    def _refuse_outside(self) -> None:
        self._refuse_if_failed()
        if not self._in_transaction:
            raise UsageError("the store is changed in transactions only")


def _translated(error: Exception) -> Exception:
    code = (getattr(error, "sqlite_errorcode", None) or 0) & _PRIMARY
    if code in _FULL:
        return FullError()
    if code in _IN_USE:
        return InUseError()
    if code in _DAMAGED:
        return DamagedError(_WHERE)
    # Without a code it is the driver itself that refuses what it was given.
    return FailedError() if code else UsageError("the database cannot hold this value")


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except StoreError:
        raise
    except (sqlcipher.Error, OverflowError, UnicodeEncodeError) as error:
        # Without its cause: the driver's texts quote statements and values.
        raise _translated(error) from None


def sync_directory(directory: Path) -> None:
    """Make the names in ``directory`` durable: a new file's bytes are lost where its name is."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_private(path: Path) -> None:
    """Make an empty file that only its owner can read.

    Raises:
        FileExistsError: There is one.
    """
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def write_private(path: Path, content: bytes) -> None:
    """Put ``content`` in the place of the file, durably, whole or not at all."""
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    create_private(beside)
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync_directory(path.parent)
