"""Search: messages and people in one screen, without network."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

Found = tuple[str, str]
"""Id and line of one hit; an id begins with ``m`` for a message and ``p`` for a person."""

HITS = 60
"""Lines that are shown: whoever finds more types another word."""


class Search(ModalScreen[str | None]):
    """What is typed, and what is found; Enter opens the marked one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Back"),
        Binding("down", "into_list", "To the list", show=False),
    ]

    def __init__(self, find: Callable[[str], list[Found]], *, where: str) -> None:
        super().__init__()
        self._find = find
        self._where = where

    def compose(self) -> ComposeResult:
        """Lay out what is typed and what is found."""
        with Vertical(classes="sheet"):
            yield Static(Content(f"Search {self._where}"), classes="sheet-title")
            yield Input(placeholder="Words, or a name, role or ward")
            yield OptionList(classes="sheet-text")
            yield Static("What this device has; older messages are in the archive.", id="found")
            yield Static("Enter: open   Down: to the list   Esc: back", classes="sheet-keys")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Find what is typed."""
        found = self._find(event.value)
        options = self.query_one(OptionList)
        options.set_options(Option(Content(line), id=name) for name, line in found[:HITS])
        if found:
            options.highlighted = 0
        more = f", the first {HITS} are shown" if len(found) > HITS else ""
        text = f"{len(found)} found{more}." if event.value.strip() else ""
        self.query_one("#found", Static).update(Content(text or "Type to search."))

    def on_input_submitted(self) -> None:
        """Open the marked one."""
        option = self.query_one(OptionList).highlighted_option
        if option is not None:
            self.dismiss(option.id)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Open the one that was chosen."""
        self.dismiss(event.option.id)

    def action_into_list(self) -> None:
        """Go from the line to what was found."""
        self.query_one(OptionList).focus()
