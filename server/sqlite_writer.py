"""The one thread that writes the SQLite file: a transaction a batch, synced before it answers.

The thread takes a job, does it, and hands the outcome to the event loop in one call; it decides
nothing. Because it alone writes, no write ever waits for a lock, and what it does between two
batches (the checkpoint) never lies inside a commit.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from server import records
from server.database import translated
from server.ledger import Batch, Ledger
from server.sqlite_load import load, mix, read_tally, tally_facts
from server.sqlite_schema import PAGE_BYTES, RECORD_TABLES, connect
from server.sqlite_wal import Left, WriteAheadLog
from server.store import DamagedError, StoreError
from storage.database import DATABASE_ERRORS

_log = logging.getLogger(__name__)

ROWS = (64, 16, 4, 1)
"""Rows that one statement may write.

A statement lets the event loop have the interpreter, and then waits until it is given back: with
one statement for each row, a batch would wait as often as it has rows.
"""


def _inserts(table: str, width: int, end: str = "") -> dict[int, str]:
    row = "(" + ",".join("?" * width) + ")"
    return {n: f"INSERT INTO {table} VALUES{','.join([row] * n)}{end}" for n in ROWS}


INSERT_ENTRY = "INSERT INTO entry VALUES(?,?,?)"
"""An entry with a Welcome, and one that is too long for ``INSERT_ENTRIES``."""

_LENGTH_BITS, _START_BITS, _ROW_BITS = 20, 27, 16
INSERT_ENTRIES = f"""INSERT INTO entry SELECT ?1 + (value >> {_LENGTH_BITS + _START_BITS}), NULL,
    substr(?2, (value >> {_LENGTH_BITS} & {(1 << _START_BITS) - 1}) + 1,
           value & {(1 << _LENGTH_BITS) - 1})
    FROM json_each(?3)"""  # noqa: S608 - numbers of ours
"""A batch's entries with one statement: what they are cut from, and where each is.

Each number says an entry's row, beyond the first, where its record begins and how long it is. What
a statement was bound to stays in SQLite's memory until it is bound anew: so it is bound to one
value, which the next batch or ``Writer.checkpoint`` replaces, however many entries there are.
"""

INSERT_SENT = """INSERT INTO sent
    SELECT value, substr(?1, key * ?2 + 1, ?2) FROM json_each(?3)"""
"""A batch's answers, records of one length, with one statement."""

UPSERT = {
    table: _inserts(table, 2, " ON CONFLICT(id) DO UPDATE SET record = excluded.record")
    for table in RECORD_TABLES
}

LAST_ROW = (1 << 63) - 1
"""A row number that no entry ever has."""

ROW_BUFFER_BYTES = PAGE_BYTES - 35 - 8
"""The longest record that SQLite keeps within one page, without the row's header."""

LOOKASIDE_BYTES = 1200 - 8
"""The longest record that goes into the slots which SQLite keeps to itself for short values."""

DELETE = {
    table: f"DELETE FROM {table} WHERE id IN (SELECT value FROM json_each(?))"  # noqa: S608 - tables of ours
    for table in (*RECORD_TABLES, "entry")
}

Job = tuple[Callable[[], Any], Callable[[Any, StoreError | None], None]]


def _put(
    db: sqlite3.Connection, statements: Mapping[int, str], rows: Sequence[tuple[object, ...]]
) -> None:
    """Write rows, as many with one statement as there is one for."""
    start = 0
    for count in ROWS:
        while len(rows) - start >= count:
            db.execute(statements[count], list(chain(*rows[start : start + count])))
            start += count


def _put_entries(db: sqlite3.Connection, entries: Sequence[tuple[int, int | None, bytes]]) -> None:
    """Write entries, nearly always all with one statement."""
    first, start = entries[0][0], 0
    places: list[int] = []
    parts: list[bytes] = []
    for entry in entries:
        row, welcome, record = entry
        size = len(record)
        if (
            welcome is not None
            or size >> _LENGTH_BITS
            or start >> _START_BITS
            or (row - first) >> _ROW_BITS
        ):
            db.execute(INSERT_ENTRY, entry)
            continue
        places.append((row - first) << (_LENGTH_BITS + _START_BITS) | start << _LENGTH_BITS | size)
        parts.append(record)
        start += size
    db.execute(INSERT_ENTRIES, (first, b"".join(parts), str(places)))


class Writer:
    """A thread with the writing connection; outcomes come back to the event loop."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._path = path
        self._loop = loop
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._db: sqlite3.Connection | None = None
        self._log = WriteAheadLog(path)
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def post(self, job: Callable[[], Any], done: Callable[[Any, StoreError | None], None]) -> None:
        """Have ``job`` done after those before it; ``done`` gets its value or its error."""
        self._jobs.put((job, done))

    def commit_later(self, batch: Batch, done: Callable[[StoreError | None], None]) -> None:
        """Have a batch committed after the jobs before it."""
        self.post(lambda: self.commit(batch), lambda _, error: done(error))

    async def ask(self, job: Callable[[], Any]) -> Any:
        """Have ``job`` done and give its value.

        Raises:
            StoreError: It failed.
        """
        future: asyncio.Future[Any] = self._loop.create_future()

        def done(value: Any, error: StoreError | None) -> None:
            if not future.done():
                future.set_exception(error) if error else future.set_result(value)

        self.post(job, done)
        return await future

    async def stop(self) -> None:
        """End the thread after what is queued."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, done = item
            value, error = None, None
            try:
                value = job()
            except DATABASE_ERRORS as raised:
                error = translated(raised, "database")
            except StoreError as raised:
                error = raised
            except Exception as raised:
                _log.error("writer failed: %s", type(raised).__name__)
                error = translated(raised, "database")
            try:
                self._loop.call_soon_threadsafe(done, value, error)
            except RuntimeError:  # the loop is closed: nobody waits any more
                break
        self._close()

    def _close(self) -> None:
        if self._db is not None:
            try:
                self._db.close()
            except DATABASE_ERRORS:
                _log.error("closing the database failed")
            self._db = None

    # What follows runs in the thread.

    def open(self) -> tuple[Ledger, bool]:
        """Open the file anew and build the ledger; also tell whether the facts are whole.

        After a failed write nothing that the connection still holds is trusted: a page whose sync
        failed may count as clean in memory.
        """
        self._close()
        try:
            self._db = db = connect(self._path)
            self._log = WriteAheadLog(self._path)
            ledger = load(db)
        except (TypeError, ValueError):
            # Every record is verified: this is the tables' own shape, or a complaint of SQLite's
            # that quotes what it found.
            raise DamagedError("database") from None
        try:
            whole = read_tally(db) == tally_facts(db)
        except DamagedError:
            whole = False
        return ledger, whole

    def commit(self, batch: Batch) -> None:
        """Write a batch in one transaction; durable when this returns."""
        db = self._db
        if db is None:
            raise sqlite3.OperationalError("closed")
        db.execute("BEGIN IMMEDIATE")
        try:
            self._write(db, batch)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def _write(self, db: sqlite3.Connection, batch: Batch) -> None:
        if batch.entries:
            _put_entries(db, batch.entries)
        if batch.sent:
            answers = b"".join(record for _, record in batch.sent)
            places = str([row for row, _ in batch.sent])
            db.execute(INSERT_SENT, (answers, len(batch.sent[0][1]), places))
        for table, rows in batch.rows.items():
            _put(db, UPSERT[table], list(rows.items()))
        for row, state in batch.emptied:
            self._empty(db, row, state)
        if batch.facts:
            self._change_facts(db, batch.facts)
        for table, gone in batch.drops.items():
            db.execute(DELETE[table], (json.dumps(gone),))

    def _empty(self, db: sqlite3.Connection, row: int, state: int) -> None:
        found = db.execute("SELECT record FROM entry WHERE id = ?", (row,)).fetchone()
        if found is None:
            return
        try:
            record = records.empty_entry(row, found[0], state)
        except DamagedError:
            # It stays damaged, but its body goes.
            record = found[0][: records.ENTRY_HEAD_BYTES]
        db.execute("UPDATE entry SET record = ?, welcome = NULL WHERE id = ?", (record, row))

    def _change_facts(
        self, db: sqlite3.Connection, facts: list[tuple[bytes, bytes | None]]
    ) -> None:
        tally = read_tally(db)
        for name, value in facts:
            found = db.execute("SELECT record FROM fact WHERE name = ?", (name,)).fetchone()
            if found is not None:
                tally = mix(tally, name, found[0])
                db.execute("DELETE FROM fact WHERE name = ?", (name,))
            if value is not None:
                record = records.seal_fact(name, value)
                tally = mix(tally, name, record)
                db.execute("INSERT INTO fact VALUES(?,?)", (name, record))
        record = records.seal_values("tail", 2, tally)
        db.execute("UPDATE tail SET record = ? WHERE id = 2", (record,))

    def checkpoint(self) -> Left:
        """Move the write-ahead log into the file; tell what is left of it."""
        if self._db is None:
            return Left.HELD
        left = self._log.checkpoint(self._db)
        self._forget(self._db)
        return left

    def _forget(self, db: sqlite3.Connection) -> None:
        """Let the connection's memory forget what it wrote.

        Its pages go back to the allocator, which overwrites them. What the last insertions were
        bound to, the buffer in which SQLite puts a row together, and the slots that it keeps for
        short values stay: rows of zeros, as long as those and never kept, take their place.
        """
        rows = [
            (LAST_ROW - at, None, bytes(size))
            for at, size in enumerate((ROW_BUFFER_BYTES, LOOKASIDE_BYTES, LOOKASIDE_BYTES))
        ]
        db.execute("BEGIN")
        try:
            for one in rows:
                db.execute(INSERT_ENTRY, one)
                db.execute("DELETE FROM entry WHERE id = ?", (one[0],))
            _put_entries(db, rows[::-1])
        finally:
            db.execute("ROLLBACK")
        db.execute("PRAGMA shrink_memory")
