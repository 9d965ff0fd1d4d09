"""How often a page sounds, and when its keys count: the same at the lock screen and at the desk.

Apart from both, because the lock screen loads no more than it shows.
"""

from __future__ import annotations

QUIET_S = 1.0
"""Seconds without a key before the first one counts: the pause between two words when typing fast
is a quarter of that."""

BELL_S = 3.0
"""Seconds between two sounds while a page waits for an answer."""
