"""The last good copy is kept, trouble is told of, and what is imported lies below our changes."""

from __future__ import annotations

from datetime import UTC, datetime

import icalendar
import pytest
from hypothesis import given, reject, settings

from client.calendars.feed import Feed, FeedError, Listed, Trouble, plan_of
from crypto.errors import InvalidError
from protocol.identifiers import RoleName, UserName
from protocol.oncall.calendar import events, export
from protocol.oncall.commands import HandOver
from protocol.oncall.configuration import Plan
from protocol.oncall.history import Edition, History
from protocol.oncall.override import Override
from protocol.oncall.schedule import Schedule, on_call
from tests.depth import DEPTH
from tests.protocol.oncall import oracle
from tests.protocol.oncall.strategies import schedules
from tests.protocol.oncall.test_schedule import SLOW, tables
from tests.protocol.oncall.ward import HOUR, MINUTE, NIGHT

ANN, BOB, CLEO = UserName("ann"), UserName("bob"), UserName("cleo")
PEOPLE = {"Smith, Ann": ANN, "Jones, Bob": BOB}
DAY = 24 * HOUR


def listed(person: str, start: int, end: int, level: int = 0, service: str = "icu") -> Listed:
    return Listed(
        person=person,
        service=service,
        start_ms=NIGHT + start * HOUR,
        end_ms=NIGHT + end * HOUR,
        level=level,
    )


def test_a_feed_that_breaks_or_grows_old_is_told_of_until_it_can_be_read_again() -> None:
    good = Feed().came(now_ms=NIGHT)
    assert good.troubles(NIGHT + HOUR) == frozenset()
    broken = good.failed(FeedError("no calendar"))
    assert broken.troubles(NIGHT + HOUR) == {Trouble.BROKEN}
    assert broken.good_ms == NIGHT
    assert broken.troubles(NIGHT + 27 * HOUR) == {Trouble.BROKEN, Trouble.STALE}
    assert good.troubles(NIGHT + 27 * HOUR) == {Trouble.STALE}
    assert broken.came(now_ms=NIGHT + HOUR).troubles(NIGHT + HOUR) == frozenset()
    assert Feed.decode(broken.encode()) == broken


def test_shifts_become_a_plan_of_users_and_who_is_unknown_is_named() -> None:
    mapped = plan_of(
        [
            listed("Smith, Ann", -4, 8),
            listed("Jones, Bob", 6, 12, level=1),
            listed("Nobody", 12, 14),
            listed("Jones, Bob", 0, 20, service="other"),
        ],
        PEOPLE,
        start_ms=NIGHT,
        end_ms=NIGHT + 10 * HOUR,
        service="icu",
    )
    assert mapped.unknown == ()
    assert mapped.plan is not None
    spans = [
        ((s.start_ms - NIGHT) // HOUR, (s.end_ms - NIGHT) // HOUR, s.users)
        for s in mapped.plan.shifts
    ]
    assert spans == [(0, 6, (ANN,)), (6, 10, (BOB,))]
    later = plan_of([listed("Nobody", 1, 2)], PEOPLE, start_ms=NIGHT, end_ms=NIGHT + DAY)
    assert later == plan_of([listed("Nobody", 1, 3)], PEOPLE, start_ms=NIGHT, end_ms=NIGHT + DAY)
    assert (later.plan, later.unknown) == (None, ("Nobody",))


def test_what_overlaps_at_one_level_is_on_call_together() -> None:
    mapped = plan_of(
        [listed("Smith, Ann", 0, 8), listed("Jones, Bob", 4, 12)],
        PEOPLE,
        start_ms=NIGHT,
        end_ms=NIGHT + DAY,
    )
    assert mapped.plan is not None
    assert [s.users for s in mapped.plan.shifts] == [(ANN,), (ANN, BOB), (BOB,)]


def test_a_plan_that_is_too_large_is_refused() -> None:
    many = [listed("Smith, Ann" if n % 2 else "Jones, Bob", n, n + 1) for n in range(600)]
    with pytest.raises(InvalidError):
        plan_of(many, PEOPLE, start_ms=NIGHT, end_ms=NIGHT + 30 * DAY)


def a_role(schedule: Schedule) -> Plan:
    edition = Edition(recorded_ms=NIGHT, effective_ms=NIGHT - 90 * DAY, schedule=schedule)
    return Plan(
        role=RoleName("icu"),
        version=2,
        fallback=(CLEO,),
        backup=None,
        owner=CLEO,
        hand_over=HandOver.NOBODY,
        history=History(editions=(edition,)),
    )


def shown(data: bytes) -> list[tuple[int, int, str]]:
    calendar = icalendar.Calendar.from_ical(data)
    return [
        (
            int(event.decoded("DTSTART").timestamp() * 1000),
            int(event.decoded("DTEND").timestamp() * 1000),
            str(event["SUMMARY"]),
        )
        for event in calendar.walk("VEVENT")
    ]


@settings(max_examples=15 * DEPTH, deadline=None, suppress_health_check=SLOW)
@given(found=schedules())
def test_what_is_exported_is_what_the_oracle_says_minute_by_minute(
    found: tuple[str, Schedule],
) -> None:
    day, schedule = found
    expected = oracle.on_call(schedule, day, tables(schedule, day))
    minutes = list(expected)
    before_ms = minutes[0] - 60 * DAY
    edition = Edition(recorded_ms=before_ms, effective_ms=before_ms, schedule=schedule)
    plan = Plan(
        role=RoleName("icu"),
        version=2,
        fallback=(CLEO,),
        backup=None,
        owner=CLEO,
        hand_over=HandOver.NOBODY,
        history=History(editions=(edition,)),
    )
    exported: dict[int, tuple[str, ...]] = dict.fromkeys(minutes, ())
    try:
        found_events = list(events([plan], now_ms=minutes[0]))
    except InvalidError:
        reject()  # Half a year of it is more than ``schedule.WORK``, which is said and not cut.
    for event in found_events:
        since, until = max(event.start_ms, minutes[0]), min(event.end_ms, minutes[-1] + MINUTE)
        exported.update(dict.fromkeys(range(since, until, MINUTE), event.people))
    assert exported == expected


def test_an_export_is_read_by_others_and_an_event_keeps_its_name_until_it_changes() -> None:
    night = Override(name="n", start_ms=NIGHT, end_ms=NIGHT + 8 * HOUR, added=ANN)
    plan = a_role(Schedule(zone="Europe/Berlin", stack=(night,)))
    data = export(events([plan], now_ms=NIGHT), now_ms=NIGHT)
    assert shown(data) == [(NIGHT, NIGHT + 8 * HOUR, "icu: ann")]
    assert all(len(line) <= 75 for line in data.split(b"\r\n"))
    later = export(events([plan], now_ms=NIGHT + HOUR), now_ms=NIGHT + HOUR)
    names = [
        {str(e["UID"]) for e in icalendar.Calendar.from_ical(d).walk("VEVENT")}
        for d in (data, later)
    ]
    assert names[0] == names[1]
    longer = a_role(
        Schedule(
            zone="Europe/Berlin",
            stack=(Override(name="n", start_ms=NIGHT, end_ms=NIGHT + 9 * HOUR, added=ANN),),
        )
    )
    moved = export(events([longer], now_ms=NIGHT), now_ms=NIGHT)
    assert {str(e["UID"]) for e in icalendar.Calendar.from_ical(moved).walk("VEVENT")} != names[0]
    assert list(events([plan], now_ms=NIGHT, user=BOB)) == []
    assert on_call(plan.schedule(NIGHT), NIGHT) == (ANN,)
    assert datetime.fromtimestamp(NIGHT / 1000, tz=UTC).year == 2026
