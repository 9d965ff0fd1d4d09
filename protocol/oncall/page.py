"""A page: whom it has asked, and what each has answered, as one value that can be saved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from crypto.codec import U8, U64, Reader, Struct, u64, vector_of
from crypto.errors import InvalidError
from protocol.authenticated_data import Priority
from protocol.identifiers import RoleName, UserName, user_name
from protocol.oncall.escalation import Acknowledgement, Policy
from protocol.oncall.page_state import (
    ENDED,
    HELD,
    PENDING,
    TAKEN,
    TRANSITIONS,
    Event,
    State,
    Status,
)
from protocol.oncall.priority import MEANINGS
from protocol.oncall.wall_clock import HOUR_MS, check_instant
from protocol.oncall.wire import (
    Flag,
    MaybeInstant,
    MaybeRole,
    User,
    check_instants,
    check_span,
    enum_of,
)

RECIPIENTS = 32_768
"""People one page asks at most: more than the fullest policy names, so no step fails on it."""
GRACE_MS = HOUR_MS
"""How long a page outlives its policy's course: a late timer still reaches the last step."""

_STATE = enum_of(State)


def _read_time(reader: Reader) -> tuple[State, int]:
    return _STATE.read(reader), reader.u64()


def _write_time(time: tuple[State, int]) -> bytes:
    return _STATE.write(time[0]) + u64(time[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient(Struct):
    """Where a page stands with one person.

    Attributes:
        user: The person.
        state: Where it stands.
        position: The policy's position at which the person was last asked.
        times: When each state was last entered, ascending by state.
        arrival_ms: When the person will be there, as said with accepting.
        role: For which role they were on call when they were asked; None for in person.
        leaving: Whether their shift has ended and nobody has relieved them.
    """

    user: User
    state: Annotated[State, _STATE]
    position: U8
    times: Annotated[tuple[tuple[State, int], ...], vector_of(_read_time, _write_time)]
    arrival_ms: MaybeInstant = None
    role: MaybeRole = None
    leaving: Flag = False

    def __post_init__(self) -> None:
        user_name(self.user)
        if self.leaving and self.role is None:
            raise InvalidError("a shift that has ended is a role's")
        states = [state for state, _ in self.times]
        if states != sorted(set(states)) or self.state not in states:
            raise InvalidError("a recipient's times are ascending by state, the present one's too")
        check_instants(self.arrival_ms, *(at_ms for _, at_ms in self.times))

    def after(self, event: Event, at_ms: int) -> Recipient:
        """Return the recipient after an event.

        Raises:
            InvalidError: The table of transitions does not have it.
        """
        state = TRANSITIONS[self.state].get(event)
        if state is None:
            raise InvalidError("an event follows the table of transitions")
        times = {**dict(self.times), state: at_ms}
        return replace(self, state=state, times=tuple(sorted(times.items())))


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Struct):
    """One page, from its start to its end.

    Attributes:
        priority: How urgent it is.
        sender: Who sent it, and is not asked.
        policy: How it escalates, as the policy was at its start.
        started_ms: Its start.
        expires_ms: Its hard end.
        status: Where it stands as a whole.
        position: The policy's next position to be taken.
        due_ms: When that is due while the page is open, or if nobody relieves those who have it.
        remind_ms: When those who have not answered are alerted again; None for never.
        accepted_ms: When it was last accepted; None while it is open.
        recipients: Everybody asked, in the order of being asked first.
    """

    priority: Annotated[Priority, enum_of(Priority)]
    sender: User
    policy: Policy
    started_ms: U64
    expires_ms: U64
    status: Annotated[Status, enum_of(Status)] = Status.OPEN
    position: U8 = 0
    due_ms: U64
    remind_ms: MaybeInstant = None
    accepted_ms: MaybeInstant = None
    recipients: Annotated[tuple[Recipient, ...], vector_of(Recipient.read, Recipient.encode)] = ()

    def __post_init__(self) -> None:
        user_name(self.sender)
        check_span(self.started_ms, self.expires_ms)
        check_instants(self.due_ms, self.remind_ms, self.accepted_ms)
        users = [recipient.user for recipient in self.recipients]
        if len(set(users)) != len(users) or len(users) > RECIPIENTS:
            raise InvalidError("a page asks each person once, at most RECIPIENTS")
        if (self.status is Status.ACCEPTED) is not (self.accepted_ms is not None):
            raise InvalidError("a page says when it was accepted exactly while it is")
        if self.position > self.policy.last_position + 1:
            raise InvalidError("a page's position is one of its policy's, or its end")
        if any(recipient.position >= self.position for recipient in self.recipients):
            raise InvalidError("a page's recipients were asked at positions that it has taken")

    def recipient(self, user: UserName) -> Recipient | None:
        """Return where the page stands with a person, if that person was asked."""
        return next((one for one in self.recipients if one.user == user), None)

    def in_states(self, states: frozenset[State]) -> tuple[UserName, ...]:
        """Return who is in one of some states, ascending."""
        return tuple(sorted(one.user for one in self.recipients if one.state in states))

    @property
    def alerting(self) -> tuple[UserName, ...]:
        """Whose devices may alert for this page now; everybody else's pending alert is void."""
        if self.status in ENDED:
            return ()
        asked = self.relieving if self.status is Status.ACCEPTED else self.in_states(PENDING)
        return tuple(sorted({*self.leaving, *asked}))

    @property
    def held_by(self) -> tuple[UserName, ...]:
        """Who has the page, or is asked by it, as long as it has not ended; ascending."""
        return () if self.status in ENDED else self.in_states(HELD)

    @property
    def leaving(self) -> tuple[UserName, ...]:
        """Who has the page, or is asked by it, and whose shift has ended; ascending."""
        return tuple(sorted(o.user for o in self.recipients if o.leaving and o.state in HELD))

    @property
    def relieving(self) -> tuple[UserName, ...]:
        """Who is asked to take the page from those who are leaving; ascending."""
        roles = {one.role for one in self.recipients if one.user in self.leaving}
        asked = (o for o in self.recipients if o.state in PENDING and not o.leaving)
        return tuple(sorted(one.user for one in asked if one.role in roles))

    def on_duty(self) -> dict[RoleName, tuple[UserName, ...]]:
        """Return who has the page, or is asked by it, for each role, and is not leaving."""
        found: dict[RoleName, list[UserName]] = {}
        for one in self.recipients:
            if one.role is not None and not one.leaving and one.state in HELD:
                found.setdefault(one.role, []).append(one.user)
        return {role: tuple(sorted(users)) for role, users in sorted(found.items())}

    @property
    def next_due_ms(self) -> int | None:
        """When something is next due without anybody's doing; None once the page has ended."""
        if self.status in ENDED:
            return None
        timers = [self.expires_ms]
        if self.accepted_ms is None or self.leaving:
            timers += [self.due_ms] if self.remind_ms is None else [self.due_ms, self.remind_ms]
        if self.accepted_ms is not None and self.policy.re_arm_ms:
            timers.append(self.re_arm_at_ms)
        return min(timers)

    @property
    def re_arm_at_ms(self) -> int:
        """When a page that was accepted is open again, where its policy says so."""
        return (self.accepted_ms or 0) + self.policy.re_arm_ms

    @property
    def acknowledged(self) -> bool:
        """Whether those who accepted are as many as the policy asks for."""
        if self.policy.acknowledgement is Acknowledgement.ALL:
            asked = [one for one in self._asked_now() if one.user not in self.relieving]
            return bool(asked) and all(one.state in TAKEN for one in asked)
        return len(self.in_states(TAKEN)) >= self.policy.quorum

    @property
    def hopeless(self) -> bool:
        """Whether those asked last can no longer make the page acknowledged."""
        asked = self._asked_now()
        if self.policy.acknowledgement is Acknowledgement.ALL:
            return any(one.state not in PENDING | TAKEN for one in asked)
        pending = sum(one.state in PENDING for one in asked)
        return len(self.in_states(TAKEN)) + pending < self.policy.quorum

    def _asked_now(self) -> list[Recipient]:
        """Return those asked last; whoever passed it on is stood for by who got it."""
        passed_on = (State.NOT_MINE, State.RELIEVED)
        return [
            one
            for one in self.recipients
            if one.position == self.position - 1 and one.state not in passed_on
        ]


def new_page(priority: Priority, policy: Policy, *, sender: UserName, at_ms: int) -> Page:
    """Return a page whose first step is due at once; ``next_steps`` takes it.

    Raises:
        InvalidError: The sender's name is malformed.
        UsageError: The instant is not between the years 2000 and 2100.
    """
    check_instant(at_ms)
    lives_ms = max(MEANINGS[priority].lives_ms, policy.course_ms + GRACE_MS)
    check_instant(at_ms + lives_ms)
    return Page(
        priority=priority,
        sender=sender,
        policy=policy,
        started_ms=at_ms,
        expires_ms=at_ms + lives_ms,
        due_ms=at_ms,
    )
