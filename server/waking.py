"""Whether people can be woken: a test that rings as a page does, and who is told the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from protocol.authenticated_data import Priority
from protocol.frames import Done, Frame, GetReach, Reach, Ring, RingReason, TestAlert
from protocol.identifiers import UserName
from server.answers import answer
from server.directory import TESTED
from server.store import (
    Fact,
    PutFacts,
)

if TYPE_CHECKING:
    from server.connection import Connection
    from server.relay import Relay

DAY_MS = 24 * 3600 * 1000
"""Resolution, in ms, at which it is kept when an alert was tested: finer would be a trace."""


def ring(_relay: Relay, connection: Connection, frame: Frame) -> None:
    """Ring the device that asks for it."""
    asked = cast("TestAlert", frame)
    test = Ring(priority=Priority.STAT, role="", conversation=b"", step=0, reason=RingReason.TEST)
    connection.send(test)
    connection.send(Done(ref=asked.ref))


def heard(relay: Relay, connection: Connection, frame: Frame) -> None:
    """Keep that a device's person has heard its test."""
    asked = cast("TestAlert", frame)
    connection.spawn(answer(relay, connection, asked.ref, _heard(relay, connection)), ref=asked.ref)


async def _heard(relay: Relay, connection: Connection) -> None:
    organisation, device = connection.organisation, connection.device_id
    at_ms = relay.now_ms() // DAY_MS * DAY_MS
    fact = Fact(key=TESTED + device.encode(), value=at_ms.to_bytes(8, "big"))
    await relay.store.change(PutFacts(organisation.id, [fact]))
    organisation.tested[device] = at_ms


def tell(relay: Relay, connection: Connection, frame: Frame) -> None:
    """Tell how people's devices can be reached."""
    asked, organisation = cast("GetReach", frame), connection.organisation
    found = [
        device
        for user in map(UserName, dict.fromkeys(asked.users))
        for device in relay.reach.of(organisation, user)
    ]
    connection.send(Reach(ref=asked.ref, devices=tuple(found)))
