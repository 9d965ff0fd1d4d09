"""A time that this machine's clock and the relay's have both reached.

What is destroyed by the clock is destroyed for good: a store whose shift is over, messages beyond
the days that policy keeps. A workstation whose clock is a year ahead would destroy what is a day
old, and a relay whose clock is could have it destroyed. So it takes both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from email.utils import parsedate_to_datetime

from client.clocks import RelayClock, awake_ms
from client.errors import UnreachableError
from client.https import Https
from client.link import Address

ASK_S = 5.0
"""Seconds in which a relay says what time it is, or is not waited for."""

PATH = "/healthz"


class Witnessed:
    """Such a time, from the first word of a relay on."""

    def __init__(
        self, clock: Callable[[], int], *, passed_ms: Callable[[], int] = awake_ms
    ) -> None:
        """Begin without having heard of any relay.

        Args:
            clock: This machine's, milliseconds since the epoch.
            passed_ms: Goes on evenly, whatever the clock is set to.
        """
        self._clock = clock
        self._relay = RelayClock(passed_ms=passed_ms)

    def hear(self, told_ms: int) -> None:
        """Take in what time it is now by the relay."""
        self._relay.hear(told_ms)

    def now_ms(self) -> int:
        """Return the time that both have reached, in ms; 0 while no relay was heard."""
        relay_ms = self._relay.now_ms()
        return 0 if relay_ms is None else min(self._clock(), relay_ms)

    async def ask(self, address: Address) -> None:
        """Ask a relay what time it is; one that is not reached, or does not say, is not heard."""
        https = Https(address)
        try:
            async with asyncio.timeout(ASK_S):
                answer = await https.request("GET", PATH, headers={}, most=1024)
            told = parsedate_to_datetime(answer.headers.get("date", ""))
        except (UnreachableError, TimeoutError, ValueError):
            return
        finally:
            https.close()
        if told.tzinfo is not None:
            self.hear(int(told.timestamp() * 1000))
