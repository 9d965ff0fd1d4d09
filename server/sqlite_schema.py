"""The SQLite file: its tables, and the settings that the relay's promises rest on.

Every table but two is a row number and a record that proves itself (``server.records``). An entry
also names its Welcome, so that one query brings both, and a fact is found by its name.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from server import records
from server.ledger import Ledger
from server.store import DamagedError
from storage.database import transaction, uri
from storage.files import create_private, sync_directory

APPLICATION_ID = 0x5764_526C
"""Marks the file as a relay's store."""

VERSION = 1
"""Of the tables and records."""

PAGE_BYTES = 8192
"""Seven entries of 1 KiB fill a page of this size to nine tenths; three fill 4 KiB to eight."""

SYNCHRONOUS = "FULL"
"""The log is synced at each commit: in WAL mode NORMAL loses commits at a power cut."""

RECORD_TABLES = ("tail", "device", "log", "cursor", "sent", "staged", "welcome", "mark")
"""Tables of a row number and a record."""

BUSY_MS = 20
"""Milliseconds that the writer waits for a reader to let go of the log: one read takes less."""

STATEMENTS = (
    *(f"CREATE TABLE {t}(id INTEGER PRIMARY KEY, record BLOB NOT NULL)" for t in RECORD_TABLES),
    "CREATE TABLE entry(id INTEGER PRIMARY KEY, welcome INTEGER, record BLOB NOT NULL)",
    "CREATE TABLE fact(name BLOB PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID",
)

NO_FACTS = bytes(records.BODY_SUM_BYTES)
"""Tally of no facts."""


def text(value: bytes) -> str:
    """Give a text, also of bytes that are none: only damage puts any there, and it is then seen."""
    return value.decode(errors="replace")


def connect(path: Path) -> sqlite3.Connection:
    """Open the file that ``create`` made, for the one that writes.

    Raises:
        sqlite3.Error: It cannot be opened.
    """
    db = sqlite3.connect(uri(path, "rw"), uri=True, isolation_level=None)
    db.text_factory = text
    for setting in (
        f"page_size={PAGE_BYTES}",
        "journal_mode=WAL",
        f"synchronous={SYNCHRONOUS}",
        # What is deleted is overwritten with zeros.
        "secure_delete=ON",
        # What a checkpoint waits for readers, every commit waits for the checkpoint.
        f"busy_timeout={BUSY_MS}",
        # Checkpoints happen between batches, when the store says, never inside a commit.
        "wal_autocheckpoint=0",
        "trusted_schema=OFF",
        "cell_size_check=ON",
        "temp_store=MEMORY",
        "cache_size=-16384",
    ):
        db.execute(f"PRAGMA {setting}").fetchall()
    return db


def create(path: Path) -> None:
    """Make an empty store at ``path``, durable when this returns.

    Raises:
        FileExistsError: There is a file.
        sqlite3.Error: It cannot be written.
    """
    create_private(path)
    db = connect(path)
    try:
        with transaction(db):
            for statement in STATEMENTS:
                db.execute(statement)
            db.execute(f"PRAGMA application_id={APPLICATION_ID}")
            db.execute(f"PRAGMA user_version={VERSION}")
            tally = records.seal_values("tail", 2, NO_FACTS)
            db.executemany("INSERT INTO tail VALUES(?,?)", [(1, Ledger().tail()), (2, tally)])
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        db.close()
    sync_directory(path.parent)


def check(db: sqlite3.Connection) -> None:
    """Check that this is a store whose tables are those made here.

    Raises:
        DamagedError: It is not.
        sqlite3.Error: It cannot be read.
    """
    found = {row[0] for row in db.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")}
    marks = [db.execute(f"PRAGMA {p}").fetchone()[0] for p in ("application_id", "user_version")]
    if found != set(STATEMENTS) or marks != [APPLICATION_ID, VERSION]:
        raise DamagedError("schema")
