"""The clocks of this machine, and a relay's time carried on by them."""

from __future__ import annotations

import time
from collections.abc import Callable


def now_ms() -> int:
    """Return this machine's time, milliseconds since the epoch: whatever it has been set to."""
    return time.time_ns() // 1_000_000


def awake_ms() -> int:
    """Return a time in ms that goes on while the machine sleeps, and never back."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class RelayClock:
    """A relay's time, from its last word on: no jump of this machine's clock moves it."""

    def __init__(self, *, passed_ms: Callable[[], int] = awake_ms) -> None:
        """Begin without having heard of any relay; ``passed_ms`` goes on evenly."""
        self._passed_ms = passed_ms
        self._told: tuple[int, int] | None = None

    def hear(self, told_ms: int) -> None:
        """Take in what time the relay says it is now, milliseconds since the epoch."""
        self._told = told_ms, self._passed_ms()

    def now_ms(self) -> int | None:
        """Return the time by its last word; ``None`` before the first."""
        if self._told is None:
            return None
        told_ms, at_ms = self._told
        return told_ms + self._passed_ms() - at_ms

    def age_ms(self) -> int | None:
        """Return how long ago its last word was; ``None`` before the first."""
        return None if self._told is None else self._passed_ms() - self._told[1]
