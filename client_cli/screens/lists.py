"""The list of conversations, the thread, the composer: they lay rows out and say what was asked.

Keys are those of the list that has the focus, so that typing into the composer is only ever text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.table import Table
from rich.text import Text as RichText
from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.css.styles import RulesMap
from textual.message import Message
from textual.strip import Strip
from textual.style import Style
from textual.visual import RenderOptions, RichVisual, Visual
from textual.widget import Widget
from textual.widgets import OptionList, TextArea
from textual.widgets.option_list import Option

from client.words import Priority
from client_cli.rows import ConversationRow, MessageRow

URGENCY_STYLES = {Priority.STAT: "bold reverse", Priority.URGENT: "bold"}
NONE_YET = " No conversation yet. c begins one with colleagues; p pages who is on call; ? is help."
MARK_WIDTH = 9
WHEN_WIDTH = 10


class ConversationList(OptionList):
    """Conversations, the newest first."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "screen.new_conversation", "New"),
        Binding("p", "screen.page_role", "Page"),
        Binding("b", "screen.board", "On call"),
        Binding("g", "screen.pages", "Pages"),
        Binding("slash", "screen.search", "Search"),
        Binding("v", "screen.devices", "Devices"),
        Binding("e", "screen.ask_access", "Emergency access"),
        Binding("question_mark", "app.help", "Help"),
        Binding("l", "app.lock", "Lock"),
    ]

    def show(self, rows: Sequence[tuple[str, ConversationRow]]) -> None:
        """Show rows by their ids, and keep the mark where it was."""
        ids = [name for name, _ in rows]
        marked = self.highlighted_option.id if self.highlighted_option is not None else None
        if not ids:
            # Whoever has just come in sees what to press, and no empty screen.
            self.set_options([Option(Content(NONE_YET), disabled=True)])
            return
        self.set_options(Option(_Line(self, row), id=name) for name, row in rows)
        self.highlighted = ids.index(marked) if marked in ids else 0


class _Line(Visual):
    """A conversation's row: one line high without being laid out, so that only visible ones are."""

    def __init__(self, widget: Widget, row: ConversationRow) -> None:
        self._widget = widget
        self._row = row

    def get_height(self, rules: RulesMap, width: int) -> int:  # noqa: ARG002 - Textual's signature
        return 1

    def get_optimal_width(self, rules: RulesMap, container_width: int) -> int:  # noqa: ARG002
        return container_width

    def render_strips(
        self, width: int, height: int | None, style: Style, options: RenderOptions
    ) -> list[Strip]:
        laid_out = RichVisual(self._widget, _conversation(self._row))
        return laid_out.render_strips(width, height, style, options)


class MessageList(OptionList):
    """A thread, the newest message last."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "screen.act('r')", "Reply"),
        Binding("k", "screen.act('k')", "Acknowledge"),
        Binding("plus", "screen.act('+')", "React"),
        Binding("t", "screen.act('t')", "Do"),
        Binding("g", "screen.act('g')", "Give back"),
        Binding("s", "screen.act('s')", "Save"),
        Binding("e", "screen.act('e')", "Edit"),
        Binding("x", "screen.act('x')", "Take back"),
        Binding("i", "screen.act('i')", "Details"),
        Binding("m", "screen.members", "Members"),
        Binding("n", "screen.form", "New task, result, hand-off"),
        Binding("f", "screen.attach", "File"),
        Binding("u", "screen.mute", "Mute"),
        Binding("slash", "screen.search", "Search"),
        Binding("question_mark", "app.help", "Help"),
        Binding("tab,w", "screen.write", "Write"),
        Binding("escape,left", "screen.close_thread", "Back"),
    ]

    class Earlier(Message):
        """Somebody went beyond the first message that is shown."""

    def show(self, rows: Sequence[tuple[str, MessageRow]], *, follow: bool) -> None:
        """Show rows by their ids; mark the last one, or what was marked.

        Args:
            rows: Id and row.
            follow: Whether to go to the newest.
        """
        ids = [name for name, _ in rows]
        marked = self.highlighted_option.id if self.highlighted_option is not None else None
        self.set_options(Option(_message(row), id=name) for name, row in rows)
        if not ids:
            return
        self.highlighted = len(ids) - 1 if follow or marked not in ids else ids.index(marked)
        self.call_after_refresh(self.scroll_to_highlight)

    def on_resize(self) -> None:
        """Keep the marked message in sight: the composer below grows with what is written."""
        self.call_after_refresh(self.scroll_to_highlight)

    def action_cursor_up(self) -> None:
        """Go up; beyond the first, ask for earlier ones."""
        if self.highlighted in (0, None):
            self.post_message(self.Earlier())
            return
        super().action_cursor_up()

    def action_cursor_down(self) -> None:
        """Go down; beyond the last is the composer, never the first again."""
        if self.highlighted is not None and self.highlighted < self.option_count - 1:
            super().action_cursor_down()


class Composer(TextArea):
    """Where a message is written. Enter sends, and that is all that a plain key ever does."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "send", "Send", priority=True),
        Binding("ctrl+j,shift+enter,alt+enter", "new_line", "New line"),
        Binding("escape,shift+tab", "screen.leave_composer", "To the thread"),
        Binding("f2,ctrl+t", "screen.priority", "Priority"),
        Binding("f3,ctrl+r", "screen.ask", "Ask for an acknowledgement"),
        Binding("f4", "screen.attach", "File"),
    ]

    class Written(Message):
        """A text is to be sent.

        Attributes:
            text: Without blank ends.
        """

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def action_send(self) -> None:
        """Say that the text is to be sent; an empty one is not."""
        text = self.text.strip()
        if text:
            self.post_message(self.Written(text))

    def action_new_line(self) -> None:
        """Begin a line."""
        self.insert("\n")

    async def _on_key(self, event: events.Key) -> None:
        # The binding above has it already; the text area would insert a line feed.
        if event.key == "enter":
            event.prevent_default()
            return
        await super()._on_key(event)


def _conversation(row: ConversationRow) -> Table:
    style = "" if row.urgency is None else URGENCY_STYLES.get(row.urgency, "bold")
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(width=MARK_WIDTH, no_wrap=True)
    grid.add_column(ratio=2, no_wrap=True, overflow="ellipsis")
    grid.add_column(ratio=3, no_wrap=True, overflow="ellipsis")
    grid.add_column(width=WHEN_WIDTH, no_wrap=True, justify="right")
    grid.add_row(
        RichText(f" {row.mark}", style=style),
        RichText(row.title, style="bold" if row.urgency is not None else ""),
        RichText(row.preview),
        RichText(row.when),
    )
    return grid


def _message(row: MessageRow) -> RichText:
    if row.event:
        return RichText(f"{row.when}  -- {row.who} {row.body}", style="italic")
    text = RichText()
    text.append(f"{row.when}  ")
    text.append(row.who, style="bold")
    for flag in row.flags:
        text.append("  ")
        text.append(flag, style=URGENCY_STYLES.get(row.urgency, "bold"))
    if row.quote:
        text.append(f"\n   > {row.quote}", style="italic")
    for line in row.body.splitlines():
        text.append(f"\n   {line}")
    for note in row.notes:
        text.append(f"\n   = {note}", style="bold")
    if row.foot:
        text.append(f"\n   {row.foot}", style="italic")
    return text
