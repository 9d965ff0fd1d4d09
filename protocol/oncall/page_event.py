"""What the relay writes of a page into its conversation, and what a device answers to it.

An entry of kind ``PAGE`` says what has just happened and where the page stands since, so that
whoever reads the newest knows all. It holds an answer's signed statement as it came: that somebody
accepted is that person's word, and not the relay's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from crypto import codec
from crypto.codec import U8, U64, Reader, Struct, Wire, optional_of, vector_of
from crypto.errors import DecodeError, InvalidError
from protocol.identifiers import CONVERSATION_ID_BYTES, ConversationId, role_name
from protocol.oncall.next_steps import Action, Alarm, AlarmKind, Alert, Cancel
from protocol.oncall.page import Page
from protocol.oncall.page_state import Event
from protocol.oncall.role import Responder
from protocol.oncall.wire import (
    USERS,
    MaybeInstant,
    Role,
    Users,
    check_instants,
    check_span,
    check_users,
    enum_of,
    read_flag,
)

VERSION = 1
ACTIONS = 64
"""Actions of one entry: an alarm for each step that is skipped, and what follows."""
ASKED_AT_ONCE = 32_768
"""People of one action: all whom a page may ever ask."""

ANSWERS = frozenset(
    {Event.DELIVER, Event.SHOW, Event.ACCEPT, Event.DECLINE, Event.NOT_MINE, Event.FINISH}
)
"""What a device says of a page; the other events are the timers'."""


class Cause(IntEnum):
    """Why an entry was written."""

    STARTED = 1
    TIMER = 2
    ANSWER = 3
    CALLED = 4
    """No device has answered: the second channel was asked to say that a page waits."""
    JOINED = 5
    """Somebody came into the conversation: they are told where the page stands."""
    SHIFT = 6
    """A shift has changed: whoever came on call is asked to take it over."""
    GONE = 7
    """No device of somebody stands any more: whoever is left is asked, or the next step."""


def _read_conversation(reader: Reader) -> ConversationId:
    return ConversationId(reader.take(CONVERSATION_ID_BYTES))


@dataclass(frozen=True, slots=True, kw_only=True)
class PageAnswer(Struct):
    """The body of a ``PAGE_ANSWER`` statement.

    Attributes:
        conversation: The page's conversation.
        event: What the device reports or its person says.
        arrival_ms: With accepting, when the person will be there, where they said so.
        to: With not mine, whose it is.
    """

    conversation: Annotated[ConversationId, Wire(_read_conversation, bytes)]
    event: Annotated[Event, enum_of(Event)]
    arrival_ms: MaybeInstant = None
    to: Annotated[Responder | None, optional_of(Responder.read, Responder.encode)] = None

    def __post_init__(self) -> None:
        if self.event not in ANSWERS:
            raise InvalidError("an answer is one of what devices and people say")
        if self.arrival_ms is not None:
            if self.event is not Event.ACCEPT:
                raise InvalidError("who accepts says when they will be there")
            check_span(self.arrival_ms, self.arrival_ms + 1)
        if (self.to is None) is (self.event is Event.NOT_MINE):
            raise InvalidError("who says that a page is not theirs says whose it is")


_ACTIONS: dict[int, Callable[[Reader], Action]] = {}
_ALARM_KIND = enum_of(AlarmKind)


def _read_action(reader: Reader) -> Action:
    read = _ACTIONS.get(reader.u8())
    if read is None:
        raise reader.fail()
    action = read(reader)
    check_users(action.users, at_least=0, at_most=ASKED_AT_ONCE)
    return action


def _write_action(action: Action) -> bytes:
    users = USERS.write(action.users)
    if isinstance(action, Alert):
        return codec.u8(1) + codec.u8(action.again) + users
    if isinstance(action, Cancel):
        return codec.u8(2) + users
    return codec.u8(3) + codec.u8(action.kind) + codec.u8(action.position) + users


_ACTIONS[1] = lambda r: Alert(again=read_flag(r), users=USERS.read(r))
_ACTIONS[2] = lambda r: Cancel(users=USERS.read(r))
_ACTIONS[3] = lambda r: Alarm(kind=_ALARM_KIND.read(r), position=r.u8(), users=USERS.read(r))


@dataclass(frozen=True, slots=True, kw_only=True)
class PageState(Struct):
    """Where a page stands, as the relay keeps it.

    Attributes:
        role: The role that was paged.
        page: The page.
        call_ms: When the second channel is due for those whose devices say nothing; None for not.
        called: For whom it was used at the present step.
    """

    role: Role
    page: Page
    call_ms: MaybeInstant = None
    called: Users = ()

    def __post_init__(self) -> None:
        role_name(self.role)
        check_instants(self.call_ms)
        check_users(self.called, at_least=0, at_most=ASKED_AT_ONCE)

    @property
    def due_ms(self) -> int | None:
        """When something is next due without anybody's doing; None once the page has ended."""
        due_ms = self.page.next_due_ms
        if due_ms is None or self.call_ms is None:
            return due_ms
        return min(due_ms, self.call_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageEvent(Struct):
    """The body of an entry of kind ``PAGE``.

    Attributes:
        version: The struct's, 1.
        cause: Why it was written.
        at_ms: When, by the relay's clock.
        state: Where the page stands since.
        actions: What was done, in order.
        statement: The answer that caused it, signed; None for the timers'.
        missing: Those of whom it alerts that no device reads the conversation: a member adds them.
    """

    version: U8 = VERSION
    cause: Annotated[Cause, enum_of(Cause)]
    at_ms: U64
    state: PageState
    actions: Annotated[tuple[Action, ...], vector_of(_read_action, _write_action)] = ()
    statement: Annotated[bytes | None, optional_of(Reader.opaque, codec.opaque)] = None
    missing: Users = ()

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise DecodeError("PageEvent", 0)
        check_instants(self.at_ms)
        if len(self.actions) > ACTIONS:
            raise InvalidError("an entry has at most ACTIONS actions")
        if (self.cause is Cause.ANSWER) is (self.statement is None):
            raise InvalidError("an answer's entry has its statement, and no other has one")
        check_users(self.missing, at_least=0, at_most=ASKED_AT_ONCE)
