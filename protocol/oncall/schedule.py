"""Schedules, and the one function that says who is on call: for routing, screens and exports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

from crypto.codec import U8, Reader, Struct, optional_of, u32, vector_of
from crypto.errors import InvalidError, UsageError
from protocol.identifiers import UserName
from protocol.oncall import wall_clock
from protocol.oncall.hours import Hours
from protocol.oncall.override import Change, People, read_change, write_change
from protocol.oncall.rotation import PEOPLE, Rotation
from protocol.oncall.wall_clock import DAY_MS
from protocol.oncall.wire import Text, Users, check_name, check_users

LAYERS = 64
"""Layers of a schedule: shift types times levels; each costs at every question."""
HOURS = 16
"""Ranges of one layer."""
STACK = 512
"""Overrides at one time; those that have passed are removed by a command."""
HOLIDAYS = 1024
"""Days of a holiday calendar: decades of them."""
WORK = 100_000
"""Layers, ranges and changes looked at for one answer over a span: some seconds at the worst."""
WINDOW_MS = 400 * DAY_MS
"""Longest span of one answer: a year and a month of preparation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer(Struct):
    """People or a rotation, at certain hours.

    Attributes:
        name: Its name within the schedule.
        level: The highest level at which anybody is on call wins; all of that level are on call.
        hours: When it applies, in the schedule's zone; always where there are none.
        rotation: Who takes turns in it; none where ``users`` are always the same.
        users: Who is in it where there is no rotation.
    """

    name: Text
    level: U8 = 0
    hours: Annotated[tuple[Hours, ...], vector_of(Hours.read, Hours.encode)] = ()
    rotation: Annotated[Rotation | None, optional_of(Rotation.read, Rotation.encode)] = None
    users: Users = ()

    def __post_init__(self) -> None:
        check_name(self.name)
        if len(self.hours) > HOURS:
            raise InvalidError("a layer has at most HOURS ranges")
        if (self.rotation is None) is not bool(self.users):
            raise InvalidError("a layer has either a rotation or users")
        if self.rotation is None:
            check_users(self.users, at_most=PEOPLE)

    def people(self) -> People:
        """Return whom it may put on call."""
        if self.rotation is None:
            return frozenset(self.users)
        return frozenset(user for turn in self.rotation.turns for user in turn)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule(Struct):
    """Layers, and a stack of changes on top of them.

    Attributes:
        zone: The IANA zone of its hours.
        holidays: Its holiday calendar, in days since 1970-01-01, ascending.
        layers: Its layers.
        stack: Overrides, swaps and temporary schedules; the later wins.
    """

    zone: Text
    holidays: Annotated[tuple[int, ...], vector_of(Reader.u32, u32)] = ()
    layers: Annotated[tuple[Layer, ...], vector_of(Layer.read, Layer.encode)] = ()
    stack: Annotated[tuple[Change, ...], vector_of(read_change, write_change)] = ()

    def __post_init__(self) -> None:
        wall_clock.zone_name(self.zone)
        if list(self.holidays) != sorted(set(self.holidays)) or len(self.holidays) > HOLIDAYS:
            raise InvalidError("holidays are ascending, without repeats, at most HOLIDAYS")
        for names, most in (
            ([layer.name for layer in self.layers], LAYERS),
            ([change.name for change in self.stack], STACK),
        ):
            if len(set(names)) != len(names) or len(names) > most:
                raise InvalidError("names in a schedule are without repeats, within their limit")

    def with_change(self, change: Change) -> Schedule:
        """Return the schedule with a change on top of its stack.

        Raises:
            InvalidError: The name is taken, or the stack is full.
        """
        return replace(self, stack=(*self.stack, change))

    def without_change(self, name: str) -> Schedule:
        """Return the schedule with a change taken out of its stack, wherever it lies.

        Raises:
            InvalidError: There is none of that name.
        """
        stack = tuple(change for change in self.stack if change.name != name)
        if len(stack) == len(self.stack):
            raise InvalidError("a change that is removed is in the stack")
        return replace(self, stack=stack)

    def people(self) -> People:
        """Return everybody whom it may put on call."""
        parts = [part.people() for part in (*self.layers, *self.stack)]
        return frozenset().union(*parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """The same people on call for a while.

    Attributes:
        start_ms: Start, included.
        end_ms: End, excluded.
        people: Who is on call, ascending; nobody in a gap.
    """

    start_ms: int
    end_ms: int
    people: tuple[UserName, ...]


def on_call(schedule: Schedule, at_ms: int) -> tuple[UserName, ...]:
    """Return who is on call at an instant, ascending; nobody in a gap.

    Raises:
        UsageError: The instant is not between the years 2000 and 2100.
    """
    people = _of_layers(schedule, at_ms)
    for change in schedule.stack:
        people = change.apply(people, at_ms)
    return tuple(sorted(people))


def _of_layers(schedule: Schedule, at_ms: int) -> People:
    reading = wall_clock.read(schedule.zone, at_ms)
    holidays = frozenset(schedule.holidays)
    levels: dict[int, People] = {}
    for layer in schedule.layers:
        if layer.hours and not any(h.contains(reading, holidays=holidays) for h in layer.hours):
            continue
        rotation = layer.rotation
        people = frozenset(layer.users) if rotation is None else rotation.on_call(at_ms)
        if people:
            levels[layer.level] = levels.get(layer.level, frozenset()) | people
    return levels[max(levels)] if levels else frozenset()


def next_change(schedule: Schedule, at_ms: int) -> int | None:
    """Return the next instant at which the answer of ``on_call`` may change; None for never.

    Until then an answer may be kept; there is no other reason why it would change.

    Raises:
        UsageError: The instant is not between the years 2000 and 2100.
    """
    return min(_boundaries(schedule, at_ms), default=None)


def _boundaries(schedule: Schedule, at_ms: int) -> Iterator[int]:
    for layer in schedule.layers:
        for hours in layer.hours:
            yield hours.next_change(schedule.zone, at_ms)
        if layer.rotation is not None:
            yield layer.rotation.next_change(at_ms)
    for change in schedule.stack:
        yield from (edge for edge in change.edges() if edge > at_ms)


def shifts(schedule: Schedule, start_ms: int, end_ms: int) -> Iterator[Shift]:
    """Yield who is on call from ``start_ms`` to ``end_ms``: without holes, gaps as empty shifts.

    Each answer is ``on_call``'s; neighbours with the same people are one shift.

    Raises:
        UsageError: The span is empty or longer than ``WINDOW_MS``, or it lies outside the years
            2000 to 2100.
        InvalidError: The answer takes more than ``WORK``: ask for a shorter span.
    """
    if not start_ms < end_ms <= start_ms + WINDOW_MS:
        raise UsageError("a span of shifts has a start and an end, at most WINDOW_MS apart")
    wall_clock.check_instant(end_ms)
    since, people = start_ms, on_call(schedule, start_ms)
    at = start_ms
    for _ in range(WORK // _parts(schedule)):
        following = next_change(schedule, at)
        if following is None or following >= end_ms:
            yield Shift(start_ms=since, end_ms=end_ms, people=people)
            return
        at = following
        if (now := on_call(schedule, at)) != people:
            yield Shift(start_ms=since, end_ms=at, people=people)
            since, people = at, now
    raise InvalidError("an answer over a span takes at most WORK")


def _parts(schedule: Schedule) -> int:
    """Return what one instant costs."""
    layers = sum(1 + len(layer.hours) for layer in schedule.layers)
    return 1 + layers + sum(len(tuple(change.edges())) for change in schedule.stack)
