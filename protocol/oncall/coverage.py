"""What is wrong with schedules: gaps, idle overrides, double bookings, too little rest."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from protocol.identifiers import RoleName, UserName
from protocol.oncall.role import Roster
from protocol.oncall.schedule import Schedule, Shift, shifts
from protocol.oncall.wall_clock import HOUR_MS

REST_MS = 11 * HOUR_MS
"""Daily rest that the European Working Time Directive (2003/88/EC, article 3) asks for."""

Span = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A role has nobody from ``start_ms`` to ``end_ms``."""

    role: RoleName
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """A change in a role's stack has no effect in the span: nothing would differ without it."""

    role: RoleName
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubleBooking:
    """A person is on call for two roles at once."""

    user: UserName
    roles: tuple[RoleName, RoleName]
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortRest:
    """A person has only from ``start_ms`` to ``end_ms`` between two times on call."""

    user: UserName
    start_ms: int
    end_ms: int


Finding = Gap | Idle | DoubleBooking | ShortRest


def lint(roster: Roster, *, start_ms: int, end_ms: int) -> Iterator[Finding]:
    """Yield what is wrong with the roster's schedules in a span.

    A person's hand-off that overlaps in a repeated hour is no double booking: it is of one role.

    Raises:
        InvalidError: The answer of a schedule takes more than ``schedule.WORK``.
        UsageError: The span is empty, too long, or outside the years 2000 to 2100.
    """
    booked: dict[UserName, list[tuple[int, int, RoleName]]] = {}
    for name, role in sorted(roster.items()):
        for shift in shifts(role.schedule, start_ms, end_ms):
            if not shift.people:
                yield Gap(role=name, start_ms=shift.start_ms, end_ms=shift.end_ms)
            for user in shift.people:
                booked.setdefault(user, []).append((shift.start_ms, shift.end_ms, name))
        yield from _idle(name, role.schedule, start_ms, end_ms)
    for user, bookings in sorted(booked.items()):
        yield from _double(user, sorted(bookings))
        yield from _short_rest(user, sorted((start, end) for start, end, _ in bookings))


def _idle(name: RoleName, schedule: Schedule, start_ms: int, end_ms: int) -> Iterator[Idle]:
    for change in schedule.stack:
        edges = tuple(change.edges())
        since, until = max(start_ms, min(edges)), min(end_ms, max(edges))
        if since >= until:
            continue
        without = schedule.without_change(change.name)
        if list(shifts(schedule, since, until)) == list(shifts(without, since, until)):
            yield Idle(role=name, name=change.name)


def _double(
    user: UserName, bookings: Iterable[tuple[int, int, RoleName]]
) -> Iterator[DoubleBooking]:
    """Yield overlaps of roles; ``bookings`` are in the order of their starts."""
    running: list[tuple[int, int, RoleName]] = []
    for start, end, role in bookings:
        running = [one for one in running if one[1] > start]
        for _, other_end, other in running:
            # One role's shifts never overlap: this is another role.
            roles = (min(role, other), max(role, other))
            until = min(end, other_end)
            yield DoubleBooking(user=user, roles=roles, start_ms=start, end_ms=until)
        running.append((start, end, role))


def _short_rest(user: UserName, spans: Iterable[Span]) -> Iterator[ShortRest]:
    """Yield rests that are too short; ``spans`` are in the order of their starts."""
    ended: int | None = None
    for start, end in spans:
        if ended is not None and ended < start < ended + REST_MS:
            yield ShortRest(user=user, start_ms=ended, end_ms=start)
        ended = end if ended is None else max(ended, end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What a change does to one person's duty.

    Attributes:
        user: The person.
        start_ms: From when.
        end_ms: Until when.
        gains: Whether they are on call then, and were not; else the other way round.
    """

    user: UserName
    start_ms: int
    end_ms: int
    gains: bool


def moves(before: Iterable[Shift], after: Iterable[Shift]) -> Iterator[Move]:
    """Yield whom a change moves, in the order of time: what everybody concerned is to be told.

    Args:
        before: Who is on call in a span, without holes, as ``shifts`` yields it.
        after: The same for the same span, as it would be.
    """
    old, new = list(before), list(after)
    edges = sorted({edge for shift in (*old, *new) for edge in (shift.start_ms, shift.end_ms)})
    running: dict[tuple[UserName, bool], Move] = {}
    for start, end in pairwise(edges):
        was, will = _people_at(old, start), _people_at(new, start)
        changed = {(user, True) for user in will - was} | {(user, False) for user in was - will}
        for key in sorted(running.keys() - changed):
            yield running.pop(key)
        for user, gains in changed:
            since = running[user, gains].start_ms if (user, gains) in running else start
            running[user, gains] = Move(user=user, start_ms=since, end_ms=end, gains=gains)
    yield from sorted(running.values(), key=lambda move: (move.start_ms, move.user))


def _people_at(spans: list[Shift], at_ms: int) -> frozenset[UserName]:
    index = bisect_right(spans, at_ms, key=lambda shift: shift.start_ms) - 1
    if index < 0 or at_ms >= spans[index].end_ms:
        return frozenset()
    return frozenset(spans[index].people)
