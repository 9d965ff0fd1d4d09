"""Shift changes: of which pages the people have been relieved by a schedule, or by its change.

A page is looked at when other people answer for a role than those who have it or are asked by it,
whether a shift has ended, somebody has changed the schedule, or the relay was down meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol.identifiers import OrganisationId, RoleName, UserName
from protocol.oncall.role import Moment
from protocol.oncall.schedule import next_change
from server.directory import Organisation
from server.live_page import Holding, Live
from server.store import LogKey

if TYPE_CHECKING:
    from server.relay import Relay

NEVER_MS = 1 << 63


@dataclass(frozen=True, slots=True)
class _OnCall:
    users: frozenset[UserName]
    generation: int
    from_ms: int
    until_ms: int


class Shifts:
    """Pages under way by the roles for which somebody has them."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._pages: dict[tuple[OrganisationId, RoleName], set[LogKey]] = {}
        self._roles: dict[LogKey, frozenset[RoleName]] = {}
        self._on: dict[tuple[OrganisationId, RoleName], _OnCall] = {}
        self._seen: dict[tuple[OrganisationId, RoleName], frozenset[UserName]] = {}

    def note(self, live: Live, holding: Holding) -> bool:
        """Note who has a page; return whether somebody else is on call in their place."""
        roles, before = frozenset(holding), self._roles.get(live.key, frozenset())
        for role in before - roles:
            self._drop((live.organisation.id, role), live.key)
        for role in roles - before:
            name = (live.organisation.id, role)
            self._pages.setdefault(name, set()).add(live.key)
            self._seen.setdefault(name, self._on_call(live.organisation, role))
        if roles:
            self._roles[live.key] = roles
        else:
            self._roles.pop(live.key, None)
        return any(
            (on := self._on_call(live.organisation, role)) and not on.issuperset(users)
            for role, users in holding.items()
        )

    def _drop(self, name: tuple[OrganisationId, RoleName], key: LogKey) -> None:
        pages = self._pages[name]
        pages.discard(key)
        if not pages:
            del self._pages[name], self._seen[name]
            self._on.pop(name, None)

    def changed(self) -> Iterator[LogKey]:
        """Yield the pages of roles for which others are on call than at the last look."""
        for name, pages in tuple(self._pages.items()):
            now = self._on_call(self._relay.organisations[name[0]], name[1])
            if now != self._seen[name]:
                self._seen[name] = now
                yield from tuple(pages)

    def _on_call(self, organisation: Organisation, role: RoleName) -> frozenset[UserName]:
        """Return who is on call for a role; the schedule is asked where it may have changed."""
        name, now_ms = (organisation.id, role), self._relay.now_ms()
        kept, generation = self._on.get(name), organisation.duty.generation
        if (
            kept is not None
            and kept.generation == generation
            and kept.from_ms <= now_ms < kept.until_ms
        ):
            return kept.users
        moment = moment_of(organisation, now_ms)
        known = moment.roster.get(role)
        coming = [organisation.duty.configuration.next_edition_ms(now_ms)]
        if known is not None:
            coming.append(next_change(known.schedule, now_ms))
        until_ms = min((at for at in coming if at is not None), default=NEVER_MS)
        users = frozenset(moment.on_call(role))
        self._on[name] = _OnCall(users, generation, now_ms, until_ms)
        return users


def moment_of(organisation: Organisation, wall_ms: int) -> Moment:
    """Return who is on call at an organisation by the wall's clock, as screens show it."""
    return Moment(roster=organisation.duty.roster(wall_ms, organisation.holders), at_ms=wall_ms)
