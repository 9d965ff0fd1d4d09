"""From an order to the last frame that its device gets in, and to new epochs where it was.

``python -m bench.wipe [DEVICES]``: the relay in a process of its own, 5,000 devices by default, all
connected over TLS. One of them asks without end while an administrator's order comes in, first with
one signature and, for another device, complete. Fails where a frame is answered two seconds later.

``python -m bench.wipe epochs [CONVERSATIONS]``: relay and archive in processes of their own, 200
conversations by default with the device in each. From an administrator's order, which the
authority has yet to sign, until another member has the next epoch in all. Fails above ten seconds.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.report import Figure, report
from client.link import Link
from protocol import frames
from protocol.identifiers import ConversationId, DeviceId
from protocol.session import State
from tests.client.orders import administrator, body_of, countersigned, single_signed
from tests.client.relay import credentials_of
from tests.scenarios.blackbox import hospital_with_archive
from tests.scenarios.desk import PASSWORD, Desk, address_of
from tests.scenarios.members import Member
from tests.scenarios.process import Installation, serving
from tests.server import harness
from tests.server.harness import RECORDER, Client, Person

DEVICES = 5_000
AT_ONCE = 50
ORDERS = 10
"""Orders of each kind: the worst of them counts."""

WANTED_MS = 2_000
CONVERSATIONS = 200
WANTED_EPOCHS_S = 10.0
ASKS_EACH_S = 0.005
"""Seconds between two requests of the device that is ordered."""


async def refused_after_ms(relay: Installation, victim: Person, order: bytes) -> float:
    """Return how long after an order was sent the relay answered its device for the last time."""
    recorder = await relay.opened(relay.hospital.people[harness.RECORDER])
    client = await relay.opened(victim)
    answered_s = 0.0

    async def ask() -> None:
        for ref in range(1, 1 << 30):
            await client.send(frames.Lookup(ref=ref, users=()))
            await asyncio.sleep(ASKS_EACH_S)

    asking = asyncio.create_task(ask())
    await client.expect(frames.Directory)
    sent_s = time.monotonic()
    await recorder.send(frames.Command(ref=1, statement=order))
    while True:
        frame = await client.receive()
        if isinstance(frame, frames.Close):
            break
        if isinstance(frame, frames.Directory):
            answered_s = time.monotonic()
    closed_s = time.monotonic()
    asking.cancel()
    await ends_ordered(relay, victim)
    recorder.socket.transport.abort()
    return (max(answered_s, closed_s) - sent_s) * 1000


async def ends_ordered(relay: Installation, victim: Person) -> None:
    """Show that the device is let in no more."""
    link = await Link.open(address_of(relay), credentials_of(victim))
    assert link.state is State.ORDERED
    await link.close()


async def measure(folder: Path, devices: int) -> list[Figure]:
    """Connect everybody, then order device after device."""
    of = harness.hospital()
    admin = administrator(of)
    people = [of.enrol(f"user{number}/phone") for number in range(devices)]
    victims = [of.enrol(f"victim{number}/phone") for number in range(2 * ORDERS)]
    async with serving(folder / "relay", of) as relay:
        clients: list[Client] = [await relay.opened(admin)]
        for first in range(0, devices, AT_ONCE):
            some = people[first : first + AT_ONCE]
            clients += await asyncio.gather(*(relay.opened(person) for person in some))
        times: dict[str, list[float]] = {"suspended": [], "wiped": []}
        for number, victim in enumerate(victims):
            order = single_signed(of, body_of(victim))
            kind = "suspended"
            if number % 2:
                order, kind = countersigned(of, order), "wiped"
            times[kind].append(await refused_after_ms(relay, victim, order))
        for client in clients:
            client.socket.transport.abort()
    unit = f"ms, worst of {ORDERS}, {devices} devices connected"
    return [
        Figure(
            name="order to last frame, first signature",
            value=max(times["suspended"]),
            unit=unit,
            wanted=WANTED_MS,
        ),
        Figure(
            name="order to last frame, complete",
            value=max(times["wiped"]),
            unit=unit,
            wanted=WANTED_MS,
        ),
        Figure(
            name="order to last frame, median",
            value=median([*times["suspended"], *times["wiped"]]),
            unit=f"ms, median of {2 * ORDERS}, {devices} devices connected",
        ),
    ]


async def talks_with(nurse: Member, intern: Member, conversations: int) -> list[ConversationId]:
    """Begin conversations of two people and the archive, in their first epoch for both."""
    made = []
    for _ in range(conversations):
        nurse.offer(1)
        await intern.publish(1)
        conversation = nurse.begin()
        await nurse.change(conversation, add=sorted([DeviceId(RECORDER), intern.name]))
        made.append(conversation)
    for conversation in made:
        await intern.reaches(conversation, 1)
    return made


async def renewed_after_s(folder: Path, conversations: int) -> list[float]:
    """Return, for each conversation, how long after the order a member was in the next epoch."""
    async with hospital_with_archive(folder, ["intern/phone", "nurse/desk"]) as (of, at, _):
        desk, ada = Desk(), of.people["ada/desk"]
        await desk.set_up(ada, at)
        nurse, intern = (Member(of.people[name], at) for name in ("nurse/desk", "intern/phone"))
        for member in (nurse, intern):
            await member.connect()
        made = await talks_with(nurse, intern, conversations)
        await intern.disconnect()
        link = await Link.open(address_of(at), credentials_of(ada))
        code = await desk.code()
        await link.ask(lambda ref: frames.Authenticate(ref=ref, password=PASSWORD, code=code))
        statement = single_signed(of, body_of(intern.person), by=ada)
        times: dict[ConversationId, float] = {}
        sent_s = time.monotonic()
        await link.ask(lambda ref: frames.Command(ref=ref, statement=statement))
        while len(times) < conversations:
            for conversation in made:
                if conversation not in times and nurse.talks[conversation].mls.epoch > 1:
                    times[conversation] = time.monotonic() - sent_s
            await asyncio.sleep(0.01)
        await link.close()
        await nurse.disconnect()
    return list(times.values())


async def epochs(folder: Path, conversations: int) -> list[Figure]:
    """Order a device that is in many conversations."""
    times = await renewed_after_s(folder, conversations)
    unit = f"s, {conversations} conversations of 3 devices"
    return [
        Figure(
            name="order to new epoch, last conversation",
            value=max(times),
            unit=unit,
            wanted=WANTED_EPOCHS_S,
        ),
        Figure(name="order to new epoch, median", value=median(times), unit=unit),
    ]


def main(*arguments: str) -> int:
    """Measure and report."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        if arguments[:1] == ("epochs",):
            conversations = int(arguments[1]) if arguments[1:] else CONVERSATIONS
            return report(asyncio.run(epochs(Path(folder), conversations)))
        devices = int(arguments[0]) if arguments else DEVICES
        return report(asyncio.run(measure(Path(folder), devices)))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
