"""An event loop on a clock of its own: nobody waits, time passes when nothing is left to do."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any
from unittest import mock

BEGINS_S = 1_795_000_000
"""When every run begins, in seconds since the epoch."""


class StuckError(Exception):
    """Nothing will ever happen again, and somebody still waits."""


class _Selector(selectors.DefaultSelector):
    """Finds what is ready at once, and lets time pass where nothing is."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise StuckError
        self.loop.pass_s(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to what is due next, and that has no threads."""

    def __init__(self) -> None:
        self._passed_s = 0.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        """Return the seconds since the run began."""
        return self._passed_s

    def pass_s(self, seconds: float) -> None:
        """Let time pass."""
        # A timer is due when its time is reached, which rounding must not keep from happening.
        self._passed_s += max(seconds, 1e-6)

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Do at once what a thread would do."""
        done: Future[Any] = Future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return asyncio.wrap_future(done, loop=self)


@contextmanager
def virtual_time() -> Iterator[VirtualLoop]:
    """Run with a loop whose clock is everybody's."""
    loop = VirtualLoop()

    def now_s() -> float:
        return BEGINS_S + loop.time()

    def now_ns() -> int:
        return int(now_s() * 1e9)

    def passed_ns() -> int:
        return int(loop.time() * 1e9)

    with (
        mock.patch.object(time, "time", now_s),
        mock.patch.object(time, "time_ns", now_ns),
        mock.patch.object(time, "monotonic", loop.time),
        mock.patch.object(time, "monotonic_ns", passed_ns),
    ):
        try:
            yield loop
        finally:
            loop.close()
