"""What a command prints, and with which status it ends: for people, or as JSON for programs.

Errors say what happened and what to do next, in words that need no manual.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import Any

COLUMN_GAP = "  "


class Exit(IntEnum):
    """Exit status of every command; ``docs/operations.md`` has the same table."""

    DONE = 0
    """It is done."""
    FAULT = 1
    """A fault of the program or of this machine."""
    USAGE = 2
    """The command was not understood."""
    SECRET = 3
    """PIN, password or one-time code is wrong."""
    WITHHELD = 4
    """This device is suspended, wiped or locked."""
    UNREACHABLE = 5
    """No connection, or not all has gone out in time; it is kept and goes out later."""
    REFUSED = 6
    """The relay, or the rules of the conversation, do not allow it."""
    UNKNOWN = 7
    """No such person, conversation, message, device or file."""
    UNDELIVERED = 8
    """Sent, but not confirmed in the time that was given."""
    CHECK_FAILED = 9
    """A check found something wrong."""
    BUSY = 10
    """Another program has this device's store open."""
    DECLINED = 11
    """Somebody was asked, and did not say yes: nothing was done."""


class CommandError(Exception):
    """A command cannot do what was asked; the text is for whoever typed it.

    Attributes:
        exit: How the program ends.
        name: A word by which a program recognises it.
        facts: Numbers that belong to it, for programs.
    """

    def __init__(self, exit_: Exit, name: str, text: str, **facts: int | str | None) -> None:
        super().__init__(text)
        self.exit = exit_
        self.name = name
        self.facts = facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table.

    Attributes:
        key: Its name in JSON.
        heading: Its name on the screen.
        show: Its value as text.
    """

    key: str
    heading: str
    show: Callable[[Any], str] = field(default=str)


def say(text: str) -> None:
    """Print a line for whoever runs the command."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def warn(text: str) -> None:
    """Print a line beside the output."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def say_json(value: object) -> None:
    """Print a value as one line of JSON."""
    say(json.dumps(value, ensure_ascii=False, separators=(", ", ": ")))


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> str:
    """Return rows as aligned columns with headings; the last column is as long as it is."""
    cells = [[column.heading for column in columns]]
    cells += [[column.show(row[column.key]) for column in columns] for row in rows]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    return "\n".join(
        COLUMN_GAP.join(
            cell.ljust(width) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in cells
    )


@dataclass(frozen=True, slots=True)
class Printer:
    """Prints results as people or programs want them.

    Attributes:
        as_json: Whether a program reads.
    """

    as_json: bool

    def rows(
        self,
        name: str,
        rows: Sequence[Mapping[str, Any]],
        columns: Sequence[Column],
        *,
        none: str,
    ) -> None:
        """Print a list: a table, or an object with the list under ``name``; ``none`` if empty."""
        if self.as_json:
            say_json({name: [dict(row) for row in rows]})
        else:
            say(table(rows, columns) if rows else none)

    def result(self, facts: Mapping[str, Any], text: str) -> None:
        """Print one result: facts for a program, text for a person."""
        if self.as_json:
            say_json(dict(facts))
        else:
            say(text)

    def error(self, error: CommandError) -> None:
        """Print why a command did not do it, on standard error."""
        if self.as_json:
            facts = {key: value for key, value in error.facts.items() if value is not None}
            told = {"error": error.name, "exit": int(error.exit), "text": str(error), **facts}
            warn(json.dumps(told, ensure_ascii=False))
        else:
            warn(str(error))


EXIT_MEANINGS: Mapping[Exit, str] = MappingProxyType(
    {
        Exit.DONE: "it is done",
        Exit.FAULT: "a fault of the program or of this machine",
        Exit.USAGE: "the command was not understood",
        Exit.SECRET: "PIN, password or one-time code is wrong",
        Exit.WITHHELD: "this device is suspended, wiped or locked",
        Exit.UNREACHABLE: "no connection, or not out in time; the words say whether it is kept",
        Exit.REFUSED: "the relay, or the rules of the conversation, do not allow it",
        Exit.UNKNOWN: "no such person, conversation, message, device or file",
        Exit.UNDELIVERED: "sent, but not confirmed in the time that was given",
        Exit.CHECK_FAILED: "a check found something wrong",
        Exit.BUSY: "another program has this device's store open",
        Exit.DECLINED: "you were asked once more and did not say yes: nothing was done",
    }
)
"""What each status means; ``docs/operations.md`` is compared with it."""
