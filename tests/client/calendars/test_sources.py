"""Calendars of other programs: what they say, and what hostile ones cannot do."""

from __future__ import annotations

import contextlib
import resource
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.calendars import sources, worker
from client.calendars.feed import FEED_BYTES, OCCURRENCES, FeedError, Listed
from protocol.oncall.wall_clock import DAY_MS
from tests.depth import DEPTH

ZONE = "Europe/Berlin"


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


START = ms("2026-10-01")
END = START + 60 * DAY_MS


def calendar(*events: str, head: str = "") -> bytes:
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:test", *head.splitlines()]
    for event in events:
        lines += ["BEGIN:VEVENT", *event.splitlines(), "END:VEVENT"]
    return "\r\n".join([*lines, "END:VCALENDAR", ""]).encode()


NIGHTS = """UID:1
DTSTART;TZID=Europe/Berlin:20261001T200000
DTEND;TZID=Europe/Berlin:20261002T080000
RRULE:FREQ=DAILY;COUNT=40
SUMMARY:ann"""


def read(data: bytes) -> tuple[Listed, ...]:
    return sources.read_ical(data, START, END, ZONE)


def spans(data: bytes) -> list[tuple[str, int, int]]:
    return [(s.person, s.start_ms, s.end_ms) for s in read(data)]


def test_nights_recur_on_the_wall_clock_also_where_it_changes() -> None:
    found = read(calendar(NIGHTS))
    assert len(found) == 40
    hours = [(shift.end_ms - shift.start_ms) // 3_600_000 for shift in found]
    # The night of 24 to 25 October 2026 has an hour more.
    assert hours == [12] * 23 + [13] + [12] * 16
    assert found[0].start_ms == ms("2026-10-01T18:00")
    assert found[39].start_ms == ms("2026-11-09T19:00")


def test_an_exception_an_added_date_and_a_moved_shift_count() -> None:
    changed = NIGHTS.replace(
        "SUMMARY",
        "EXDATE;TZID=Europe/Berlin:20261002T200000\n"
        "RDATE;TZID=Europe/Berlin:20261120T200000\nSUMMARY",
    )
    moved = """UID:1
RECURRENCE-ID;TZID=Europe/Berlin:20261003T200000
DTSTART;TZID=Europe/Berlin:20261003T220000
DTEND;TZID=Europe/Berlin:20261004T080000
SUMMARY:bob"""
    gone = """UID:1
RECURRENCE-ID;TZID=Europe/Berlin:20261004T200000
DTSTART;TZID=Europe/Berlin:20261004T200000
DTEND;TZID=Europe/Berlin:20261005T080000
STATUS:CANCELLED
SUMMARY:ann"""
    found = spans(calendar(changed, moved, gone))
    assert [one for one in found if one[0] == "bob"] == [
        ("bob", ms("2026-10-03T20:00"), ms("2026-10-04T06:00"))
    ]
    starts = [start for _, start, _ in found]
    assert ms("2026-10-02T18:00") not in starts
    assert ms("2026-10-04T18:00") not in starts
    assert ms("2026-11-20T19:00") in starts


@pytest.mark.parametrize(
    "event",
    [
        NIGHTS.replace("Europe/Berlin", "W. Europe Standard Time"),
        NIGHTS.replace(";TZID=Europe/Berlin", ""),
    ],
    ids=["windows-zone", "floating"],
)
def test_zones_that_are_named_otherwise_or_not_at_all_are_understood(event: str) -> None:
    assert spans(calendar(event)) == spans(calendar(NIGHTS))


def test_a_calendars_own_zone_holds_for_its_universal_times() -> None:
    event = "UID:2\nDTSTART:20261001T080000Z\nDTEND:20261001T160000Z\nSUMMARY:ann"
    found = spans(calendar(event, head="X-WR-TIMEZONE:America/New_York"))
    assert found == [("ann", ms("2026-10-01T08:00"), ms("2026-10-01T16:00"))]


def test_level_attendees_services_and_folded_lines_are_read() -> None:
    event = """UID:3
DTSTART:20261001T080000Z
DTEND:20261001T160000Z
SUMMARY:[L2] somebody
CATEGORIES:ICU
ATTENDEE;CN="A very long name indeed";ROLE=REQ-PARTICIPANT:mailto:ann@hospit
 al.example
ATTENDEE:mailto:bob@hospital.example"""
    found = read(calendar(event))
    assert [(s.person, s.service, s.level) for s in found] == [
        ("ann@hospital.example", "ICU", 2),
        ("bob@hospital.example", "ICU", 2),
    ]


def test_a_day_long_event_is_from_midnight_to_midnight_where_the_feed_is() -> None:
    event = "UID:4\nDTSTART;VALUE=DATE:20261005\nDTEND;VALUE=DATE:20261006\nSUMMARY:ann"
    assert spans(calendar(event)) == [("ann", ms("2026-10-04T22:00"), ms("2026-10-05T22:00"))]


AMION = b"""<html></html>
Assignments for 10-2-26 (as of 10-1-26)
"Smith, Ann",1001,55,"ICU call",12,3,10-2-26,0800,2000
"Jones, Bob",1002,56,"ICU call",12,3,10-2-26,2000,0800
"""


def test_amions_report_619_is_read() -> None:
    found = sources.read_amion(AMION, START, END, ZONE)
    assert [(s.person, s.service, s.start_ms, s.end_ms) for s in found] == [
        ("Smith, Ann", "ICU call", ms("2026-10-02T06:00"), ms("2026-10-02T18:00")),
        ("Jones, Bob", "ICU call", ms("2026-10-02T18:00"), ms("2026-10-03T06:00")),
    ]
    for broken in (
        b"no header",
        AMION.replace(b"10-2-26,0800", b"13-2-26,0800"),
        AMION.replace(b",0800,2000", b",2500,2000"),
        AMION.replace(b",12,3,", b","),
    ):
        with pytest.raises(FeedError):
            sources.read_amion(broken, START, END, ZONE)


TABLE = b"""role,person,start,end,level
icu,ann,2026-10-01T08:00,2026-10-01T20:00,
icu,bob,2026-10-01T18:00+00:00,2026-10-02T06:00+00:00,1
"""


def test_a_plain_table_is_read() -> None:
    found = sources.read_csv(TABLE, START, END, ZONE)
    assert [(s.person, s.service, s.start_ms, s.level) for s in found] == [
        ("ann", "icu", ms("2026-10-01T06:00"), 0),
        ("bob", "icu", ms("2026-10-01T18:00"), 1),
    ]
    for broken in (
        b"",
        b"role,person\nicu,ann\n",
        TABLE.replace(b"ann", b""),
        TABLE.replace(b"2026-10-01T20:00", b"2026-10-01T01:00"),
        TABLE.replace(b"2026-10-01T20:00", b"tomorrow"),
        TABLE + b'icu,"ann\n',
    ):
        with pytest.raises(FeedError):
            sources.read_csv(broken, START, END, ZONE)


@pytest.mark.parametrize("name", list(sources.SOURCES))
@settings(max_examples=60 * DEPTH, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_give_shifts_or_one_error(name: str, data: bytes) -> None:
    whole = {"ical": calendar(NIGHTS), "amion": AMION, "csv": TABLE}[name]
    for candidate in (data, whole[: len(data)] + data, whole + data):
        try:
            found = sources.SOURCES[name](candidate, START, END, ZONE)
        except FeedError:
            continue
        assert all(shift.start_ms < shift.end_ms and shift.person for shift in found)


def test_a_window_is_at_most_a_quarter() -> None:
    for end in (START, START + 100 * DAY_MS):
        with pytest.raises(FeedError):
            sources.read_ical(calendar(NIGHTS), START, end, ZONE)


EVERY = "UID:9\nDTSTART:20200101T000000Z\nDTEND:20200101T000100Z\nSUMMARY:ann\nRRULE:FREQ={}"
HOSTILE = {
    "each-minute-for-ever": calendar(EVERY.format("MINUTELY")),
    "each-second-for-ever": calendar(EVERY.format("SECONDLY")),
    "a-rule-that-never-matches": calendar(
        EVERY.format("SECONDLY;BYMONTH=2;BYMONTHDAY=30;BYHOUR=1;BYMINUTE=1;BYSECOND=1")
    ),
    "ten-thousand-series": calendar(*(NIGHTS.replace("UID:1", f"UID:{n}") for n in range(10_000))),
    "a-million-exceptions": calendar(
        NIGHTS.replace("SUMMARY", "EXDATE:" + ",".join(["20261001T200000"] * 200_000) + "\nSUMMARY")
    ),
    "a-long-line": calendar(NIGHTS.replace("ann", "a" * 6_000_000)),
    "nested-for-ever": b"BEGIN:VCALENDAR\r\n" * 100_000,
    "a-year-of-ten-digits": calendar(NIGHTS.replace("20261001", "9999999999")),
    "ends-before-it-starts": calendar(NIGHTS.replace("20261002", "20250101")),
    "no-such-zone": calendar(NIGHTS.replace("Europe/Berlin", "../../etc/passwd")),
    "interval-nought": calendar(NIGHTS.replace("COUNT=40", "INTERVAL=0")),
    "nothing": b"",
    "nul": b"\x00" * 1_000_000,
    "an-open-quote": calendar(NIGHTS.replace("SUMMARY:", 'ATTENDEE;CN="' + "x" * 1000 + ":")),
    "periods": calendar(
        NIGHTS.replace("SUMMARY", "RDATE;VALUE=PERIOD:19960403T020000Z/P99999999D\nSUMMARY")
    ),
}


LOADING_S = 10.0
"""Processor time in which a worker is loaded, on the slowest machine there is."""


@pytest.mark.parametrize("name", HOSTILE)
def test_no_calendar_takes_longer_than_a_second_or_more_than_its_memory(name: str) -> None:
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before_s = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    # The largest child so far, which may be another test's.
    largest_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    with contextlib.suppress(FeedError):
        found = worker.read("ical", HOSTILE[name], start_ms=START, end_ms=END, zone=ZONE)
        assert len(found) <= OCCURRENCES
    used_s = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before_s
    assert used_s < worker.SECONDS + LOADING_S
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 100_000
    # A child's count begins with that of its parent, which other tests may have grown.
    inherited_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    most_kb = worker.MEMORY_BYTES // 1024 + 80 * 1024
    assert children_kb <= max(largest_kb, inherited_kb, most_kb)


def test_a_good_feed_comes_back_from_the_worker_and_one_that_is_too_large_never_gets_there() -> (
    None
):
    found = worker.read("ical", calendar(NIGHTS), start_ms=START, end_ms=END, zone=ZONE)
    assert found == read(calendar(NIGHTS))
    with pytest.raises(FeedError):
        worker.read("csv", b"x" * (FEED_BYTES + 1), start_ms=START, end_ms=END, zone=ZONE)


def test_the_worker_is_ended_when_a_feed_takes_longer_than_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(FeedError, match="second"):
        worker.read("ical", HOSTILE["each-second-for-ever"], start_ms=START, end_ms=END, zone=ZONE)
