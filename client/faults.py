"""What did not have its effect on a device: where, why, and when that came to light."""

from __future__ import annotations

from typing import NamedTuple

from client.database import Database
from protocol.identifiers import LogId


class KeptFault(NamedTuple):
    """One of them, as the store keeps it.

    Attributes:
        log: Where.
        sequence: Of the entry, or of the one that should have come.
        cause: A ``client.followed.Cause``.
        detail: What else is known of it; by its cause.
        at_ms: When it last came to light, milliseconds since the epoch.
    """

    log: LogId
    sequence: int
    cause: int
    detail: int
    at_ms: int


class Faults:
    """The faults of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[KeptFault]:
        """Return what has not healed, the newest last."""
        rows = self._database.rows(
            "SELECT log, sequence, cause, detail, at_ms FROM fault ORDER BY at_ms"
        )
        return [KeptFault(LogId(row[0]), *row[1:]) for row in rows]

    def note(self, log: LogId, sequence: int, *, cause: int, detail: int, at_ms: int) -> None:
        """Note that something did not have its effect, where no entry brought that to light."""
        with self._database.transaction():
            self.add(log, sequence, cause=cause, detail=detail, at_ms=at_ms)

    def add(self, log: LogId, sequence: int, *, cause: int, detail: int, at_ms: int) -> None:
        """Note the same within a transaction that is open."""
        self._database.change(
            """INSERT INTO fault VALUES(?,?,?,?,?) ON CONFLICT DO UPDATE
            SET at_ms=max(at_ms, excluded.at_ms)""",
            *(log, sequence, cause, detail, at_ms),
        )

    def forgive(self, log: LogId, *, cause: int, detail: int) -> None:
        """Forget what has healed."""
        with self._database.transaction():
            self._database.change(
                "DELETE FROM fault WHERE log=? AND cause=? AND detail=?", log, cause, detail
            )
