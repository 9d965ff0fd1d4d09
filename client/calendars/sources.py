"""The formats that schedules come in, behind one interface: bytes in, shifts of a window out.

Source: RFC 5545 for iCalendar; for Amion the layout of its report 619, as its help page and
several public readers have it: a header line, then quoted fields, three for the person (name,
unique id, backup id), three for the assignment, then date and times as HHMM.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from types import MappingProxyType
from zoneinfo import ZoneInfo

import icalendar
import recurring_ical_events

from client.calendars.feed import OCCURRENCES, FeedError, Listed, check_window

Source = Callable[[bytes, int, int, str], tuple[Listed, ...]]
"""Takes a feed, a window's start and end in ms, and the zone of times that name none."""

_LEVEL = re.compile(r"^\[L(\d)\]\s*")
_AMION_FIELDS = 9


def read_ical(data: bytes, start_ms: int, end_ms: int, zone: str) -> tuple[Listed, ...]:
    """Return the shifts of an iCalendar; a person is the attendee, or else the summary.

    Raises:
        FeedError: It cannot be read, or lists too much.
    """
    check_window(start_ms, end_ms)
    try:
        calendar = icalendar.Calendar.from_ical(data)
        found = _ical_shifts(calendar, start_ms, end_ms, zone)
        return tuple(sorted(found, key=lambda shift: (shift.start_ms, shift.person)))
    except FeedError:
        raise
    except Exception:
        # The libraries raise whatever a malformed value leads them to; the worker bounds the rest.
        raise FeedError("no iCalendar that can be read") from None


def _ical_shifts(
    calendar: icalendar.Calendar, start_ms: int, end_ms: int, zone: str
) -> Iterator[Listed]:
    query = recurring_ical_events.of(calendar, skip_bad_series=False)
    count = 0
    for event in query.between(_utc(start_ms), _utc(end_ms)):
        if str(event.get("STATUS", "")).upper() == "CANCELLED":
            continue
        count += 1
        if count > OCCURRENCES:
            raise FeedError("more shifts than OCCURRENCES in the window")
        yield from _ical_shift(event, zone)


def _ical_shift(event: icalendar.cal.Component, zone: str) -> Iterator[Listed]:
    summary = str(event.get("SUMMARY", "")).strip()
    level = _LEVEL.match(summary)
    people = _attendees(event) or [summary[level.end() :] if level else summary]
    categories = event.get("CATEGORIES")
    services = [str(one) for one in categories.cats] if categories is not None else []
    start, end = _instant(event.decoded("DTSTART"), zone), _instant(event.decoded("DTEND"), zone)
    if not start < end:
        raise FeedError("a shift ends before it starts")
    for person in people:
        if not person:
            raise FeedError("a shift without a person")
        yield Listed(
            person=person,
            service=services[0] if services else "",
            start_ms=start,
            end_ms=end,
            level=int(level.group(1)) if level else 0,
        )


def _attendees(event: icalendar.cal.Component) -> list[str]:
    found = event.get("ATTENDEE", [])
    listed = found if isinstance(found, list) else [found]
    return [str(one).removeprefix("mailto:").removeprefix("MAILTO:") for one in listed]


def _utc(at_ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)


def _instant(value: date | datetime, zone: str) -> int:
    """Return an instant; a day is its midnight, and what names no zone is in the feed's."""
    if not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if value.tzinfo is None:
        value = value.replace(tzinfo=ZoneInfo(zone))
    return int(value.timestamp() * 1000)


def read_amion(data: bytes, start_ms: int, end_ms: int, zone: str) -> tuple[Listed, ...]:
    """Return the shifts of Amion's report 619.

    Raises:
        FeedError: It cannot be read, or lists too much.
    """
    check_window(start_ms, end_ms)
    lines = _text(data).splitlines()
    header = next((index for index, line in enumerate(lines) if line.startswith("Assignments")), -1)
    if header < 0:
        raise FeedError("no report 619: its header line is missing")
    found = []
    for row in csv.reader(lines[header + 1 :]):
        if not row:
            continue
        if len(row) < _AMION_FIELDS:
            raise FeedError("a line of report 619 has nine fields")
        found += _amion_shift(row, zone, start_ms, end_ms)
    return _bounded(found)


def _amion_shift(row: list[str], zone: str, start_ms: int, end_ms: int) -> list[Listed]:
    person, service = row[0].strip(), row[3].strip()
    day, begin, finish = _amion_day(row[6]), _amion_time(row[7]), _amion_time(row[8])
    start = datetime.combine(day, begin, tzinfo=ZoneInfo(zone))
    # A shift that ends at or before it starts ends on the next day.
    last = day + timedelta(days=1) if finish <= begin else day
    end = datetime.combine(last, finish, tzinfo=ZoneInfo(zone))
    if not person:
        raise FeedError("a shift without a person")
    shift = Listed(
        person=person,
        service=service,
        start_ms=int(start.timestamp() * 1000),
        end_ms=int(end.timestamp() * 1000),
    )
    return [shift] if shift.start_ms < end_ms and shift.end_ms > start_ms else []


def _amion_day(text: str) -> date:
    parts = re.fullmatch(r"\s*(\d{1,2})-(\d{1,2})-(\d{2}|\d{4})\s*", text)
    if parts is None:
        raise FeedError("a date of report 619 is month-day-year")
    month, day, year = (int(part) for part in parts.groups())
    try:
        return date(year + 2000 if year < 100 else year, month, day)
    except ValueError:
        raise FeedError("a date of report 619 is month-day-year") from None


def _amion_time(text: str) -> time:
    parts = re.fullmatch(r"\s*(\d{1,2})(\d{2})\s*", text)
    if parts is None or int(parts[1]) > 23 or int(parts[2]) > 59:
        raise FeedError("a time of report 619 is HHMM")
    return time(int(parts[1]), int(parts[2]))


def read_csv(data: bytes, start_ms: int, end_ms: int, zone: str) -> tuple[Listed, ...]:
    """Return the shifts of a table with the columns role, person, start, end and perhaps level.

    Times are ISO 8601; those without an offset are in the feed's zone.

    Raises:
        FeedError: It cannot be read, or lists too much.
    """
    check_window(start_ms, end_ms)
    table = csv.DictReader(io.StringIO(_text(data)), strict=True)
    try:
        columns = {name.strip().lower() for name in table.fieldnames or ()}
        if not {"role", "person", "start", "end"} <= columns:
            raise FeedError("a table has the columns role, person, start and end")
        found = [_csv_shift(row, zone) for row in table]
    except (csv.Error, ValueError, AttributeError, OverflowError):
        raise FeedError("a line of the table cannot be read") from None
    return _bounded([s for s in found if s.start_ms < end_ms and s.end_ms > start_ms])


def _csv_shift(row: Mapping[str | None, str | None], zone: str) -> Listed:
    fields = {(name or "").strip().lower(): (value or "").strip() for name, value in row.items()}
    start, end = (_instant(datetime.fromisoformat(fields[name]), zone) for name in ("start", "end"))
    level = int(fields.get("level") or 0)
    if not start < end or not 0 <= level <= 9 or not fields["person"]:
        raise ValueError
    return Listed(
        person=fields["person"], service=fields["role"], start_ms=start, end_ms=end, level=level
    )


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _bounded(found: list[Listed]) -> tuple[Listed, ...]:
    if len(found) > OCCURRENCES:
        raise FeedError("more shifts than OCCURRENCES in the window")
    return tuple(sorted(found, key=lambda shift: (shift.start_ms, shift.person)))


SOURCES: Mapping[str, Source] = MappingProxyType(
    {"ical": read_ical, "amion": read_amion, "csv": read_csv}
)
"""By name."""
