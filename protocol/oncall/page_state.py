"""The states of a page and of each recipient, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType


class State(IntEnum):
    """Where a page stands with one recipient."""

    SENT = 1
    DELIVERED = 2
    SHOWN = 3
    ACCEPTED = 4
    DECLINED = 5
    NOT_MINE = 6
    DONE = 7
    EXPIRED = 8
    UNANSWERED = 9
    RELIEVED = 10


class Event(IntEnum):
    """What happens to a recipient's copy: the device's reports, the person's acts, the timers."""

    DELIVER = 1
    SHOW = 2
    ACCEPT = 3
    DECLINE = 4
    NOT_MINE = 5
    FINISH = 6
    ASK_AGAIN = 7
    EXPIRE = 8
    GIVE_UP = 9
    RELIEVE = 10


class Status(IntEnum):
    """Where a page stands as a whole."""

    OPEN = 1
    ACCEPTED = 2
    DONE = 3
    EXPIRED = 4
    UNANSWERED = 5


_ANSWERS = {
    Event.ACCEPT: State.ACCEPTED,
    Event.DECLINE: State.DECLINED,
    Event.NOT_MINE: State.NOT_MINE,
    Event.EXPIRE: State.EXPIRED,
    Event.GIVE_UP: State.UNANSWERED,
    Event.RELIEVE: State.RELIEVED,
}

TRANSITIONS: Mapping[State, Mapping[Event, State]] = MappingProxyType(
    {
        State.SENT: {
            Event.DELIVER: State.DELIVERED,
            Event.SHOW: State.SHOWN,
            Event.ASK_AGAIN: State.SENT,
            **_ANSWERS,
        },
        State.DELIVERED: {Event.SHOW: State.SHOWN, Event.ASK_AGAIN: State.SENT, **_ANSWERS},
        State.SHOWN: {Event.ASK_AGAIN: State.SENT, **_ANSWERS},
        State.ACCEPTED: {
            Event.DECLINE: State.DECLINED,
            Event.NOT_MINE: State.NOT_MINE,
            Event.FINISH: State.DONE,
            Event.ASK_AGAIN: State.SENT,
            Event.EXPIRE: State.EXPIRED,
            Event.RELIEVE: State.RELIEVED,
        },
        State.DECLINED: {Event.ACCEPT: State.ACCEPTED},
        State.NOT_MINE: {Event.ACCEPT: State.ACCEPTED},
        State.DONE: {},
        State.EXPIRED: {},
        State.UNANSWERED: {},
        State.RELIEVED: {Event.ACCEPT: State.ACCEPTED, Event.ASK_AGAIN: State.SENT},
    }
)
"""What follows what; what is not here does not happen."""

REPORTS = frozenset({Event.DELIVER, Event.SHOW})
"""What a device reports by itself, perhaps late: where it does not apply it changes nothing."""
TAKEN = frozenset({State.ACCEPTED, State.DONE})
"""Whoever counts as having accepted."""
PENDING = frozenset({State.SENT, State.DELIVERED, State.SHOWN})
"""Whoever may still answer."""
HELD = PENDING | {State.ACCEPTED}
"""Whoever a shift change concerns: they have the page, or are asked by it."""
ENDED = frozenset({Status.DONE, Status.EXPIRED, Status.UNANSWERED})
"""A page that has ended wakes nobody, ever."""
