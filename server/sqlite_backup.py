"""A copy of the store while it serves: ciphertext only, and one that cannot serve by itself.

A copy is older than what it was taken from as soon as the next entry is acknowledged. One that
simply served would give numbers again, fork conversations and revive orders; so a copy awaits the
archive from the moment at which it is made, not from the moment at which somebody remembers to say
so.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from server import records
from server.database import translated
from server.sqlite_schema import check
from storage.database import DATABASE_ERRORS, uri
from storage.files import create_private, sync_directory

AWAITING = 9
"""Where the tail's record says that the archive must be asked, counted behind tag and number."""


def backup(source: Path, target: Path) -> None:
    """Write a consistent copy of the store at ``source`` to ``target``, durable when this returns.

    Raises:
        FileExistsError: ``target`` exists.
        DamagedError: The source cannot be read.
        StoreFullError: There is no room.
        StoreFailedError: The disk failed.
    """
    if target.exists():
        raise FileExistsError(target.name)
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    create_private(part)
    try:
        _copy(source, part)
        part.rename(target)
        sync_directory(target.parent)
    except DATABASE_ERRORS as error:
        raise translated(error, "backup") from None
    finally:
        part.unlink(missing_ok=True)


def _copy(source: Path, part: Path) -> None:
    name = uri(source, "ro")
    with closing(sqlite3.connect(name, uri=True)) as db, closing(sqlite3.connect(part)) as copy:
        db.backup(copy)
        # Out of WAL mode: the copy is one file, whole in itself.
        copy.execute("PRAGMA journal_mode=DELETE")
        copy.execute("PRAGMA synchronous=FULL")
        check(copy)
        await_archive(copy)
    descriptor = os.open(part, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def await_archive(db: sqlite3.Connection) -> None:
    """Write into a store's file that it must ask the archive before it serves.

    Raises:
        DamagedError: Its tail is damaged.
    """
    (record,) = db.execute("SELECT record FROM tail WHERE id = 1").fetchone()
    values = records.unseal_values("tail", 1, record)
    values[AWAITING] = True
    with db:
        db.execute(
            "UPDATE tail SET record = ? WHERE id = 1", (records.seal_values("tail", 1, *values),)
        )
