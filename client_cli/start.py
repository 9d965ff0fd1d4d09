"""``wardline`` as it begins: with a command the commands, without one the terminal program.

The commands take longer to load than all else that leads to the lock screen, so whoever wants that
one waits without them. This process never holds a key: locking ends the process that held them,
because Python cannot erase memory, and this one then starts a new lock screen.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

HOME_VARIABLE = "WARDLINE_HOME"
DEFAULT_HOME = Path("~/.local/share/wardline")

FORGETTING = {"MALLOC_PERTURB_": "165", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
"""glibc overwrites what is freed: measured at the relay, freed buffers are then gone."""

COMPLETION_VARIABLE = "_WARDLINE_COMPLETE"
"""Set by a shell that asks for completions, whatever else is on the command line."""

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it: 128 and the signal's number."""

ASKED_S = 5.0
"""Seconds that the process with the keys gets to close its store and the screen, once it is asked
to end from outside."""

ENDS = (signal.SIGTERM, signal.SIGHUP)
"""Signals by which a program is asked to end."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    wanted = None if COMPLETION_VARIABLE in os.environ else without_command(given)
    if wanted is None:
        from client_cli import program

        return program.main(given)
    try:
        return terminal(*wanted)
    except KeyboardInterrupt:
        return INTERRUPTED


def without_command(arguments: Sequence[str]) -> tuple[Path, str | None] | None:
    """Return home and whose device, where a command line says no more than that; else None."""
    home, who = default_home(), None
    rest = iter(arguments)
    for name in rest:
        value = next(rest, None)
        if name == "--home" and value is not None:
            home = Path(value).expanduser()
        elif name == "--as" and value is not None:
            who = value
        else:
            return None
    return home, who


def default_home() -> Path:
    """Return where profiles are unless the command line says otherwise."""
    return Path(os.environ.get(HOME_VARIABLE, str(DEFAULT_HOME))).expanduser()


def terminal(home: Path, who: str | None) -> int:
    """Show lock screens and desks until somebody quits; return the exit status."""
    command = [sys.executable, "-m", "client_cli.terminal", str(home), who or ""]
    while True:
        status = _Child().run(command)
        # Asked for once there is something to compare.
        from client.lock import LOCKED_STATUS

        if status != LOCKED_STATUS:
            return status


class _Child:
    """The process that holds the keys: it never outlives the one that was asked to end.

    Nor one that was killed, which can ask for nothing: a pipe between both ends with it.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = 0

    def run(self, command: Sequence[str]) -> int:
        """Run it to its end; return its status, or a signal's where one asked for that end."""
        before = {
            number: signal.signal(number, self._ask)
            for number in ENDS
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        seen, held = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this program itself
                [*command, str(seen)], env={**os.environ, **FORGETTING}, pass_fds=(seen,)
            )
            if self._asked:
                self._pass_on(self._process)
            with self._process:
                status = self._process.wait()
        except BaseException:
            if self._process is not None:
                self._process.kill()
            raise
        finally:
            os.close(seen)
            os.close(held)
            for number, handler in before.items():
                signal.signal(number, handler)
        return 128 + self._asked if self._asked else status

    def _ask(self, number: int, _frame: object) -> None:
        self._asked = number
        if self._process is not None:
            self._pass_on(self._process)

    def _pass_on(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGTERM)
        late = threading.Timer(ASKED_S, process.kill)
        late.daemon = True
        late.start()
