"""What a wrong PIN is answered with: how many tries are left, and how long to wait for the next."""

from __future__ import annotations

from dataclasses import dataclass

TRIES = 10
"""Wrong PINs after which the share is locked until password and one-time code are proved."""

_LEFT = 16
"""The count's place in the number: the next power of two above ``TRIES``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tries:
    """Where the guessing of a PIN stands.

    Attributes:
        left: Tries before the share is locked, 0 to ``TRIES``.
        wait_ms: Before the next one, milliseconds.
    """

    left: int
    wait_ms: int

    def detail(self) -> int:
        """Return the number beside ``Code.WRONG_PIN``: the wait times 16, and the tries."""
        return self.wait_ms * _LEFT + self.left

    @classmethod
    def of(cls, detail: int) -> Tries:
        """Return what such a number says."""
        return cls(left=min(detail % _LEFT, TRIES), wait_ms=detail // _LEFT)
