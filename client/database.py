"""One SQLCipher file, its transactions, and the one place where its driver's errors are translated.

Every page is encrypted and carries an HMAC of its content and number, so a flipped bit is found
when the page is read. The write-ahead log is emptied into the file after each transaction, and only
then is the change answered, for two reasons. A flipped bit in that log makes SQLite end it there
without a word, which would lose what had been answered and take MLS keys back into use; and the log
keeps former pages, in which deleted keys would stand for a thief who has the store's key.

The driver has no types: ``Any`` stays in here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from client.errors import DamagedError, FailedError, FullError, InUseError
from crypto.errors import UsageError
from storage import encrypted
from storage.database import DATABASE_ERRORS, Fault, fault_of
from storage.encrypted import KEY_BYTES
from storage.files import create_private

Value = bytes | str | int | None
Row = tuple[Any, ...]

_WHERE = "database"
_UNTRANSLATED: tuple[type[Exception], ...] = (*DATABASE_ERRORS, OverflowError, UnicodeEncodeError)


class Database:
    """An open store file, for one thread.

    Every method raises ``DamagedError`` where a page that it reads is not what was written,
    ``FullError`` without room, and ``FailedError`` where the disk fails.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._in_transaction = False
        self._failed = self._full = False

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
        # Two processes on one store would use one key twice.
        with _translating():
            return cls(encrypted.connect(path, key, alone=True))

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
        except FullError:
            # The write that found no room is of the change itself, whose last frame alone makes it
            # count: nothing of it does, now or at the next opening.
            self._roll_back()
            raise
        except BaseException:
            # What reached the log may be found there at the next opening or not: whoever went on
            # from either assumption could use a key twice.
            self._failed = True
            raise
        try:
            self.checkpoint()
        except FullError:
            # The change is in the log, and will be found there.
            self._failed = self._full = True
            raise FailedError(full=True) from None
        except BaseException:
            self._failed = True
            raise

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except DATABASE_ERRORS:
            self._failed = True

    def _refuse_if_failed(self) -> None:
        if self._failed:
            raise FailedError(full=self._full)

    def _refuse_outside(self) -> None:
        self._refuse_if_failed()
        if not self._in_transaction:
            raise UsageError("the store is changed in transactions only")


def _translated(error: Exception) -> Exception:
    match fault_of(error):
        case Fault.FULL:
            return FullError()
        case Fault.BUSY:
            return InUseError()
        case Fault.DAMAGED | Fault.CONTRADICTED:
            return DamagedError(_WHERE)
        case Fault.REFUSED:
            return UsageError("the database cannot hold this value")
        case Fault.DISK | Fault.OTHER:
            return FailedError()


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except _UNTRANSLATED as error:
        # Without its cause: the driver's texts quote statements and values.
        raise _translated(error) from None
