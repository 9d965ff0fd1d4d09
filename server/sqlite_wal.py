"""The write-ahead log's file: cut to nothing, or under load written over from its beginning.

A file that is cut gives its blocks back and asks for them again with the next commits, and a sync
of a file that grew waits for the file system's journal as well: at twenty thousand messages a
second that is a tenth of them, and a fifth of the time that the slowest wait. So a log that was
filled since the last checkpoint stays as it is, and the commits that follow overwrite what it
holds. The next checkpoint puts zeros over a little that they left of what was there before, and
cuts the file where they left more.

Source: SQLite, "WAL-mode File Format" (https://sqlite.org/walformat.html), section 1.1: the header
of 32 bytes with the checkpoint's number at 12, each frame a header of 24 bytes and a page.
"""

from __future__ import annotations

import os
import sqlite3
from enum import Enum
from pathlib import Path

from server.sqlite_schema import PAGE_BYTES

HEADER_BYTES = 32
FRAME_BYTES = 24 + PAGE_BYTES
_NUMBER = slice(12, 16)

KEPT_BYTES = 1 << 20
"""The least that a log holds to be written over: what is less is cut without anybody waiting."""

KEPT_SHARE = 0.75
"""The share of the file that must have been overwritten: to cut it costs less than more zeros."""


class Left(Enum):
    """What a checkpoint left in the file."""

    NOTHING = "nothing"
    """It is empty."""
    LAST = "last"
    """What was written since the checkpoint before: it is to be overwritten or cut next time."""
    HELD = "held"
    """A reader held the log; try again soon."""


class WriteAheadLog:
    """The log of one writing connection."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + "-wal")
        self._kept = b""

    def checkpoint(self, db: sqlite3.Connection) -> Left:
        """Move the log into the database; leave nothing in the file that was there last time.

        Raises:
            sqlite3.Error: The disk is full or failed.
            OSError: As that.
        """
        size = self._path.stat().st_size if self._path.exists() else 0
        if size < KEPT_BYTES:
            return self._cut(db)
        busy, frames, _ = db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        if busy:
            return Left.HELD
        number, end = self._number(), HEADER_BYTES + frames * FRAME_BYTES
        # The same number as last time: nothing was written since, or behind what was there.
        if number == self._kept or end < size * KEPT_SHARE:
            return self._cut(db)
        if end < size:
            self._overwrite(end, size)
        self._kept = number
        return Left.LAST

    def _cut(self, db: sqlite3.Connection) -> Left:
        busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        return Left.HELD if busy else Left.NOTHING

    # SQLite's locks are on the database and on the index beside the log: the log may be opened and
    # closed. What lies behind its last frame is read by nobody, and these bytes are such.

    def _number(self) -> bytes:
        with self._path.open("rb") as file:
            return file.read(_NUMBER.stop)[_NUMBER]

    def _overwrite(self, start: int, end: int) -> None:
        with self._path.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), bytes(end - start), start)
