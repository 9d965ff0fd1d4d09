"""Random schedules against an oracle that reads the clock every minute: one JSON line.

python -m bench.sim_oncall [FIRST [LAST]]     seeds 0 to 399 by default, 25 schedules each

Schedules, overrides and edits lie about days on which clocks change, in twelve zones. At every
minute of two days, who is shown (``shifts``) and who is exported (the events of the calendar) are
whom the oracle names; and at ten random minutes, so is who is paged, after a change was put on top
and taken out again. The first that is not ends the run with its example and status 1.
Parts can be run one after another or side by side: a seed gives the same schedules everywhere.
Each ends with a line in docs/evidence.jsonl, also where one of them failed.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from bench.report import Figure, report
from crypto.errors import InvalidError
from protocol.authenticated_data import Priority
from protocol.identifiers import RoleName, UserName
from protocol.oncall.calendar import events
from protocol.oncall.commands import HandOver
from protocol.oncall.configuration import Plan
from protocol.oncall.history import Edition, History
from protocol.oncall.next_steps import Alert, next_steps
from protocol.oncall.override import Override
from protocol.oncall.page import new_page
from protocol.oncall.role import Moment, Role
from protocol.oncall.schedule import Schedule, on_call, shifts
from protocol.oncall.wall_clock import DAY_MS, MINUTE_MS
from release.evidence import Evidence, append
from tests.protocol.oncall import oracle, strategies
from tests.protocol.oncall.test_schedule import tables
from tests.protocol.oncall.ward import policy

SEEDS = 400
EACH = 25
"""Schedules of one seed: 400 seeds are 10,000."""
ASKED = 10
ICU, NURSE, MATRON = RoleName("icu"), UserName("nurse"), UserName("matron")

Named = dict[int, tuple[UserName, ...]]


@dataclass
class Seen:
    """What was compared."""

    schedules: int = 0
    minutes: int = 0
    exported: int = 0
    paged: int = 0
    zones: Counter[str] = field(default_factory=Counter)


def check(day: str, schedule: Schedule, at: set[int], seen: Seen) -> None:
    """Require that shown, exported and paged are whom the oracle names."""
    named: Named = oracle.on_call(schedule, day, tables(schedule, day))  # type: ignore[assignment]
    minutes = list(named)
    found = shifts(schedule, minutes[0], minutes[-1] + MINUTE_MS)
    shown = {m: s.people for s in found for m in range(s.start_ms, s.end_ms, MINUTE_MS)}
    assert shown == named
    seen.exported += exported(schedule, named)
    for index in at:
        assert paged(edited(schedule, minutes[index]), minutes[index]) == named[minutes[index]]
    seen.schedules += 1
    seen.minutes += len(minutes)
    seen.paged += len(at)
    seen.zones[schedule.zone] += 1


def edited(schedule: Schedule, at_ms: int) -> Schedule:
    """Return the schedule after a change of its stack that was taken back."""
    change = Override(
        name="edit", start_ms=at_ms - MINUTE_MS, end_ms=at_ms + MINUTE_MS, added=MATRON
    )
    changed = schedule.with_change(change)
    assert MATRON in on_call(changed, at_ms)
    return changed.without_change("edit")


def paged(schedule: Schedule, at_ms: int) -> tuple[UserName, ...]:
    """Return whom the first step of a page asks."""
    roster = {ICU: Role(name=ICU, schedule=schedule, fallback=(MATRON,))}
    page = new_page(Priority.STAT, policy("icu"), sender=NURSE, at_ms=at_ms)
    actions = next_steps(page, Moment(roster=roster, at_ms=at_ms), now_ms=at_ms).actions
    return tuple(user for a in actions if isinstance(a, Alert) for user in a.users)


def exported(schedule: Schedule, named: Named) -> bool:
    """Compare the calendar's events; half a year of a schedule can be more than it answers."""
    minutes = list(named)
    before_ms = minutes[0] - 60 * DAY_MS
    edition = Edition(recorded_ms=before_ms, effective_ms=before_ms, schedule=schedule)
    plan = Plan(
        role=ICU,
        version=2,
        fallback=(MATRON,),
        backup=None,
        owner=MATRON,
        hand_over=HandOver.NOBODY,
        history=History(editions=(edition,)),
    )
    try:
        listed = list(events([plan], now_ms=minutes[0]))
    except InvalidError:
        return False
    told: Named = dict.fromkeys(minutes, ())
    for event in listed:
        since, until = max(event.start_ms, minutes[0]), min(event.end_ms, minutes[-1] + MINUTE_MS)
        told.update(dict.fromkeys(range(since, until, MINUTE_MS), event.people))
    assert told == named
    return True


def run(number: int, seen: Seen) -> None:
    """Compare the schedules of one seed."""

    @seed(number)
    @settings(
        max_examples=EACH,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        strategies.schedules(),
        st.sets(st.integers(0, oracle.WINDOW_MINUTES - 1), min_size=ASKED, max_size=ASKED),
    )
    def compare(drawn: tuple[str, Schedule], at: set[int]) -> None:
        check(*drawn, at, seen)

    compare()


def main() -> int:
    given_seeds = [int(word) for word in sys.argv[1:]]
    first, last = (given_seeds + given_seeds)[:2] if given_seeds else (0, SEEDS - 1)
    seen, began, failures = Seen(), time.process_time(), 1
    try:
        for number in range(first, last + 1):
            run(number, seen)
        failures = 0
    finally:
        append(
            Evidence(
                run="sim-oncall",
                seed=first,
                count=seen.schedules,
                failures=failures,
                duration_s=time.process_time() - began,
                more={"last": last, "minutes": seen.minutes, "zones": len(seen.zones)},
            )
        )
    unit = (
        f"random schedules as the oracle says: seeds {first} to {last}, {len(seen.zones)} zones,"
        f" {seen.minutes} minutes shown, {seen.exported} schedules exported, {seen.paged} pages,"
        f" {time.process_time() - began:.0f} CPU s"
    )
    return report([Figure(name="schedules", value=seen.schedules, unit=unit)])


if __name__ == "__main__":
    sys.exit(main())
