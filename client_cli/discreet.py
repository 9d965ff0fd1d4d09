"""Programs whose end, by a fault or a signal, leaves nothing of what was on the screen.

Textual prints a fault with the values of all variables. In a terminal that scrolls back, these
would be texts, names and patients, for whoever looks next.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import traceback
from pathlib import Path
from typing import Any, TypeVar

from rich.console import RenderableType
from rich.text import Text
from textual.app import App
from textual.notifications import SeverityLevel
from textual.worker import WorkerFailed

T = TypeVar("T")


class Discreet(App[T]):
    """A program that ends by a fault with its class and place alone, and by SIGTERM as by a key.

    Its ``on_mount`` is called beside that of the class that is one: Textual asks every class.
    """

    def on_mount(self) -> None:
        """Leave the screen, and close what is open, where the program is asked to end."""
        if threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.exit)

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,  # noqa: ARG002 - a widget asks for it where nobody said
    ) -> None:
        """Show a line for a moment, as it is.

        People's names and files' stand in it: what looks like markup there is none, and would end
        the program where it closes nothing.
        """
        super().notify(message, title=title, severity=severity, timeout=timeout, markup=False)

    def panic(self, *renderables: RenderableType) -> None:  # noqa: ARG002 - what is not printed
        """End by a fault."""
        self._fatal_error()

    def _fatal_error(self) -> None:
        # Textual's own one is replaced: there is no public place for it.
        self._exit_renderables.append(Text(fault_line(self._exception)))
        self._close_messages_no_wait()


def fault_line(error: BaseException | None) -> str:
    """Return what is said of a fault: which class, and where in the program."""
    cause: Any = error.error if isinstance(error, WorkerFailed) else error
    frames = traceback.extract_tb(cause.__traceback__) if cause is not None else []
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    return f"A fault of the program: {type(cause).__name__} at {place}. It is locked now."
