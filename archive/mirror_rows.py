"""What goes over to the mirror's machine beside the leaves, and how it comes back.

Each row of the log's database is sealed under a key derived from the database's, and stands under
a name that says nothing without it. So that machine, whose disk may be read, opens and finds
nothing, and a row that is shredded can still be named to it.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from archive import founding, uploads
from archive.copying import MIRRORED
from archive.database import translating
from archive.errors import DamagedError
from archive.founding import RECORDER
from archive.head import put_head
from archive.mirror_store import COPY_FILE, Copy
from archive.record import log_id
from archive.store import create_store
from crypto.at_rest import open_at_rest, seal_at_rest
from crypto.errors import CryptoError
from crypto.merkle import Frontier, leaf_hash
from crypto.note import VerifierKey
from crypto.tiles import TILE_HEIGHT, TILE_WIDTH
from protocol.identifiers import AUDIT_LOG, CONTROL_LOG, DeviceId, inbox_log
from storage import encrypted
from storage.files import write_private

_SEAL_LABEL = b"Wardline 1 mirror row"
_NAME_LABEL = b"Wardline 1 mirror name"

_KEYS = {
    "identity": 1,
    "seen": 1,
    "body": 1,
    "record_key": 1,
    "place": 1,
    "conversation": 1,
    "epoch": 2,
    "member": 3,
    "patient": 2,
    "context": 1,
    "officer_key": 2,
    "attachment": 1,
    "followed": 1,
}
"""Tables that go over, with how many of their first columns name a row."""

BY_INDEX = ("body", "record_key", "place")
"""Those whose rows stand beside one leaf."""

ONCE = (*BY_INDEX, "epoch", "member")
"""Those whose rows are found by the record that came with them, and so go over once: they are as
many as records and epochs, too many to remember which are there."""

SHREDDED = ("body", "record_key")
"""Those whose rows go when a record is shredded."""

_TOUCHED = "(SELECT DISTINCT group_id FROM place WHERE idx >= :first AND idx < :end)"
_EPOCHS = f"""(SELECT group_id, epoch FROM epoch WHERE group_id IN {_TOUCHED}
    AND (keys_idx >= :first OR roster_idx >= :first))"""  # noqa: S608 - ours

BY_CONVERSATION = {
    # A record names its conversation behind its version, type, flags, index, time and log.
    "conversation": """tag IN (SELECT substr(record, 52, 32) FROM leaf
        WHERE idx >= :first AND idx < :end)""",
    "epoch": f"(group_id, epoch) IN {_EPOCHS}",
    "member": f"(group_id, epoch) IN {_EPOCHS}",
    "patient": f"group_id IN {_TOUCHED}",
    "context": f"group_id IN {_TOUCHED}",
    "attachment": f"group_id IN {_TOUCHED}",
}
"""What finds the records from ``:first`` to ``:end``, by table."""

FOLLOWED = f"log IN (SELECT CAST(x'63' || group_id AS BLOB) FROM {_TOUCHED})"  # noqa: S608 - ours
"""How far those conversations were read: true only once all that was recorded is there."""

OWN_LOGS = (CONTROL_LOG, AUDIT_LOG, inbox_log(DeviceId(RECORDER)))
"""The relay's logs that are no conversation's."""

WHOLE = ("identity", "conversation", "context", "officer_key", "attachment", "followed")
"""Tables that change without a record: they are looked through now and then."""


class Rows:
    """Seals rows for the mirror, and opens what comes back from it."""

    def __init__(self, key: bytes) -> None:
        """Derive the keys from the database's."""
        self._seal_key = hmac.digest(key, _SEAL_LABEL, "sha256")
        self._name_key = hmac.digest(key, _NAME_LABEL, "sha256")

    def name(self, table: str, key: Sequence[object]) -> bytes:
        """Return what a row is called: nothing to whoever lacks the key."""
        return hmac.digest(self._name_key, msgspec.msgpack.encode((table, *key)), "sha256")

    def name_of(self, table: str, row: Sequence[object]) -> bytes:
        """Return what a row is called, by its first columns."""
        return self.name(table, row[: _KEYS[table]])

    def seal(self, table: str, row: Sequence[object]) -> tuple[bytes, bytes]:
        """Return a row's name, and the row sealed to stand under it."""
        name = self.name_of(table, row)
        plain = msgspec.msgpack.encode((table, *row))
        return name, seal_at_rest(plain, key=self._seal_key, context=name)

    def open(self, name: bytes, sealed: bytes) -> tuple[str, list[Any]]:
        """Return a row's table and values.

        Raises:
            DamagedError: It is not what was sealed, or stands elsewhere.
        """
        try:
            plain = open_at_rest(sealed, key=self._seal_key, context=name)
        except CryptoError:
            raise DamagedError("mirror") from None
        table, *row = msgspec.msgpack.decode(plain)
        return table, row


def is_copy(folder: Path) -> bool:
    """Tell whether a directory is a mirror's of another machine."""
    return (folder / COPY_FILE).is_file()


def unpack(source: Path, target: Path, *, log_key: VerifierKey, key: bytes) -> None:
    """Make of a mirror's directory what ``copying.restore`` and an audit take: a mirror's layout.

    Args:
        source: The mirror's data directory; nothing may write to it meanwhile.
        target: A directory to make.
        log_key: Of the log that it mirrors.
        key: Of the lost archive's databases.

    Raises:
        DamagedError: A leaf or row is not what was sent, or it was made under another key.
        FileNotFoundError: The source lacks a file that each mirror has.
        FileExistsError: There is a target.
        ArchiveError: It cannot be written.
    """
    target.mkdir(mode=0o700)
    rows = Rows(key)
    with closing(Copy(source / COPY_FILE, log_key)) as copy:
        note = copy.note()
        if note is None:
            raise DamagedError("mirror")
        create_store(target / founding.LOG_FILE, key, log_id=log_id(log_key))
        with closing(copy.sealed()) as sealed:
            opened = (rows.open(name, value) for name, value in sealed)
            _fill(target / founding.LOG_FILE, key, leaves=copy.leaves(), rows=opened)
    put_head(target / founding.HEAD_FILE, note)
    for name in (founding.AUTHORITY_FILE, founding.DESK_FILE):
        write_private(target / name, (source / name).read_bytes())
    for name in (founding.ROOT_FILE, founding.LOG_KEY_FILE, founding.WITNESS_KEY_FILE):
        if (source / name).exists():
            write_private(target / name, (source / name).read_bytes())
    attachments = source / uploads.FOLDER
    uploads.copy(attachments, target / uploads.FOLDER, uploads.kept(attachments))
    write_private(target / MIRRORED, b"")


def _fill(
    path: Path, key: bytes, *, leaves: Sequence[bytes], rows: Iterable[tuple[str, list[Any]]]
) -> None:
    with translating("log"), closing(encrypted.connect(path, key)) as db:
        db.execute("BEGIN IMMEDIATE")
        db.execute("DELETE FROM identity")
        db.executemany("INSERT INTO leaf VALUES(?,?)", enumerate(leaves))
        for table, row in rows:
            marks = ",".join("?" * len(row))
            db.execute(f"INSERT INTO {table} VALUES({marks})", row)
        db.executemany("INSERT INTO tile VALUES(?,?,?)", _tiles(leaves))
        db.execute("COMMIT")


def _tiles(leaves: Iterable[bytes]) -> Iterator[tuple[int, int, bytes]]:
    """Yield the tiles of the log's tree, made anew."""
    frontier, tiles = Frontier(), dict[tuple[int, int], bytearray]()
    for leaf in leaves:
        frontier, nodes = frontier.append(leaf_hash(leaf))
        for node in nodes[::TILE_HEIGHT]:
            at = (node.level // TILE_HEIGHT, node.position // TILE_WIDTH)
            tiles.setdefault(at, bytearray()).extend(node.hash)
    for (level, index), hashes in tiles.items():
        yield level, index, bytes(hashes)
