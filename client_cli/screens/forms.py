"""Forms: a few named lines, and the content that is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content as Plain
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from client.words import (
    CheckIn,
    Content,
    CriticalResult,
    HandOff,
    IncidentEvent,
    Location,
    OpenShift,
    RoleName,
    RoomRequest,
    Stage,
    Task,
    UserName,
)
from client_cli.rows import Reading

Values = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class FormKind:
    """A form.

    Attributes:
        key: That opens it from the menu.
        title: What it makes.
        fields: Name and label of each line.
        make: The content of filled lines; an error that has words where they do not do.
    """

    key: str
    title: str
    fields: Sequence[tuple[str, str]]
    make: Callable[[Values, Reading], Content]


def _task(values: Values, _: Reading) -> Task:
    assignee = values["assignee"].strip().lower()
    return Task(
        title=values["title"],
        assignee=UserName(assignee) if assignee else None,
        note=values["note"],
    )


def _result(values: Values, _: Reading) -> CriticalResult:
    return CriticalResult(
        patient=values["patient"], test=values["test"], value=values["value"], note=values["note"]
    )


def _hand_off(values: Values, _: Reading) -> HandOff:
    to = sorted({UserName(name) for name in values["to"].replace(",", " ").split()})
    return HandOff(
        subject=values["subject"],
        situation=values["situation"],
        background=values["background"],
        assessment=values["assessment"],
        recommendation=values["recommendation"],
        to=tuple(to),
    )


def _check_in(values: Values, _: Reading) -> CheckIn:
    questions = tuple(q.strip() for q in values["questions"].split("|") if q.strip())
    return CheckIn(title=values["title"], questions=questions)


def _location(values: Values, _: Reading) -> Location:
    return Location(ward=values["ward"], room=values["room"], note=values["note"])


def _shift(values: Values, reading: Reading) -> OpenShift:
    start_ms = reading.instant(values["start"])
    return OpenShift(
        role=role_name(values["role"]),
        start_ms=start_ms,
        end_ms=replace(reading, now_ms=start_ms).instant(values["end"]),
        note=values["note"],
    )


def _room(values: Values, reading: Reading) -> RoomRequest:
    start_ms = reading.instant(values["start"])
    return RoomRequest(
        room=values["room"],
        start_ms=start_ms,
        end_ms=replace(reading, now_ms=start_ms).instant(values["end"]),
        answer_by_ms=reading.instant(values["answer_by"]),
        note=values["note"],
    )


def _incident(values: Values, reading: Reading) -> IncidentEvent:
    stage = STAGES.get(values["stage"].strip().lower(), Stage.UPDATE)
    return IncidentEvent(stage=stage, at_ms=reading.now_ms, text=values["text"])


STAGES = {"opened": Stage.OPENED, "closed": Stage.CLOSED}
"""What is typed for the first and the last line of an incident; all else is an update."""

FORMS = {
    "task": FormKind(
        key="t",
        title="Task",
        fields=(
            ("title", "What is to be done"),
            ("assignee", "By whom (user name; empty: whoever takes it)"),
            ("note", "Note"),
        ),
        make=_task,
    ),
    "result": FormKind(
        key="c",
        title="Critical result: somebody must read the value back",
        fields=(
            ("patient", "Patient"),
            ("test", "Test"),
            ("value", "Value with unit"),
            ("note", "Note"),
        ),
        make=_result,
    ),
    "hand-off": FormKind(
        key="h",
        title="Hand-off (SBAR)",
        fields=(
            ("subject", "Patient or matter"),
            ("situation", "Situation"),
            ("background", "Background"),
            ("assessment", "Assessment"),
            ("recommendation", "Recommendation"),
            ("to", "To (user names; empty: whoever accepts)"),
        ),
        make=_hand_off,
    ),
    "check-in": FormKind(
        key="q",
        title="Check-in: questions that everybody answers",
        fields=(("title", "About"), ("questions", "Questions, with | between them")),
        make=_check_in,
    ),
    "location": FormKind(
        key="w",
        title="Where I am",
        fields=(("ward", "Ward"), ("room", "Room or bed"), ("note", "Note")),
        make=_location,
    ),
    "shift": FormKind(
        key="s",
        title="Open shift: the first who claims it has it",
        fields=(
            ("role", "Role"),
            ("start", "From (19:00, or 2026-11-22 19:00)"),
            ("end", "Until"),
            ("note", "Note"),
        ),
        make=_shift,
    ),
    "room": FormKind(
        key="r",
        title="Room or resource, to be confirmed",
        fields=(
            ("room", "Which"),
            ("start", "From (19:00, or 2026-11-22 19:00)"),
            ("end", "Until"),
            ("answer_by", "Answer needed by"),
            ("note", "Note"),
        ),
        make=_room,
    ),
    "incident": FormKind(
        key="i",
        title="Incident: a line of its timeline",
        fields=(
            ("stage", "opened, closed, or empty for an update"),
            ("text", "What happened; when it is closed, the report"),
        ),
        make=_incident,
    ),
}


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


PAGE_FIELDS = (("text", "What is the matter, and where (only those who are asked can read it)"),)


def role_name(text: str) -> RoleName:
    """Return a typed role's name as roles are written."""
    return RoleName(text.strip().lower())
