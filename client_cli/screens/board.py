"""The on-call board, and the sheet of pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from client.duty import PageView, RoleView
from client_cli.rows import Reading, page_lines, role_line


class Board(ModalScreen[str | None]):
    """Every role with who has it now and who comes next; Enter pages it, ``n`` who is next."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss(None)", "Back"),
        Binding("n", "page('next')", "Page who is next"),
        Binding("k", "page('backup')", "Page the backup"),
    ]

    def __init__(self, roles: Sequence[RoleView], reading: Reading) -> None:
        super().__init__()
        self._roles = roles
        self._reading = reading

    def compose(self) -> ComposeResult:
        """Lay out the roles."""
        with Vertical(classes="sheet"):
            yield Static("On call now", classes="sheet-title")
            if not self._roles:
                yield Static("No role is set up yet. An administrator does that.")
            yield OptionList(
                *(Option(_row(*role_line(role, self._reading)), id=role.role)
                  for role in self._roles),
                classes="sheet-text",
            )  # fmt: skip
            yield Static(
                "Enter: page who is on call   n: who is next   k: the backup   Esc: back",
                classes="sheet-keys",
            )

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Page the marked role."""
        self.dismiss(event.option.id)

    def action_page(self, turn: str) -> None:
        """Page others of the marked role's people than who is on call."""
        marked = self.query_one(OptionList).highlighted
        if marked is not None:
            self.dismiss(f"{self._roles[marked].role}:{turn}")


class Pages(ModalScreen[str | None]):
    """Pages that this person sent or was asked by; Enter opens one."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "dismiss(None)", "Back")]

    def __init__(self, pages: Sequence[PageView], reading: Reading) -> None:
        super().__init__()
        self._pages = pages
        self._reading = reading

    def compose(self) -> ComposeResult:
        """Lay out the pages."""
        with Vertical(classes="sheet"):
            yield Static("Pages", classes="sheet-title")
            if not self._pages:
                yield Static("No page is open, and none has ended since yesterday.")
            yield OptionList(
                *(
                    Option(
                        Content("\n   ".join(page_lines(page, self._reading))),
                        id=page.conversation.hex(),
                    )
                    for page in self._pages
                ),
                classes="sheet-text",
            )
            yield Static("Enter: open   Esc: back", classes="sheet-keys")

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Open the marked page."""
        self.dismiss(event.option.id)


def _row(role: str, now: str, following: str) -> Table:
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(ratio=2, no_wrap=True, overflow="ellipsis")
    grid.add_column(ratio=4)
    grid.add_column(ratio=2, overflow="ellipsis")
    # As texts: what looks like markup in a name is none.
    grid.add_row(*map(Text, (role, now, f"then {following}")))
    return grid
