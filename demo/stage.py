"""What is printed while the night goes on, and the table of claims at its end."""

from __future__ import annotations

import sys
import textwrap
import time
from dataclasses import dataclass, field

RULE = "-" * 78
COLUMNS = 80
"""A terminal's width: what was measured stands below its claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Something that the night is to show.

    Attributes:
        what: The claim, as a sentence.
        found: What was measured.
        holds: Whether it is so.
    """

    what: str
    found: str
    holds: bool


@dataclass(slots=True)
class Stage:
    """Tells what happens as it happens, and keeps what was claimed.

    Attributes:
        claims: In the order in which they were measured.
    """

    claims: list[Claim] = field(default_factory=list)
    _began_s: float = field(default_factory=time.monotonic)

    def scene(self, title: str) -> None:
        """Begin a scene."""
        self.say(f"\n{title}\n{'-' * len(title)}")

    def tell(self, line: str) -> None:
        """Say what happens, with the seconds since the beginning."""
        at = f"{time.monotonic() - self._began_s:7.1f}  "
        self.say(at + _wrapped(line, len(at)).lstrip())

    def claim(self, what: str, *, found: str, holds: bool) -> None:
        """Keep a claim with what was measured, and say it."""
        self.claims.append(Claim(what=what, found=found, holds=holds))
        self.tell(f"{'yes' if holds else 'NOT SO'}: {what}")
        self.say(_wrapped(found, 11))

    def table(self) -> str:
        """Return every claim with what was measured, in lines of a terminal's width."""
        lines = [RULE, "Measured in this run", RULE]
        for one in self.claims:
            lines.append(f"{'yes' if one.holds else 'NO '}  {one.what}")
            lines.append(_wrapped(one.found, 5))
        failed = sum(not one.holds for one in self.claims)
        return "\n".join([*lines, RULE, f"{len(self.claims)} claims, {failed} not so."])

    def close(self) -> bool:
        """Print the table; return whether every claim holds."""
        self.say(f"\n{self.table()}")
        return all(one.holds for one in self.claims)

    def say(self, text: str) -> None:
        """Print lines as they are."""
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def _wrapped(text: str, indent: int) -> str:
    return textwrap.fill(
        text,
        COLUMNS,
        initial_indent=" " * indent,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
