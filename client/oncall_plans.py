"""A ward's plan as a file that people keep and change: roles, layers, rotations, escalation.

One table for each role; what a file says of a role is all of it but the changes of its stack, which
are made one by one. Applying a file gives the commands that are missing, so applying it again gives
none.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from crypto.errors import InvalidError
from protocol.commands import Command, SetHolders
from protocol.identifiers import RoleName, UserName, role_name, user_name
from protocol.oncall.commands import (
    HandOver,
    Number,
    SetEscalationPolicy,
    SetNumbers,
    SetRole,
    SetSchedule,
)
from protocol.oncall.configuration import Configuration, Holders, Plan
from protocol.oncall.escalation import Acknowledgement, Policy, Step
from protocol.oncall.hours import EVERY_DAY, MONDAY_TO_FRIDAY, Holidays, Hours
from protocol.oncall.role import Reach, Responder, Turn
from protocol.oncall.rotation import Rotation, Unit
from protocol.oncall.schedule import Layer, Schedule
from protocol.oncall.wall_clock import DAY_MINUTES, MINUTE_MS

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS = re.compile(
    r"(?P<days>[a-z,-]+)\s+(?P<sh>\d{1,2}):(?P<sm>\d{2})-(?P<eh>\d{1,2}):(?P<em>\d{2})"
    r"(?:\s+(?P<holidays>holidays|except holidays))?"
)
_TIME = re.compile(r"(\d+)\s*(s|min|h)")
_UNITS_MS = {"s": 1000, "min": MINUTE_MS, "h": 60 * MINUTE_MS}


class PlanError(Exception):
    """A file is no plan; the text says where and what is expected there."""


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of a file's tables."""


class _Turns(_Table, frozen=True):
    unit: str
    start: str
    turns: list[list[str]]
    length: Annotated[int, Meta(ge=1)] = 1


class _Layer(_Table, frozen=True):
    name: str
    level: Annotated[int, Meta(ge=0, le=255)] = 0
    hours: list[str] = []
    users: list[str] = []
    rotation: _Turns | None = None


class _Step(_Table, frozen=True):
    ask: list[str]
    wait: str


class _Escalation(_Table, frozen=True):
    steps: list[_Step]
    last: _Step
    repeats: int = 0
    acknowledge: str = "any"
    quorum: int = 1
    again_after: str = ""


class _Role(_Table, frozen=True):
    fallback: list[str]
    zone: str
    owner: str = ""
    backup: str | None = None
    hand_over: bool = False
    holders: list[str] = []
    holidays: list[date] = []
    layer: list[_Layer] = []
    escalation: _Escalation | None = None
    number: str = ""
    numbers: dict[str, str] = {}


class _File(_Table, frozen=True):
    role: dict[str, _Role]


def missing(
    text: str, configuration: Configuration, *, holders: Holders, owner: UserName, now_ms: int
) -> list[Command]:
    """Return the commands that make what a file says true, in order; none where it is.

    Args:
        text: The file, TOML.
        configuration: What holds now.
        holders: Who may hold which role now.
        owner: The owner of roles that name none.
        now_ms: From when on schedules are in effect.

    Raises:
        PlanError: It is no plan.
    """
    try:
        file = msgspec.convert(tomllib.loads(text), _File)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise PlanError(str(error)) from None
    made: list[Command] = []
    for name, table in file.role.items():
        try:
            made += _of_role(role_name(name), table, configuration, holders, owner, now_ms)
        except InvalidError as error:
            raise PlanError(f"role {name}: {error.rule}") from None
        except PlanError as error:
            raise PlanError(f"role {name}: {error}") from None
    return made


def _of_role(
    role: RoleName,
    table: _Role,
    configuration: Configuration,
    holders: Holders,
    owner: UserName,
    now_ms: int,
) -> Iterator[Command]:
    people = _people(table.holders)
    if table.holders and holders.get(role, ()) != people:
        yield SetHolders(role=role, users=people)
    plan = configuration.plans.get(role)
    version = configuration.version(role)
    wanted = SetRole(
        role=role,
        version=version + 1,
        fallback=_people(table.fallback),
        backup=None if table.backup is None else role_name(table.backup),
        owner=user_name(table.owner) if table.owner else owner,
        hand_over=HandOver.HOLDERS if table.hand_over else HandOver.NOBODY,
    )
    if plan is None or _settings(plan) != _settings(wanted):
        version += 1
        yield wanted
    held = plan.schedule(now_ms) if plan is not None and plan.history.editions else None
    schedule = _schedule(table, stack=held)
    if held != schedule and (held is not None or table.layer):
        version += 1
        yield SetSchedule(role=role, version=version, effective_ms=now_ms, schedule=schedule)
    if table.escalation is not None:
        policy = _policy(table.escalation)
        if plan is None or plan.policy != policy:
            version += 1
            yield SetEscalationPolicy(role=role, version=version, policy=policy)
    numbers = _numbers(table)
    if numbers and (plan is None or plan.numbers != numbers):
        yield SetNumbers(role=role, version=version + 1, numbers=numbers)


def _numbers(table: _Role) -> tuple[Number, ...]:
    own = [Number(user=None, number=table.number)] if table.number else []
    people = {user_name(name): number for name, number in table.numbers.items()}
    return (*own, *(Number(user=user, number=n) for user, n in sorted(people.items())))


def _settings(one: Plan | SetRole) -> tuple[object, ...]:
    return one.fallback, one.backup, one.owner, one.hand_over


def _people(names: Iterable[str]) -> tuple[UserName, ...]:
    return tuple(sorted({user_name(name) for name in names}))


def _schedule(table: _Role, *, stack: Schedule | None) -> Schedule:
    made = Schedule(
        zone=table.zone,
        holidays=tuple(sorted({_day(day) for day in table.holidays})),
        layers=tuple(_layer(layer, table.zone) for layer in table.layer),
    )
    return made if stack is None else replace(made, stack=stack.stack)


def _day(day: date) -> int:
    return (day - date(1970, 1, 1)).days


def _layer(table: _Layer, zone: str) -> Layer:
    return Layer(
        name=table.name,
        level=table.level,
        hours=tuple(map(_hours, table.hours)),
        rotation=None if table.rotation is None else _rotation(table.rotation, zone),
        users=_people(table.users),
    )


def _rotation(table: _Turns, zone: str) -> Rotation:
    try:
        start = datetime.fromisoformat(table.start)
        unit = Unit[table.unit.upper()]
    except (ValueError, KeyError):
        raise PlanError(
            "a rotation has a unit (hourly, daily, weekly, monthly) and a start (2026-11-23T08:00)"
        ) from None
    if start.tzinfo is not None:
        raise PlanError("a rotation starts on the wall clock, without an offset")
    return Rotation(
        zone=zone,
        unit=unit,
        shift_length=table.length,
        start_minute=int(start.replace(tzinfo=UTC).timestamp()) // 60,
        turns=tuple(_people(turn) for turn in table.turns),
    )


def _hours(text: str) -> Hours:
    found = _HOURS.fullmatch(text.strip().lower())
    if found is None:
        raise PlanError(
            f"hours are like 'mon-fri 08:00-16:30' or 'every 20:00-08:00', not '{text}'"
        )
    start = int(found["sh"]) * 60 + int(found["sm"])
    end = (int(found["eh"]) * 60 + int(found["em"])) % DAY_MINUTES
    kinds = {None: Holidays.IGNORED, "holidays": Holidays.ONLY, "except holidays": Holidays.EXCEPT}
    return Hours(
        weekdays=_weekdays(found["days"]),
        holidays=kinds[found["holidays"]],
        start_minute=start,
        end_minute=end,
    )


def _weekdays(text: str) -> int:
    if text == "every":
        return EVERY_DAY
    if text == "weekdays":
        return MONDAY_TO_FRIDAY
    bits = 0
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first not in _DAYS or (last and last not in _DAYS):
            raise PlanError(f"a weekday is one of {', '.join(_DAYS)}, not '{part}'")
        begin, finish = _DAYS.index(first), _DAYS.index(last or first)
        span = (finish - begin) % len(_DAYS)
        for step in range(span + 1):
            bits |= 1 << (begin + step) % len(_DAYS)
    return bits


def _policy(table: _Escalation) -> Policy:
    try:
        acknowledgement = Acknowledgement[table.acknowledge.upper().replace("-", "_")]
    except KeyError:
        raise PlanError("a page is acknowledged by any, all or k-of-n") from None
    return Policy(
        steps=tuple(map(_step, table.steps)),
        repeats=table.repeats,
        last_resort=_step(table.last),
        acknowledgement=acknowledgement,
        quorum=table.quorum,
        re_arm_ms=duration_ms(table.again_after) if table.again_after else 0,
    )


def _step(table: _Step) -> Step:
    return Step(delay_ms=duration_ms(table.wait), responders=tuple(map(responder, table.ask)))


def duration_ms(text: str) -> int:
    """Return a time like ``60s``, ``5min`` or ``1h``, in ms.

    Raises:
        PlanError: It is no such time.
    """
    found = _TIME.fullmatch(text.strip().lower())
    if found is None:
        raise PlanError(f"a time is like 60s, 5min or 1h, not '{text}'")
    return int(found[1]) * _UNITS_MS[found[2]]


_TURNS: Mapping[str, Turn] = {"now": Turn.CURRENT, "next": Turn.NEXT, "backup": Turn.BACKUP}


def responder(text: str) -> Responder:
    """Return whom a step asks: ``role:icu``, ``role:icu next``, ``role:icu backup``, ``user:ann``.

    Raises:
        PlanError: It is none of them.
        InvalidError: The name is malformed.
    """
    kind, _, rest = text.partition(":")
    name, _, turn = rest.partition(" ")
    if kind == "user" and not turn:
        return Responder(reach=Reach.USER, name=name)
    if kind == "role" and turn in ("", *_TURNS):
        return Responder(reach=Reach.ROLE, name=name, turn=_TURNS[turn or "now"])
    raise PlanError(f"a step asks 'role:NAME', 'role:NAME next' or 'user:NAME', not '{text}'")
