"""A calendar into a role's plan: read in the worker, mapped to users, made a command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from client.caches import Cache
from client.calendars import worker
from client.calendars.feed import Feed, FeedError, Trouble, plan_of
from client.calendars.sources import SOURCES
from protocol.identifiers import RoleName, UserName
from protocol.oncall.commands import IMPORTED, SetImported
from protocol.oncall.configuration import Configuration, Plan
from protocol.oncall.override import TemporarySchedule
from protocol.oncall.wall_clock import HOUR_MS
from protocol.oncall.wire import LATEST_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """What an import gives.

    Attributes:
        command: To be signed.
        changed: Whether it says anything else than what was imported before.
        unknown: What the calendar calls people who are in no table.
    """

    command: SetImported
    changed: bool
    unknown: tuple[str, ...]


def brought(
    data: bytes,
    plan: Plan,
    *,
    form: str,
    zone: str,
    span: tuple[int, int],
    people: Mapping[str, UserName],
    service: str | None = None,
) -> Brought:
    """Return a calendar's shifts of a span as the command that imports them.

    Args:
        data: What was fetched.
        plan: The role.
        form: Its format, of ``sources.SOURCES``.
        zone: The zone of times that name none.
        span: Start and end, in ms.
        people: Users by what the calendar calls them.
        service: Take this service's alone.

    Raises:
        FeedError: It cannot be read, or is empty where something was imported.
        InvalidError: It lists more than a plan holds.
    """
    if form not in SOURCES:
        raise FeedError(f"a format is one of {', '.join(SOURCES)}")
    start_ms, end_ms = span
    shifts = worker.read(form, data, start_ms=start_ms, end_ms=end_ms, zone=zone)
    mapped = plan_of(shifts, people, start_ms=start_ms, end_ms=end_ms, service=service)
    if mapped.plan is None and not mapped.unknown and _imported(plan) is not None:
        raise FeedError(f"{Trouble.EMPTY.value}: the last good copy stays")
    command = SetImported(role=plan.role, version=plan.version + 1, plan=mapped.plan)
    changed = mapped.plan != _imported(plan)
    return Brought(command=command, changed=changed, unknown=mapped.unknown)


FEED = "feed"
"""Rows of the cache: how the feed of each role stands on the device that imports it."""


def note(cache: Cache, role: RoleName, *, now_ms: int, error: FeedError | None = None) -> None:
    """Keep whether a role's feed could be read."""
    row = cache.get(FEED, role.encode("ascii"))
    before = Feed() if row is None else Feed.decode(row.value)
    after = before.came(now_ms=now_ms) if error is None else before.failed(error)
    cache.update(FEED, {role.encode("ascii"): after.encode()}, at_ms=now_ms)


def alarms(cache: Cache, configuration: Configuration, *, now_ms: int) -> list[str]:
    """Return what is wrong with the feeds that this device imports, one line each.

    A role into which nothing is imported any more has no feed.
    """
    lines = []
    for row in cache.all(FEED):
        plan = configuration.plans.get(RoleName(row.key.decode("ascii")))
        if plan is None or _imported(plan) is None:
            continue
        feed = Feed.decode(row.value)
        hours = (now_ms - feed.good_ms) // HOUR_MS
        reason = f": {feed.reason}" if feed.reason else ""
        if feed.troubles(now_ms):
            lines.append(f"{plan.role}: its calendar was last read {hours} h ago{reason}")
    return lines


def _imported(plan: Plan) -> TemporarySchedule | None:
    """Return the last good copy, as it lies below the role's changes."""
    stack = plan.schedule(LATEST_MS - 1).stack
    found = (one for one in stack if isinstance(one, TemporarySchedule) and one.name == IMPORTED)
    return next(found, None)
