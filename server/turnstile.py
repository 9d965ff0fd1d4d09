"""One at a time: what costs much and may wait goes through between two turns of the event loop."""

from __future__ import annotations

import asyncio
from collections import deque


class Turnstile:
    """Lets one pass in each turn of the loop, in the order in which they came.

    A proof costs as much as twenty messages. However many connections prove themselves at once,
    whoever is connected waits for one of them at most.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def passed(self) -> None:
        """Return when it is the caller's turn."""
        turn = self._loop.create_future()
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            self._loop.call_soon(self._let)
        await turn

    def _let(self) -> None:
        turn = self._waiting[0]
        if not turn.done():
            turn.set_result(None)
        self._waiting.popleft()
        if self._waiting:
            self._loop.call_soon(self._let)
