"""How another process has something recorded: one process appends to the log, and no other.

An entry that is handed in stands in the log's database until the recorder takes it up; its receipt
is read from the log itself, under the checkpoint that the recorder had cosigned last. Handing in
what was recorded before gives the receipt of its old index.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from archive.batch import Entry
from archive.record import RecordFlags, RecordType
from archive.store import Store
from crypto.checkpoint import Checkpoint
from crypto.errors import CryptoError
from crypto.log_proof import LogProof
from crypto.note import Note
from crypto.tiles import TiledTree

WITNESSED = "witnessed"
"""Name of the setting that holds the last cosigned checkpoint."""


class _Wanted(msgspec.Struct, frozen=True, array_like=True):
    """An entry as it waits."""

    type: int
    body: bytes
    bucket: bytes
    group_id: bytes
    epoch: int
    flags: int


class Intray:
    """The door to a log that another process appends to."""

    def __init__(self, path: Path, key: bytes) -> None:
        """Open the log's database.

        Raises:
            FileNotFoundError: There is none.
            ArchiveError: It cannot be used.
        """
        self._store = Store(path, key)

    @property
    def store(self) -> Store:
        """The database, to read from."""
        return self._store

    def submit(self, entry: Entry) -> int:
        """Hand an entry in; return the number by which its receipt is asked for.

        Raises:
            ArchiveError: It was not handed in.
        """
        return submit(self._store, entry)

    def receipt(self, number: int) -> LogProof | None:
        """Return the proof of an entry under a cosigned checkpoint, or ``None`` as yet.

        Raises:
            ArchiveError: The database cannot be read.
        """
        return receipt(self._store, number)

    def close(self) -> None:
        """Let go of the database."""
        self._store.close()


def submit(store: Store, entry: Entry) -> int:
    """Hand an entry in; return its number."""
    wanted = _Wanted(
        type=int(entry.type),
        body=entry.body,
        bucket=entry.bucket,
        group_id=entry.group_id,
        epoch=entry.epoch,
        flags=int(entry.flags),
    )
    with store.transaction():
        number = store.rows("SELECT coalesce(max(number), 0) + 1 FROM wanted")[0][0]
        data = msgspec.msgpack.encode(wanted)
        store.change("INSERT INTO wanted VALUES(?,?,NULL)", number, data)
    return int(number)


def receipt(store: Store, number: int) -> LogProof | None:
    """Return the proof of what was handed in as ``number``, or ``None`` as yet."""
    rows = store.rows("SELECT idx FROM wanted WHERE number=?", number)
    note = witnessed(store)
    if not rows or rows[0][0] is None or note is None:
        return None
    index, size = int(rows[0][0]), Checkpoint.decode(note.text).size
    if index >= size:
        return None
    tree = TiledTree(size=size, source=store.tile)
    return LogProof(index=index, proof=tree.inclusion_proof(index), note=note)


def witnessed(store: Store) -> Note | None:
    """Return the last cosigned checkpoint, or ``None``."""
    rows = store.rows("SELECT value FROM setting WHERE name=?", WITNESSED)
    try:
        return Note.decode(rows[0][0]) if rows else None
    except CryptoError:
        return None


def waiting(store: Store, *, most: int) -> list[tuple[int, Entry]]:
    """Return what was handed in and is not recorded yet, oldest first."""
    rows = store.rows(
        "SELECT number, entry FROM wanted WHERE idx IS NULL ORDER BY number LIMIT ?", most
    )
    return [(number, _entry(data)) for number, data in rows]


def _entry(data: bytes) -> Entry:
    wanted = msgspec.msgpack.decode(data, type=_Wanted)
    return Entry(
        type=RecordType(wanted.type),
        body=wanted.body,
        bucket=wanted.bucket,
        group_id=wanted.group_id,
        epoch=wanted.epoch,
        flags=RecordFlags(wanted.flags),
    )


def taken(store: Store, number: int, index: int) -> None:
    """Note where an entry stands; inside the transaction that records it."""
    store.change("UPDATE wanted SET idx=?, entry=x'' WHERE number=?", index, number)
