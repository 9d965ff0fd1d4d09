"""Shifts as iCalendar, for the calendars that people have: when and which role, and nothing else.

Times are in UTC, so no zone's definition travels with them. An event is named by what it is, so a
calendar that fetches again sees the same event, and one that was moved is another.

Source: RFC 5545, sections 3.1 (lines), 3.4 to 3.6; RFC 7986, section 5.7 (refresh).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from protocol.identifiers import RoleName, UserName
from protocol.oncall.configuration import Plan
from protocol.oncall.wall_clock import DAY_MS

BACK_MS = 15 * DAY_MS
"""How far back an export goes: the last hand-overs, to look at."""
AHEAD_MS = 180 * DAY_MS
"""How far ahead an export goes: half a year of planning."""

_LINE_BYTES = 75
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One shift of a role, with everybody who has it.

    Attributes:
        role: The role.
        people: Who is on call, ascending.
        start_ms: Start, included.
        end_ms: End, excluded.
    """

    role: RoleName
    people: tuple[UserName, ...]
    start_ms: int
    end_ms: int


def events(plans: Iterable[Plan], *, now_ms: int, user: UserName | None = None) -> Iterator[Event]:
    """Yield the shifts of roles about an instant; of one person alone where one is named.

    Raises:
        InvalidError: A schedule's answer takes more than ``schedule.WORK``.
        UsageError: The instant is not between the years 2000 and 2100.
    """
    for plan in plans:
        ahead = plan.history.shifts(now_ms - BACK_MS, now_ms + AHEAD_MS, known_ms=now_ms)
        for shift in ahead:
            if shift.people and (user is None or user in shift.people):
                yield Event(
                    role=plan.role,
                    people=shift.people,
                    start_ms=shift.start_ms,
                    end_ms=shift.end_ms,
                )


def export(found: Iterable[Event], *, now_ms: int) -> bytes:
    """Return an iCalendar of shifts."""
    lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//Wardline//On call//EN",
        "METHOD:PUBLISH",
        "X-WR-CALNAME:On call",
        "REFRESH-INTERVAL;VALUE=DURATION:PT1H",
    ]
    for event in found:
        lines += _event(event, now_ms)
    lines.append("END:VCALENDAR")
    return "".join(map(_folded, lines)).encode("ascii")


def _event(event: Event, now_ms: int) -> list[str]:
    people = " ".join(event.people)
    named = f"{event.role}|{people}|{event.start_ms}|{event.end_ms}"
    identity = hashlib.sha256(named.encode("ascii")).hexdigest()[:32]
    return [
        "BEGIN:VEVENT",
        f"UID:{identity}@wardline",
        f"DTSTAMP:{_instant(now_ms)}",
        f"DTSTART:{_instant(event.start_ms)}",
        f"DTEND:{_instant(event.end_ms)}",
        f"SUMMARY:{event.role}: {people}",
        f"CATEGORIES:{event.role}",
        "TRANSP:TRANSPARENT",
        "END:VEVENT",
    ]


def _instant(at_ms: int) -> str:
    return (_EPOCH + timedelta(milliseconds=at_ms)).strftime("%Y%m%dT%H%M%SZ")


def _folded(line: str) -> str:
    """Return a content line in pieces of at most 75 octets; names are ASCII, so are these."""
    pieces = [line[:_LINE_BYTES]]
    rest = line[_LINE_BYTES:]
    while rest:
        pieces.append(" " + rest[: _LINE_BYTES - 1])
        rest = rest[_LINE_BYTES - 1 :]
    return "".join(piece + "\r\n" for piece in pieces)
