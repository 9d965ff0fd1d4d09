"""What a feed says, and what becomes of it when it is broken, stale or suddenly empty.

The last good copy is kept whatever comes: a feed that cannot be read changes no schedule, and is
told of. What people are called there is mapped to users by a table, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import pairwise

from crypto.codec import U64, Struct
from crypto.errors import InvalidError
from protocol.identifiers import UserName
from protocol.oncall.commands import IMPORTED
from protocol.oncall.override import FIXED_SHIFTS, FixedShift, TemporarySchedule
from protocol.oncall.wall_clock import DAY_MS, MINUTE_MS
from protocol.oncall.wire import Text

STALE_MS = 26 * 3600 * 1000
"""Age, in ms, of the last good copy from which it is told of: a day, as some publishers lag."""


class FeedError(Exception):
    """A feed cannot be read.

    Attributes:
        reason: What is wrong, without anything of its content.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One shift as a feed lists it.

    Attributes:
        person: What the feed calls the person.
        service: What the feed calls the service or assignment; empty where it names none.
        start_ms: Start, included.
        end_ms: End, excluded.
        level: The highest level at an instant wins.
    """

    person: str = field(repr=False)
    service: str
    start_ms: int
    end_ms: int
    level: int = 0


class Trouble(Enum):
    """What is wrong with a feed."""

    BROKEN = "it cannot be read"
    EMPTY = "it lists nothing in a span for which it listed something"
    STALE = "the last good copy is old"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed(Struct):
    """How a feed stands; its last good copy lies in the role's schedule, whatever came since.

    Attributes:
        good_ms: When it could last be read; 0 for never.
        reason: Why it could not be read since; empty where it could.
    """

    good_ms: U64 = 0
    reason: Text = ""

    def came(self, *, now_ms: int) -> Feed:
        """Return the feed after a copy that could be read."""
        return Feed(good_ms=now_ms)

    def failed(self, error: FeedError) -> Feed:
        """Return the feed after a copy that could not be read."""
        return replace(self, reason=error.reason)

    def troubles(self, now_ms: int) -> frozenset[Trouble]:
        """Return what is to be told of."""
        broken = {Trouble.BROKEN} if self.reason else set[Trouble]()
        stale = {Trouble.STALE} if now_ms - self.good_ms > STALE_MS else set[Trouble]()
        return frozenset(broken | stale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """A feed's shifts as a role's imported plan.

    Attributes:
        plan: The plan; None where the feed lists nothing in the span.
        unknown: What the feed calls people who are not in the table, ascending.
    """

    plan: TemporarySchedule | None
    unknown: tuple[str, ...]


def plan_of(
    shifts: Iterable[Listed],
    people: Mapping[str, UserName],
    *,
    start_ms: int,
    end_ms: int,
    service: str | None = None,
) -> Mapped:
    """Return what a feed says of a span, as the plan that lies below our own changes.

    Args:
        shifts: What the feed lists.
        people: Users by what the feed calls them; user names stand for themselves.
        start_ms: The span's start.
        end_ms: Its end.
        service: Take this service's alone; all where it is None.

    Raises:
        InvalidError: There are more shifts than a plan holds: ask for a shorter span.
    """
    named, unknown = [], set()
    for shift in shifts:
        if service not in (None, shift.service):
            continue
        user = people.get(shift.person)
        since, until = max(shift.start_ms, start_ms), min(shift.end_ms, end_ms)
        if since >= until:
            continue
        if user is None:
            unknown.add(shift.person)
        else:
            named.append((since, until, shift.level, user))
    fixed = tuple(_flattened(named))
    if len(fixed) > FIXED_SHIFTS:
        raise InvalidError("an imported plan has at most FIXED_SHIFTS shifts")
    plan = None
    if fixed:
        plan = TemporarySchedule(name=IMPORTED, start_ms=start_ms, end_ms=end_ms, shifts=fixed)
    return Mapped(plan=plan, unknown=tuple(sorted(unknown)))


def _flattened(named: list[tuple[int, int, int, UserName]]) -> Iterable[FixedShift]:
    """Yield spans without overlap: at each instant those of the highest level."""
    edges = sorted({edge for since, until, _, _ in named for edge in (since, until)})
    last: FixedShift | None = None
    for since, until in pairwise(edges):
        here = [one for one in named if one[0] <= since and one[1] >= until]
        top = max((level for _, _, level, _ in here), default=0)
        users = tuple(sorted({user for _, _, level, user in here if level == top}))
        if last is not None and last.users == users and last.end_ms == since:
            last = replace(last, end_ms=until)
            continue
        if last is not None:
            yield last
        last = FixedShift(start_ms=since, end_ms=until, users=users) if users else None
    if last is not None:
        yield last


WINDOW_DAYS = 92
"""Longest span of one import, in days: a quarter."""
OCCURRENCES = 4096
"""Most shifts that one feed may list in the window: 44 a day."""
FEED_BYTES = 8 * 1024 * 1024
"""Largest feed, in bytes: a hospital's year is far below it."""


def check_window(start_ms: int, end_ms: int) -> None:
    """Refuse a span that no import takes.

    Raises:
        FeedError: It is empty, or longer than ``WINDOW_DAYS``.
    """
    if not start_ms < end_ms <= start_ms + WINDOW_DAYS * DAY_MS + MINUTE_MS:
        raise FeedError("a window is at most WINDOW_DAYS")
