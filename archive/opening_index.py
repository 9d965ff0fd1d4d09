"""The index of an opened scope: in memory, searchable, gone with the process that holds it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from archive.opening_reading import Evidence, Line

MOST_LINES = 1000
"""Lines in one answer at most: a reader asks for the next ones."""

_STATEMENTS = (
    """CREATE TABLE line(number INTEGER PRIMARY KEY, idx INTEGER NOT NULL UNIQUE, grp TEXT NOT NULL,
    sent_ms INTEGER NOT NULL, sequence INTEGER NOT NULL, sender TEXT NOT NULL,
    message_id INTEGER NOT NULL, kind TEXT NOT NULL, fault TEXT NOT NULL, line BLOB NOT NULL,
    evidence BLOB)""",
    "CREATE INDEX by_time ON line(sent_ms, grp, sequence)",
    "CREATE INDEX by_message ON line(grp, sender, message_id)",
    "CREATE VIRTUAL TABLE words USING fts5(text, content='', tokenize='unicode61')",
)
_INSERT = "INSERT INTO line VALUES(?,?,?,?,?,?,?,?,?,?,?)"
_WORD = re.compile(r"\w+")
_STATES = ("delivered", "read", "acknowledgement")
"""Kinds by which a message's course is told."""


class OpenedIndex:
    """What was opened, to be looked through."""

    def __init__(self) -> None:
        self._db = sqlite3.connect(":memory:", isolation_level=None)
        for statement in _STATEMENTS:
            self._db.execute(statement)
        self._lines = 0

    def add(self, lines: Iterable[tuple[Line, Evidence | None]]) -> int:
        """Take in lines; return how many there are now."""
        encode = msgspec.msgpack.encode
        rows, words = [], []
        for line, evidence in lines:
            self._lines += 1
            rows.append(
                (
                    self._lines,
                    line.index,
                    line.group,
                    line.sent_ms,
                    line.sequence,
                    line.sender,
                    line.message_id,
                    line.kind,
                    line.fault,
                    encode(line),
                    None if evidence is None else encode(evidence),
                )
            )
            words.append((self._lines, line.text))
        self._db.execute("BEGIN")
        self._db.executemany(_INSERT, rows)
        self._db.executemany("INSERT INTO words(rowid, text) VALUES(?,?)", words)
        self._db.execute("COMMIT")
        return self._lines

    def timeline(
        self, *, group: str = "", after_index: int = -1, limit: int = MOST_LINES
    ) -> list[Line]:
        """Return lines in the order of time.

        Args:
            group: In one conversation only, hexadecimal.
            after_index: Those after the line of this record; -1 from the first.
            limit: At most so many.
        """
        row = self._row("SELECT sent_ms, grp, sequence FROM line WHERE idx=?", after_index)
        start = row or (-1, "", -1)
        return self._lines_of(
            "WHERE (sent_ms, grp, sequence) > (?,?,?) AND (?='' OR grp=?) "
            "ORDER BY sent_ms, grp, sequence LIMIT ?",
            *start,
            group,
            group,
            min(limit, MOST_LINES),
        )

    def search(self, text: str, *, limit: int = MOST_LINES) -> list[Line]:
        """Return the lines with all of the words in ``text``, the last one as a beginning."""
        found = _WORD.findall(text)
        if not found:
            return []
        query = " ".join(f'"{word}"' for word in found) + "*"
        return self._lines_of(
            "WHERE number IN (SELECT rowid FROM words WHERE words MATCH ?) "
            "ORDER BY sent_ms, grp, sequence LIMIT ?",
            query,
            min(limit, MOST_LINES),
        )

    def context(self, index: int, *, before: int = 10, after: int = 10) -> list[Line]:
        """Return a line with those around it in its conversation."""
        row = self._row("SELECT grp, sequence FROM line WHERE idx=?", index)
        if row is None:
            return []
        earlier = self._lines_of(
            "WHERE grp=? AND sequence<=? ORDER BY sequence DESC LIMIT ?", *row, before + 1
        )
        later = self._lines_of("WHERE grp=? AND sequence>? ORDER BY sequence LIMIT ?", *row, after)
        return [*reversed(earlier), *later]

    def course(self, index: int) -> list[Line]:
        """Return who got, read and acknowledged a message, and when: the lines that say so."""
        row = self._row("SELECT grp, sequence, sender, message_id FROM line WHERE idx=?", index)
        if row is None:
            return []
        group, sequence, sender, message_id = row
        name = f"{sender}#{message_id}"
        told = self._lines_of(
            f"WHERE grp=? AND sequence>? AND kind IN ({','.join('?' * len(_STATES))}) "
            "ORDER BY sequence",
            group,
            sequence,
            *_STATES,
        )
        return [line for line in told if self._covers(line, name, group, sequence)]

    def _covers(self, line: Line, name: str, group: str, sequence: int) -> bool:
        """Tell whether a receipt is of a message: by name, or of a later one in the log."""
        if line.kind == "acknowledgement":
            return bool(line.fields.get("target") == name)
        through = str(line.fields.get("through", ""))
        if through == name:
            return True
        sender, _, number = through.rpartition("#")
        row = self._row(
            "SELECT sequence FROM line WHERE grp=? AND sender=? AND message_id=?",
            group,
            sender,
            int(number or 0),
        )
        return row is not None and int(row[0]) >= sequence

    def participants(self) -> list[dict[str, Any]]:
        """Return who wrote in which conversation, how much, first and last."""
        rows = self._db.execute(
            "SELECT grp, sender, count(*), min(sent_ms), max(sent_ms) FROM line "
            "GROUP BY grp, sender ORDER BY grp, sender"
        )
        keys = ("group", "sender", "messages", "first_ms", "last_ms")
        return [dict(zip(keys, row, strict=True)) for row in rows]

    def summary(self) -> dict[str, Any]:
        """Return how many lines there are, and what is wrong with how many."""
        faults = dict(
            self._db.execute("SELECT fault, count(*) FROM line WHERE fault!='' GROUP BY fault")
        )
        conversations = self._row("SELECT count(DISTINCT grp) FROM line")
        return {"lines": self._lines, "conversations": (conversations or [0])[0], "faults": faults}

    def evidence(self, indices: Sequence[int]) -> list[Evidence]:
        """Return what shows that lines are what was sent."""
        found = []
        for index in indices:
            row = self._row("SELECT evidence FROM line WHERE idx=?", index)
            if row is not None and row[0] is not None:
                found.append(msgspec.msgpack.decode(row[0], type=Evidence))
        return found

    def _row(self, query: str, *values: object) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._db.execute(query, values).fetchone()
        return row

    def _lines_of(self, which: str, *values: object) -> list[Line]:
        query = f"SELECT line FROM line {which}"  # noqa: S608 - this module's own words
        rows = self._db.execute(query, values)
        return [msgspec.msgpack.decode(row[0], type=Line) for row in rows]
