"""Screens that lie over others: text to read, a line to type, a choice, a last question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, ProgressBar, Static
from textual.widgets.option_list import Option


class Sheet(ModalScreen[str | None]):
    """Text to read, in lines; closes on Escape, or answers with one of its keys."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "dismiss_with('')", "Back")]

    def __init__(self, title: str, lines: Sequence[str], *, keys: str = "", hint: str = "") -> None:
        super().__init__()
        self._title = title
        self._lines = lines
        self._keys = keys
        self._hint = hint

    def compose(self) -> ComposeResult:
        """Lay out title, text and keys."""
        with Vertical(classes="sheet"):
            yield Static(Content(self._title), classes="sheet-title")
            with VerticalScroll(classes="sheet-text"):
                yield Static(Content("\n".join(self._lines)))
            yield Static(Content(f"{self._hint}   Esc back".strip()), classes="sheet-keys")

    def on_key(self, event: events.Key) -> None:
        """Answer with a key of this sheet, which then means nothing to the screen below."""
        if event.character and event.character in self._keys:
            event.stop()
            self.dismiss(event.character)

    def action_dismiss_with(self, answer: str) -> None:
        """Close the sheet."""
        self.dismiss(answer or None)


class Ask(ModalScreen[str | None]):
    """One line to type; Enter gives it, Escape nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Back")]

    def __init__(
        self, title: str, *, lines: Sequence[str] = (), value: str = "", password: bool = False
    ) -> None:
        super().__init__()
        self._title = title
        self._lines = lines
        self._value = value
        self._password = password

    def compose(self) -> ComposeResult:
        """Lay out title, explanation and the line."""
        with Vertical(classes="sheet short"):
            yield Static(Content(self._title), classes="sheet-title")
            if self._lines:
                yield Static(Content("\n".join(self._lines)))
            yield Input(self._value, password=self._password)
            yield Static("Enter: yes   Esc: back", classes="sheet-keys")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Give what was typed; nothing typed is nothing."""
        self.dismiss(event.value.strip() or None)


class Menu(ModalScreen[str | None]):
    """A choice among lines; Enter takes the marked one, its own key takes it at once."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Back")]

    def __init__(self, title: str, choices: Sequence[tuple[str, str, str]]) -> None:
        """Offer choices.

        Args:
            title: What is chosen.
            choices: Id, key and words of each.
        """
        super().__init__()
        self._title = title
        self._choices = choices

    def compose(self) -> ComposeResult:
        """Lay out title and choices."""
        with Vertical(classes="sheet short"):
            yield Static(Content(self._title), classes="sheet-title")
            yield OptionList(
                *(
                    Option(Content(f"{key}  {words}" if key else words), id=name)
                    for name, key, words in self._choices
                )
            )
            yield Static("Enter: choose   Esc: back", classes="sheet-keys")

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Take the marked choice."""
        self.dismiss(event.option.id)

    def on_key(self, event: events.Key) -> None:
        """Take the choice whose key was pressed."""
        for name, key, _ in self._choices:
            if key and event.character == key:
                event.stop()
                self.dismiss(name)
                return


class Check(ModalScreen[bool]):
    """The recipient check: cautions, and a key that sends all the same.

    The key is none that Enter or typing gives: whoever presses Enter twice has not agreed.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "Go on"),
        Binding("d", "divert", "To whoever covers"),
        Binding("escape", "dismiss(False)", "Back"),
    ]

    def __init__(self, title: str, lines: Sequence[str], *, go_on: str, divert: str = "") -> None:
        """Lay cautions out.

        Args:
            title: What is asked.
            lines: What should be known first.
            go_on: What ``y`` does.
            divert: What ``d`` does; empty where there is nothing to divert to.
        """
        super().__init__()
        self._title = title
        self._lines = lines
        self._go_on = go_on
        self._divert = divert
        self.diverted = False

    def compose(self) -> ComposeResult:
        """Lay out the cautions."""
        with Vertical(classes="sheet short"):
            yield Static(Content(self._title), classes="sheet-title")
            yield Static(Content("\n".join(f"- {line}" for line in self._lines)))
            divert = f"   d: {self._divert}" if self._divert else ""
            keys = f"y: {self._go_on}{divert}   Esc: back"
            yield Static(Content(keys), classes="sheet-keys")

    def action_divert(self) -> None:
        """Do not go on, and say that it is to go elsewhere."""
        if self._divert:
            self.diverted = True
            self.dismiss(False)


class Transfer(ModalScreen[None]):
    """A file on its way, with a bar; whoever opened it closes it."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title

    def compose(self) -> ComposeResult:
        """Lay out name and bar."""
        with Vertical(classes="sheet short"):
            yield Static(Content(self._title), classes="sheet-title")
            yield ProgressBar(show_eta=True)
            yield Static("It goes on where it stopped if the network breaks.", classes="dim")

    def advance(self, done: int, total: int) -> None:
        """Show how far it is."""
        self.query_one(ProgressBar).update(total=total, progress=done)
