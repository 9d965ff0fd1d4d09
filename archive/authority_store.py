"""The authority's database: its keys, what it has certified, decided and still has to hand in.

It is apart from the log's, and encrypted: who has it makes administrators. Whatever leaves the
authority stands here first, in ``outgoing``, in the transaction that decided it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from archive.database import EncryptedTables, creating
from storage.encrypted import Schema

VERSION = 1
"""Of the tables."""

_WHERE = "authority"

_PUT_OFF = "put off/"
"""With a number: a request for a certificate, until it is known what time it is."""

_STATEMENTS = (
    "CREATE TABLE secret(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    """CREATE TABLE certificate(number INTEGER PRIMARY KEY, name TEXT NOT NULL,
    der BLOB NOT NULL UNIQUE)""",
    "CREATE INDEX certificate_by_name ON certificate(name)",
    "CREATE TABLE answer(request BLOB PRIMARY KEY, der BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE revoked(id INTEGER PRIMARY KEY, list BLOB NOT NULL, published_ms INTEGER)",
    """CREATE TABLE wipe(statement BLOB PRIMARY KEY, device TEXT NOT NULL, at_ms INTEGER NOT NULL,
    alone INTEGER NOT NULL, answer BLOB) WITHOUT ROWID""",
    """CREATE TABLE outgoing(number INTEGER PRIMARY KEY AUTOINCREMENT, kind INTEGER NOT NULL,
    device TEXT NOT NULL, body BLOB NOT NULL)""",
)
SCHEMA = Schema(statements=_STATEMENTS, version=VERSION)


class OutgoingKind(IntEnum):
    """Where something goes that the authority has decided."""

    COMMAND = 1
    """A statement for the control log."""
    CERTIFICATE = 2
    """A certificate for its device's inbox."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """Something decided that the relay has not confirmed.

    Attributes:
        number: Counts up; what was decided first goes first.
        kind: Where it goes.
        device: For a certificate, its device.
        body: The statement or certificate.
    """

    number: int
    kind: OutgoingKind
    device: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Wiping:
    """A wipe order that was decided upon.

    Attributes:
        statement: SHA-256 of the order as it was handed in.
        device: Whom it means.
        at_ms: When it was decided.
        alone: Whether one administrator alone had signed it.
        answer: The order with the authority's signature; ``None`` where it was refused.
    """

    statement: bytes
    device: str
    at_ms: int
    alone: bool
    answer: bytes | None


class AuthorityStore(EncryptedTables):
    """The authority's open file."""

    def __init__(self, path: Path, key: bytes) -> None:
        """Open the file that ``create_authority_store`` made.

        Raises:
            FileNotFoundError: There is none.
            DamagedError: The key is another's, or the file is none of these.
            UsageError: The key has another length.
        """
        super().__init__(path, key, SCHEMA, where=_WHERE)

    def secret(self, name: str) -> bytes | None:
        """Return a value that ``put_secret`` kept, or ``None``."""
        row = self._one("SELECT value FROM secret WHERE name=?", name)
        return None if row is None else bytes(row[0])

    def put_secret(self, name: str, value: bytes) -> None:
        """Keep a key or setting; inside ``transaction``."""
        self._db.execute("REPLACE INTO secret VALUES(?,?)", (name, value))

    def put_off(self, number: int, request: bytes) -> None:
        """Keep a request for a certificate under its number in the recorder's inbox."""
        with self.transaction():
            self.put_secret(f"{_PUT_OFF}{number:020}", request)

    def requests_put_off(self) -> dict[int, bytes]:
        """Return the requests that ``put_off`` kept, by their numbers, oldest first."""
        rows = self._rows(
            "SELECT name, value FROM secret WHERE name>? AND name<? ORDER BY name",
            _PUT_OFF,
            _PUT_OFF + ":",
        )
        return {int(name.removeprefix(_PUT_OFF)): bytes(value) for name, value in rows}

    def drop_put_off(self, number: int) -> None:
        """Forget a request that was answered or refused."""
        with self.transaction():
            self._db.execute("DELETE FROM secret WHERE name=?", (f"{_PUT_OFF}{number:020}",))

    def certificates(self) -> list[bytes]:
        """Return every certificate in the order in which they were issued."""
        return [row[0] for row in self._rows("SELECT der FROM certificate ORDER BY number")]

    def newest(self) -> dict[str, bytes]:
        """Return the newest certificate of each device, by its name."""
        rows = self._rows("SELECT name, der FROM certificate ORDER BY number")
        return dict(rows)

    def add_certificate(self, name: str, der: bytes, *, request: bytes) -> None:
        """Keep a certificate with the hash of its request; inside ``transaction``."""
        self._db.execute("INSERT INTO certificate(name, der) VALUES(?,?)", (name, der))
        self._db.execute("INSERT INTO answer VALUES(?,?)", (request, der))

    def answer(self, request: bytes) -> bytes | None:
        """Return the certificate that answered a request, by the request's hash, or ``None``."""
        row = self._one("SELECT der FROM answer WHERE request=?", request)
        return None if row is None else bytes(row[0])

    def revocations(self) -> tuple[bytes | None, int]:
        """Return the list's body, ``None`` before the first, and when it was last signed."""
        row = self._one("SELECT list, published_ms FROM revoked WHERE id=1")
        return (None, 0) if row is None else (bytes(row[0]), int(row[1]))

    def put_revocations(self, body: bytes, *, at_ms: int) -> None:
        """Keep the list; inside ``transaction``."""
        self._db.execute("REPLACE INTO revoked VALUES(1,?,?)", (body, at_ms))

    def wiping(self, statement: bytes) -> Wiping | None:
        """Return what was decided on the order with this hash, or ``None``."""
        rows = list(self._wipings("WHERE statement=?", statement))
        return rows[0] if rows else None

    def wipings(self, *, since_ms: int = 0) -> list[Wiping]:
        """Return the orders that were decided upon at ``since_ms`` or later, oldest first."""
        return list(self._wipings("WHERE at_ms>=? ORDER BY at_ms", since_ms))

    def _wipings(self, which: str, *values: object) -> Iterator[Wiping]:
        query = f"SELECT statement, device, at_ms, alone, answer FROM wipe {which}"  # noqa: S608 - ours
        for statement, device, at_ms, alone, answer in self._rows(query, *values):
            yield Wiping(
                statement=statement, device=device, at_ms=at_ms, alone=bool(alone), answer=answer
            )

    def add_wiping(self, wiping: Wiping) -> None:
        """Keep a decision; inside ``transaction``."""
        self._db.execute(
            "INSERT INTO wipe VALUES(?,?,?,?,?)",
            (wiping.statement, wiping.device, wiping.at_ms, int(wiping.alone), wiping.answer),
        )

    def outgoing(self) -> list[Outgoing]:
        """Return what the relay has not confirmed yet, oldest first."""
        rows = self._rows("SELECT number, kind, device, body FROM outgoing ORDER BY number")
        return [
            Outgoing(number=number, kind=OutgoingKind(kind), device=device, body=body)
            for number, kind, device, body in rows
        ]

    def add_outgoing(self, kind: OutgoingKind, body: bytes, *, device: str = "") -> None:
        """Let something go out once the transaction around this has held."""
        self._db.execute(
            "INSERT INTO outgoing(kind, device, body) VALUES(?,?,?)", (int(kind), device, body)
        )

    def renew_outgoing(self, number: int, body: bytes) -> None:
        """Put another statement in the place of one that is on its way."""
        with self.transaction():
            self._db.execute("UPDATE outgoing SET body=? WHERE number=?", (body, number))

    def delete_outgoing(self, number: int) -> None:
        """Forget what the relay has confirmed."""
        with self.transaction():
            self._db.execute("DELETE FROM outgoing WHERE number=?", (number,))


def create_authority_store(path: Path, key: bytes, *, held: Mapping[str, bytes]) -> None:
    """Make the database of a new authority, durable when this returns.

    Args:
        path: Where no file is yet.
        key: ``storage.encrypted.KEY_BYTES`` bytes.
        held: Its first keys and settings by name.

    Raises:
        FileExistsError: There is a file.
        StoreFullError: There is no room.
        StoreFailedError: The disk failed.
        UsageError: The key has another length.
    """
    with creating(SCHEMA, path, key, where=_WHERE) as db:
        db.executemany("INSERT INTO secret VALUES(?,?)", list(held.items()))
