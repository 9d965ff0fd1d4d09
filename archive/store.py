"""The database of the log: leaves, encrypted bodies, record keys, tiles, all in one file.

One file, because a leaf, its body, its record key and the hashes over it are durable together or
not at all. Leaf and body stand in tables of their own: the body goes, the leaf stays.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from archive.database import EncryptedTables, creating, translating
from archive.errors import ConflictError, DamagedError
from archive.record import HASH_BYTES
from crypto.tiles import Tile
from storage.encrypted import Schema

VERSION = 4
"""Of the tables."""

UNTOLD_BY_DEVICE = "INDEX untold_by_device ON untold(device, idx)"

UPGRADES = {3: ("DROP INDEX IF EXISTS untold_by_device", f"CREATE {UNTOLD_BY_DEVICE}")}
"""From each version that a hospital may have to the next, for good: what was recorded is kept."""

LOG_TABLES = (
    """CREATE TABLE identity(id INTEGER PRIMARY KEY, log_id BLOB NOT NULL,
    conversation_key BLOB NOT NULL)""",
    "CREATE TABLE leaf(idx INTEGER PRIMARY KEY, record BLOB NOT NULL)",
    "CREATE TABLE body(idx INTEGER PRIMARY KEY, ciphertext BLOB NOT NULL)",
    "CREATE TABLE record_key(idx INTEGER PRIMARY KEY, record_key BLOB NOT NULL)",
    "CREATE TABLE seen(hash BLOB PRIMARY KEY, idx INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE conversation(tag BLOB PRIMARY KEY, group_id BLOB NOT NULL,
    records INTEGER NOT NULL, last BLOB NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE tile(level INTEGER, idx INTEGER, hashes BLOB NOT NULL,
    PRIMARY KEY(level, idx)) WITHOUT ROWID""",
)
"""The log itself."""

INDEX_TABLES = (
    """CREATE TABLE place(idx INTEGER PRIMARY KEY, group_id BLOB NOT NULL, type INTEGER NOT NULL,
    epoch INTEGER NOT NULL, sequence INTEGER NOT NULL, sent_ms INTEGER NOT NULL)""",
    "CREATE INDEX place_by_group ON place(group_id, sent_ms)",
    """CREATE TABLE epoch(group_id BLOB, epoch INTEGER, keys_idx INTEGER NOT NULL,
    roster_idx INTEGER NOT NULL, began_ms INTEGER NOT NULL, PRIMARY KEY(group_id, epoch))
    WITHOUT ROWID""",
    """CREATE TABLE member(user TEXT, group_id BLOB, epoch INTEGER,
    PRIMARY KEY(user, group_id, epoch)) WITHOUT ROWID""",
    "CREATE INDEX member_by_group ON member(group_id, epoch)",
    "CREATE TABLE patient(tag BLOB, group_id BLOB, PRIMARY KEY(tag, group_id)) WITHOUT ROWID",
    "CREATE INDEX patient_by_group ON patient(group_id)",
    "CREATE TABLE context(group_id BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    """CREATE TABLE officer_key(officer TEXT, bucket BLOB, public_key BLOB NOT NULL,
    issued_ms INTEGER NOT NULL, PRIMARY KEY(officer, bucket)) WITHOUT ROWID""",
    """CREATE TABLE attachment(blob TEXT PRIMARY KEY, group_id BLOB NOT NULL,
    fetched INTEGER NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX attachment_by_group ON attachment(group_id, fetched)",
    """CREATE TABLE followed(log BLOB PRIMARY KEY, through INTEGER NOT NULL,
    epoch INTEGER NOT NULL, readers BLOB NOT NULL) WITHOUT ROWID""",
)
"""What finds records again, and what a restored relay is told; written with the records."""

LIVE_TABLES = (
    """CREATE TABLE mls(conversation BLOB, part TEXT, record BLOB NOT NULL,
    PRIMARY KEY(conversation, part)) WITHOUT ROWID""",
    """CREATE TABLE staged(conversation BLOB, reference BLOB, about BLOB NOT NULL,
    PRIMARY KEY(conversation, reference)) WITHOUT ROWID""",
    """CREATE TABLE staged_mls(conversation BLOB, reference BLOB, part TEXT, record BLOB NOT NULL,
    PRIMARY KEY(conversation, reference, part)) WITHOUT ROWID""",
    "CREATE TABLE view(conversation BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    """CREATE TABLE key_package(reference BLOB PRIMARY KEY, secrets BLOB NOT NULL,
    last_resort INTEGER NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE verdict(conversation BLOB PRIMARY KEY, statement BLOB NOT NULL,
    idx INTEGER NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE untold(idx INTEGER PRIMARY KEY, device TEXT NOT NULL,
    conversation BLOB NOT NULL, sequence INTEGER NOT NULL, salt BLOB NOT NULL)""",
    f"CREATE {UNTOLD_BY_DEVICE}",
    "CREATE TABLE outbox(message_id INTEGER PRIMARY KEY, frame BLOB NOT NULL)",
    "CREATE TABLE setting(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    """CREATE TABLE wanted(number INTEGER PRIMARY KEY, entry BLOB NOT NULL,
    idx INTEGER)""",
)
"""The recorder's own state, in no backup: keys that were used once would come back with it."""

SCHEMA = Schema(
    statements=(*LOG_TABLES, *INDEX_TABLES, *LIVE_TABLES), version=VERSION, upgrades=UPGRADES
)

_WHERE = "log"


class Conversation(NamedTuple):
    """The end of a conversation's chain: how many records it has, and its last leaf's hash."""

    group_id: bytes
    records: int
    last: bytes


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Rows:
    """What one batch adds.

    Attributes:
        leaves: Index and record.
        bodies: Index and ciphertext.
        record_keys: Index and key.
        seen: Hash of the body and index.
        conversations: By tag, replaced.
        tiles: By level and index, replaced.
    """

    leaves: Sequence[tuple[int, bytes]]
    bodies: Sequence[tuple[int, bytes]]
    record_keys: Sequence[tuple[int, bytes]]
    seen: Sequence[tuple[bytes, int]]
    conversations: Mapping[bytes, Conversation]
    tiles: Mapping[tuple[int, int], bytes] = field(default_factory=dict)


class Store(EncryptedTables):
    """The log's open file."""

    def __init__(self, path: Path, key: bytes) -> None:
        """Open the file that ``create_store`` made.

        Raises:
            FileNotFoundError: There is none.
            DamagedError: The key is another's, or the file is no store.
            UsageError: The key has another length.
        """
        super().__init__(path, key, SCHEMA, where=_WHERE)
        try:
            identity = self._rows("SELECT log_id, conversation_key FROM identity")
            if len(identity) != 1:
                raise DamagedError(_WHERE)
            self.log_id, self.conversation_key = map(_as_bytes, identity[0])
        except BaseException:
            self.close()
            raise

    def size(self) -> int:
        """Return how many leaves there are."""
        last = self._one("SELECT max(idx) FROM leaf")[0]
        return 0 if last is None else int(last) + 1

    def leaf(self, index: int) -> bytes | None:
        """Return a record's encoding, or ``None``."""
        return self._blob("SELECT record FROM leaf WHERE idx=?", index)

    def leaves(self) -> Iterator[tuple[int, bytes]]:
        """Yield index and record of every leaf, in order."""
        for index, record in self._each("SELECT idx, record FROM leaf ORDER BY idx"):
            yield index, _as_bytes(record)

    def body(self, index: int) -> tuple[bytes, bytes] | None:
        """Return a body's ciphertext and its record key, or ``None`` once it was shredded."""
        ciphertext = self._blob("SELECT ciphertext FROM body WHERE idx=?", index)
        record_key = self._blob("SELECT record_key FROM record_key WHERE idx=?", index)
        return None if ciphertext is None or record_key is None else (ciphertext, record_key)

    def body_counts(self) -> tuple[int, int]:
        """Return how many bodies and how many record keys there are."""
        bodies, keys = self._one(
            "SELECT (SELECT count(*) FROM body), (SELECT count(*) FROM record_key)"
        )
        return int(bodies), int(keys)

    def seen(self, body_hashes: Sequence[bytes]) -> dict[bytes, int]:
        """Return the index of each record whose body has one of these hashes."""
        marks = ",".join("?" * len(body_hashes))
        query = f"SELECT hash, idx FROM seen WHERE hash IN ({marks})"  # noqa: S608 - marks alone
        return dict(self._rows(query, *body_hashes))

    def all_seen(self) -> dict[bytes, int]:
        """Return the index of every body's hash."""
        return dict(self._rows("SELECT hash, idx FROM seen"))

    def conversations_of(self, tags: Sequence[bytes]) -> dict[bytes, Conversation]:
        """Return the ends of these conversations' chains; one without a record has none."""
        marks = ",".join("?" * len(tags))
        return self._ends(f"WHERE tag IN ({marks})", tags)

    def conversations(self) -> dict[bytes, Conversation]:
        """Return the end of every conversation's chain, by tag."""
        return self._ends("", ())

    def _ends(self, which: str, values: Sequence[bytes]) -> dict[bytes, Conversation]:
        query = f"SELECT tag, group_id, records, last FROM conversation {which}"  # noqa: S608 - ours
        rows = self._rows(query, *values)
        return {
            tag: Conversation(_as_bytes(group_id), records, last)
            for tag, group_id, records, last in rows
        }

    def tile_hashes(self, level: int, index: int) -> bytes:
        """Return a tile's hashes, none where there is no such tile."""
        query = "SELECT hashes FROM tile WHERE level=? AND idx=?"
        return self._blob(query, level, index) or b""

    def tile(self, tile: Tile) -> bytes:
        """Return the first ``tile.width`` hashes of a tile; a ``crypto.tiles.TileSource``."""
        return self.tile_hashes(tile.level, tile.index)[: tile.width * HASH_BYTES]

    def tile_places(self) -> dict[tuple[int, int], int]:
        """Return the length in bytes of every tile, by level and index."""
        rows = self._rows("SELECT level, idx, length(hashes) FROM tile")
        return {(level, index): length for level, index, length in rows}

    def insert(self, rows: Rows) -> None:
        """Add a batch; inside ``transaction``."""
        many = self._db.executemany
        many("INSERT INTO leaf VALUES(?,?)", rows.leaves)
        many("INSERT INTO body VALUES(?,?)", rows.bodies)
        many("INSERT INTO record_key VALUES(?,?)", rows.record_keys)
        many("INSERT INTO seen VALUES(?,?)", rows.seen)
        many(
            "REPLACE INTO conversation VALUES(?,?,?,?)",
            [(tag, *end) for tag, end in rows.conversations.items()],
        )
        many("REPLACE INTO tile VALUES(?,?,?)", [(*at, data) for at, data in rows.tiles.items()])

    def delete_bodies(self, indices: Sequence[int]) -> None:
        """Delete bodies and their record keys; inside ``transaction``."""
        numbers = [(index,) for index in indices]
        self._db.executemany("DELETE FROM body WHERE idx=?", numbers)
        self._db.executemany("DELETE FROM record_key WHERE idx=?", numbers)

    def truncate_journal(self) -> None:
        """Bring every change into the file and empty the journal, which holds what was deleted."""
        with translating(_WHERE):
            busy = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            raise ConflictError

    def truncate_journal_now(self) -> bool:
        """Do as ``truncate_journal`` does unless another process reads just now; tell which."""
        with translating(_WHERE):
            return not self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]

    def damaged_pages(self) -> int:
        """Return how many pages of the file fail their authentication."""
        with translating(_WHERE):
            # The check reads the file alone: a page that a power cut tore is whole in the journal.
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return len(self._db.execute("PRAGMA cipher_integrity_check").fetchall())

    def rows(self, query: str, *values: object) -> list[Any]:
        """Return what one of this package's fixed statements gives, read to its end."""
        return self._rows(query, *values)

    def named_rows(self, query: str, values: Mapping[str, object]) -> list[Any]:
        """Do as ``rows`` does, with values by name."""
        with translating(_WHERE):
            found: list[Any] = self._db.execute(query, values).fetchall()
        return found

    def change(self, query: str, *values: object) -> int:
        """Do one change inside ``transaction``; return how many rows it touched."""
        count: int = self._db.execute(query, values).rowcount
        return count

    def change_many(self, query: str, values: Sequence[Sequence[object]]) -> None:
        """Do one change for each of ``values`` inside ``transaction``."""
        if values:
            self._db.executemany(query, values)

    def _blob(self, query: str, *values: object) -> bytes | None:
        row = self._one(query, *values)
        return None if row is None else _as_bytes(row[0])

    def _each(self, query: str, *values: object) -> Iterator[Any]:
        with translating(_WHERE):
            yield from self._db.execute(query, values)


def create_store(path: Path, key: bytes, *, log_id: bytes) -> None:
    """Make the database of a new log, durable when this returns.

    Raises:
        FileExistsError: There is a file.
        StoreFullError: There is no room.
        StoreFailedError: The disk failed.
        UsageError: The key has another length.
    """
    with creating(SCHEMA, path, key, where=_WHERE) as db:
        values = (log_id, secrets.token_bytes(HASH_BYTES))
        db.execute("INSERT INTO identity VALUES(1, ?, ?)", values)


def _as_bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise DamagedError(_WHERE)
    return value
