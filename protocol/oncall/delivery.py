"""Whom a message may disturb: alert now, deliver silently, or hold until the shift starts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from crypto.codec import Struct, vector_of
from crypto.errors import InvalidError
from protocol.authenticated_data import Priority
from protocol.identifiers import UserName
from protocol.oncall import wall_clock
from protocol.oncall.hours import Holidays, Hours
from protocol.oncall.priority import MEANINGS
from protocol.oncall.role import Roster, covers, duty, is_on_call
from protocol.oncall.schedule import HOURS
from protocol.oncall.wall_clock import MINUTE_MS
from protocol.oncall.wire import MaybeInstant, Text

BUNDLE_MS = 5 * MINUTE_MS
"""How long after a sound the next routine message is silent: it is there when they look."""


class Delivery(IntEnum):
    """What happens with a message for one recipient."""

    ALERT = 1
    SILENT = 2
    HOLD = 3


class Situation(IntEnum):
    """How a recipient stands to being disturbed: on call, on call but in their quiet, off duty."""

    ON_CALL = 1
    IN_QUIET = 2
    OFF_DUTY = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet(Struct):
    """When a person wants to be left in peace.

    Attributes:
        zone: The IANA zone of the hours.
        hours: Quiet hours, every week.
        do_not_disturb_until_ms: An end to not being disturbed, set by hand; None for not set.
    """

    zone: Text
    hours: Annotated[tuple[Hours, ...], vector_of(Hours.read, Hours.encode)] = ()
    do_not_disturb_until_ms: MaybeInstant = None

    def __post_init__(self) -> None:
        wall_clock.zone_name(self.zone)
        if len(self.hours) > HOURS:
            raise InvalidError("quiet hours are at most HOURS ranges")
        if any(hours.holidays is not Holidays.IGNORED for hours in self.hours):
            raise InvalidError("a person's quiet hours know no holiday calendar")

    def until(self, at_ms: int) -> int | None:
        """Return until when the person wants peace; None where they may be disturbed.

        It is the first instant at which that may change: there the question is asked again.

        Raises:
            UsageError: The instant is not between the years 2000 and 2100.
        """
        reading = wall_clock.read(self.zone, at_ms)
        on = [hours for hours in self.hours if hours.contains(reading, holidays=())]
        ends = [hours.next_change(self.zone, at_ms) for hours in on]
        if self.do_not_disturb_until_ms is not None and at_ms < self.do_not_disturb_until_ms:
            ends.append(self.do_not_disturb_until_ms)
        return max(ends, default=None)

    def next_change(self, at_ms: int) -> int | None:
        """Return the next instant at which ``until`` may answer otherwise; None for never.

        Raises:
            UsageError: The instant is not between the years 2000 and 2100.
        """
        edges = [hours.next_change(self.zone, at_ms) for hours in self.hours]
        if self.do_not_disturb_until_ms is not None and at_ms < self.do_not_disturb_until_ms:
            edges.append(self.do_not_disturb_until_ms)
        return min(edges, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What happens with a message for one recipient, and what its sender is told before sending.

    Attributes:
        user: The recipient.
        delivery: What happens.
        off_duty: Whether the sender is told that this person is off duty.
        until_ms: Until when they are off duty, and a held message is held; None where no schedule
            says: it is then held until one does, never dropped.
        covers: Who answers in the meantime for the roles that this person serves.
    """

    user: UserName
    delivery: Delivery
    off_duty: bool
    until_ms: int | None
    covers: tuple[UserName, ...]


def decide(
    priority: Priority, roster: Roster, user: UserName, *, quiet: Quiet, at_ms: int
) -> Decision:
    """Return what happens with a message of a priority for one recipient.

    Whoever is in no schedule is off duty in their quiet hours alone.

    Raises:
        UsageError: The instant is not between the years 2000 and 2100.
    """
    where, until_ms = situation(roster, user, quiet=quiet, at_ms=at_ms)
    what = delivery(priority, where)
    if where is not Situation.OFF_DUTY:
        return Decision(user=user, delivery=what, off_duty=False, until_ms=None, covers=())
    return Decision(
        user=user,
        delivery=what,
        off_duty=True,
        until_ms=until_ms,
        covers=covers(roster, user, at_ms=at_ms),
    )


def situation(
    roster: Roster, user: UserName, *, quiet: Quiet, at_ms: int
) -> tuple[Situation, int | None]:
    """Return how somebody stands to being disturbed, and until when they are off duty.

    Whoever is in no schedule is off duty in their quiet hours alone.

    Raises:
        UsageError: The instant is not between the years 2000 and 2100.
    """
    quiet_until = quiet.until(at_ms)
    if is_on_call(roster, user, at_ms=at_ms):
        return (Situation.ON_CALL if quiet_until is None else Situation.IN_QUIET), None
    now = duty(roster, user, at_ms=at_ms)
    if not now.scheduled and quiet_until is None:
        return Situation.ON_CALL, None
    return Situation.OFF_DUTY, now.until_ms if now.scheduled else quiet_until


def delivery(priority: Priority, situation: Situation) -> Delivery:
    """Return what a priority does to somebody in a situation.

    Off duty everything is held, and nobody is alerted: a STAT message alone is delivered, silently,
    so that whoever looks can read it. It pierces the quiet of those on call.
    """
    meaning = MEANINGS[priority]
    if situation is Situation.OFF_DUTY:
        return Delivery.SILENT if priority is Priority.STAT else Delivery.HOLD
    if situation is Situation.IN_QUIET and not meaning.pierces:
        return Delivery.SILENT
    return Delivery.ALERT if meaning.alerts else Delivery.SILENT


def bundled(priority: Priority, *, sounded_ms: int | None, at_ms: int) -> bool:
    """Return whether a message that would alert is silent, as a sound has just told of others.

    Routine messages alone are: whatever is more urgent always sounds.

    Args:
        priority: The message's.
        sounded_ms: When the person was alerted last; None for never.
        at_ms: Now.
    """
    if priority > Priority.ROUTINE or sounded_ms is None:
        return False
    return sounded_ms <= at_ms < sounded_ms + BUNDLE_MS
