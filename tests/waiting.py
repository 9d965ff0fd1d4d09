"""Waiting for what comes at once, on a machine that may be busy with other tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

WITHIN_S = 60.0
"""Seconds after which it is taken that something never comes; no measure of speed."""


async def comes_true(holds: Callable[[], bool], *, within_s: float = WITHIN_S) -> None:
    """Return once something holds.

    Raises:
        TimeoutError: It never did.
    """
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110 - it is asked for, and tells nobody
            await asyncio.sleep(0.02)
