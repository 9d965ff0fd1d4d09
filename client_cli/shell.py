"""``wardline shell``: several commands over one open device, so with one PIN and one code.

The device lives in a thread of its own, and goes on following its conversations while a person
thinks. With ``--json`` each command ends with a line ``{"line": 3, "exit": 0}``.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from client_cli.output import CommandError, Exit, say_json, warn

if TYPE_CHECKING:
    from client.device import Device
    from client_cli.session import Settings

T = TypeVar("T")

PROMPT = "wardline> "
WORDS_THAT_END = ("quit", "exit")
NOT_HERE = ("shell", "line", "enroll", "sign-out")
"""Commands that want a process of their own."""


class Shared:
    """An open device that several commands use, one after the other.

    Attributes:
        options: The shell's.
    """

    def __init__(self, options: Settings) -> None:
        """Open the device and let it run.

        Raises:
            Exception: Whatever opening it raises.
        """
        self.options = options
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._exit = contextlib.AsyncExitStack()
        try:
            self._device, self._task = self._wait(self._open())
        except BaseException:
            self._end()
            raise

    async def _open(self) -> tuple[Device, asyncio.Task[None]]:
        from client_cli.session import connected, running

        device, task = await self._exit.enter_async_context(running(self.options))
        await connected(device, task, options=self.options, must_connect=False)
        return device, task

    def do(self, work: Callable[[Device], Awaitable[T]]) -> T:
        """Return what ``work`` gives, or raise why the device has ended."""
        from client_cli.session import done

        return self._wait(done(work, self._device, self._task))

    def close(self) -> None:
        """Close the device."""
        self._wait(self._exit.aclose())
        self._end()

    def _wait(self, work: Awaitable[T]) -> T:
        async def waited() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(waited(), self._loop).result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def run(options: Settings, command: Callable[[list[str], Shared], int]) -> int:
    """Read lines and run each as a command, until the input ends; return the last one's status.

    Args:
        options: The shell's own: whose device, where, and whether a program reads.
        command: Runs a command line over the shared device.
    """
    last = int(Exit.DONE)
    with contextlib.closing(Shared(options)) as shared:
        for number, words in _lines(interactive=sys.stdin.isatty()):
            if words and words[0] in WORDS_THAT_END:
                break
            last = _one(words, shared, command)
            if options.as_json:
                say_json({"line": number, "exit": last})
    return last


def _one(words: list[str], shared: Shared, command: Callable[[list[str], Shared], int]) -> int:
    if not words:
        return int(Exit.DONE)
    if words[0] in NOT_HERE:
        warn(f"{words[0]} is a program of its own; leave this one first.")
        return int(Exit.USAGE)
    return command(words, shared)


def _lines(*, interactive: bool) -> Iterator[tuple[int, list[str]]]:
    number = 0
    while True:
        if interactive:
            sys.stderr.write(PROMPT)
            sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            return
        number += 1
        try:
            yield number, shlex.split(line, comments=True)
        except ValueError as error:
            raise CommandError(Exit.USAGE, "bad_line", f"line {number}: {error}") from None


class Current:
    """The shared device of the command that runs now, and the shell's options, if there are any."""

    shared: Any = None


@contextlib.contextmanager
def using(shared: Shared) -> Iterator[None]:
    """Let the commands within use a shared device, and the shell's options unless they say so."""
    before, Current.shared = Current.shared, shared
    try:
        yield
    finally:
        Current.shared = before
