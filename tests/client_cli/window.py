"""A program under a terminal of its own, as somebody has it who sits before it."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time

import psutil

WITHIN_S = 60.0
"""Seconds in which something shows, also on a machine that is busy."""


class Window:
    """A program that is drawn, typed to, and ended.

    Attributes:
        written: What it has written so far.
    """

    def __init__(self, *command: str, columns: int = 80, lines: int = 24) -> None:
        self._main, other = pty.openpty()
        self._process = subprocess.Popen(
            command,
            stdin=other,
            stdout=other,
            stderr=other,
            env={
                **os.environ,
                "TERM": "xterm-256color",
                "COLUMNS": str(columns),
                "LINES": str(lines),
            },
            close_fds=True,
            start_new_session=True,
        )
        os.close(other)
        self.written = b""

    @property
    def process(self) -> psutil.Process:
        """The program's first process."""
        return psutil.Process(self._process.pid)

    def until(self, text: bytes | re.Pattern[bytes], *, after: int = 0) -> None:
        """Return once a text has been drawn behind so many bytes."""
        wanted = re.compile(re.escape(text)) if isinstance(text, bytes) else text
        end = time.monotonic() + WITHIN_S
        while wanted.search(self.written, after) is None:
            assert time.monotonic() < end, self.written[-500:]
            self._read()

    def press(self, keys: bytes) -> None:
        """Type."""
        os.write(self._main, keys)

    def cpu_s(self) -> float:
        """Return what the processes that run now, and those that they waited for, have used."""
        top = psutil.Process(self._process.pid)
        running = [one.cpu_times() for one in (top, *top.children(recursive=True))]
        used = sum(one.user + one.system for one in running)
        waited = top.cpu_times()
        return used + waited.children_user + waited.children_system

    def ended(self) -> int:
        """Return the exit status once the program has ended."""
        end = time.monotonic() + WITHIN_S
        while self._process.poll() is None:
            assert time.monotonic() < end
            self._read()
        self._read()
        os.close(self._main)
        return self._process.returncode

    def gone(self, process: psutil.Process) -> None:
        """Return once another process that draws here has ended, by whoever reaps it."""
        end = time.monotonic() + WITHIN_S
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < end
            self._read()

    def kill(self) -> None:
        """End the program and what it has started, unless it has ended."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            os.close(self._main)

    def _read(self) -> None:
        ready, _, _ = select.select([self._main], [], [], 0.05)
        if ready:
            try:
                self.written += os.read(self._main, 1 << 16)
            except OSError:
                return
