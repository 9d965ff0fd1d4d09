"""What became of a task, a critical result, a hand-off, a shift: folded from the answers to it.

Pure. Answers come in the order of the conversation's log, in which every device has them, so every
device comes to the same result; what its sender may not do, or does too late, changes nothing.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

from protocol.content import (
    CheckIn,
    CheckInAnswer,
    Claim,
    Closing,
    Content,
    CriticalResult,
    HandOff,
    HandOffAcceptance,
    OpenShift,
    Reaction,
    ReadBack,
    RoomConfirmation,
    RoomRequest,
    Task,
    TaskChange,
    TaskState,
)
from protocol.identifiers import UserName


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer to a message.

    Attributes:
        by: Whose.
        at_ms: When it was sent.
    """

    by: UserName
    at_ms: int
    content: Content = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class By:
    """Somebody did something.

    Attributes:
        user: Who.
        at_ms: When, milliseconds since the epoch.
    """

    user: UserName
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCourse:
    """Where a task stands.

    Attributes:
        assignee: Who has it.
        changed: The last change; None before the first.
    """

    state: TaskState
    assignee: UserName | None
    changed: By | None = None


class ResultState(IntEnum):
    """Where a critical result stands."""

    OPEN = 1
    READ_BACK = 2
    CLOSED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultCourse:
    """Where a critical result stands.

    Attributes:
        read_back: Who repeated the value rightly first.
        closed: Who closed it.
        wrong: Who repeated something else, and did not get it right since.
    """

    state: ResultState = ResultState.OPEN
    read_back: By | None = None
    closed: By | None = None
    wrong: tuple[UserName, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOffCourse:
    """Who took over what a hand-off note says.

    Attributes:
        accepted: In the order of acceptance.
        awaited: Who was named and has not accepted.
    """

    accepted: tuple[By, ...]
    awaited: tuple[UserName, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftCourse:
    """Who has an open shift.

    Attributes:
        winner: Whose claim came first; None for nobody's.
        late: Who claimed it after that.
    """

    winner: By | None
    late: tuple[UserName, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckInCourse:
    """What people answered.

    Attributes:
        answers: The last answer of each.
        answer_by_ms: Until when; 0 for no time.
    """

    answers: Mapping[UserName, tuple[str, ...]] = field(repr=False)
    answer_by_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomCourse:
    """Whether a room was granted.

    Attributes:
        granted: The last word on it; None without an answer.
        by: Whose.
        answer_by_ms: After this it counts as unanswered.
    """

    granted: bool | None
    by: By | None
    answer_by_ms: int = 0


class VouchState(IntEnum):
    """Where emergency access stands that one colleague has vouched for."""

    OPEN = 1
    """A second colleague must vouch."""
    IN = 2
    """Two have."""
    LAPSED = 3
    """The time is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VouchCourse:
    """Where emergency access stands.

    Attributes:
        until_ms: When it ends, or would end.
    """

    state: VouchState
    until_ms: int


Course = (
    TaskCourse
    | ResultCourse
    | HandOffCourse
    | ShiftCourse
    | CheckInCourse
    | RoomCourse
    | VouchCourse
)


def course(content: Content, author: UserName, answers: Sequence[Answer]) -> Course | None:
    """Return what became of a message; None where nothing can become of its kind.

    Args:
        content: What it says.
        author: Who said it.
        answers: To it, in the order of the log.
    """
    if isinstance(content, Task):
        return _task(content, author, answers)
    if isinstance(content, CriticalResult):
        return _result(content, author, answers)
    if isinstance(content, HandOff):
        return _hand_off(content, author, answers)
    if isinstance(content, OpenShift):
        return _shift(author, answers)
    if isinstance(content, CheckIn):
        return _check_in(content, answers)
    if isinstance(content, RoomRequest):
        return _room(content, author, answers)
    return None


def may_change(
    now: TaskCourse, change: TaskChange, *, author: UserName, by: UserName
) -> TaskCourse | None:
    """Return where a change leads that ``by`` makes of a task; None where they may not."""
    concerned = by in (author, now.assignee)
    takes = change.state is TaskState.TAKEN and change.assignee in (None, by)
    free = now.state is TaskState.OPEN and now.assignee is None
    if not (concerned or (takes and free)):
        return None
    taker = by if change.state is TaskState.TAKEN else now.assignee
    if change.state is TaskState.OPEN:
        taker = None
    return TaskCourse(state=change.state, assignee=change.assignee or taker)


def may_close(now: ResultCourse, *, author: UserName, by: UserName) -> bool:
    """Return whether ``by`` closes a result: its author or who read it back, and only then."""
    reader = None if now.read_back is None else now.read_back.user
    return now.state is ResultState.READ_BACK and by in (author, reader)


def repeats(result: CriticalResult, value: str) -> bool:
    """Return whether ``value`` repeats a result's: spaces and case do not count, signs do."""
    return _plain(result.value) == _plain(value)


def reactions(answers: Iterable[Answer]) -> dict[str, tuple[UserName, ...]]:
    """Return who put which sign beside a message, in the order in which they did."""
    marks: dict[str, dict[UserName, None]] = {}
    for answer in answers:
        if isinstance(answer.content, Reaction):
            people = marks.setdefault(answer.content.mark, {})
            if answer.content.removed:
                people.pop(answer.by, None)
            else:
                people[answer.by] = None
    return {mark: tuple(people) for mark, people in marks.items() if people}


def _by(answer: Answer) -> By:
    return By(user=answer.by, at_ms=answer.at_ms)


def _task(task: Task, author: UserName, answers: Iterable[Answer]) -> TaskCourse:
    now = TaskCourse(
        state=TaskState.OPEN if task.assignee is None else TaskState.TAKEN, assignee=task.assignee
    )
    for answer in answers:
        if isinstance(answer.content, TaskChange):
            then = may_change(now, answer.content, author=author, by=answer.by)
            now = now if then is None else replace(then, changed=_by(answer))
    return now


def _result(result: CriticalResult, author: UserName, answers: Iterable[Answer]) -> ResultCourse:
    now = ResultCourse()
    for answer in answers:
        if isinstance(answer.content, ReadBack) and answer.by != author:
            now = _read_back(now, answer, right=repeats(result, answer.content.value))
        elif isinstance(answer.content, Closing) and may_close(now, author=author, by=answer.by):
            now = replace(now, state=ResultState.CLOSED, closed=_by(answer))
    return now


def _read_back(now: ResultCourse, answer: Answer, *, right: bool) -> ResultCourse:
    others = tuple(user for user in now.wrong if user != answer.by)
    if not right:
        return replace(now, wrong=(*others, answer.by))
    if now.state is not ResultState.OPEN:
        return replace(now, wrong=others)
    return ResultCourse(state=ResultState.READ_BACK, read_back=_by(answer), wrong=others)


def _hand_off(note: HandOff, author: UserName, answers: Iterable[Answer]) -> HandOffCourse:
    accepted: dict[UserName, By] = {}
    for answer in answers:
        if isinstance(answer.content, HandOffAcceptance) and may_accept(note, author, answer.by):
            accepted.setdefault(answer.by, _by(answer))
    awaited = tuple(user for user in note.to if user not in accepted)
    return HandOffCourse(accepted=tuple(accepted.values()), awaited=awaited)


def may_accept(note: HandOff, author: UserName, by: UserName) -> bool:
    """Return whether somebody is among those to whom a hand-off note is addressed."""
    return by in note.to if note.to else by != author


def _shift(author: UserName, answers: Iterable[Answer]) -> ShiftCourse:
    claims: dict[UserName, By] = {}
    for answer in answers:
        if isinstance(answer.content, Claim) and answer.by != author:
            claims.setdefault(answer.by, _by(answer))
    winner, *late = claims.values() or (None,)
    return ShiftCourse(winner=winner, late=tuple(by.user for by in late if by is not None))


def _check_in(check_in: CheckIn, answers: Iterable[Answer]) -> CheckInCourse:
    found = {
        answer.by: answer.content.answers
        for answer in answers
        if isinstance(answer.content, CheckInAnswer)
        and len(answer.content.answers) == len(check_in.questions)
    }
    return CheckInCourse(answers=found, answer_by_ms=check_in.answer_by_ms)


def _room(request: RoomRequest, author: UserName, answers: Iterable[Answer]) -> RoomCourse:
    now = RoomCourse(granted=None, by=None, answer_by_ms=request.answer_by_ms)
    for answer in answers:
        if isinstance(answer.content, RoomConfirmation) and answer.by != author:
            now = replace(now, granted=answer.content.granted, by=_by(answer))
    return now


def _plain(value: str) -> str:
    return "".join(unicodedata.normalize("NFKC", value).casefold().split())
