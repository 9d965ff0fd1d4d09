"""What is due on a page, and what an answer does to it.

Everything here returns the page as it is afterwards and what is to be done; nothing is done here.
The caller saves the page and the actions in one transaction: a restart neither loses nor repeats
one. Who is on call is asked at each step, never before it, and as of a moment of its own: times of
a page measure its delays alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum

from crypto.errors import InvalidError
from protocol.identifiers import RoleName, UserName
from protocol.oncall.escalation import Acknowledgement
from protocol.oncall.page import Page, Recipient
from protocol.oncall.page_state import (
    ENDED,
    HELD,
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
        users: Whom to tell; nobody only where the last resort is a role that was deleted, or where
            the relay was away for long after the page's end.
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
    accepted = page.status is Status.ACCEPTED
    if accepted and page.policy.re_arm_ms and now_ms >= page.re_arm_at_ms:
        return _re_arm(page, now_ms)
    if now_ms >= page.due_ms:
        return _escalate(_reopened(page, now_ms) if accepted else page, moment, now_ms)
    reminded = replace(page, remind_ms=_remind_ms(page, now_ms))
    return Progress(page=reminded, actions=(Alert(users=page.alerting, again=True),))


def pass_over(page: Page, moment: Moment, *, now_ms: int) -> Progress:
    """Return the page once nobody of the step just taken can be woken: the next is due at once.

    They stay asked, and may answer when they are back. After the last resort there is nobody to go
    on to: it has its time.

    Raises:
        UsageError: The moment is not between the years 2000 and 2100.
    """
    waits = page.status is Status.OPEN or page.leaving
    if not waits or page.position > page.policy.last_position:
        return Progress(page=page)
    alarm = _alarm(page, moment, AlarmKind.UNREACHABLE)
    due = replace(page, due_ms=min(now_ms, page.due_ms))
    return Progress(page=due, actions=(replace(alarm, position=page.position - 1),))


def relieve(page: Page, moment: Moment, *, now_ms: int) -> Progress:
    """Return the page once a shift has changed: it goes to whoever has come on call.

    They are asked, and those whose shift has ended are alerted too until somebody has accepted it.
    An open page keeps its timer. One that was accepted stays so, and nobody else is disturbed; but
    it is open again where nobody has relieved its people in the step's time, or where nobody can.
    While nobody is on call it stays with those who have it.

    Raises:
        UsageError: The moment is not between the years 2000 and 2100.
    """
    changed = [
        replace(one, leaving=one.user not in on)
        for one in page.recipients
        if one.state in HELD and one.role is not None and (on := moment.on_call(one.role))
    ]
    handed = _with(page, *changed)
    if handed == page or page.status in ENDED:
        return Progress(page=page)
    if page.status is Status.ACCEPTED:
        for one in page.recipients:
            if one.state is State.ACCEPTED:
                handed = _taken_over(handed, _answerer(handed, one.user), now_ms)
    to = {u: r for u, r in _incoming(handed, moment).items() if _takes_over(handed, u)}
    if to:
        handed = _ask(handed, to, position=page.position - 1, at_ms=now_ms)
    if page.status is Status.ACCEPTED and handed.leaving:
        handed = _awaiting(handed, now_ms)
    return Progress(page=handed, actions=tuple(_told(page, handed, to)))


def _incoming(page: Page, moment: Moment) -> dict[UserName, RoleName | None]:
    """Return who is on call for the roles of those who are leaving."""
    roles = {one.role for one in page.recipients if one.user in page.leaving}
    return {user: role for role in roles if role for user in moment.on_call(role)}


def _takes_over(page: Page, user: UserName) -> bool:
    """Tell whether somebody who is on call now is asked at a shift change."""
    one = page.recipient(user)
    if one is None or one.state is State.RELIEVED:
        return user != page.sender
    return one.state in PENDING and page.status is Status.ACCEPTED


def _awaiting(page: Page, at_ms: int) -> Page:
    """Return an accepted page with the time that there is to relieve those who have it."""
    wait_ms = page.policy.step(page.position - 1).delay_ms if page.relieving else 0
    return replace(page, due_ms=at_ms + wait_ms, remind_ms=_remind_ms(page, at_ms))


def _told(before: Page, page: Page, asked: Iterable[UserName]) -> Iterator[Action]:
    over = {*before.alerting} - {*page.alerting}
    if over:
        yield Cancel(users=tuple(sorted(over)))
    if asked:
        yield Alert(users=tuple(sorted(asked)))
        if page.status is Status.ACCEPTED:
            yield Alert(users=page.leaving, again=True)


def leave(page: Page, users: Collection[UserName], *, at_ms: int) -> Progress:
    """Return the page once people are gone for good: it asks them no longer, and they have it not.

    The next step is due at once where those who are left cannot make it acknowledged.
    """
    held = [one for one in page.recipients if one.user in users and one.state in HELD]
    if not held or page.status in ENDED:
        return Progress(page=page)
    gone = (replace(one.after(Event.RELIEVE, at_ms), leaving=False) for one in held)
    cancel = Cancel(users=tuple(sorted(one.user for one in held)))
    return _hurry(_with(page, *gone), at_ms, cancel)


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
    taken = _taken_over(_with(page, one), one, at_ms)
    if not taken.acknowledged:
        relieved = {*page.leaving} - {*taken.leaving}
        return _hurry(taken, at_ms, Cancel(users=tuple(sorted({user, *relieved}))))
    since = at_ms if page.accepted_ms is None else page.accepted_ms
    accepted = replace(taken, status=Status.ACCEPTED, accepted_ms=since, remind_ms=None)
    if accepted.leaving:
        accepted = _awaiting(accepted, at_ms)
    cancelled = {*page.alerting, user} - {*accepted.relieving}
    return Progress(page=accepted, actions=(Cancel(users=tuple(sorted(cancelled))),))


def _taken_over(page: Page, by: Recipient, at_ms: int) -> Page:
    """Return the page without those whose shift has ended and whom somebody's acceptance relieves.

    Where several have to accept, nobody is relieved without whom they would be too few.
    """
    if by.leaving:
        return page
    anybody = page.policy.acknowledgement is Acknowledgement.ANY
    for user in page.leaving:
        one = _answerer(page, user)
        without = _with(page, replace(one.after(Event.RELIEVE, at_ms), leaving=False))
        stands_in = one.state in PENDING and (anybody or one.role == by.role)
        if stands_in or without.acknowledged:
            page = without
    return page


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
    named = moment.asked(to)
    users = {u: r for u, r in named.items() if u != page.sender and page.recipient(u) is None}
    if not users:
        raise InvalidError("a page is redirected to somebody who has not been asked")
    cancel = Cancel(users=(user,))
    if page.status is Status.ACCEPTED:
        if refused.acknowledged and not refused.leaving:
            return Progress(page=refused, actions=(cancel,))
        due_ms = at_ms + page.policy.step(page.position - 1).delay_ms
        refused = replace(_reopened(refused, at_ms), due_ms=due_ms)
    asked = _ask(refused, users, position=page.position - 1, at_ms=at_ms)
    return Progress(page=asked, actions=(cancel, Alert(users=tuple(sorted(users)))))


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
        stranded = page.leaving and not page.relieving
        page = _reopened(page, at_ms) if stranded or not page.acknowledged else page
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
        users = {user: role for user, role in found.items() if _may_be_asked(page, user)}
        if users:
            due_ms = now_ms + policy.step(position).delay_ms
            remind_ms = _remind_ms(page, now_ms)
            asked = _ask(page, users, position=position, at_ms=now_ms)
            asked = replace(asked, due_ms=due_ms, remind_ms=remind_ms)
            return Progress(page=asked, actions=(*alarms, Alert(users=tuple(users))))
        if not found and position < len(policy.steps):
            to = tuple(_found(page, moment, policy.last_position))
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
    again = (_answerer(page, user).after(Event.ASK_AGAIN, now_ms) for user in users)
    asked = _with(page, *(replace(one, position=position) for one in again))
    asked = _reopened(asked, now_ms)
    due_ms = now_ms + page.policy.step(position).delay_ms
    return Progress(page=replace(asked, due_ms=due_ms), actions=(Alert(users=users, again=True),))


def _alarm(page: Page, moment: Moment, kind: AlarmKind) -> Alarm:
    to = tuple(_found(page, moment, page.policy.last_position))
    return Alarm(kind=kind, position=page.position, users=to)


_ENDING = {Status.UNANSWERED: Event.GIVE_UP, Status.EXPIRED: Event.EXPIRE}


def _close(page: Page, status: Status, *, at_ms: int) -> Page:
    event = _ENDING[status]
    closed = (one.after(event, at_ms) for one in page.recipients if event in TRANSITIONS[one.state])
    ended = _with(page, *closed)
    return replace(ended, status=status, accepted_ms=None, remind_ms=None)


def _found(page: Page, moment: Moment, position: int) -> dict[UserName, RoleName | None]:
    """Return whom a position's responders mean now, ascending; of a last resort, fallbacks too."""
    users: dict[UserName, RoleName | None] = {}
    for responder in page.policy.step(position).responders:
        found = moment.asked(responder)
        if not found and position == page.policy.last_position:
            found = moment.fallback(responder)
        # Whoever is meant in person, too, is relieved by nobody's shift.
        users = {**found, **users, **{user: None for user, role in found.items() if role is None}}
    return dict(sorted(users.items()))


def _may_be_asked(page: Page, user: UserName) -> bool:
    one = page.recipient(user)
    return user != page.sender and (one is None or one.state in PENDING)


def _ask(
    page: Page, users: Mapping[UserName, RoleName | None], *, position: int, at_ms: int
) -> Page:
    """Return the page once people are asked, each for the role for which they are on call."""
    asked = []
    for user, role in users.items():
        one = page.recipient(user)
        if one is None:
            times = ((State.SENT, at_ms),)
            one = Recipient(user=user, state=State.SENT, position=position, times=times)
        else:
            one = one.after(Event.ASK_AGAIN, at_ms)
        asked.append(replace(one, position=position, role=role, leaving=False))
    return _with(replace(page, position=max(page.position, position + 1)), *asked)
