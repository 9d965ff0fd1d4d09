"""What a person can do with a message, each under one key: the same in menus, threads and lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from client.courses import (
    HandOffCourse,
    ResultCourse,
    ResultState,
    ShiftCourse,
    TaskCourse,
    VouchCourse,
    VouchState,
)
from client.messages import PersonState, State
from client.views import Roster, Shown
from client.words import (
    Attachment,
    CheckIn,
    Claim,
    Closing,
    Content,
    EmergencyRequest,
    EmergencyVouch,
    HandOff,
    HandOffAcceptance,
    Reference,
    Reply,
    RoomConfirmation,
    RoomRequest,
    TaskChange,
    TaskState,
    Text,
    UserName,
)


class Act(Enum):
    """Something that can be done with a message."""

    REPLY = "reply"
    ACKNOWLEDGE = "acknowledge"
    REACT = "react"
    TAKE_TASK = "take the task"
    FINISH_TASK = "the task is done"
    GIVE_BACK = "give the task back"
    READ_BACK = "read the value back"
    CLOSE_RESULT = "close the result"
    TAKE_OVER = "accept the hand-off"
    CLAIM = "claim the shift"
    ANSWER = "answer the questions"
    VOUCH = "vouch as the second colleague"
    CHOOSE_FOR = "vouch, in one of your conversations"
    CONFIRM_ROOM = "confirm the room"
    REFUSE_ROOM = "refuse the room"
    SAVE = "save the file"
    EDIT = "change the text"
    TAKE_BACK = "take the message back"
    DETAILS = "details: who has read it, and when"


KEYS = {
    Act.REPLY: "r",
    Act.ACKNOWLEDGE: "k",
    Act.REACT: "+",
    Act.TAKE_TASK: "t",
    Act.FINISH_TASK: "t",
    Act.GIVE_BACK: "g",
    Act.READ_BACK: "t",
    Act.CLOSE_RESULT: "t",
    Act.TAKE_OVER: "t",
    Act.CLAIM: "t",
    Act.ANSWER: "t",
    Act.VOUCH: "t",
    Act.CHOOSE_FOR: "t",
    Act.CONFIRM_ROOM: "t",
    Act.REFUSE_ROOM: "g",
    Act.SAVE: "s",
    Act.EDIT: "e",
    Act.TAKE_BACK: "x",
    Act.DETAILS: "i",
}
"""The key of each in a thread. ``t`` is what comes next for the thing at hand, ``g`` gives back."""


@dataclass(frozen=True, slots=True)
class _Case:
    shown: Shown
    me: UserName

    @property
    def foreign(self) -> bool:
        return not self.shown.own


def reference(shown: Shown) -> Reference:
    """Return how content names a message."""
    return Reference(sender=shown.key.sender, message_id=shown.key.message_id)


def possible(shown: Shown, me: UserName) -> list[Act]:
    """Return what this person can do with a message, the most likely first."""
    if isinstance(shown.content, Roster) or shown.state is State.RETRACTED:
        return []
    case = _Case(shown, me)
    return [act for act, holds in _WHEN.items() if holds(case)]


def answer(act: Act, shown: Shown) -> Content | None:
    """Return the content that does ``act`` by itself; None where something must be typed first."""
    target = reference(shown)
    simple: dict[Act, Content] = {
        Act.TAKE_TASK: TaskChange(target=target, state=TaskState.TAKEN),
        Act.FINISH_TASK: TaskChange(target=target, state=TaskState.DONE),
        Act.GIVE_BACK: TaskChange(target=target, state=TaskState.OPEN),
        Act.CLOSE_RESULT: Closing(target=target),
        Act.TAKE_OVER: HandOffAcceptance(target=target),
        Act.CLAIM: Claim(target=target),
        Act.CONFIRM_ROOM: RoomConfirmation(target=target, granted=True),
        Act.REFUSE_ROOM: RoomConfirmation(target=target, granted=False),
    }
    return simple.get(act)


def _acknowledgeable(case: _Case) -> bool:
    state, _ = case.shown.people.get(case.me, (None, 0))
    return case.foreign and state is not PersonState.ACKNOWLEDGED


def _task(case: _Case) -> TaskCourse | None:
    course = case.shown.course
    return course if isinstance(course, TaskCourse) else None


def _takes(case: _Case) -> bool:
    task = _task(case)
    return task is not None and task.state is TaskState.OPEN and task.assignee in (None, case.me)


def _finishes(case: _Case) -> bool:
    task = _task(case)
    concerned = task is not None and (task.assignee == case.me or case.shown.own)
    return concerned and task is not None and task.state is TaskState.TAKEN


def _reads_back(case: _Case) -> bool:
    course = case.shown.course
    return case.foreign and isinstance(course, ResultCourse) and course.state is ResultState.OPEN


def _closes(case: _Case) -> bool:
    course = case.shown.course
    if not isinstance(course, ResultCourse) or course.state is not ResultState.READ_BACK:
        return False
    reader = course.read_back.user if course.read_back else None
    return case.shown.own or reader == case.me


def _takes_over(case: _Case) -> bool:
    note, course = case.shown.content, case.shown.course
    if not isinstance(note, HandOff) or not isinstance(course, HandOffCourse):
        return False
    named = case.me in note.to if note.to else case.foreign
    return named and case.me not in [by.user for by in course.accepted]


def _claims(case: _Case) -> bool:
    course = case.shown.course
    return case.foreign and isinstance(course, ShiftCourse) and course.winner is None


def _vouches(case: _Case) -> bool:
    content, course = case.shown.content, case.shown.course
    if not isinstance(content, EmergencyVouch) or not isinstance(course, VouchCourse):
        return False
    return case.foreign and course.state is VouchState.OPEN and content.user != case.me


_WHEN: dict[Act, Callable[[_Case], bool]] = {
    Act.TAKE_TASK: _takes,
    Act.FINISH_TASK: _finishes,
    Act.READ_BACK: _reads_back,
    Act.CLOSE_RESULT: _closes,
    Act.TAKE_OVER: _takes_over,
    Act.CLAIM: _claims,
    Act.ANSWER: lambda case: isinstance(case.shown.content, CheckIn),
    Act.VOUCH: _vouches,
    Act.CHOOSE_FOR: lambda case: case.foreign and isinstance(case.shown.content, EmergencyRequest),
    Act.CONFIRM_ROOM: lambda case: case.foreign and isinstance(case.shown.content, RoomRequest),
    Act.REFUSE_ROOM: lambda case: case.foreign and isinstance(case.shown.content, RoomRequest),
    Act.SAVE: lambda case: isinstance(case.shown.content, Attachment),
    Act.ACKNOWLEDGE: _acknowledgeable,
    Act.REPLY: lambda _: True,
    Act.REACT: lambda _: True,
    Act.GIVE_BACK: _finishes,
    Act.EDIT: lambda case: case.shown.own and isinstance(case.shown.content, Text | Reply),
    Act.TAKE_BACK: lambda case: (
        case.shown.own
        and all(state is PersonState.DELIVERED for state, _ in case.shown.people.values())
    ),
    Act.DETAILS: lambda _: True,
}
