"""What people say in the night: real doctor-patient dialogues where there are, else a small set."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

COLUMN = "dialogue"
TURN_CHARACTERS = 1000
"""Longest turn that is sent as one message, in characters."""

OWN = (
    ("Bed 7's potassium is back: 6.1.", "Seen. ECG now please, I come over.", "ECG is running."),
    ("Mrs Novak wants to know whether she may eat.", "Nothing until the scan.", "I tell her."),
    ("Family of bed 2 is here.", "Ten minutes.", "They wait in the day room.", "Thank you."),
    ("Pump in 4 alarms again.", "Which rate?", "83 ml an hour.", "Swap it, I sign."),
    ("Is the discharge letter for Mr Abel done?", "Signed an hour ago.", "Found it."),
    ("New admission from A&E, chest pain, stable.", "Bed 11.", "On the way.", "Ready."),
)
"""Dialogues where no file is at hand; made up, about nobody."""


class DialogueError(Exception):
    """The file that was named has no dialogues."""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Turns of two people, who speak alternately.

    Attributes:
        turns: At least one.
    """

    turns: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Dialogues and where they came from.

    Attributes:
        name: For the first line of the night.
        dialogues: At least one.
    """

    name: str
    dialogues: tuple[Dialogue, ...] = field(repr=False)

    def turns(self) -> Iterator[str]:
        """Yield every turn of every dialogue, and begin again after the last."""
        while True:
            for dialogue in self.dialogues:
                yield from dialogue.turns


def find(named: Path | None) -> Source:
    """Return the dialogues of a file, of the shared data, or the few of our own.

    Raises:
        DialogueError: The file that was named cannot be used.
    """
    if named is not None:
        return Source(name=named.name, dialogues=_read(named))
    shared = Path(os.environ.get("WARDLINE_SHARED", "../shared")) / "data" / "dialogues"
    files = sorted(shared.glob("*.csv")) if shared.is_dir() else []
    if files:
        return Source(name=files[0].name, dialogues=_read(files[0]))
    own = tuple(Dialogue(turns) for turns in OWN)
    return Source(name="a small set of its own", dialogues=own)


def _read(path: Path) -> tuple[Dialogue, ...]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            found = [Dialogue(turns) for row in rows if (turns := _turns(row.get(COLUMN) or ""))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DialogueError(f"{path}: {type(error).__name__}") from None
    if not found:
        raise DialogueError(f"{path}: no column {COLUMN!r} with turns in it")
    return tuple(found)


def _turns(text: str) -> tuple[str, ...]:
    lines: Iterable[str] = (line.strip() for line in text.splitlines())
    said = (line.partition(":")[2].strip() or line for line in lines if line)
    return tuple(turn[:TURN_CHARACTERS] for turn in said if turn)
