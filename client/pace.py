"""Pauses and patience by a clock that people set, and that is set right again.

What was noted while the clock was a day ahead lies in the future afterwards: subtracted, it would
put off for a day what is done each minute.
"""

from __future__ import annotations


def is_due(done_ms: int, *, now_ms: int, each_ms: int) -> bool:
    """Tell whether what was done at a time, and is done each so often, is due."""
    return not 0 <= now_ms - done_ms < each_ms


def is_over(until_ms: int, *, now_ms: int, longest_ms: int) -> bool:
    """Tell whether a pause is over that lasts until a time, and never longer than so long."""
    return not 0 < until_ms - now_ms <= longest_ms
