"""The desk between officers and archive: letters in and out, statements, shares, review sessions.

A database of its own. Shares lie here sealed to a review session's one-time key, which is in
another file and reached by the review alone: who reads this one opens nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from archive.database import EncryptedTables, creating
from crypto.statement_types import StatementType
from protocol.identifiers import UserName
from storage.encrypted import Schema

DESK_VERSION = 1
"""Of the tables."""

_WHERE = "desk"

_STATEMENTS = (
    """CREATE TABLE incoming(number INTEGER PRIMARY KEY AUTOINCREMENT, sender TEXT NOT NULL,
    at_ms INTEGER NOT NULL, letter BLOB NOT NULL)""",
    """CREATE TABLE outgoing(number INTEGER PRIMARY KEY AUTOINCREMENT, letter BLOB NOT NULL)""",
    """CREATE TABLE part(whole BLOB, number INTEGER, letter BLOB NOT NULL,
    PRIMARY KEY(whole, number)) WITHOUT ROWID""",
    """CREATE TABLE statement(hash BLOB PRIMARY KEY, kind INTEGER NOT NULL, officer TEXT NOT NULL,
    request BLOB NOT NULL, issued_ms INTEGER NOT NULL, body BLOB NOT NULL, data BLOB NOT NULL,
    wanted INTEGER NOT NULL, recorded_ms INTEGER) WITHOUT ROWID""",
    """CREATE TABLE shares(request BLOB, officer TEXT, shares BLOB NOT NULL,
    PRIMARY KEY(request, officer)) WITHOUT ROWID""",
    """CREATE TABLE given(request BLOB, officer TEXT, PRIMARY KEY(request, officer))
    WITHOUT ROWID""",
    "CREATE TABLE hits(hash BLOB PRIMARY KEY, hits BLOB NOT NULL) WITHOUT ROWID",
    """CREATE TABLE session(public_key BLOB PRIMARY KEY, state INTEGER NOT NULL,
    began_ms INTEGER NOT NULL, request BLOB) WITHOUT ROWID""",
    """CREATE TABLE challenge(officer TEXT PRIMARY KEY, hash BLOB NOT NULL, at_ms INTEGER NOT NULL,
    answer BLOB NOT NULL) WITHOUT ROWID""",
    "CREATE TABLE proved(officer TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE held(hold BLOB, body BLOB, PRIMARY KEY(hold, body)) WITHOUT ROWID",
)
DESK_SCHEMA = Schema(statements=_STATEMENTS, version=DESK_VERSION)


class SessionState(IntEnum):
    """Where a review session is."""

    WAITING = 1
    """Its key may be offered."""
    BOUND = 2
    """A request names its key."""
    CLOSED = 3
    """Its key is destroyed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A letter of the officers' conversation that is not worked through yet.

    Attributes:
        number: Counts up.
        sender: The device that the conversation says sent it.
        at_ms: When it came.
        letter: Its bytes.
    """

    number: int
    sender: str
    at_ms: int
    letter: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filed:
    """A verified statement on the desk.

    Attributes:
        hash: ``statement_hash``.
        kind: What it is.
        officer: Who signed.
        request: The request that it is about; its own hash for a request, zeroes for a hold.
        issued_ms: When it was signed.
        body: What it says.
        data: All of it.
        wanted: Number by which its receipt is asked for.
        recorded_ms: When its record was found under a cosigned checkpoint; None before.
    """

    hash: bytes
    kind: StatementType
    officer: UserName
    request: bytes
    issued_ms: int
    body: bytes = field(repr=False)
    data: bytes = field(repr=False)
    wanted: int
    recorded_ms: int | None = None


class Desk(EncryptedTables):
    """The desk's open file."""

    def __init__(self, path: Path, key: bytes) -> None:
        """Open the file that ``create_desk`` made.

        Raises:
            FileNotFoundError: There is none.
            DamagedError: The key is another's, or the file is none of these.
            UsageError: The key has another length.
        """
        super().__init__(path, key, DESK_SCHEMA, where=_WHERE)

    # -- letters --------------------------------------------------------------------------------

    def received(self, sender: str, letter: bytes, at_ms: int) -> None:
        """Keep a letter, before its message is acknowledged."""
        with self.transaction():
            self._db.execute(
                "INSERT INTO incoming(sender, at_ms, letter) VALUES(?,?,?)", (sender, at_ms, letter)
            )

    def incoming(self) -> list[Incoming]:
        """Return the letters that are not worked through, oldest first."""
        rows = self._rows("SELECT number, sender, at_ms, letter FROM incoming ORDER BY number")
        return [
            Incoming(number=number, sender=sender, at_ms=at_ms, letter=letter)
            for number, sender, at_ms, letter in rows
        ]

    def worked(self, number: int) -> None:
        """Forget a letter; inside the transaction that keeps what it said."""
        self._db.execute("DELETE FROM incoming WHERE number=?", (number,))

    def post(self, letters: tuple[bytes, ...]) -> None:
        """Let letters go out; inside ``transaction``."""
        self._db.executemany(
            "INSERT INTO outgoing(letter) VALUES(?)", [(letter,) for letter in letters]
        )

    def outgoing(self) -> list[tuple[int, bytes]]:
        """Return what is to be posted in the officers' conversation, oldest first."""
        return list(self._rows("SELECT number, letter FROM outgoing ORDER BY number"))

    def sent(self, number: int) -> None:
        """Forget a letter that the relay has accepted."""
        with self.transaction():
            self._db.execute("DELETE FROM outgoing WHERE number=?", (number,))

    def gather(self, whole: bytes, number: int, letter: bytes, *, count: int) -> list[bytes]:
        """Keep a part; return all of its letter once ``count`` are here. Inside ``transaction``."""
        self._db.execute("INSERT OR IGNORE INTO part VALUES(?,?,?)", (whole, number, letter))
        if self._one("SELECT count(*) FROM part WHERE whole=?", whole)[0] < count:
            return []
        rows = self._rows("SELECT letter FROM part WHERE whole=? ORDER BY number", whole)
        return [row[0] for row in rows]

    def gathered(self, whole: bytes) -> None:
        """Forget the parts of a letter; inside ``transaction``."""
        self._db.execute("DELETE FROM part WHERE whole=?", (whole,))

    # -- statements -----------------------------------------------------------------------------

    def file(self, filed: Filed) -> None:
        """Keep a statement that is handed in to be recorded; inside ``transaction``."""
        self._db.execute(
            "INSERT OR IGNORE INTO statement VALUES(?,?,?,?,?,?,?,?,?)",
            (
                filed.hash,
                int(filed.kind),
                filed.officer,
                filed.request,
                filed.issued_ms,
                filed.body,
                filed.data,
                filed.wanted,
                filed.recorded_ms,
            ),
        )

    def recorded(self, name: bytes, at_ms: int) -> None:
        """Note that a statement is under a cosigned checkpoint; inside ``transaction``."""
        self._db.execute("UPDATE statement SET recorded_ms=? WHERE hash=?", (at_ms, name))

    def statement(self, name: bytes) -> Filed | None:
        """Return a statement by its hash, or None."""
        return next(iter(self._filed("WHERE hash=?", name)), None)

    def unrecorded(self) -> list[Filed]:
        """Return the statements that are not yet seen under a cosigned checkpoint."""
        return self._filed("WHERE recorded_ms IS NULL ORDER BY wanted")

    def of_request(self, request: bytes, kind: StatementType) -> list[Filed]:
        """Return the recorded statements of a kind about a request, in the log's order."""
        return self._filed(
            "WHERE request=? AND kind=? AND recorded_ms NOTNULL ORDER BY recorded_ms, wanted",
            request,
            int(kind),
        )

    def of_kind(self, kind: StatementType) -> list[Filed]:
        """Return the recorded statements of a kind, in the log's order."""
        return self._filed(
            "WHERE kind=? AND recorded_ms NOTNULL ORDER BY recorded_ms, wanted", int(kind)
        )

    def _filed(self, which: str, *values: object) -> list[Filed]:
        query = f"SELECT * FROM statement {which}"  # noqa: S608 - this module's own words
        return [
            Filed(
                hash=name,
                kind=StatementType(kind),
                officer=UserName(officer),
                request=request,
                issued_ms=issued_ms,
                body=body,
                data=data,
                wanted=wanted,
                recorded_ms=recorded_ms,
            )
            for name, kind, officer, request, issued_ms, body, data, wanted, recorded_ms in (
                self._rows(query, *values)
            )
        ]

    # -- shares and hits ------------------------------------------------------------------------

    def keep_shares(self, request: bytes, officer: UserName, shares: bytes) -> None:
        """Keep what an officer released; inside ``transaction``."""
        self._db.execute("REPLACE INTO shares VALUES(?,?,?)", (request, officer, shares))

    def shares(self, request: bytes) -> dict[UserName, bytes]:
        """Return what was released for a request, by officer."""
        rows = self._rows("SELECT officer, shares FROM shares WHERE request=?", request)
        return {UserName(officer): shares for officer, shares in rows}

    def give(self, request: bytes, officer: UserName) -> bool:
        """Note that an officer is sent the shares; tell whether that is new. In ``transaction``."""
        change = self._db.execute("INSERT OR IGNORE INTO given VALUES(?,?)", (request, officer))
        return bool(change.rowcount)

    def keep_hits(self, name: bytes, hits: bytes) -> None:
        """Keep what was counted for a draft; inside ``transaction``."""
        self._db.execute("INSERT OR IGNORE INTO hits VALUES(?,?)", (name, hits))

    def hits(self, name: bytes) -> bytes | None:
        """Return encoded ``Hits`` by their hash, or None."""
        row = self._one("SELECT hits FROM hits WHERE hash=?", name)
        return None if row is None else bytes(row[0])

    def hold(self, hold: bytes, body: bytes) -> bool:
        """Note a record by which a hold is in force; tell whether it is new. In ``transaction``."""
        change = self._db.execute("INSERT OR IGNORE INTO held VALUES(?,?)", (hold, body))
        return bool(change.rowcount)

    def held(self, hold: bytes) -> list[bytes]:
        """Return the bodies of the records by which a hold is in force."""
        return [row[0] for row in self._rows("SELECT body FROM held WHERE hold=?", hold)]

    def unhold(self, hold: bytes) -> None:
        """Forget the records of a hold that has ended; inside ``transaction``."""
        self._db.execute("DELETE FROM held WHERE hold=?", (hold,))

    # -- sessions -------------------------------------------------------------------------------

    def begin_session(self, public_key: bytes, at_ms: int) -> None:
        """Let a session's key be offered."""
        with self.transaction():
            self._db.execute(
                "INSERT INTO session VALUES(?,?,?,NULL)",
                (public_key, int(SessionState.WAITING), at_ms),
            )

    def waiting_session(self) -> bytes | None:
        """Return the key of the oldest session that waits, or None."""
        row = self._one(
            "SELECT public_key FROM session WHERE state=? ORDER BY began_ms LIMIT 1",
            int(SessionState.WAITING),
        )
        return None if row is None else bytes(row[0])

    def bind_session(self, public_key: bytes, request: bytes) -> bool:
        """Bind a waiting session to a request; tell whether it was one. In ``transaction``."""
        change = self._db.execute(
            "UPDATE session SET state=?, request=? WHERE public_key=? AND state=?",
            (int(SessionState.BOUND), request, public_key, int(SessionState.WAITING)),
        )
        return bool(change.rowcount)

    def close_session(self, public_key: bytes) -> None:
        """Note that a session's key is destroyed, and forget what was released to it."""
        with self.transaction():
            row = self._one("SELECT request FROM session WHERE public_key=?", public_key)
            if row is not None and row[0] is not None:
                self._db.execute("DELETE FROM shares WHERE request=?", (row[0],))
            self._db.execute(
                "UPDATE session SET state=? WHERE public_key=?",
                (int(SessionState.CLOSED), public_key),
            )

    def sessions(self) -> list[tuple[bytes, SessionState, int, bytes | None]]:
        """Return each session's key, state, beginning and request, oldest first."""
        rows = self._rows("SELECT public_key, state, began_ms, request FROM session ORDER BY 3")
        return [(key, SessionState(state), at_ms, request) for key, state, at_ms, request in rows]

    # -- liveness -------------------------------------------------------------------------------

    def challenge(self, officer: UserName) -> tuple[bytes, int, bytes] | None:
        """Return the hash of an officer's open challenge, its time and the right answer."""
        row = self._one("SELECT hash, at_ms, answer FROM challenge WHERE officer=?", officer)
        return None if row is None else (bytes(row[0]), int(row[1]), bytes(row[2]))

    def keep_challenge(self, officer: UserName, name: bytes, at_ms: int, answer: bytes) -> None:
        """Keep what an officer was asked; inside ``transaction``."""
        self._db.execute("REPLACE INTO challenge VALUES(?,?,?,?)", (officer, name, at_ms, answer))

    def proved(self, officer: UserName, at_ms: int) -> None:
        """Note that an officer has answered rightly; inside ``transaction``."""
        self._db.execute("REPLACE INTO proved VALUES(?,?)", (officer, at_ms))

    def proofs(self) -> Mapping[UserName, int]:
        """Return when each officer last answered rightly."""
        return {UserName(name): at_ms for name, at_ms in self._rows("SELECT * FROM proved")}


def create_desk(path: Path, key: bytes) -> None:
    """Make an empty desk, durable when this returns.

    Raises:
        FileExistsError: There is a file.
        StoreFullError: There is no room.
        StoreFailedError: The disk failed.
        UsageError: The key has another length.
    """
    with creating(DESK_SCHEMA, path, key, where=_WHERE):
        pass
