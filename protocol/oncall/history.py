"""What was known when: who was on call at T, as known at T2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated

from crypto.codec import U64, Struct, vector_of
from crypto.errors import InvalidError
from protocol.identifiers import UserName
from protocol.oncall.schedule import Schedule, Shift, on_call, shifts
from protocol.oncall.wire import EARLIEST_MS, LATEST_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Edition(Struct):
    """A schedule as somebody recorded it.

    Attributes:
        recorded_ms: When it became known: the time of the signed command in the control log.
        effective_ms: From when on it holds: later for a plan, earlier for a correction.
        schedule: The schedule.
    """

    recorded_ms: U64
    effective_ms: U64
    schedule: Schedule

    def __post_init__(self) -> None:
        for at_ms in (self.recorded_ms, self.effective_ms):
            if not EARLIEST_MS <= at_ms <= LATEST_MS:
                raise InvalidError("an edition is of a time between the years 2000 and 2100")


@dataclass(frozen=True, slots=True, kw_only=True)
class History(Struct):
    """Every edition of one schedule, in the order in which they became known. Nothing is rewritten.

    Attributes:
        editions: The editions; of those known and in effect the last recorded holds.
    """

    editions: Annotated[tuple[Edition, ...], vector_of(Edition.read, Edition.encode)] = ()

    def __post_init__(self) -> None:
        times = [edition.recorded_ms for edition in self.editions]
        if times != sorted(times):
            raise InvalidError("editions are in the order in which they became known")

    def with_edition(self, edition: Edition) -> History:
        """Return the history with an edition that becomes known after all others.

        Raises:
            InvalidError: It is older than the newest.
        """
        return History(editions=(*self.editions, edition))

    def needed(self, now_ms: int) -> tuple[Edition, ...]:
        """Return the editions that may still answer for the present or the future.

        Whoever only routes keeps these; what was known when is asked of the whole history.
        """
        kept: list[Edition] = []
        earliest: int | None = None
        for edition in reversed(self.editions):
            from_ms = max(edition.effective_ms, now_ms)
            if earliest is None or from_ms < earliest:
                kept.append(edition)
                earliest = from_ms
        return tuple(reversed(kept))

    def schedule_at(self, at_ms: int, *, known_ms: int) -> Schedule | None:
        """Return the schedule that held at an instant, as known at another; None before the first.

        Args:
            at_ms: The instant that is asked about.
            known_ms: What was recorded later is left out.
        """
        for edition in reversed(self.editions):
            if edition.recorded_ms <= known_ms and edition.effective_ms <= at_ms:
                return edition.schedule
        return None

    def on_call(self, at_ms: int, *, known_ms: int) -> tuple[UserName, ...]:
        """Return who was on call at an instant, as known at another, ascending.

        Raises:
            UsageError: The instant is not between the years 2000 and 2100.
        """
        schedule = self.schedule_at(at_ms, known_ms=known_ms)
        return () if schedule is None else on_call(schedule, at_ms)

    def shifts(self, start_ms: int, end_ms: int, *, known_ms: int) -> Iterator[Shift]:
        """Yield who was on call in a span, as known at an instant: each answer is ``on_call``'s.

        Raises:
            UsageError: The span is empty or longer than ``schedule.WINDOW_MS``, or it lies outside
                the years 2000 to 2100.
            InvalidError: The answer takes more than ``schedule.WORK``.
        """
        edges = {e.effective_ms for e in self.editions if start_ms < e.effective_ms < end_ms}
        cuts = [start_ms, *sorted(edges), end_ms]
        last: Shift | None = None
        for since_ms, until_ms in pairwise(cuts):
            held = self.schedule_at(since_ms, known_ms=known_ms)
            for shift in shifts(_NOTHING if held is None else held, since_ms, until_ms):
                if last is not None and last.people == shift.people:
                    last = replace(last, end_ms=shift.end_ms)
                    continue
                if last is not None:
                    yield last
                last = shift
        if last is not None:
            yield last


_NOTHING = Schedule(zone="UTC")
