"""Whether a person can be woken: which devices of theirs hear the relay, and since when not.

Nothing of this is on disk but when an alert was last tested: a connection is a fact of the moment,
and the relay keeps no trace of people.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.frames import DeviceReach
from protocol.identifiers import DeviceId, OrganisationId, UserName, user_of
from server.directory import Organisation

if TYPE_CHECKING:
    from server.connection import Connection
    from server.relay import Relay

GRACE_S = 30.0
"""Seconds for which a device that has just gone counts as there: it changes networks, or the relay
was started anew, and a consultant is not woken for that."""


class Reach:
    """Who hears the relay now, and who did until when."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._left: dict[tuple[OrganisationId, DeviceId], tuple[float, int]] = {}
        self._user_left_s: dict[tuple[OrganisationId, UserName], float] = {}
        self.started_s = relay.now_s()

    def left(self, connection: Connection) -> None:
        """Note that a device has gone."""
        organisation, device = connection.organisation.id, connection.device_id
        now_s = self._relay.now_s()
        self._left[organisation, device] = (now_s, self._relay.now_ms())
        self._user_left_s[organisation, user_of(device)] = now_s

    def can_be_woken(self, organisation: OrganisationId, user: UserName) -> bool:
        """Tell whether a device of a person hears the relay, or did a moment ago."""
        if self._relay.delivery.of_user(organisation, user):
            return True
        since_s = self._user_left_s.get((organisation, user), self.started_s)
        if self._relay.now_s() - since_s >= GRACE_S:
            return False
        return self.has_device(self._relay.organisations[organisation], user)

    def has_device(self, organisation: Organisation, user: UserName) -> bool:
        """Tell whether a device of a person may serve: it is neither revoked nor suspended."""
        return any(not device.suspended for device in organisation.of_user(user))

    def of(self, organisation: Organisation, user: UserName) -> tuple[DeviceReach, ...]:
        """Return how each device of a person can be reached."""
        found = []
        for device in organisation.of_user(user):
            connected = self._relay.delivery.connection(organisation.id, device.id) is not None
            _, last_ms = self._left.get((organisation.id, device.id), (0.0, 0))
            found.append(
                DeviceReach(
                    device=device.id,
                    connected=connected,
                    last_ms=self._relay.now_ms() if connected else last_ms,
                    tested_ms=organisation.tested.get(device.id, 0),
                )
            )
        return tuple(found)
