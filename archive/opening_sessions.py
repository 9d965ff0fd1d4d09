"""One-time keys of review sessions: made here, used once, destroyed at the session's end.

A file of its own, which the process that records never opens. Shares that were released lie on the
desk, sealed to these keys: when a key is gone, so is what was released to it.
"""

from __future__ import annotations

from pathlib import Path

from archive.database import EncryptedTables, creating
from archive.errors import SessionError
from crypto.xwing import XWingKey
from storage.encrypted import Schema

SESSIONS_VERSION = 1
"""Of the table."""

_WHERE = "sessions"
_TABLE = "CREATE TABLE session(public_key BLOB PRIMARY KEY, seed BLOB NOT NULL) WITHOUT ROWID"
SESSIONS_SCHEMA = Schema(statements=(_TABLE,), version=SESSIONS_VERSION)


class Sessions(EncryptedTables):
    """The sessions' open file."""

    def __init__(self, path: Path, key: bytes) -> None:
        """Open the file, which is made where there is none.

        Raises:
            DamagedError: The key is another's, or the file is none of these.
            StoreFullError: There is no room.
            StoreFailedError: The disk failed.
            UsageError: The key has another length.
        """
        if not path.exists():
            with creating(SESSIONS_SCHEMA, path, key, where=_WHERE):
                pass
        super().__init__(path, key, SESSIONS_SCHEMA, where=_WHERE)

    def begin(self) -> bytes:
        """Return the public key of a new session, its private one on the disk."""
        key = XWingKey.generate()
        with self.transaction():
            self._db.execute("INSERT INTO session VALUES(?,?)", (key.public_key, key.seed))
        return key.public_key

    def key(self, public_key: bytes) -> XWingKey:
        """Return a session's key.

        Raises:
            SessionError: It was destroyed, or never made here.
        """
        row = self._one("SELECT seed FROM session WHERE public_key=?", public_key)
        if row is None:
            raise SessionError
        return XWingKey.from_seed(row[0])

    def end(self, public_key: bytes) -> None:
        """Destroy a session's key: overwritten in the file, its journal emptied."""
        with self.transaction():
            self._db.execute("DELETE FROM session WHERE public_key=?", (public_key,))
        self._rows("PRAGMA wal_checkpoint(TRUNCATE)")
