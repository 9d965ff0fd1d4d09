"""Whether whoever is on call can be woken, looked at all the while: nobody finds out by a page.

A person on call, or about to be, whom no device of theirs would wake is told by the second channel,
and the owner of the schedule by their devices and by the second channel; a role for which nobody is
on call is its owner's too. Each once, until it was well again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from protocol.audit import EventKind
from protocol.authenticated_data import Priority
from protocol.frames import Ring, RingReason
from protocol.identifiers import OrganisationId, RoleName, UserName
from protocol.oncall.configuration import Plan
from protocol.oncall.schedule import on_call
from server.directory import Organisation
from server.second_channel import Word

if TYPE_CHECKING:
    from server.relay import Relay

AHEAD_MS = 15 * 60 * 1000
"""How long before a shift, in ms, its people are looked at: time to find the charger."""

Wrong = tuple[OrganisationId, RoleName, UserName]
"""What is wrong: whose role, and who cannot be woken; nobody's name for a gap."""

NOBODY = UserName("")


class Watch:
    """What is wrong with on call now, and was told."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._told: set[Wrong] = set()

    def look(self) -> None:
        """Tell what has gone wrong since the last look."""
        wrong: set[Wrong] = set()
        for organisation in self._relay.organisations.values():
            for plan in organisation.duty.configuration.plans.values():
                for user in self._wrong(organisation, plan):
                    name = (organisation.id, plan.role, user)
                    wrong.add(name)
                    if name not in self._told:
                        self._tell(organisation, plan, user)
        self._told = wrong

    def _wrong(self, organisation: Organisation, plan: Plan) -> Iterator[UserName]:
        now_ms = self._relay.now_ms()
        now = on_call(plan.schedule(now_ms), now_ms)
        coming = on_call(plan.schedule(now_ms + AHEAD_MS), now_ms + AHEAD_MS)
        if not now:
            yield NOBODY
        for user in sorted({*now, *coming}):
            if not self._relay.reach.can_be_woken(organisation.id, user):
                yield user

    def _tell(self, organisation: Organisation, plan: Plan, user: UserName) -> None:
        gap = user == NOBODY
        word = Word.GAP if gap else Word.UNREACHABLE
        kind = EventKind.GAP if gap else EventKind.ON_CALL_UNREACHABLE
        self._relay.audit(organisation, kind)
        for person in {user, plan.owner} - {NOBODY}:
            self._relay.say(person, word, plan.role)
        ring = Ring(
            priority=Priority.URGENT,
            role=plan.role,
            conversation=b"",
            step=0,
            reason=RingReason.GAP if gap else RingReason.UNREACHABLE,
        )
        for connection in self._relay.delivery.of_user(organisation.id, plan.owner):
            if connection.session.may_send(Ring):
                connection.send(ring)
