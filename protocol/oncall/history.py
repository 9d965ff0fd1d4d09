"""What was known when: who was on call at T, as known at T2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from crypto.codec import U64, Struct, vector_of
from crypto.errors import InvalidError
from protocol.identifiers import UserName
from protocol.oncall.schedule import Schedule, on_call
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
