"""What a device keeps for use without network, and its settings: named rows of the caller's bytes.

The directory, the on-call sheet and the like are each a *kind*. What the bytes mean, and whether
they are still fresh enough to act on, is for the caller to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from client.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Cached:
    """One row, as it was when it came.

    Attributes:
        at_ms: When it came, milliseconds since the epoch.
    """

    key: bytes = field(repr=False)
    value: bytes = field(repr=False)
    at_ms: int


class Cache:
    """Rows by kind and key."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, kind: str, key: bytes) -> Cached | None:
        """Return one row, or None."""
        row = self._database.row(
            "SELECT key, value, at_ms FROM cached WHERE kind=? AND key=?", kind, key
        )
        return None if row is None else Cached(key=row[0], value=row[1], at_ms=row[2])

    def all(self, kind: str) -> list[Cached]:
        """Return every row of a kind, in the order of keys."""
        rows = self._database.rows(
            "SELECT key, value, at_ms FROM cached WHERE kind=? ORDER BY key", kind
        )
        return [Cached(key=key, value=value, at_ms=at_ms) for key, value, at_ms in rows]

    def update(self, kind: str, changes: Mapping[bytes, bytes | None], *, at_ms: int) -> None:
        """Write rows, and delete those whose value is None."""
        with self._database.transaction():
            self._write(kind, changes, at_ms)

    def replace(self, kind: str, rows: Mapping[bytes, bytes], *, at_ms: int) -> None:
        """Write rows in the place of all that the kind had."""
        with self._database.transaction():
            self._database.change("DELETE FROM cached WHERE kind=?", kind)
            self._write(kind, rows, at_ms)

    def _write(self, kind: str, changes: Mapping[bytes, bytes | None], at_ms: int) -> None:
        gone = [(kind, key) for key, value in changes.items() if value is None]
        kept = [(kind, key, value, at_ms) for key, value in changes.items() if value is not None]
        self._database.change_many("DELETE FROM cached WHERE kind=? AND key=?", gone)
        self._database.change_many("INSERT OR REPLACE INTO cached VALUES(?,?,?,?)", kept)


class Settings:
    """Values by name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str) -> bytes | None:
        """Return a setting, or None where it was never set."""
        row = self._database.row("SELECT value FROM setting WHERE name=?", name)
        return None if row is None else bytes(row[0])

    def put(self, name: str, value: bytes | None) -> None:
        """Set a setting, or unset it."""
        with self._database.transaction():
            if value is None:
                self._database.change("DELETE FROM setting WHERE name=?", name)
            else:
                self._database.change("INSERT OR REPLACE INTO setting VALUES(?,?)", name, value)
