"""A clock that only counts time which has surely passed, for deciding what has waited too long.

Letting go late costs room; letting go early loses a message. So while the relay runs only the
monotonic clock counts, and a stop counts what the wall clock says of it, never less than nothing
and never more than ``STOP_MS_MAX``: a wall clock that jumps makes nothing old.
"""

from __future__ import annotations

from server.store import STOP_MS_MAX


class AgeClock:
    """The age of a store in ms. ``age_ms`` and ``wall_ms`` are kept on disk by whoever owns it."""

    __slots__ = ("age_ms", "monotonic_ms", "wall_ms")

    def __init__(self, age_ms: int = 0, wall_ms: int = 0) -> None:
        self.age_ms = age_ms
        self.wall_ms = wall_ms
        self.monotonic_ms: int | None = None

    def tick(self, *, wall_ms: int, monotonic_ms: int) -> None:
        """Advance to now, which the two clocks tell."""
        if self.monotonic_ms is not None:
            passed = max(0, monotonic_ms - self.monotonic_ms)
        elif self.wall_ms:
            passed = min(max(0, wall_ms - self.wall_ms), STOP_MS_MAX)
        else:
            passed = 0
        self.age_ms += passed
        self.wall_ms = wall_ms
        self.monotonic_ms = monotonic_ms
