"""What administrators do and see of on call: acts to sign, coverage, what a change would move.

Nothing here signs, sends or reads a clock.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import singledispatch
from zoneinfo import ZoneInfo

from client.administration import Act
from client.views import Control
from crypto.errors import CryptoError, InvalidError
from crypto.statement import claimed_statement, statement_signers
from crypto.statement_types import StatementType
from crypto.trust import Trust
from protocol.commands import Command, SetHolders, decode_command
from protocol.identifiers import RoleName, UserName
from protocol.oncall import calendar, coverage
from protocol.oncall.commands import (
    LINK_BYTES,
    AddChange,
    AgreeSwap,
    ClaimShift,
    DeleteRole,
    HandOverShift,
    Number,
    OfferShift,
    RemoveChange,
    RoleCommand,
    SetCalendarLink,
    SetNumbers,
    SetQuietHours,
    WithdrawShift,
    decode_request,
)
from protocol.oncall.configuration import Configuration, Holders, Plan, needed
from protocol.oncall.coverage import DoubleBooking, Gap, Idle, Move, ShortRest, moves
from protocol.oncall.delivery import Quiet
from protocol.oncall.history import History
from protocol.oncall.hours import EVERY_DAY, Hours
from protocol.oncall.override import Change, Override, Swap
from protocol.oncall.role import Reach
from protocol.oncall.schedule import Shift
from protocol.oncall.wall_clock import DAY_MS, HOUR_MS
from protocol.oncall.wire import LATEST_MS

COLUMN_MS = 2 * HOUR_MS
"""How much of a role's time one sign of the picture stands for."""
GAP_SIGN, ON_SIGN = "!", "="

SWAP_CODE = 16
"""Characters of a swap's code: more than whoever proposes two can try until both have the same."""


class UnknownRoleError(Exception):
    """There is no such role.

    Attributes:
        role: What was named.
    """

    def __init__(self, role: str) -> None:
        super().__init__(role)
        self.role = role


def acts(commands: Iterable[Command]) -> list[Act]:
    """Return commands as acts to be signed."""
    return [Act(kind=StatementType.COMMAND, body=command.encode()) for command in commands]


def instant(text: str, zone: str) -> int:
    """Return an instant in ms: ISO 8601; without an offset, on the wall clock of a zone.

    Raises:
        InvalidError: It is no such instant.
    """
    try:
        at = datetime.fromisoformat(text)
        at = at if at.tzinfo is not None else at.replace(tzinfo=ZoneInfo(zone))
        return int(at.timestamp() * 1000)
    except (ValueError, OverflowError, KeyError):
        raise InvalidError("an instant is like 2026-11-23T08:00") from None


def plan_of(configuration: Configuration, role: str) -> Plan:
    """Return a role.

    Raises:
        UnknownRoleError: There is none of that name.
    """
    plan = configuration.plans.get(RoleName(role))
    if plan is None:
        raise UnknownRoleError(role)
    return plan


# Changes of one role. Each names the next version.


def overridden(
    plan: Plan,
    *,
    start_ms: int,
    end_ms: int,
    removed: UserName | None,
    added: UserName | None,
    name: str = "",
) -> AddChange:
    """Return the command that adds, removes or replaces somebody for a while.

    Raises:
        InvalidError: It breaks a rule of overrides.
    """
    change = Override(
        name=name or free_name("override", plan),
        start_ms=start_ms,
        end_ms=end_ms,
        removed=removed,
        added=added,
    )
    return AddChange(role=plan.role, version=plan.version + 1, change=change)


def swap_of(
    plan: Plan, *, first: UserName, second: UserName, spans: tuple[tuple[int, int], tuple[int, int]]
) -> Swap:
    """Return a swap in which two people exchange what they have.

    Raises:
        InvalidError: It breaks a rule of swaps.
    """
    (first_start, first_end), (second_start, second_end) = spans
    return Swap(
        name=free_name("swap", plan),
        first=first,
        first_start_ms=first_start,
        first_end_ms=first_end,
        second=second,
        second_start_ms=second_start,
        second_end_ms=second_end,
    )


def swap_code(role: RoleName, swap: Swap) -> str:
    """Return what names a swap by all that it says: whoever proposed it can change it meanwhile."""
    return hashlib.sha256(AgreeSwap(role=role, swap=swap).encode()).hexdigest()[:SWAP_CODE]


def swapped(plan: Plan, swap: Swap) -> AddChange:
    """Return the command by which an administrator lets two people exchange what they have."""
    return AddChange(role=plan.role, version=plan.version + 1, change=swap)


def removed(plan: Plan, name: str) -> RemoveChange:
    """Return the command that takes a change out of a role's stack."""
    return RemoveChange(role=plan.role, version=plan.version + 1, name=name)


def deleted(plan: Plan) -> DeleteRole:
    """Return the command that deletes a role's schedule."""
    return DeleteRole(role=plan.role, version=plan.version + 1)


def offered(plan: Plan, *, start_ms: int, end_ms: int, until_ms: int | None = None) -> OfferShift:
    """Return the command that offers a shift to the holders of a role.

    Raises:
        InvalidError: It breaks a rule of offers.
    """
    return OfferShift(
        role=plan.role,
        version=plan.version + 1,
        name=free_name("open", plan),
        start_ms=start_ms,
        end_ms=end_ms,
        until_ms=start_ms if until_ms is None else until_ms,
    )


def numbered(plan: Plan, *, user: UserName | None, number: str) -> SetNumbers:
    """Return the command that gives a role or a person a telephone number, or takes it away.

    Raises:
        InvalidError: No telephone can dial it.
    """
    kept = [one for one in plan.numbers if one.user != user]
    if number:
        kept.append(Number(user=user, number=number))
    numbers = tuple(sorted(kept, key=lambda one: one.user or ""))
    return SetNumbers(role=plan.role, version=plan.version + 1, numbers=numbers)


def withdrawn(plan: Plan, name: str) -> WithdrawShift:
    """Return the command that ends an offer."""
    return WithdrawShift(role=plan.role, version=plan.version + 1, name=name)


def free_name(kind: str, plan: Plan) -> str:
    """Return a name that no change or offer of a role has."""
    stacks = (edition.schedule.stack for edition in plan.history.editions)
    taken = {change.name for stack in stacks for change in stack}
    taken |= {offer.name for offer in plan.offers}
    taken |= {proposal.swap.name for proposal in plan.proposals}
    number = plan.version + 1
    while f"{kind}-{number}" in taken:
        number += 1
    return f"{kind}-{number}"


# A person's own.


def quiet_hours(
    configuration: Configuration, user: UserName, *, zone: str, hours: str, until_ms: int | None
) -> SetQuietHours:
    """Return the request that sets a person's quiet hours, like ``22:00-07:00``; empty for none.

    Raises:
        InvalidError: They are no such hours.
    """
    ranges: tuple[Hours, ...] = ()
    if hours:
        try:
            start, end = (_minute(part) for part in hours.split("-"))
        except ValueError:
            raise InvalidError("quiet hours are like 22:00-07:00") from None
        ranges = (Hours(weekdays=EVERY_DAY, start_minute=start, end_minute=end),)
    quiet = Quiet(zone=zone, hours=ranges, do_not_disturb_until_ms=until_ms)
    return SetQuietHours(version=_next_own(configuration, user), quiet=quiet)


def _minute(text: str) -> int:
    hour, minute = text.split(":")
    return int(hour) * 60 + int(minute)


def _next_own(configuration: Configuration, user: UserName) -> int:
    own = configuration.quiets.get(user)
    return 1 if own is None else own.version + 1


def handed_over(
    plan: Plan, *, giver: UserName, to: UserName, start_ms: int, end_ms: int
) -> HandOverShift:
    """Return the request by which a person gives their own shift to a holder.

    Raises:
        InvalidError: It breaks a rule of overrides.
    """
    change = Override(
        name=free_name("hand-over", plan),
        start_ms=start_ms,
        end_ms=end_ms,
        removed=giver,
        added=to,
    )
    return HandOverShift(role=plan.role, change=change)


def claimed(plan: Plan, name: str) -> ClaimShift:
    """Return the request by which a person takes a shift on offer."""
    return ClaimShift(role=plan.role, name=name)


def calendar_link(
    configuration: Configuration, user: UserName, *, ended: bool
) -> tuple[SetCalendarLink, bytes]:
    """Return the request that begins or ends a person's calendar link, and the link's secret."""
    secret = secrets.token_bytes(LINK_BYTES)
    hashed = None if ended else hashlib.sha256(secret).digest()
    return SetCalendarLink(version=_next_own(configuration, user), link=hashed), secret


# What is seen.


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """A role's coverage of a span.

    Attributes:
        role: The role.
        shifts: Who is on call, without holes.
        gaps: The spans in which nobody is.
        percent: How much of the span is covered, rounded down.
    """

    role: RoleName
    shifts: tuple[Shift, ...]
    gaps: tuple[Shift, ...]
    percent: int

    def picture(self, start_ms: int, end_ms: int, *, column_ms: int = COLUMN_MS) -> str:
        """Return the span as signs, one for each column; one that has any gap shows it."""
        columns = range(start_ms, end_ms, column_ms)
        return "".join(
            GAP_SIGN
            if any(gap.start_ms < at + column_ms and gap.end_ms > at for gap in self.gaps)
            else ON_SIGN
            for at in columns
        )


def covered(configuration: Configuration, *, start_ms: int, end_ms: int) -> list[Covered]:
    """Return how each role is covered in a span, as it is known now.

    Raises:
        InvalidError: A schedule's answer takes more than ``schedule.WORK``.
        UsageError: The span is empty, too long, or outside the years 2000 to 2100.
    """
    found = []
    for role, plan in sorted(configuration.plans.items()):
        shifts = tuple(plan.history.shifts(start_ms, end_ms, known_ms=LATEST_MS))
        gaps = tuple(shift for shift in shifts if not shift.people)
        missing = sum(gap.end_ms - gap.start_ms for gap in gaps)
        percent = 100 - -(-100 * missing // (end_ms - start_ms))
        found.append(Covered(role=role, shifts=shifts, gaps=gaps, percent=percent))
    return found


def lint(
    configuration: Configuration, holders: Holders, *, start_ms: int, end_ms: int
) -> list[str]:
    """Return what is wrong with the schedules of a span, one line each.

    Raises:
        InvalidError: A schedule's answer takes more than ``schedule.WORK``.
        UsageError: The span is empty, too long, or outside the years 2000 to 2100.
    """
    roster = {
        name: role
        for name, role in configuration.roster(start_ms, holders).items()
        if name in configuration.plans
    }
    found = [_finding(one) for one in coverage.lint(roster, start_ms=start_ms, end_ms=end_ms)]
    found += unplanned(configuration, holders)
    return found + _half_signed(configuration, start_ms=start_ms, end_ms=end_ms)


def _half_signed(configuration: Configuration, *, start_ms: int, end_ms: int) -> list[str]:
    """Return which swaps wait for a signature: until it is there everybody keeps what they have."""
    return [
        f"{role}: the swap {one.swap.name} of {one.swap.first} and {one.swap.second} waits for"
        f" {one.waits_for} until {_when(one.swap.begins_ms)}"
        for role, plan in sorted(configuration.plans.items())
        for one in needed(plan, start_ms).proposals
        if one.swap.begins_ms < end_ms
    ]


def absent(
    configuration: Configuration, holders: Holders, present: Collection[UserName], *, at_ms: int
) -> list[str]:
    """Return who is asked for a role and has no device that stands, one line each.

    Whoever has a telephone number for it is called by that, and is none of them.

    Args:
        configuration: Who is on call for what.
        holders: Who may hold which role.
        present: People of whom a device stands.
        at_ms: Of whose schedules it is asked, and of those to come.
    """
    found = []
    for role, plan in sorted(configuration.plans.items()):
        called = {one.user for one in plan.numbers}
        editions = plan.history.needed(at_ms)
        ways = {
            "is in the schedule of": frozenset[UserName]().union(
                *(edition.schedule.people() for edition in editions)
            ),
            "is the fallback of": frozenset(plan.fallback),
            "holds": frozenset(holders.get(role, ())),
        }
        found += [
            f"{user}: {way} {role}, and has no device"
            for way, people in ways.items()
            for user in sorted(people - called - {*present})
        ]
    return found


def unplanned(configuration: Configuration, holders: Holders) -> list[str]:
    """Return which roles others name that have neither plan nor holders, one line each.

    Nobody is asked there: a page that was to go on to such a role ends without an answer.
    """
    there = {*configuration.plans, *(role for role, users in holders.items() if users)}
    return [
        f"{role}: its {where} names {named}, which has no plan and no holders: nobody is asked"
        for role, plan in sorted(configuration.plans.items())
        for named, where in sorted(_named(plan).items())
        if named not in there
    ]


def _named(plan: Plan) -> dict[str, str]:
    """Return the roles that a plan names, each with where it first does."""
    named: dict[str, str] = {} if plan.backup is None else {plan.backup: "backup"}
    if plan.policy is not None:
        for step in (*plan.policy.steps, plan.policy.last_resort):
            for responder in step.responders:
                if responder.reach is Reach.ROLE:
                    named.setdefault(responder.name, "escalation")
    return named


@singledispatch
def _finding(found: object) -> str:
    return type(found).__name__


@_finding.register
def _(found: Gap) -> str:
    return f"{found.role}: nobody from {_when(found.start_ms)} to {_when(found.end_ms)}"


@_finding.register
def _(found: Idle) -> str:
    return f"{found.role}: the change {found.name} has no effect"


@_finding.register
def _(found: DoubleBooking) -> str:
    first, second = found.roles
    return f"{found.user}: on call for {first} and {second} from {_when(found.start_ms)}"


@_finding.register
def _(found: ShortRest) -> str:
    hours = (found.end_ms - found.start_ms) // HOUR_MS
    return f"{found.user}: {hours} hours of rest from {_when(found.start_ms)}"


def _when(at_ms: int) -> str:
    """Return an instant in this machine's zone, to the minute."""
    return datetime.fromtimestamp(at_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M")


def after(
    configuration: Configuration, commands: Iterable[Command], *, now_ms: int
) -> Configuration:
    """Return what would hold after commands.

    Raises:
        InvalidError: One of them does not fit.
    """
    for command in commands:
        if isinstance(command, RoleCommand):
            configuration = configuration.commanded(command, at_ms=now_ms)
    return configuration


def moved(
    before: Configuration, later: Configuration, *, start_ms: int, end_ms: int
) -> Mapping[RoleName, list[Move]]:
    """Return whom a change moves, by role; roles in which nobody is moved are left out.

    Raises:
        InvalidError: A schedule's answer takes more than ``schedule.WORK``.
    """
    found = {}
    for role in sorted({*before.plans, *later.plans}):
        sides = [_shifts(one, role, start_ms, end_ms) for one in (before, later)]
        changed = list(moves(*sides))
        if changed:
            found[role] = changed
    return found


def _shifts(
    configuration: Configuration, role: RoleName, start_ms: int, end_ms: int
) -> Iterator[Shift]:
    plan = configuration.plans.get(role)
    history = History() if plan is None else plan.history
    return history.shifts(start_ms, end_ms, known_ms=LATEST_MS)


def as_known(controls: Iterable[Control], *, known_ms: int, trust: Trust) -> Configuration:
    """Return the configuration with every edition of it, as the control log told it until a time.

    Args:
        controls: The control log from its beginning, as the device has read it.
        known_ms: What was told later is left out.
        trust: Whose devices signed what.
    """
    configuration = Configuration()
    holders: dict[RoleName, tuple[UserName, ...]] = {}
    seen: set[bytes] = set()
    for control in controls:
        if control.verified and control.at_ms <= known_ms:
            with contextlib.suppress(CryptoError):
                told = claimed_statement(control.statement)
                # What was told twice had its effect once.
                if told.id not in seen:
                    seen.add(told.id)
                    configuration = _told(configuration, holders, control, trust)
    return configuration


def _told(
    configuration: Configuration,
    holders: dict[RoleName, tuple[UserName, ...]],
    control: Control,
    trust: Trust,
) -> Configuration:
    body = claimed_statement(control.statement).body
    if control.type is StatementType.DEVICE_REQUEST:
        signer = trust.devices.get(statement_signers(control.statement)[0])
        if signer is None:
            return configuration
        user = UserName(signer.user)
        request = decode_request(body)
        return configuration.requested(request, user=user, holders=holders, at_ms=control.at_ms)
    if control.type is not StatementType.COMMAND:
        return configuration
    command = decode_command(body)
    if isinstance(command, SetHolders):
        holders[command.role] = command.users
    if isinstance(command, RoleCommand):
        return configuration.commanded(command, at_ms=control.at_ms)
    return configuration


def who_was(
    configuration: Configuration, role: str, *, at_ms: int, known_ms: int
) -> tuple[UserName, ...]:
    """Return who was on call at an instant, as ``as_known`` had it.

    Raises:
        UnknownRoleError: Nobody was told of such a role by then.
    """
    return plan_of(configuration, role).history.on_call(at_ms, known_ms=known_ms)


def exported(configuration: Configuration, *, role: str | None, now_ms: int) -> bytes:
    """Return the shifts of a role, or of all, as iCalendar.

    Raises:
        UnknownRoleError: There is no such role.
    """
    plans = [plan_of(configuration, role)] if role else list(configuration.plans.values())
    return calendar.export(calendar.events(plans, now_ms=now_ms), now_ms=now_ms)


def passed(plan: Plan, *, now_ms: int) -> list[Change]:
    """Return the changes of a role's stack that are over: they may be taken out."""
    return [
        change for change in plan.schedule(now_ms).stack if max(change.edges()) < now_ms - DAY_MS
    ]
