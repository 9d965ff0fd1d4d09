"""What was given to the programs and what they answered, in one file, as it happened.

The closing table is computed while the night goes on; this file is what it can be held against
afterwards. It has no figures: each line is a time, a program, and what went in or came out.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

NAME = "record.jsonl"
"""The file's name in the folder of the night."""


class Record:
    """Lines of JSON with ``at_ms`` and ``who``, each on disk before what follows from it.

    What people alone know (PIN, password, link, one-time code) is never given to it.
    """

    def __init__(self, file: Path | None = None) -> None:
        """Begin the file; without one nothing is kept."""
        self._file = None if file is None else file.open("x", encoding="utf-8", buffering=1)
        # The steady clock, so that nobody who sets this machine's makes a message arrive early.
        self._began_ms = (time.time() - time.monotonic()) * 1000

    def add(self, who: str, **what: Any) -> None:
        """Keep one line.

        Args:
            who: The program: a user, ``relay``, ``archive``, or ``demo`` for what it saw itself.
            what: One of ``gave``, ``heard``, ``ran`` with its outcome, ``did``, or ``files``.
        """
        if self._file is not None:
            at_ms = round(self._began_ms + time.monotonic() * 1000, 1)
            line = {"at_ms": at_ms, "who": who, **what}
            self._file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")

    def close(self) -> None:
        """Close the file; nothing is kept from then on."""
        if self._file is not None:
            self._file.close()
            self._file = None
