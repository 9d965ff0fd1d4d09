"""Choosing people: by name, role or ward, tolerant of spelling, and warned of similar names."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from client.views import PersonView
from client.words import UserName

Directory = Callable[[str], list[PersonView]]


class People(ModalScreen[list[UserName] | None]):
    """People to choose; Enter adds or removes the marked one, Ctrl-S is done."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Back"),
        Binding("down", "into_list", "To the list", show=False),
        Binding("ctrl+s,f5", "done", "Done"),
    ]

    def __init__(
        self, title: str, *, directory: Directory, without: Collection[UserName] = ()
    ) -> None:
        super().__init__()
        self._title = title
        self._directory = directory
        self._without = set(without)
        self._chosen: list[UserName] = []

    def compose(self) -> ComposeResult:
        """Lay out what is typed, who is found, who is chosen."""
        with Vertical(classes="sheet"):
            yield Static(Content(self._title), classes="sheet-title")
            yield Input(placeholder="Name, role or ward")
            yield OptionList(classes="sheet-text")
            yield Static(id="chosen")
            yield Static("Enter: add or remove   Ctrl-S: done   Esc: back", classes="sheet-keys")

    def on_mount(self) -> None:
        """Begin with everybody."""
        self._show("")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Look for what is typed."""
        self._show(event.value)

    def on_input_submitted(self) -> None:
        """Add or remove the first who is found; with nothing typed, be done."""
        options = self.query_one(OptionList)
        if not self.query_one(Input).value.strip() and self._chosen:
            self.action_done()
        elif options.option_count:
            self._toggle(options.get_option_at_index(options.highlighted or 0).id)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Add or remove the marked one."""
        self._toggle(event.option.id)

    def action_into_list(self) -> None:
        """Go from the line to those who were found."""
        self.query_one(OptionList).focus()

    def action_done(self) -> None:
        """Give who was chosen; nobody is nothing."""
        self.dismiss(self._chosen or None)

    def _toggle(self, name: str | None) -> None:
        user = UserName(name or "")
        if user in self._chosen:
            self._chosen.remove(user)
        else:
            self._chosen.append(user)
        # The next name is typed at once; the list shows everybody again.
        self.query_one(Input).value = ""
        self._show("")

    def _show(self, text: str) -> None:
        found = [one for one in self._directory(text) if one.user not in self._without]
        options = self.query_one(OptionList)
        options.set_options(Option(Content(self._line(one)), id=one.user) for one in found)
        if found:
            options.highlighted = 0
        names = {one.user: one.name for one in self._directory("")}
        chosen = ", ".join(names.get(user, user) for user in self._chosen)
        self.query_one("#chosen", Static).update(Content(f"Chosen: {chosen or 'nobody yet'}"))

    def _line(self, person: PersonView) -> str:
        mark = "[x]" if person.user in self._chosen else "[ ]"
        duty = f", on call: {', '.join(person.on_call)}" if person.on_call else ""
        return f"{mark} {person.name} ({person.user}), {person.ward or 'no ward'}{duty}"
