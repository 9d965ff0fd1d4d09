"""One-time keys of review sessions: made here, used once, destroyed at the session's end.

A file of its own, which the process that records never opens. Shares that were released lie on the
desk, sealed to these keys: when a key is gone, so is what was released to it.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from archive.database import (
    connect_encrypted,
    create_private,
    sync_directory,
    transaction,
    translating,
)
from archive.errors import DamagedError, SessionError
from crypto.xwing import XWingKey

SESSIONS_VERSION = 1
"""Of the table."""

_WHERE = "sessions"
_TABLE = "CREATE TABLE session(public_key BLOB PRIMARY KEY, seed BLOB NOT NULL) WITHOUT ROWID"


class Sessions:
    """The open file."""

    def __init__(self, path: Path, key: bytes) -> None:
        """Open the file, which is made where there is none.

        Raises:
            DamagedError: The key is another's, or the file is none of these.
            StoreFullError: There is no room.
            StoreFailedError: The disk failed.
        """
        if not path.exists():
            _create(path, key)
        with translating(_WHERE):
            self._db: Any = connect_encrypted(path, key)
            try:
                version = self._db.execute("PRAGMA user_version").fetchone()[0]
            except BaseException:
                self._db.close()
                raise
        if version != SESSIONS_VERSION:
            raise DamagedError(_WHERE)

    def begin(self) -> bytes:
        """Return the public key of a new session, its private one on the disk."""
        key = XWingKey.generate()
        with transaction(self._db, _WHERE):
            self._db.execute("INSERT INTO session VALUES(?,?)", (key.public_key, key.seed))
        return key.public_key

    def key(self, public_key: bytes) -> XWingKey:
        """Return a session's key.

        Raises:
            SessionError: It was destroyed, or never made here.
        """
        with translating(_WHERE):
            row = self._db.execute(
                "SELECT seed FROM session WHERE public_key=?", (public_key,)
            ).fetchone()
        if row is None:
            raise SessionError
        return XWingKey.from_seed(row[0])

    def end(self, public_key: bytes) -> None:
        """Destroy a session's key: overwritten in the file, its journal emptied."""
        with transaction(self._db, _WHERE):
            self._db.execute("DELETE FROM session WHERE public_key=?", (public_key,))
        with translating(_WHERE):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()


def _create(path: Path, key: bytes) -> None:
    create_private(path)
    with (
        translating(_WHERE),
        closing(connect_encrypted(path, key)) as db,
        transaction(db, _WHERE),
    ):
        db.execute(_TABLE)
        db.execute(f"PRAGMA user_version={SESSIONS_VERSION}")
    sync_directory(path.parent)
