"""What a ward organises: shifts, check-ins, rooms, incidents."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Annotated

from crypto.codec import U64, Struct
from crypto.errors import InvalidError
from protocol.content.wire import (
    FIELD_BYTES,
    ITEMS,
    Flag,
    Line,
    Lines,
    Prose,
    Reference,
    check_instant,
    check_line,
    check_prose,
    check_span,
)
from protocol.identifiers import role_name
from protocol.oncall.wire import Role, enum_of


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenShift(Struct):
    """A shift that nobody has; the first claim in the log has it.

    Attributes:
        role: Whose shift.
        start_ms: Milliseconds since the epoch.
        end_ms: Milliseconds since the epoch.
        note: May be empty.
    """

    role: Role
    start_ms: U64
    end_ms: U64
    note: Line = field(default="", repr=False)

    def __post_init__(self) -> None:
        role_name(self.role)
        check_span(self.start_ms, self.end_ms)
        check_line(self.note, empty=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim(Struct):
    """This person wants an open shift."""

    target: Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckIn(Struct):
    """Questions that each person answers by themselves.

    Attributes:
        title: What it is about.
        questions: One line each, 1 to ``ITEMS``.
        answer_by_ms: After this whoever has not answered counts as unanswered; 0 for no time.
    """

    title: Line = field(repr=False)
    questions: Lines = field(repr=False)
    answer_by_ms: U64 = 0

    def __post_init__(self) -> None:
        check_line(self.title)
        check_instant(self.answer_by_ms, none=True)
        _check_lines(self.questions, empty=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckInAnswer(Struct):
    """Answers to a check-in, one for each question; an empty one is left open."""

    target: Reference
    answers: Lines = field(repr=False)

    def __post_init__(self) -> None:
        _check_lines(self.answers, empty=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomRequest(Struct):
    """A room or a resource at a time, to be confirmed.

    Attributes:
        room: Which.
        start_ms: Milliseconds since the epoch.
        end_ms: Milliseconds since the epoch.
        answer_by_ms: After this it counts as unanswered.
        note: May be empty.
    """

    room: Line = field(repr=False)
    start_ms: U64
    end_ms: U64
    answer_by_ms: U64
    note: Line = field(default="", repr=False)

    def __post_init__(self) -> None:
        check_line(self.room)
        check_span(self.start_ms, self.end_ms)
        check_instant(self.answer_by_ms)
        check_line(self.note, empty=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomConfirmation(Struct):
    """A room request is granted or not."""

    target: Reference
    granted: Flag


class Stage(IntEnum):
    """Where an incident stands."""

    OPENED = 1
    UPDATE = 2
    CLOSED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentEvent(Struct):
    """A line of an incident's timeline; the closing one is its report.

    Attributes:
        stage: Opened, an update, or closed.
        at_ms: When it happened, which may be before it is told.
        text: What happened; in the closing event, the report.
    """

    stage: Annotated[Stage, enum_of(Stage)]
    at_ms: U64
    text: Prose = field(repr=False)

    def __post_init__(self) -> None:
        check_instant(self.at_ms)
        check_prose(self.text)


def _check_lines(lines: tuple[str, ...], *, empty: bool) -> None:
    if not 1 <= len(lines) <= ITEMS:
        raise InvalidError("a check-in has 1 to ITEMS questions")
    for line in lines:
        check_line(line, at_most=FIELD_BYTES // 8, empty=empty)
