"""What is made of a few named lines: a task, a critical result, a hand-off and the like.

Pure: the screens' forms, ``wardline new`` and the line mode's ``new`` fill the same fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

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


def _check_in(values: Values, reading: Reading) -> CheckIn:
    questions = tuple(q.strip() for q in values["questions"].split("|") if q.strip())
    by = values["answer_by"].strip()
    by_ms = reading.instant(by) if by else 0
    return CheckIn(title=values["title"], questions=questions, answer_by_ms=by_ms)


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
        fields=(
            ("title", "About"),
            ("questions", "Questions, with | between them"),
            ("answer_by", "Answer by (time; empty for none)"),
        ),
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


def role_name(text: str) -> RoleName:
    """Return a typed role's name as roles are written."""
    return RoleName(text.strip().lower())
