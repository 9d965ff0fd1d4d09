"""Bring a connection into each state that a client can bring it into."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count

from crypto.names import Role
from protocol import frames
from protocol.frames import Frame
from protocol.session import State
from tests.adversary.test_revoked_in_time import suspend
from tests.server import harness
from tests.server.harness import Client, Person, Site
from tests.server.test_accounts import DAY_MS, begin, new_keys
from tests.server.test_control import administrator

_numbers = count(1)


def _stranger(site: Site, *roles: Role) -> Person:
    return site.hospital.enrol(f"eve{next(_numbers)}/phone", *roles)


async def _start(site: Site) -> Client:
    return await site.client(_stranger(site))


async def _challenged(site: Site) -> Client:
    client = await _start(site)
    await client.greet()
    return client


async def _proved(client: Client, expected: type[Frame], *, unlocked: bool = True) -> Client:
    await client.greet()
    answer = await client.prove(unlocked=unlocked)
    assert isinstance(answer, expected), answer
    return client


async def _locked(site: Site) -> Client:
    return await _proved(await _start(site), frames.Locked, unlocked=False)


async def _open(site: Site) -> Client:
    return await site.open(_stranger(site))


async def _absent(site: Site) -> Client:
    known = await _open(site)
    site.later_ms += 31 * DAY_MS
    client = await _proved(await site.client(known.person), frames.Absent)
    site.later_ms -= 31 * DAY_MS
    return client


async def _ordered(site: Site) -> Client:
    known = await _open(site)
    chief = await administrator(site)
    await suspend(site, chief, known.person.name)
    return await _proved(await site.client(known.person), frames.Ordered)


async def _enrolling(site: Site) -> Client:
    client, _ = await begin(site, new_keys(f"new{next(_numbers)}", "phone"))
    assert isinstance(await client.prove(unlocked=False), frames.Enrolling)
    return client


async def _reconciling(site: Site) -> Client:
    harness.owe(site)
    try:
        recorder = await site.client(site.hospital.people[harness.RECORDER])
        return await _proved(recorder, frames.Reconciling)
    finally:
        harness.owe(site, told=True)


REACH: dict[State, Callable[[Site], Awaitable[Client]]] = {
    State.START: _start,
    State.CHALLENGED: _challenged,
    State.LOCKED: _locked,
    State.OPEN: _open,
    State.ABSENT: _absent,
    State.ORDERED: _ordered,
    State.ENROLLING: _enrolling,
    State.RECONCILING: _reconciling,
}

PASSING = {State.GREETED, State.PROVING, State.UNLOCKING, State.CLOSED}
"""States in which the relay is about to answer, or does not listen any more."""
