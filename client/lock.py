"""Locking: when a device locks by itself, and how its keys leave memory.

Python cannot erase memory, so the process that held an open store ends. Whatever shows the lock
screen, and rings, is a process that never held a key.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from client.store import Store

LOCKED_STATUS = 75
"""Exit status of a process that ended because its store was locked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoLock:
    """When an open store locks for lack of use.

    Attributes:
        after_ms: How long nobody may do anything, milliseconds.
        used_ms: When somebody last did, on a clock that does not go back and goes on while the
            device sleeps.
    """

    after_ms: int
    used_ms: int

    def used(self, now_ms: int) -> AutoLock:
        """Return it after somebody did something; nothing once it is due."""
        if self.is_due(now_ms):
            return self
        return AutoLock(after_ms=self.after_ms, used_ms=max(now_ms, self.used_ms))

    def is_due(self, now_ms: int) -> bool:
        """Return whether the store is to be locked."""
        return now_ms - self.used_ms >= self.after_ms


def lock(store: Store) -> NoReturn:
    """Close the store and end this process at once, and with it every copy of a key in memory."""
    try:
        store.close()
    finally:
        os._exit(LOCKED_STATUS)
