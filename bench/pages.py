"""What pages reach at the relay: JSON lines, exit status 1 where a wanted value is missed.

python -m bench.pages     QUICK=1 has a tenth of the timers and devices, within a minute

Timers: pages pending on disk, due over an hour, are loaded by a start; then a thousand of them fall
due in one second, and all are in their logs, synced, before the next. STAT: from a sender's socket
to the ring on a locked device's, on a relay to which thousands are connected and a hundred messages
a second go; all but a few of the connections are simulated within the relay's process, so that
fanning out to them costs what it costs. Open shift: an offer to real members, each with a socket of
its own, until the last has it. What the clock said is told; on a machine that does other
things, seconds of this process's own time are the figure to look at.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.report import Figure, report
from protocol.authenticated_data import AuthenticatedData, Priority, Target, TargetKind
from protocol.frames import Append, Deliver, Ring, RingReason
from protocol.identifiers import (
    CONTROL_LOG,
    ConversationId,
    DeviceId,
    RoleName,
    UserName,
    conversation_log,
)
from protocol.oncall.commands import OfferShift
from protocol.oncall.configuration import Configuration
from protocol.oncall.page import Recipient, new_page
from protocol.oncall.page_event import PageState
from protocol.oncall.page_state import State as PersonState
from protocol.session import State
from server.connection import Connection
from server.live_page import Live, page_fact
from server.store import (
    ChangeReaders,
    CreateLog,
    Fact,
    LogKey,
    PutFacts,
    Reader,
)
from tests.protocol.oncall.ward import always, policy
from tests.server import harness
from tests.server.paging import Floor

QUICK = bool(os.environ.get("QUICK"))
PENDING = 10_000 if QUICK else 100_000
DUE = 1_000
DEVICES = 500 if QUICK else 5_000
REAL = 10
MEMBERS = 100 if QUICK else 1_000
RATE = 100
SECONDS = 5 if QUICK else 20
HOUR_MS = 3_600_000
BATCH = 1_000
TARGET_S, TARGET_MS = 1.0, 250.0


async def timers(folder: Path) -> list[Figure]:
    """Load what is pending, and let a thousand pages fall due at once."""
    of = harness.hospital()
    async with harness.running(folder, of) as site:
        await write_pending(Floor(site))
    began, cpu = time.perf_counter(), time.process_time()
    async with harness.running(folder, of) as site:
        loaded, loaded_cpu = time.perf_counter() - began, time.process_time() - cpu
        relay = site.relay
        assert len(relay.pages) == PENDING
        site.frozen = True
        site.later_ms += HOUR_MS + 60_000
        began, cpu = time.perf_counter(), time.process_time()
        relay.pages.look()
        while relay._tasks:
            await asyncio.wait(set(relay._tasks))
        took, took_cpu = time.perf_counter() - began, time.process_time() - cpu
        moved = sum(
            live.state is not None and live.state.page.position > 1 for live in lives(relay)
        )
        assert moved >= DUE
    unit = f"s for {DUE} pages, {PENDING} pending"
    return [
        Figure(name="timers_start", value=loaded, unit=f"s to load {PENDING} pages"),
        Figure(name="timers_start_cpu", value=loaded_cpu, unit=f"CPU s to load {PENDING} pages"),
        Figure(name="timers_due", value=took, unit=unit, wanted=TARGET_S),
        Figure(name="timers_due_cpu", value=took_cpu, unit=f"CPU {unit}"),
    ]


def lives(relay: Any) -> Iterator[Live]:
    yield from relay.pages._live.values()


async def write_pending(ward: Floor) -> None:
    """Write pages due over an hour, and a thousand due in the second after it."""
    await ward.open("ann")
    await ward.role("icu", always(UserName("ann")), policy=policy("icu"))
    now_ms, store = ward.now_ms(), ward.relay.store
    asks = Configuration().policy(RoleName("icu"))
    sent = ((PersonState.SENT, now_ms),)
    asked = Recipient(user=UserName("ann"), state=PersonState.SENT, position=0, times=sent)
    facts: list[Fact] = []
    making: list[Any] = []
    recorder = Reader(device=harness.RECORDER, expires=False)
    for number in range(PENDING):
        conversation = ConversationId(secrets.token_bytes(32))
        last = number < DUE
        due_ms = now_ms + HOUR_MS + (60_000 if last else 120_000 + number * HOUR_MS // PENDING)
        page = new_page(Priority.STAT, asks, sender=UserName("nurse"), at_ms=due_ms)
        page = replace(page, position=1, recipients=(asked,))
        state = PageState(role=RoleName("icu"), page=page)
        facts.append(page_fact(conversation, state, at_ms=now_ms))
        key = LogKey(ward.site.hospital.id, conversation_log(conversation))
        making.append(store.change(CreateLog(key, readers=[recorder])))
        if len(facts) == BATCH:
            await asyncio.gather(*making, store.change(PutFacts(ward.site.hospital.id, facts)))
            facts, making = [], []
    await asyncio.gather(*making, store.change(PutFacts(ward.site.hospital.id, facts)))


class Sink:
    """A socket that takes everything: a device that keeps up."""

    address, congested = "10.0.0.1", False

    def send(self, payload: bytes) -> None:
        """Take it."""

    def write(self, headed: bytes | bytearray) -> None:
        """Take it."""

    def tire(self) -> None:
        """Ask no more."""

    def close(self) -> None:
        """End."""


def simulate(ward: Floor, count: int) -> list[DeviceId]:
    """Connect devices that are not there: as the relay sees them, they are open and keep up."""
    known = ward.organisation.devices
    pattern = known["ann/phone"]
    names = []
    for number in range(count):
        name = DeviceId(f"sim-{number}/phone")
        known[name] = pattern
        connection = Connection(ward.relay, Sink())
        connection.organisation, connection.device_id = ward.organisation, name
        connection.session.state = State.OPEN
        connection.keeps_up = True
        ward.relay.delivery.join(connection)
        names.append(name)
    return names


async def stat(folder: Path) -> list[Figure]:
    """Page while messages flow, and take the time until a locked device rings."""
    async with harness.running(folder, harness.hospital()) as site:
        ward = Floor(site)
        site.frozen = False
        people = [f"on-{number}" for number in range(REAL)]
        await ward.open("nurse", "ann", *people)
        for person in people:
            await ward.role(person, always(UserName(person)), policy=policy(person))
        pages = [await ward.conversation("nurse", *people) for _ in range(REAL * SECONDS)]
        group = await ward.conversation("nurse", "ann")
        crowd = simulate(ward, DEVICES - REAL)
        readers = [Reader(device=name, after=None) for name in crowd[: min(200, len(crowd))]]
        await ward.relay.store.change(ChangeReaders(site.key(conversation_log(group)), add=readers))
        ward.organisation.contexts[group] = harness.context(site.hospital, "nurse")
        await ward.lock(*people)
        talking = asyncio.create_task(talk(ward, group))
        cpu = time.process_time()
        times = [await one(ward, page, people[n % REAL]) for n, page in enumerate(pages)]
        cpu = (time.process_time() - cpu) / len(times)
        talking.cancel()
    times.sort()
    p99 = times[int(len(times) * 0.99) - 1]
    unit = f"ms from sender to ring, {DEVICES} connected, {RATE} messages/s, of {len(times)}"
    return [
        Figure(name="stat_p99", value=p99 * 1000, unit=unit, wanted=TARGET_MS),
        Figure(name="stat_median", value=statistics.median(times) * 1000, unit=unit),
        Figure(name="stat_cpu", value=cpu * 1000, unit="CPU ms a page, both ends and the talk"),
    ]


async def talk(ward: Floor, group: ConversationId) -> None:
    client = ward.clients["ann"]
    while True:
        message: Append = harness.message(client, group, epoch=1)
        await client.send(message)
        client.early.clear()
        await asyncio.sleep(1 / RATE)


async def one(ward: Floor, page: ConversationId, person: str) -> float:
    """Send one page, and return the seconds until the device of whoever is on call rings."""
    client, locked = ward.clients["nurse"], ward.clients[person]
    data = AuthenticatedData(
        message_id=client.person.next_id(),
        priority=Priority.STAT,
        acknowledgement_asked=True,
        target=Target(kind=TargetKind.ROLE, name=person),
    )
    message = harness.private_message(page, data, epoch=1)
    began = time.perf_counter()
    await client.send(Append(message=message))
    wanted = RingReason.PAGE
    await locked.expect(Ring, lambda r: r.reason == wanted and r.conversation == page)
    took = time.perf_counter() - began
    client.early.clear()
    locked.early.clear()
    return took


async def open_shift(folder: Path) -> list[Figure]:
    """Offer a shift to everybody, and take the time until the last of them has it."""
    async with harness.running(folder, harness.hospital()) as site:
        ward = Floor(site)
        site.frozen = False
        await ward.role("icu", always(UserName("ann")))
        for number in range(MEMBERS):
            await ward.open(f"m{number}")
        start = ward.now_ms() + HOUR_MS
        offer = OfferShift(
            role=RoleName("icu"),
            version=3,
            name="open-1",
            start_ms=start,
            end_ms=start + HOUR_MS,
            until_ms=start,
        )
        body, clients = offer.encode(), [ward.clients[f"m{n}"] for n in range(MEMBERS)]

        def is_offer(entry: Deliver) -> bool:
            return entry.log == CONTROL_LOG and body in entry.body

        began, cpu = time.perf_counter(), time.process_time()
        await ward.command(offer)
        await asyncio.gather(*(client.expect(Deliver, is_offer) for client in clients))
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
    unit = f"s until the last of {MEMBERS} members has it"
    return [
        Figure(name="open_shift", value=took, unit=unit, wanted=5.0),
        Figure(name="open_shift_cpu", value=cpu, unit="CPU s, both ends"),
    ]


def main() -> int:
    figures = []
    for run in (timers, stat, open_shift):
        with tempfile.TemporaryDirectory() as folder:
            figures += asyncio.run(run(Path(folder)))
    return report(figures)


if __name__ == "__main__":
    sys.exit(main())
