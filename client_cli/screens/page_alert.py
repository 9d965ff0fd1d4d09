"""A page that asks for an answer: impossible to overlook, and never answered by typing.

Whoever is writing when it comes would press ``a`` or ``d`` without meaning it. So the keys count
only after a moment in which nothing was pressed.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.timer import Timer
from textual.widgets import Static

from client.duty import PageView
from client.words import ConversationId, PageEvent, Priority
from client_cli.quiet import BELL_S, QUIET_S
from client_cli.rows import Reading, page_keys, page_lines

ANSWERS = {
    "a": PageEvent.ACCEPT,
    "d": PageEvent.DECLINE,
    "n": PageEvent.NOT_MINE,
    "o": PageEvent.FINISH,
}
"""The deliberate keys."""


AROUND = 12
"""Lines of a page that are neither its text nor where it stands: frame, head, blanks and keys."""

FRAME = 6
"""Columns of a page's frame and of the blanks inside it."""


class PageAlert(ModalScreen[None]):
    """One page, over everything else."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Later", priority=True)]

    class Answered(Message):
        """This person answers.

        Attributes:
            conversation: The page's.
            event: How.
        """

        def __init__(self, conversation: ConversationId, event: PageEvent) -> None:
            super().__init__()
            self.conversation = conversation
            self.event = event

    class Opened(Message):
        """This person wants to read the page's thread.

        Attributes:
            conversation: The page's.
        """

        def __init__(self, conversation: ConversationId) -> None:
            super().__init__()
            self.conversation = conversation

    def __init__(
        self, page: PageView, *, reading: Callable[[], Reading], quiet_s: float = QUIET_S
    ) -> None:
        super().__init__()
        self.page = page
        self.armed = False
        self._reading = reading
        self._quiet_s = quiet_s
        self._quiet: Timer | None = None

    def compose(self) -> ComposeResult:
        """Lay out the page."""
        with Vertical(id="alert", classes=self.page.priority.name.lower()):
            yield Static(id="alert-head")
            yield Static(id="alert-text")
            yield Static(id="alert-keys")

    def on_mount(self) -> None:
        """Show it, ring, and wait until nobody types."""
        self.show(self.page)
        self._hush()
        self.set_interval(BELL_S, self._ring)
        self.set_interval(1.0, lambda: self.show(self.page))
        self._ring()

    def show(self, page: PageView) -> None:
        """Show where the page stands now."""
        self.page = page
        if not self.query("#alert-keys"):
            # It changes while it is still being laid out; on_mount shows it then.
            return
        head, text, *rest = page_lines(page, self._reading())
        bar = f"*** {page.priority.name} ***" if page.priority is Priority.STAT else ""
        self.query_one("#alert-head", Static).update(Content("\n".join(filter(None, (bar, head)))))
        lines = ("", *self._begun(text, rest), "", *rest)
        self.query_one("#alert-text", Static).update(Content("\n".join(lines)))
        keys = page_keys(page) if self.armed else "Stop typing for a moment: then the keys count."
        self.query_one("#alert-keys", Static).update(Content(f"{keys}  Enter read  Esc later"))

    def _begun(self, text: str, rest: Sequence[str]) -> list[str]:
        """Return as much of a text as leaves room for where the page stands, and for its keys."""
        width = min(self.size.width * 92 // 100, 100) - FRAME
        lines = _wrapped(text.splitlines(), width)
        room = max(2, self.size.height - AROUND - len(_wrapped(rest, width)))
        return lines if len(lines) <= room else [*lines[: room - 1], "... Enter reads the rest"]

    def on_key(self, event: events.Key) -> None:
        """Take a deliberate key; anything earlier only shows that somebody is typing."""
        event.stop()
        if not self.armed:
            self._hush()
            return
        if event.key == "enter":
            self.post_message(self.Opened(self.page.conversation))
        answer = ANSWERS.get(event.character or "")
        if answer is not None and f"{event.character} " in f"{page_keys(self.page)} ":
            self.post_message(self.Answered(self.page.conversation, answer))

    def action_leave(self) -> None:
        """Put it off: it stays on top of the list, and asks again."""
        self.dismiss(None)

    def _hush(self) -> None:
        if self._quiet is not None:
            self._quiet.stop()
        self._quiet = self.set_timer(self._quiet_s, self._arm)

    def _arm(self) -> None:
        self.armed = True
        self.show(self.page)

    def _ring(self) -> None:
        if self.page.alerting:
            self.app.bell()


def _wrapped(lines: Sequence[str], width: int) -> list[str]:
    return [part for line in lines for part in textwrap.wrap(line, max(width, 1)) or [""]]
