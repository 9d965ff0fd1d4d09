"""Whom an entry may disturb: decided for each recipient, asked for once between two shift changes.

A person's situation (on call, in their quiet, off duty) changes when a shift or their quiet begins
or ends, or when somebody changes the schedule. Between two such moments it is looked up, so that
sending costs no question to a schedule; an entry is encoded once for each answer that occurs.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import msgspec

from protocol.authenticated_data import Priority
from protocol.frames import Attention, Ring, RingReason
from protocol.identifiers import OrganisationId, UserName
from protocol.oncall.delivery import Delivery, Situation, bundled, delivery, situation
from protocol.oncall.role import Roster
from protocol.oncall.schedule import next_change
from protocol.routing import Routed
from server.directory import Organisation

KEPT_MS = 12 * 3600 * 1000
"""Longest time, in ms, for which a situation is kept, whatever the schedules say."""

Word = tuple[Attention, int]
"""How an entry may reach somebody, and until when it is held; 0 where it is not."""

ALERT: Word = (Attention.ALERT, 0)
SILENT: Word = (Attention.SILENT, 0)


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What an entry has to say to people.

    Attributes:
        priority: How urgent it is; ``None`` for what alerts nobody.
        asked: Those whom it is meant to reach: of a page those whom it concerns now, of a message
            with a target whoever that is; ``None`` for everybody.
        always: Whether those alone are alerted, whatever they are doing: the step of a page.
        routed: The header of the message for which locked devices ring; ``None`` for none.
    """

    priority: Priority | None = None
    asked: Collection[UserName] | None = None
    always: bool = False
    routed: Routed | None = None

    @property
    def ring(self) -> Ring | None:
        """What locked devices of those who are alerted get in the entry's stead.

        Nothing of its content, and nothing of what alerts nobody.
        """
        if self.routed is None or self.priority is Priority.INFO:
            return None
        target = self.routed.data.target
        return Ring(
            priority=self.routed.data.priority,
            role=target.name if target.is_role else "",
            conversation=self.routed.conversation,
            step=0,
            reason=RingReason.MESSAGE,
        )


QUIETLY = Notice()
"""What alerts nobody."""


@dataclass(frozen=True, slots=True)
class _Kept:
    situation: Situation
    until_ms: int
    from_ms: int
    valid_ms: int
    generation: int


class Situations:
    """Everybody's situation, kept until it may change."""

    def __init__(self) -> None:
        self._kept: dict[tuple[OrganisationId, UserName], _Kept] = {}
        self._sounded: dict[tuple[OrganisationId, UserName], tuple[int, Notice]] = {}

    def word(
        self, organisation: Organisation, user: UserName, notice: Notice, *, now_ms: int
    ) -> Word:
        """Return how an entry may reach a person."""
        if notice.priority is None or (notice.asked is not None and user not in notice.asked):
            return SILENT
        if notice.always or not organisation.duty.in_use:
            return ALERT
        kept = self._situation(organisation, user, now_ms)
        what = delivery(notice.priority, kept.situation)
        if what is Delivery.HOLD:
            return Attention.HELD, kept.until_ms
        if what is not Delivery.ALERT:
            return SILENT
        return ALERT if self._sounds((organisation.id, user), notice, now_ms) else SILENT

    def _sounds(self, name: tuple[OrganisationId, UserName], notice: Notice, now_ms: int) -> bool:
        """Tell whether a person is alerted again so soon; on all of their devices alike."""
        last = self._sounded.get(name)
        if last is not None and last[1] is notice:
            return True
        priority = notice.priority
        if priority is None or bundled(priority, sounded_ms=last and last[0], at_ms=now_ms):
            return False
        self._sounded[name] = (now_ms, notice)
        return True

    def _situation(self, organisation: Organisation, user: UserName, now_ms: int) -> _Kept:
        name = (organisation.id, user)
        kept = self._kept.get(name)
        if (
            kept is None
            or kept.generation != organisation.duty.generation
            or not kept.from_ms <= now_ms < kept.valid_ms
        ):
            kept = self._kept[name] = _look_up(organisation, user, now_ms)
        return kept


def _look_up(organisation: Organisation, user: UserName, now_ms: int) -> _Kept:
    duty = organisation.duty
    mine = duty.concerning(user, now_ms, organisation.holders)
    quiet = duty.configuration.quiet(user)
    found, until_ms = situation(mine, user, quiet=quiet, at_ms=now_ms)
    changes = [now_ms + KEPT_MS, *_changes(mine, now_ms)]
    edition_ms = duty.configuration.next_edition_ms(now_ms)
    ends = (quiet.next_change(now_ms), edition_ms)
    return _Kept(
        situation=found,
        until_ms=until_ms or 0,
        from_ms=now_ms,
        valid_ms=min(changes + [at for at in ends if at is not None]),
        generation=duty.generation,
    )


def _changes(roster: Roster, now_ms: int) -> list[int]:
    """Return when schedules next change."""
    found = (next_change(role.schedule, now_ms) for role in roster.values())
    return [at for at in found if at is not None]
