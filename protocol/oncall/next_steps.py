"""What is due on a page, and what an answer does to it.

Everything here returns the page as it is afterwards and what is to be done; nothing is done here.
The caller saves the page and the actions in one transaction: a restart neither loses nor repeats
one. Who is on call is asked at each step, never before it, and as of a moment of its own: times of
a page measure its delays alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

from crypto.errors import InvalidError
from protocol.identifiers import UserName
from protocol.oncall.page import Page, Recipient
from protocol.oncall.page_state import (
    ENDED,
    PENDING,
    REPORTS,
    TRANSITIONS,
    Event,
    State,
    Status,
)
from protocol.oncall.priority import MEANINGS
from protocol.oncall.role import Moment, Responder


class AlarmKind(IntEnum):
    """What is wrong."""

    COVERAGE = 1
    UNANSWERED = 2
    EXPIRED = 3
    UNREACHABLE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Alert these people; ``again`` where they were alerted before and have not answered."""

    users: tuple[UserName, ...]
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Void every alert of the page that is pending for these people."""

    users: tuple[UserName, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Tell these people, the policy's last resort, that something is wrong.

    Attributes:
        kind: A step with nobody, nobody who answered, an end before anybody did, or a step of whom
            nobody has a device that can be woken.
        position: The policy's position at which it happened.
        users: Whom to tell; nobody only where the last resort is a role that was deleted.
    """

    kind: AlarmKind
    position: int
    users: tuple[UserName, ...]


Action = Alert | Cancel | Alarm


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A page as it now is, and what is to be done.

    Attributes:
        page: The page, to be saved.
        actions: What is to be done, in order.
    """

    page: Page
    actions: tuple[Action, ...] = ()

    @property
    def due_ms(self) -> int | None:
        """When ``next_steps`` is to be called again; None once the page has ended."""
        return self.page.next_due_ms


def next_steps(page: Page, moment: Moment, *, now_ms: int) -> Progress:
    """Return what is due on a page.

    A timer that comes late takes one step, and the next waits its whole delay from then: after a
    pause of the relay people are not all woken at once. After the page's end nothing is ever due.

    Args:
        page: The page.
        moment: Who is on call.
        now_ms: What its delays are measured against, in ms; never goes back in a page's life.

    Raises:
        UsageError: The moment is not between the years 2000 and 2100.
    """
    due_ms = page.next_due_ms
    if due_ms is None or now_ms < due_ms:
        return Progress(page=page)
    if now_ms >= page.expires_ms:
        return _expire(page, moment, now_ms)
    if page.status is Status.ACCEPTED:
        return _re_arm(page, now_ms)
    if now_ms >= page.due_ms:
        return _escalate(page, moment, now_ms)
    reminded = replace(page, remind_ms=_remind_ms(page, now_ms))
    return Progress(page=reminded, actions=(Alert(users=page.alerting, again=True),))


def pass_over(page: Page, moment: Moment, *, now_ms: int) -> Progress:
    """Return the page once nobody of the step just taken can be woken: the next is due at once.

    They stay asked, and may answer when they are back. After the last resort there is nobody to go
    on to: it has its time.

    Raises:
        UsageError: The moment is not between the years 2000 and 2100.
    """
    if page.status is not Status.OPEN or page.position > page.policy.last_position:
        return Progress(page=page)
    alarm = _alarm(page, moment, AlarmKind.UNREACHABLE)
    due = replace(page, due_ms=min(now_ms, page.due_ms))
    return Progress(page=due, actions=(replace(alarm, position=page.position - 1),))


def report(page: Page, user: UserName, event: Event, *, at_ms: int) -> Page:
    """Return the page after a device's report; one that is late or not for us changes nothing.

    Raises:
        InvalidError: The event is none that a device reports.
    """
    if event not in REPORTS:
        raise InvalidError("a device reports that it has a page and that it shows it")
    one = page.recipient(user)
    if one is None or one.state not in PENDING or page.status in ENDED:
        return page
    if one.state is State.SHOWN or (one.state, event) == (State.DELIVERED, Event.DELIVER):
        return page
    return _with(page, one.after(event, at_ms))


def accept(page: Page, user: UserName, *, at_ms: int, arrival_ms: int | None = None) -> Progress:
    """Return the page once somebody has accepted it; all alerts end where that is enough.

    Raises:
        InvalidError: The page has ended, or does not ask this person, or they have accepted.
    """
    one = replace(_answerer(page, user).after(Event.ACCEPT, at_ms), arrival_ms=arrival_ms)
    taken = _with(page, one)
    if not taken.acknowledged:
        return _hurry(taken, at_ms, Cancel(users=(user,)))
    cancelled = tuple(sorted({*page.alerting, user}))
    status = Status.ACCEPTED
    since = at_ms if page.accepted_ms is None else page.accepted_ms
    accepted = replace(taken, status=status, accepted_ms=since, remind_ms=None)
    return Progress(page=accepted, actions=(Cancel(users=cancelled),))


def decline(page: Page, user: UserName, *, at_ms: int) -> Progress:
    """Return the page once somebody has declined it, also after accepting.

    The next step is due at once where those still asked cannot make it acknowledged; the caller
    goes on with ``next_steps``.

    Raises:
        InvalidError: The page has ended, or does not ask this person, or they have refused before.
    """
    declined = _with(page, _answerer(page, user).after(Event.DECLINE, at_ms))
    return _hurry(declined, at_ms, Cancel(users=(user,)))


def redirect(page: Page, moment: Moment, *, user: UserName, to: Responder, at_ms: int) -> Progress:
    """Return the page once somebody has said that it is not theirs, and whose it is.

    Those are asked at once and have what is left of the step's time: the timer is the original.
    Where the page had been accepted its timer had stopped, and they have the step's whole time;
    where others' acceptance is enough without this person's, nobody else is asked.

    Raises:
        InvalidError: The page has ended, or does not ask this person, or they have refused before;
            or whoever is named is nobody, the sender, or has been asked already.
        UsageError: The moment is not between the years 2000 and 2100.
    """
    refused = _with(page, _answerer(page, user).after(Event.NOT_MINE, at_ms))
    named = moment.responders(to)
    users = tuple(u for u in named if u != page.sender and page.recipient(u) is None)
    if not users:
        raise InvalidError("a page is redirected to somebody who has not been asked")
    cancel = Cancel(users=(user,))
    if page.status is Status.ACCEPTED:
        if refused.acknowledged:
            return Progress(page=refused, actions=(cancel,))
        due_ms = at_ms + page.policy.step(page.position - 1).delay_ms
        refused = replace(_reopened(refused, at_ms), due_ms=due_ms)
    asked = _ask(refused, users, position=page.position - 1, at_ms=at_ms)
    return Progress(page=asked, actions=(cancel, Alert(users=users)))


def finish(page: Page, user: UserName, *, at_ms: int) -> Progress:
    """Return the page once somebody who accepted it says that it is done: it has ended.

    Raises:
        InvalidError: The page is not accepted, or not by this person.
    """
    if page.status is not Status.ACCEPTED:
        raise InvalidError("a page is accepted before it is done")
    done = _with(page, _answerer(page, user).after(Event.FINISH, at_ms))
    return Progress(page=replace(done, status=Status.DONE, accepted_ms=None))


def _answerer(page: Page, user: UserName) -> Recipient:
    one = page.recipient(user)
    if one is None or page.status in ENDED:
        raise InvalidError("whoever answers a page is asked by it, and it has not ended")
    return one


def _with(page: Page, *changed: Recipient) -> Page:
    """Return the page with recipients put in the place of those of the same name, or added."""
    by_name = {one.user: one for one in (*page.recipients, *changed)}
    return replace(page, recipients=tuple(by_name.values()))


def _hurry(page: Page, at_ms: int, *actions: Action) -> Progress:
    """Return the page with the next step due now where waiting on is of no use."""
    if page.status is Status.ACCEPTED:
        page = page if page.acknowledged else _reopened(page, at_ms)
    elif page.hopeless:
        page = replace(page, due_ms=min(at_ms, page.due_ms))
    return Progress(page=page, actions=actions)


def _reopened(page: Page, at_ms: int) -> Page:
    remind_ms = _remind_ms(page, at_ms)
    return replace(page, status=Status.OPEN, accepted_ms=None, due_ms=at_ms, remind_ms=remind_ms)


def _remind_ms(page: Page, now_ms: int) -> int | None:
    repeat_ms = MEANINGS[page.priority].repeat_ms
    return now_ms + repeat_ms if repeat_ms else None


def _escalate(page: Page, moment: Moment, now_ms: int) -> Progress:
    """Take the next step that has anybody to ask; those without are skipped at once."""
    alarms: list[Action] = []
    policy = page.policy
    for position in range(page.position, policy.last_position + 1):
        found = _found(page, moment, position)
        users = tuple(user for user in found if _may_be_asked(page, user))
        if users:
            due_ms = now_ms + policy.step(position).delay_ms
            remind_ms = _remind_ms(page, now_ms)
            asked = _ask(page, users, position=position, at_ms=now_ms)
            asked = replace(asked, due_ms=due_ms, remind_ms=remind_ms)
            return Progress(page=asked, actions=(*alarms, Alert(users=users)))
        if not found and position < len(policy.steps):
            to = _found(page, moment, policy.last_position)
            alarms.append(Alarm(kind=AlarmKind.COVERAGE, position=position, users=to))
    closed = _close(page, Status.UNANSWERED, at_ms=now_ms)
    return Progress(
        page=closed,
        actions=(
            *alarms,
            Cancel(users=page.alerting),
            _alarm(page, moment, AlarmKind.UNANSWERED),
        ),
    )


def _expire(page: Page, moment: Moment, now_ms: int) -> Progress:
    """End the page; that somebody had accepted it and never was done alarms nobody."""
    closed = _close(page, Status.EXPIRED, at_ms=now_ms)
    if page.status is Status.ACCEPTED:
        return Progress(page=closed)
    alarm = _alarm(page, moment, AlarmKind.EXPIRED)
    return Progress(page=closed, actions=(Cancel(users=page.alerting), alarm))


def _re_arm(page: Page, now_ms: int) -> Progress:
    """Open the page again: those who accepted and are not done have the last step's time."""
    users = page.in_states(frozenset({State.ACCEPTED}))
    position = page.position - 1
    asked = _reopened(_ask(page, users, position=position, at_ms=now_ms), now_ms)
    due_ms = now_ms + page.policy.step(position).delay_ms
    return Progress(page=replace(asked, due_ms=due_ms), actions=(Alert(users=users, again=True),))


def _alarm(page: Page, moment: Moment, kind: AlarmKind) -> Alarm:
    to = _found(page, moment, page.policy.last_position)
    return Alarm(kind=kind, position=page.position, users=to)


_ENDING = {Status.UNANSWERED: Event.GIVE_UP, Status.EXPIRED: Event.EXPIRE}


def _close(page: Page, status: Status, *, at_ms: int) -> Page:
    event = _ENDING[status]
    closed = (one.after(event, at_ms) for one in page.recipients if event in TRANSITIONS[one.state])
    ended = _with(page, *closed)
    return replace(ended, status=status, accepted_ms=None, remind_ms=None)


def _found(page: Page, moment: Moment, position: int) -> tuple[UserName, ...]:
    """Return whom a position's responders mean now; of a last resort, fallbacks too."""
    users: set[UserName] = set()
    for responder in page.policy.step(position).responders:
        found = moment.responders(responder)
        if not found and position == page.policy.last_position:
            found = moment.fallback(responder)
        users.update(found)
    return tuple(sorted(users))


def _may_be_asked(page: Page, user: UserName) -> bool:
    one = page.recipient(user)
    return user != page.sender and (one is None or one.state in PENDING)


def _ask(page: Page, users: tuple[UserName, ...], *, position: int, at_ms: int) -> Page:
    asked = []
    for user in users:
        one = page.recipient(user)
        if one is None:
            times = ((State.SENT, at_ms),)
            asked.append(Recipient(user=user, state=State.SENT, position=position, times=times))
        else:
            asked.append(replace(one.after(Event.ASK_AGAIN, at_ms), position=position))
    return _with(replace(page, position=max(page.position, position + 1)), *asked)
