"""What a period was like: how much, how fast, how late, and what was refused; without any content.

It is told from what the relay could see as well (priorities, times, where pages stand, its own
security events), so that nothing sealed is opened for it, and nobody is named in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from archive.copying import read_body
from archive.errors import ArchiveError
from archive.evidence import Relayed
from archive.record import Record, RecordType
from archive.store import Store
from crypto.errors import CryptoError
from protocol.audit import EventKind, decode_event
from protocol.authenticated_data import Priority
from protocol.oncall.page import Page
from protocol.oncall.page_event import PageEvent
from protocol.oncall.page_state import Status
from protocol.routing import route

DAY_HOURS = range(7, 19)
"""Hours of a weekday that are no off hours."""

_SATURDAY = 5

_FIRST_STEPS = 1
"""A page's position while no more than its first step was asked."""

DENIALS = frozenset(
    {
        EventKind.REFUSED,
        EventKind.PROOF_WRONG,
        EventKind.PASSWORD_WRONG,
        EventKind.SHARE_LOCKED,
        EventKind.CONCURRENT_USE,
    }
)
"""Events that tell of somebody who was not let do something, or was in two places at once."""


@dataclass(slots=True, kw_only=True)
class Activity:
    """Numbers of a period.

    Attributes:
        messages: Messages by priority; what devices report of reading is among those of ``INFO``.
        hours: Messages by hour of the day, in the zone that was asked for.
        off_hours: Messages at night and at the weekend.
        denials: What was refused, by what.
        unreadable: Records that say nothing any more: shredded, or damaged.
    """

    zone: ZoneInfo
    messages: Counter[str] = field(default_factory=Counter)
    hours: Counter[int] = field(default_factory=Counter)
    off_hours: int = 0
    denials: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0
    _pages: dict[bytes, Page] = field(default_factory=dict)
    _accepted_ms: dict[bytes, int] = field(default_factory=dict)

    def take(self, record: Record, body: bytes) -> None:
        """Count one record.

        Raises:
            CryptoError: It is not what its type says.
        """
        counts: Mapping[RecordType, Callable[[Record, bytes], None]] = {
            RecordType.MESSAGE: self._message,
            RecordType.ESCALATION: self._page,
            RecordType.RELAY_SECURITY_EVENT: self._event,
        }
        counts[record.type](record, body)

    def _message(self, record: Record, body: bytes) -> None:
        at = datetime.fromtimestamp(record.at_ms / 1000, UTC).astimezone(self.zone)
        self.messages[route(body).data.priority.name.lower()] += 1
        self.hours[at.hour] += 1
        self.off_hours += at.weekday() >= _SATURDAY or at.hour not in DAY_HOURS

    def _page(self, record: Record, body: bytes) -> None:
        page = PageEvent.decode(body).state.page
        self._pages[record.conv_tag] = page
        if page.accepted_ms is not None:
            self._accepted_ms.setdefault(record.conv_tag, page.accepted_ms)

    def _event(self, _: Record, body: bytes) -> None:
        kind = decode_event(Relayed.decode(body).body).kind
        if kind in DENIALS:
            self.denials[kind.name.lower()] += 1

    def facts(self) -> dict[str, object]:
        """Return the numbers, by name."""
        pages = self._pages.values()
        waits_s = sorted(
            (at_ms - self._pages[tag].started_ms) / 1000 for tag, at_ms in self._accepted_ms.items()
        )
        unanswered = [page for page in pages if page.status is Status.UNANSWERED]
        return {
            "messages": sum(self.messages.values()),
            **{f"messages_{name}": count for name, count in sorted(self.messages.items())},
            "messages_off_hours": self.off_hours,
            "busiest_hour": max(self.hours, key=lambda hour: self.hours[hour], default=None),
            "pages": len(pages),
            "pages_escalated": sum(page.position > _FIRST_STEPS for page in pages),
            "pages_accepted": len(waits_s),
            "response_s_median": _quantile(waits_s, 0.5),
            "response_s_95_of_100": _quantile(waits_s, 0.95),
            "pages_unanswered": len(unanswered),
            "stat_unanswered": sum(page.priority is Priority.STAT for page in unanswered),
            "denials": sum(self.denials.values()),
            **{f"denials_{name}": count for name, count in sorted(self.denials.items())},
            "records_without_body": self.unreadable,
        }


def _quantile(ascending: list[float], part: float) -> float | None:
    if not ascending:
        return None
    return ascending[min(len(ascending) - 1, int(len(ascending) * part))]


def activity(store: Store, *, from_ms: int, until_ms: int, zone: ZoneInfo) -> Activity:
    """Return what a period was like.

    Args:
        store: An open log, or a copy of one.
        from_ms: First instant, by the archive's clock.
        until_ms: The instant at which the period ends, not in it.
        zone: Whose hours count.

    Raises:
        ArchiveError: The log is damaged.
    """
    found = Activity(zone=zone)
    told = {RecordType.MESSAGE, RecordType.ESCALATION, RecordType.RELAY_SECURITY_EVENT}
    for _, leaf in store.leaves():
        record = Record.decode(leaf)
        if record.type not in told or not from_ms <= record.at_ms < until_ms:
            continue
        try:
            found.take(record, read_body(store, record))
        except (CryptoError, ArchiveError):
            found.unreadable += 1
    return found
