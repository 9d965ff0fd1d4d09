"""The review's screen: a timeline with search, and beside each line its context and its course."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import DataTable, Footer, Header, Input, Static

from archive.export import instant
from archive.opening_reading import Line
from archive.review_program import told_course, told_members

if TYPE_CHECKING:
    from archive.review_program import Opened

PAGE_LINES = 200
"""Lines shown at once; the next ones are one key away."""

SUMMARY_CHARACTERS = 80
"""Of a line's text in the table; all of it stands beside it."""


class ReviewScreen(App[None]):
    """One opened scope."""

    CSS_PATH = "review_screen.tcss"
    TITLE = "Wardline review"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "find", "Search"),
        Binding("t", "timeline", "Timeline"),
        Binding("n", "next", "Next lines"),
        Binding("c", "context", "Context"),
        Binding("d", "course", "Delivery"),
        Binding("p", "people", "Participants"),
        Binding("q", "quit", "End"),
    ]

    def __init__(self, scope: Opened) -> None:
        super().__init__()
        self._scope = scope
        self._lines: dict[str, Line] = {}
        self._last = -1

    def compose(self) -> ComposeResult:
        """Lay the screen out."""
        yield Header()
        yield Input(placeholder="Search all words", id="search")
        with Horizontal():
            yield DataTable(id="lines", cursor_type="row")
            yield Static(id="detail")
        yield Footer()

    def on_mount(self) -> None:
        """Show the first lines."""
        self.sub_title = f"case {self._scope.permit.request.case}"
        self.table.add_columns("time", "sender", "kind", "text")
        self.table.focus()
        self.action_timeline()

    @property
    def table(self) -> DataTable[Any]:
        """The lines."""
        return self.query_one("#lines", DataTable)

    @property
    def chosen(self) -> Line | None:
        """The line under the cursor."""
        if not self.table.row_count:
            return None
        key = self.table.coordinate_to_cell_key(self.table.cursor_coordinate).row_key
        return self._lines.get(str(key.value))

    def action_find(self) -> None:
        """Type what to search for."""
        self.query_one("#search", Input).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Search."""
        if event.value.strip():
            self._show(self._scope.review.search(event.value, limit=PAGE_LINES))
        else:
            self.action_timeline()
        self.table.focus()

    def action_timeline(self) -> None:
        """Show the lines from the first."""
        self._last = -1
        self.action_next()

    def action_next(self) -> None:
        """Show the lines that follow."""
        lines = self._scope.review.timeline(after_index=self._last, limit=PAGE_LINES)
        if lines:
            self._last = lines[-1].index
            self._show(lines)

    def action_context(self) -> None:
        """Show the lines around the chosen one."""
        if self.chosen is not None:
            self._show(self._scope.review.context(self.chosen.index), chosen=self.chosen)

    def action_course(self) -> None:
        """Tell who got, read and acknowledged the chosen message, and how its page went."""
        if self.chosen is None:
            return
        told = told_course(self._scope, self.chosen.index)
        lines = [
            f"{instant(one['sent_ms'])}  {one['sender']}  {one['kind']}" for one in told["delivery"]
        ]
        lines += [f"{instant(one['sent_ms'])}  page  {one['fields']}" for one in told["pages"]]
        self._detail("Delivery and escalation", lines or ["nobody has told"])

    def action_people(self) -> None:
        """Tell who wrote where, and who could read it."""
        written = [
            f"{one['group'][:8]}  {one['sender']}  {one['messages']} messages"
            for one in self._scope.review.participants()
        ]
        could = [
            f"{one['group'][:8]} epoch {one['epoch']}: {', '.join(one['members'])}"
            for one in told_members(self._scope)
        ]
        self._detail("Participants", [*written, "", *could])

    def on_data_table_row_highlighted(self, _: DataTable.RowHighlighted) -> None:
        """Show all of the chosen line."""
        line = self.chosen
        if line is None:
            return
        fault = [f"NOT AS IT SHOULD BE: {line.fault}"] if line.fault else ["signature verified"]
        self._detail(
            f"{instant(line.sent_ms)}  {line.sender}",
            [line.text, "", f"{line.kind}, {line.priority}, record {line.index}", *fault],
        )

    def _detail(self, title: str, lines: list[str]) -> None:
        # Text, not markup: what people wrote decides nothing about this screen.
        self.query_one("#detail", Static).update(Text("\n".join([title, "", *lines])))

    def _show(self, lines: list[Line], *, chosen: Line | None = None) -> None:
        self.table.clear()
        self._lines = {str(line.index): line for line in lines}
        for line in lines:
            text = line.text.replace("\n", " ")[:SUMMARY_CHARACTERS]
            self.table.add_row(
                instant(line.sent_ms),
                line.sender,
                Text(line.kind or line.fault),
                Text(text),
                key=str(line.index),
            )
        if chosen is not None and str(chosen.index) in self._lines:
            self.table.move_cursor(row=self.table.get_row_index(str(chosen.index)))
