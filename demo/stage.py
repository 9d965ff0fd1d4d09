"""What is printed while the night goes on, and the table of claims at its end."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

RULE = "-" * 78


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
        self._print(f"\n{title}\n{'-' * len(title)}")

    def tell(self, line: str) -> None:
        """Say what happens, with the seconds since the beginning."""
        self._print(f"{time.monotonic() - self._began_s:7.1f}  {line}")

    def claim(self, what: str, *, found: str, holds: bool) -> None:
        """Keep a claim with what was measured, and say it."""
        self.claims.append(Claim(what=what, found=found, holds=holds))
        self.tell(f"{'shown' if holds else 'NOT SO'}: {what} ({found})")

    def close(self) -> bool:
        """Print the table; return whether every claim holds."""
        width = max((len(one.what) for one in self.claims), default=0)
        self._print(f"\n{RULE}\nMeasured in this run\n{RULE}")
        for one in self.claims:
            self._print(f"{'yes' if one.holds else 'NO '}  {one.what.ljust(width)}  {one.found}")
        failed = sum(not one.holds for one in self.claims)
        self._print(RULE)
        self._print(f"{len(self.claims)} claims, {failed} not so.")
        return not failed

    def _print(self, text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
