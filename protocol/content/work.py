"""What is to be done, what must be understood, and who takes over."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Annotated

from crypto.codec import U64, Struct
from protocol.content.wire import (
    FIELD_BYTES,
    Line,
    People,
    Prose,
    Reference,
    check_instant,
    check_line,
    check_people,
    check_prose,
)
from protocol.identifiers import user_name
from protocol.oncall.wire import MaybeUser, enum_of


class TaskState(IntEnum):
    """Where a task stands."""

    OPEN = 1
    TAKEN = 2
    DONE = 3
    CANCELLED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Struct):
    """Something to be done.

    Attributes:
        title: What.
        assignee: By whom; None while nobody has taken it.
        due_ms: By when, milliseconds since the epoch; 0 for no time.
        note: May be empty.
    """

    title: Line = field(repr=False)
    assignee: MaybeUser = None
    due_ms: U64 = 0
    note: Prose = field(default="", repr=False)

    def __post_init__(self) -> None:
        check_line(self.title)
        check_instant(self.due_ms, none=True)
        check_prose(self.note, at_most=FIELD_BYTES, empty=True)
        if self.assignee is not None:
            user_name(self.assignee)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskChange(Struct):
    """A task stands elsewhere, or with somebody else.

    Attributes:
        target: The task.
        state: Where it stands from now on.
        assignee: Who has it from now on; None leaves that as it is.
    """

    target: Reference
    state: Annotated[TaskState, enum_of(TaskState)]
    assignee: MaybeUser = None

    def __post_init__(self) -> None:
        if self.assignee is not None:
            user_name(self.assignee)


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticalResult(Struct):
    """A finding that somebody must take in: it is closed only after it was read back rightly.

    Attributes:
        patient: As the house refers to patients; may be empty where the conversation has a card.
        test: What was measured.
        value: What came out, with its unit: this is what is repeated.
        note: May be empty.
    """

    patient: Line = field(default="", repr=False)
    test: Line = field(repr=False)
    value: Line = field(repr=False)
    note: Prose = field(default="", repr=False)

    def __post_init__(self) -> None:
        check_line(self.patient, empty=True)
        check_line(self.test)
        check_line(self.value)
        check_prose(self.note, at_most=FIELD_BYTES, empty=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBack(Struct):
    """A critical result's value as somebody typed it again."""

    target: Reference
    value: Line = field(repr=False)

    def __post_init__(self) -> None:
        check_line(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing(Struct):
    """A critical result is dealt with; void while nobody has read it back rightly."""

    target: Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOff(Struct):
    """A patient or a task passes to others: situation, background, assessment, recommendation.

    Attributes:
        subject: Patient or matter, in one line.
        to: Who takes over; empty for whoever accepts.
    """

    subject: Line = field(repr=False)
    situation: Prose = field(repr=False)
    background: Prose = field(repr=False)
    assessment: Prose = field(repr=False)
    recommendation: Prose = field(repr=False)
    to: People = ()

    def __post_init__(self) -> None:
        check_line(self.subject)
        check_prose(self.situation, at_most=FIELD_BYTES)
        for part in (self.background, self.assessment, self.recommendation):
            check_prose(part, at_most=FIELD_BYTES, empty=True)
        check_people(self.to)


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOffAcceptance(Struct):
    """This person takes over what a hand-off note says."""

    target: Reference
