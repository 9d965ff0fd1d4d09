"""The list of people that an administrator imports: a CSV file, read whole before anything is done.

Columns are ``user``, ``name``, ``ward``, ``roles`` and ``ends``; the first two must be there. Every
problem of the file is told at once, with its line.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

USER, NAME, WARD, ROLES, ENDS = "user", "name", "ward", "roles", "ends"
COLUMNS = (USER, NAME, WARD, ROLES, ENDS)
NEEDED = (USER, NAME)
DEFAULT_ROLES = ("clinician",)

LARGEST_BYTES = 16 << 20
"""A hospital's whole staff takes two megabytes; a larger file is another file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One person of the list.

    Attributes:
        line: Where in the file, from 1.
        user: User name.
        name: As colleagues say it.
        ward: Where the person works; empty for none.
        roles: Words for roles, at least one.
        ends_ms: When the person's work here ends: the last moment of that day, UTC; or None.
    """

    line: int
    user: str
    name: str = field(repr=False)
    ward: str = field(repr=False)
    roles: tuple[str, ...]
    ends_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong with a line.

    Attributes:
        line: Where in the file, from 1.
        what: In words.
    """

    line: int
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleFile:
    """What a file says.

    Attributes:
        entries: People whose lines are well formed, in order.
        problems: Everything else, in order.
    """

    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...]


def read_people(text: str) -> PeopleFile:
    """Return who is in the list, and what is wrong with it."""
    rows = csv.DictReader(io.StringIO(text, newline=""), dialect=_dialect(text), strict=True)
    problems: list[Problem] = []
    entries: dict[str, Entry] = {}
    try:
        problems += _heading_problems(rows.fieldnames)
        for row in () if problems else rows:
            made = _entry(row, rows.line_num)
            if isinstance(made, Problem):
                problems.append(made)
            elif made.user in entries:
                first = entries[made.user].line
                problems.append(Problem(line=made.line, what=f"{made.user} is in line {first} too"))
            else:
                entries[made.user] = made
    except csv.Error as error:
        problems.append(Problem(line=max(rows.line_num, 1), what=str(error)))
    return PeopleFile(entries=tuple(entries.values()), problems=tuple(problems))


def end_of_day_ms(text: str) -> int:
    """Return the last millisecond of a day, ``YYYY-MM-DD``, UTC.

    Raises:
        ValueError: It is no such day.
    """
    following = date.fromisoformat(text) + timedelta(days=1)
    start = datetime(following.year, following.month, following.day, tzinfo=UTC)
    return int(start.timestamp() * 1000) - 1


def _dialect(text: str) -> type[csv.Dialect]:
    """Return the dialect: spreadsheets of some countries write semicolons."""

    class Dialect(csv.excel):
        delimiter = ";" if ";" in text.partition("\n")[0] else ","

    return Dialect


def _heading_problems(headings: object) -> Iterator[Problem]:
    found = [str(one) for one in headings] if isinstance(headings, list | tuple) else []
    for needed in NEEDED:
        if needed not in found:
            yield Problem(line=1, what=f"there is no column {needed!r}")
    for heading in found:
        if heading not in COLUMNS:
            yield Problem(line=1, what=f"no column is called {heading!r}; there are {COLUMNS}")


def _entry(row: dict[str, str | None], line: int) -> Entry | Problem:
    if None in row.values() or None in row:
        return Problem(line=line, what="this line has another number of columns than the first")
    value = {key: (text or "").strip() for key, text in row.items()}
    if not value[USER] or not value[NAME]:
        return Problem(line=line, what="user and name are needed")
    ends = value.get(ENDS, "")
    try:
        ends_ms = end_of_day_ms(ends) if ends else None
    except (ValueError, OverflowError):
        return Problem(line=line, what=f"{ends!r} is no day; write 2027-01-31")
    return Entry(
        line=line,
        user=value[USER],
        name=value[NAME],
        ward=value.get(WARD, ""),
        roles=tuple(value.get(ROLES, "").replace("+", " ").split()) or DEFAULT_ROLES,
        ends_ms=ends_ms,
    )
