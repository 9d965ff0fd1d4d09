"""The plain words of content: what a list shows, a screen reader reads and a search finds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from protocol.content import (
    Acknowledgement,
    Attachment,
    Card,
    CheckIn,
    CheckInAnswer,
    Claim,
    Closing,
    Content,
    CriticalResult,
    Delivered,
    Edit,
    EmergencyRequest,
    EmergencyVouch,
    HandOff,
    HandOffAcceptance,
    HistoryHandOver,
    IncidentEvent,
    Location,
    Moderators,
    Mute,
    Official,
    OpenShift,
    Reaction,
    Read,
    ReadBack,
    Reply,
    Retraction,
    RoomConfirmation,
    RoomRequest,
    Stage,
    Task,
    TaskChange,
    TaskState,
    Text,
)

NEWER = "This message needs a newer program."

_STATES = {
    TaskState.OPEN: "gave the task back",
    TaskState.TAKEN: "took the task",
    TaskState.DONE: "did the task",
    TaskState.CANCELLED: "cancelled the task",
}
_STAGES = {Stage.OPENED: "Incident opened", Stage.UPDATE: "Incident", Stage.CLOSED: "Report"}


def say(content: Content) -> str:
    """Return what a message says, as one would read it out; its sender's name goes before it."""
    wording = _WORDINGS.get(type(content))
    return NEWER if wording is None else wording(content)


def searchable(content: Content) -> str:
    """Return what a search finds a message by; empty for what only acts on another one."""
    return say(content) if isinstance(content, _FOUND) else ""


def _lines(*parts: str) -> str:
    return "\n".join(part for part in parts if part)


def _attachment(content: Attachment) -> str:
    return _lines(f"File {content.name}", content.caption)


def _location(content: Location) -> str:
    return "At " + ", ".join(part for part in (content.ward, content.room, content.note) if part)


def _task(content: Task) -> str:
    owner = f" (for {content.assignee})" if content.assignee else ""
    return _lines(f"Task: {content.title}{owner}", content.note)


def _task_change(content: TaskChange) -> str:
    given = content.state is TaskState.TAKEN and content.assignee
    return f"gave the task to {content.assignee}" if given else _STATES[content.state]


def _result(content: CriticalResult) -> str:
    patient = f" ({content.patient})" if content.patient else ""
    return _lines(f"Critical result{patient}: {content.test} {content.value}", content.note)


def _hand_off(content: HandOff) -> str:
    return _lines(
        f"Hand-off: {content.subject}",
        f"Situation: {content.situation}",
        f"Background: {content.background}" if content.background else "",
        f"Assessment: {content.assessment}" if content.assessment else "",
        f"Recommendation: {content.recommendation}" if content.recommendation else "",
    )


def _check_in(content: CheckIn) -> str:
    return _lines(f"Check-in: {content.title}", *content.questions)


def _mute(content: Mute) -> str:
    return f"muted {content.user}" if content.until_ms else f"ended the muting of {content.user}"


def _moderators(content: Moderators) -> str:
    return "made moderators: " + (", ".join(content.users) or "nobody")


def _card(content: Card) -> str:
    patient = f" (patient {content.patient})" if content.patient else ""
    return f"named the conversation {content.title or 'without a title'}{patient}"


def _handed_over(content: HistoryHandOver) -> str:
    count = len(content.originals)
    return f"handed over {count} earlier message{'s' if count > 1 else ''}"


_WORDINGS: dict[type[object], Callable[[Any], str]] = {
    Text: lambda content: content.text,
    Reply: lambda content: content.text,
    Edit: lambda content: f"changed a message to: {content.text}",
    Retraction: lambda _: "took a message back",
    Reaction: lambda content: f"{'removed ' if content.removed else ''}{content.mark}",
    Delivered: lambda _: "received",
    Read: lambda _: "read",
    Acknowledgement: lambda _: "acknowledged a message",
    Attachment: _attachment,
    Location: _location,
    Task: _task,
    TaskChange: _task_change,
    CriticalResult: _result,
    ReadBack: lambda content: f"read back: {content.value}",
    Closing: lambda _: "closed the critical result",
    HandOff: _hand_off,
    HandOffAcceptance: lambda _: "accepted the hand-off",
    OpenShift: lambda content: _lines(f"Open shift: {content.role}", content.note),
    Claim: lambda _: "claimed the shift",
    CheckIn: _check_in,
    CheckInAnswer: lambda content: "answered: " + "; ".join(a or "-" for a in content.answers),
    RoomRequest: lambda content: _lines(f"Room: {content.room}", content.note),
    RoomConfirmation: lambda content: f"{'confirmed' if content.granted else 'refused'} the room",
    IncidentEvent: lambda content: f"{_STAGES[content.stage]}: {content.text}",
    Card: _card,
    Moderators: _moderators,
    Mute: _mute,
    HistoryHandOver: _handed_over,
    Official: lambda _: "an official statement",
    EmergencyRequest: lambda content: _lines(
        f"asks for emergency access: {content.about}", content.reason
    ),
    EmergencyVouch: lambda content: _lines(
        f"vouches for the emergency access of {content.user}", content.reason
    ),
}

_FOUND = (
    Text,
    Reply,
    Attachment,
    Location,
    Task,
    CriticalResult,
    HandOff,
    OpenShift,
    CheckIn,
    RoomRequest,
    IncidentEvent,
)
