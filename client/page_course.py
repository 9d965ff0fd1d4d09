"""The course of one page, from the entries that the relay writes into its conversation: pure.

The relay says where a page stands; that somebody has accepted it is believed for that person's own
signature alone, so a relay that lies can delay a page, and cannot answer one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from crypto import codec
from crypto.codec import U64, Reader, Struct, vector_of
from crypto.errors import CryptoError
from crypto.statement import StatementType, verify_statement
from crypto.trust import Trust
from protocol.identifiers import ConversationId, UserName
from protocol.oncall.page_event import Cause, PageAnswer, PageEvent, PageState
from protocol.oncall.page_state import TAKEN, Event, State, Status
from protocol.oncall.wire import Users, check_users

ANSWERS = 256
"""Signed answers kept of one page, the newest: each person says a handful of things."""
SILENCE_MS = 60_000
"""How long, in ms, the relay may be late with a step before the sender is told to page again; this
device's clock may differ from the relay's by as much."""
TOLD_MS = 30 * 60_000
"""How long, in ms, the sender is told: by then they have paged again, or called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered(Struct):
    """A signed answer, and when the relay took it in."""

    at_ms: U64
    statement: Annotated[bytes, codec.Wire(Reader.opaque, codec.opaque)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course(Struct):
    """How far a page has come.

    Attributes:
        sequence: Number of the entry that said so last.
        at_ms: Its time.
        state: Where the page stands.
        answers: What people said, signed, in the order of the log.
        missing: People whom it asks and who are not in the conversation yet.
    """

    sequence: U64
    at_ms: U64
    state: PageState
    answers: Annotated[tuple[Answered, ...], vector_of(Answered.read, Answered.encode)] = ()
    missing: Users = ()

    def __post_init__(self) -> None:
        check_users(self.missing, at_least=0, at_most=1 << 15)

    def concerns(self, user: UserName) -> bool:
        """Tell whether a person may see the page: its sender, and whoever was asked."""
        return user == self.state.page.sender or self.state.page.recipient(user) is not None

    def is_silent(self, now_ms: int) -> bool:
        """Tell whether a step is overdue: the relay does not do what it said."""
        due_ms = self.state.due_ms
        if due_ms is None or now_ms >= self.state.page.expires_ms:
            return False
        return SILENCE_MS < now_ms - due_ms < TOLD_MS


def taken(course: Course | None, body: bytes, *, sequence: int) -> Course:
    """Return the course of a page after an entry of kind ``PAGE``.

    Args:
        course: Before it; ``None`` for the first.
        body: The entry's.
        sequence: Its number; one that was taken in before changes nothing.

    Raises:
        DecodeError: The body is none of such an entry.
        InvalidError: It breaks a rule.
    """
    event = PageEvent.decode(body)
    if course is not None and sequence <= course.sequence:
        return course
    answers = course.answers if course is not None else ()
    if event.cause is Cause.ANSWER and event.statement is not None:
        answered = Answered(at_ms=event.at_ms, statement=event.statement)
        answers = (*answers, answered)[-ANSWERS:]
    return Course(
        sequence=sequence,
        at_ms=event.at_ms,
        state=event.state,
        answers=answers,
        # Whoever is still missing at the next alert is named again.
        missing=event.missing,
    )


def proved(
    course: Course, conversation: ConversationId, *, trust: Trust
) -> Mapping[UserName, Event]:
    """Return what people have said last, as far as their signatures are right.

    An answer whose signer this device does not know proves nothing yet.
    """
    said: dict[UserName, Event] = {}
    for one in course.answers:
        try:
            verified = verify_statement(
                one.statement, expected=StatementType.PAGE_ANSWER, trust=trust, at_ms=one.at_ms
            )
            answer = PageAnswer.decode(verified.body)
        except CryptoError:
            continue
        identity = verified.signers[0].identity
        spoken = answer.event not in (Event.DELIVER, Event.SHOW)
        if identity is not None and answer.conversation == conversation and spoken:
            said[UserName(identity.user)] = answer.event
    return said


_PROVES = frozenset({Event.ACCEPT, Event.FINISH})


def states(course: Course, said: Mapping[UserName, Event]) -> Mapping[UserName, State]:
    """Return where the page stands with each person, acceptance only where it is proved."""
    return {
        one.user: State.SHOWN
        if one.state in TAKEN and said.get(one.user) not in _PROVES
        else one.state
        for one in course.state.page.recipients
    }


def status(course: Course, said: Mapping[UserName, Event]) -> Status:
    """Return where a page stands as a whole; accepted and done only where somebody proves it."""
    claimed = course.state.page.status
    if claimed not in (Status.ACCEPTED, Status.DONE):
        return claimed
    return claimed if any(event in _PROVES for event in said.values()) else Status.OPEN


def asks(course: Course, user: UserName) -> bool:
    """Tell whether a person's devices are to sound for the page."""
    return user in course.state.page.alerting
