"""Roles: who answers to one now, next, or as backup, and who when nobody is on call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Annotated

from crypto.codec import Struct
from crypto.errors import InvalidError
from protocol.authenticated_data import Target, TargetKind
from protocol.identifiers import RoleName, UserName, role_name, user_name
from protocol.oncall import wall_clock
from protocol.oncall.rotation import PEOPLE
from protocol.oncall.schedule import Schedule, Shift, on_call, shifts
from protocol.oncall.wall_clock import DAY_MS
from protocol.oncall.wire import LATEST_MS, MaybeRole, Text, Users, check_users, enum_of
from protocol.oncall.wire import Role as RoleField

HORIZON_MS = 62 * DAY_MS
"""How far ahead anything is in sight: two months of a monthly rotation."""


class Turn(IntEnum):
    """Which of a role's people are meant."""

    CURRENT = 0
    NEXT = 1
    BACKUP = 2


TURNS: Mapping[TargetKind, Turn] = MappingProxyType(
    {
        TargetKind.ROLE: Turn.CURRENT,
        TargetKind.NEXT: Turn.NEXT,
        TargetKind.BACKUP: Turn.BACKUP,
    }
)
"""Which of a role's people a message is meant for, by the kind of its target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role(Struct):
    """A role that people can be on call for.

    Attributes:
        name: The role's name.
        schedule: Who is on call for it.
        fallback: Who answers where nobody is: there is always somebody, and a gap is never silent.
        backup: The role whose people on call are this one's backup.
    """

    name: RoleField
    schedule: Schedule
    fallback: Users
    backup: MaybeRole = None

    def __post_init__(self) -> None:
        role_name(self.name)
        check_users(self.fallback, at_most=PEOPLE)
        if self.backup is not None and role_name(self.backup) == self.name:
            raise InvalidError("a role is not its own backup")


Roster = Mapping[RoleName, Role]
"""Every role of the organisation, by its name."""


class Reach(IntEnum):
    """What a responder's name names."""

    USER = 0
    ROLE = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Responder(Struct):
    """Whom a step or a redirection asks: a person, or whoever has a role's turn.

    Attributes:
        reach: What ``name`` names.
        name: The person or the role.
        turn: Which of the role's people; ``CURRENT`` for a person.
    """

    reach: Annotated[Reach, enum_of(Reach)]
    name: Text
    turn: Annotated[Turn, enum_of(Turn)] = Turn.CURRENT

    def __post_init__(self) -> None:
        if self.reach is Reach.ROLE:
            role_name(self.name)
        elif user_name(self.name) and self.turn is not Turn.CURRENT:
            raise InvalidError("a person has no turns")


def responders(roster: Roster, responder: Responder, *, at_ms: int) -> tuple[UserName, ...]:
    """Return whom a responder means at an instant, ascending; nobody in a gap.

    A role that is not in the roster has nobody: a page goes on where a role was deleted.

    Raises:
        UsageError: The instant is not between the years 2000 and 2100.
    """
    if responder.reach is Reach.USER:
        return (user_name(responder.name),)
    role = roster.get(RoleName(responder.name))
    if role is not None and responder.turn is Turn.BACKUP:
        role = None if role.backup is None else roster.get(role.backup)
    if role is None:
        return ()
    if responder.turn is Turn.NEXT:
        return next_on_call(role.schedule, at_ms)
    return on_call(role.schedule, at_ms)


def meant(roster: Roster, target: Target, *, at_ms: int) -> tuple[UserName, ...] | None:
    """Return whom a message is meant to reach; None for everybody in its conversation.

    Where nobody comes next, or a role has no backup, it is whoever answers for the role: a message
    to a role is never meant for nobody. To a role that there is not, it is for everybody.

    Raises:
        UsageError: The instant is not between the years 2000 and 2100.
    """
    if target.kind is TargetKind.USER:
        return (user_name(target.name),)
    role = roster.get(RoleName(target.name))
    if role is None or not target.is_role:
        return None
    turn = TURNS[target.kind]
    asked = Responder(reach=Reach.ROLE, name=target.name, turn=turn)
    return responders(roster, asked, at_ms=at_ms) or answering(role, at_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Who is on call at one instant of the wall's clock, by which people are relieved.

    It is its own instant: what measures a page's delays may run ahead of the wall's clock once that
    was set back, and whoever is shown as on call is the one who is paged all the same.

    Attributes:
        roster: Every role as it is then.
        at_ms: The instant.
    """

    roster: Roster
    at_ms: int

    def asked(self, responder: Responder) -> dict[UserName, RoleName | None]:
        """Return whom a responder means, nobody in a gap, and for which role each is on call.

        Whoever is named, or comes next, is asked in person: nobody's shift relieves them.
        """
        users = responders(self.roster, responder, at_ms=self.at_ms)
        if responder.reach is Reach.USER or responder.turn is Turn.NEXT:
            return dict.fromkeys(users)
        role = RoleName(responder.name)
        backup = self.roster[role].backup if role in self.roster else None
        return dict.fromkeys(users, backup if responder.turn is Turn.BACKUP else role)

    def fallback(self, responder: Responder) -> dict[UserName, RoleName | None]:
        """Return who answers for a responder's role where nobody is on call for it."""
        by_role = responder.reach is Reach.ROLE
        role = self.roster.get(RoleName(responder.name)) if by_role else None
        return {} if role is None else dict.fromkeys(answering(role, self.at_ms))

    def on_call(self, name: RoleName) -> tuple[UserName, ...]:
        """Return who is on call for a role, ascending; nobody in a gap."""
        role = self.roster.get(name)
        return () if role is None else on_call(role.schedule, self.at_ms)


def answering(role: Role, at_ms: int) -> tuple[UserName, ...]:
    """Return who is on call for a role, or its fallback where nobody is: never nobody."""
    return on_call(role.schedule, at_ms) or role.fallback


def next_on_call(schedule: Schedule, at_ms: int) -> tuple[UserName, ...]:
    """Return who comes on call next, without those who are already; nobody where none is in sight.

    Raises:
        UsageError: The instant is not between the years 2000 and 2100.
    """
    now = set(on_call(schedule, at_ms))
    for shift in _ahead(schedule, at_ms):
        coming = tuple(user for user in shift.people if user not in now)
        if coming:
            return coming
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """Whether somebody is on call, and when that changes.

    Attributes:
        scheduled: Whether any role's schedule speaks of them at all.
        on_call: Whether they answer for any role, also as the fallback where nobody is on call.
        until_ms: When they next come on call, or go off; None for not in sight.
    """

    scheduled: bool
    on_call: bool
    until_ms: int | None


def is_on_call(roster: Roster, user: UserName, *, at_ms: int) -> bool:
    """Return whether somebody answers for any role at an instant, also as its fallback.

    Raises:
        UsageError: The instant is not between the years 2000 and 2100.
    """
    roles = (role for role in roster.values() if _concerns(role, user))
    return any(user in answering(role, at_ms) for role in roles)


def duty(roster: Roster, user: UserName, *, at_ms: int) -> Duty:
    """Return whether somebody is on call for any role, and until when.

    Raises:
        UsageError: The instant is not between the years 2000 and 2100.
    """
    roles = [role for role in roster.values() if _concerns(role, user)]
    scheduled = any(user in role.schedule.people() for role in roles)
    if is_on_call(roster, user, at_ms=at_ms):
        return Duty(scheduled=scheduled, on_call=True, until_ms=_off_at(roles, user, at_ms))
    starts = (next(_spans(role, user, at_ms), None) for role in roles)
    until = min((span[0] for span in starts if span is not None), default=None)
    return Duty(scheduled=scheduled, on_call=False, until_ms=until)


def _off_at(roles: Sequence[Role], user: UserName, at_ms: int) -> int | None:
    """Return when somebody who is on call goes off, of whatever role; None for not in sight."""
    end = at_ms
    for start, stop in sorted(span for role in roles for span in _spans(role, user, at_ms)):
        if start <= end:
            end = max(end, stop)
    if end >= _horizon(at_ms) or any(user in answering(role, end) for role in roles):
        return None
    return end


def covers(roster: Roster, user: UserName, *, at_ms: int) -> tuple[UserName, ...]:
    """Return who answers now for the roles that somebody serves, without that person, ascending.

    Raises:
        UsageError: The instant is not between the years 2000 and 2100.
    """
    roles = [role for role in roster.values() if user in role.schedule.people()]
    return tuple(sorted({who for role in roles for who in answering(role, at_ms)} - {user}))


def _concerns(role: Role, user: UserName) -> bool:
    return user in role.fallback or user in role.schedule.people()


def _spans(role: Role, user: UserName, at_ms: int) -> Iterator[tuple[int, int]]:
    """Yield when somebody answers for a role, from an instant on."""
    for shift in _ahead(role.schedule, at_ms):
        if user in (shift.people or role.fallback):
            yield shift.start_ms, shift.end_ms


def _ahead(schedule: Schedule, at_ms: int) -> Iterator[Shift]:
    """Yield the shifts in sight: a page does not fail because looking on costs too much."""
    try:
        yield from shifts(schedule, at_ms, _horizon(at_ms))
    except InvalidError:
        return


def _horizon(at_ms: int) -> int:
    wall_clock.check_instant(at_ms + 1)
    return min(at_ms + HORIZON_MS, LATEST_MS)
