"""The screen of a form: named lines to fill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content as Plain
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from client_cli.forms import Values


class Form(ModalScreen[dict[str, str] | None]):
    """Named lines to fill; Enter goes on to the next, on the last one it is done."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Back")]

    def __init__(
        self, title: str, fields: Sequence[tuple[str, str]], *, values: Values | None = None
    ) -> None:
        super().__init__()
        self._title = title
        self._fields = fields
        self._values = values or {}

    def compose(self) -> ComposeResult:
        """Lay out label and line of each field."""
        with Vertical(classes="sheet"):
            yield Static(Plain(self._title), classes="sheet-title")
            with VerticalScroll(classes="sheet-text"):
                for name, label in self._fields:
                    yield Static(Plain(label), classes="label")
                    yield Input(self._values.get(name, ""), id=f"field-{name}", compact=True)
            yield Static("Enter: next, and send on the last   Esc: back", classes="sheet-keys")

    def on_mount(self) -> None:
        """Begin with the first line."""
        self.query(Input).first().focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Go on, or be done."""
        inputs = list(self.query(Input))
        place = inputs.index(event.input)
        if place + 1 < len(inputs):
            inputs[place + 1].focus()
            return
        names = [name for name, _ in self._fields]
        self.dismiss({name: one.value.strip() for name, one in zip(names, inputs, strict=True)})
