"""From an order to the last frame that its device gets in, with many others connected.

``python -m bench.wipe [DEVICES]``: the relay in a process of its own, 5,000 devices by default, all
connected over TLS. One of them asks without end while an administrator's order comes in, first with
one signature and, for another device, complete. Fails where a frame is answered two seconds later.
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
from client.link import Address, Credentials, Link
from crypto.tls_certificate import tls_pin
from protocol import frames
from protocol.session import State
from tests.client.orders import administrator, body_of, countersigned, single_signed
from tests.scenarios.process import Installation, serving
from tests.server import harness
from tests.server.harness import Client, Person

DEVICES = 5_000
AT_ONCE = 50
ORDERS = 10
"""Orders of each kind: the worst of them counts."""

WANTED_MS = 2_000
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
    pin = tls_pin((relay.data / "tls.pem").read_bytes())
    address = Address(
        host="127.0.0.1", port=relay.port, tls_pin=pin, organisation=relay.hospital.id
    )
    credentials = Credentials(
        device=victim.name,
        certificate=victim.certificate,
        connection_key=victim.keys.connection_key,
        signature_key=victim.keys.signature_key,
    )
    link = await Link.open(address, credentials)
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


def main(devices: int) -> int:
    """Measure and report."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        return report(asyncio.run(measure(Path(folder), devices)))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else DEVICES))
