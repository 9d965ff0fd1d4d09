"""``python -m tests.adversary.load``: what well-behaved devices wait while others attack.

A relay, two devices that write to each other, and the attackers run in three processes. Quiet and
attacked periods take turns, so that both meet the same machine: the median of their 99th
percentiles of the time from sending to delivery must stay within ``RATIO``. The relay has the rates
that it ships with, but for messages, of which the well-behaved device writes more than a person
may. The attackers give way to the other two where the machine has no core for each; on one that is
busy otherwise, look at the quiet column before the other.

Options: seconds for each period (3) and attacking connections (20). Fails where one is exceeded.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from statistics import median

import uvloop
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.frames import Opcode

from protocol import frames
from protocol.frames import Frame
from protocol.identifiers import ConversationId
from tests.adversary.mutation import mutated
from tests.adversary.test_floods import frame, raw
from tests.adversary.test_fuzz import corpus
from tests.adversary.test_hostile_frames import MALFORMED
from tests.server import harness
from tests.server.harness import Client, Hospital, Person, Rates

RATIO = 2.0
"""How much longer the slowest hundredth of messages may take than without an attack."""

NOISE_MS = 5.0
"""What a machine of two cores, shared by three busy processes, adds by itself."""

TURNS = 3
"""Quiet periods, and as many attacked ones, for each attack."""

INTERVAL_S = 0.01
"""Between a well-behaved device's messages: five times what a busy ward writes."""

SHIPPED = Rates(messages=1e4, kept_bytes=1e9)


class Visit:
    """How a process reaches the relay."""

    def __init__(self, port: int, of: Hospital, conversation: ConversationId) -> None:
        self.port = port
        self.hospital = of
        self.conversation = conversation

    async def client(self, person: Person) -> Client:
        url = f"ws://127.0.0.1:{self.port}/v1/stream"
        socket = await connect(url, compression=None, max_size=None, ping_interval=None, proxy=None)
        return Client(socket, person, self.hospital)

    async def open(self, person: Person) -> Client:
        client = await self.client(person)
        await client.greet()
        answer = await client.prove()
        assert isinstance(answer, frames.Opened), answer
        return client


Attack = Callable[[Visit, Person], Awaitable[None]]


async def _malformed(visit: Visit, person: Person) -> None:
    client = await visit.client(person)
    await client.socket.send(Random().choice(list(MALFORMED.values())))
    await client.closed()


async def _mutated(visit: Visit, person: Person) -> None:
    client, random = await visit.open(person), Random()
    base = corpus(frames.Sender.CLIENT)
    while True:
        await client.socket.send(mutated(random, random.choice(base), base))


async def _pings(visit: Visit, person: Person) -> None:
    client = await visit.open(person)
    while True:
        raw(client.socket, frame(Opcode.PING, bytes(100)) * 50)
        await client.socket.ping()
        await asyncio.sleep(0.001)


async def _pings_unread(visit: Visit, person: Person) -> None:
    client = await visit.open(person)
    client.socket.transport.pause_reading()
    while not client.socket.transport.is_closing():
        raw(client.socket, frame(Opcode.PING, bytes(100)) * 50)
        await asyncio.sleep(0.001)


async def _crumbs(visit: Visit, person: Person) -> None:
    client = await visit.open(person)
    raw(client.socket, frame(Opcode.BINARY, bytes(64), fin=False))
    raw(client.socket, frame(Opcode.CONT, bytes(64), fin=False) * 2000)
    await client.closed()


async def _flood(visit: Visit, person: Person, make: Callable[[Client], Frame]) -> None:
    """Send requests as fast as they are answered, thirty at a time."""
    client = await visit.open(person)
    while True:
        for _ in range(30):
            await client.send(make(client))
        for _ in range(30):
            answer = await client.expect(Frame, lambda f: not isinstance(f, frames.Deliver))
            assert not isinstance(answer, frames.Close)


def _flooding(make: Callable[[Client, Visit], Frame]) -> Attack:
    return lambda visit, person: _flood(visit, person, lambda client: make(client, visit))


async def _openings(visit: Visit, person: Person) -> None:
    client = await visit.open(person)
    await client.socket.close()


async def _wrong_proofs(visit: Visit, person: Person) -> None:
    client = await visit.client(person)
    await client.greet()
    await client.send(frames.Prove(connection_signature=os.urandom(64), device_signature=b""))
    await client.closed()


async def _slow(visit: Visit, person: Person) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", visit.port)
    writer.write(b"GET /healthz HTTP/1.1\r\n")
    for number in range(100):
        writer.write(f"X-{number}: 1\r\n".encode())
        await asyncio.sleep(0.1)


async def _asking(visit: Visit, person: Person) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", visit.port)
    asked = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    try:
        while True:
            writer.write(asked * 50)
            if not await reader.read(1 << 16):
                return
    finally:
        writer.close()


def _commit(client: Client, visit: Visit) -> Frame:
    _, message = harness.commit_message(client, visit.conversation, epoch=1, added=[], removed=[])
    return frames.AppendCommit(message=message, welcome=b"")


ATTACKS: dict[str, Attack] = {
    "malformed frames": _malformed,
    "mutated frames": _mutated,
    "pings": _pings,
    "pings, unread": _pings_unread,
    "4 MB in 64-byte fragments": _crumbs,
    "connections": _openings,
    "wrong proofs": _wrong_proofs,
    "slow headers": _slow,
    "requests over HTTP": _asking,
    "messages to others": _flooding(lambda c, v: harness.message(c, v.conversation, epoch=1)),
    "Commits": _flooding(_commit),
    "look-ups": _flooding(lambda c, v: frames.Lookup(ref=1, users=("ann", "bob") * 100)),
    "claims": _flooding(lambda c, v: frames.ClaimKeyPackage(ref=1, device="bob/phone")),
    "key packages": _flooding(
        lambda c, v: frames.PublishKeyPackages(ref=1, packages=(), last_resort=bytes(16_000))
    ),
    "guessed PINs": _flooding(lambda c, v: frames.GetShare(ref=1, pin_proof=os.urandom(32))),
    "guessed passwords": _flooding(
        lambda c, v: frames.Authenticate(ref=1, password="guess", code="000000")
    ),
}


async def _attacking(visit: Visit, person: Person, attack: Attack) -> None:
    """Attack again and again; that the relay closes is what it should do."""
    while True:
        with suppress(ConnectionClosed, InvalidHandshake, OSError, TimeoutError, AssertionError):
            await attack(visit, person)
        await asyncio.sleep(0)


async def _attackers(pipe: Connection, of: Hospital, people: list[Person]) -> None:
    os.nice(15)
    loop = asyncio.get_running_loop()
    port, conversation = await loop.run_in_executor(None, pipe.recv)
    visit = Visit(port, of, conversation)
    tasks: list[asyncio.Task[None]] = []
    while True:
        name = await loop.run_in_executor(None, pipe.recv)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if name is None:
            return
        attack = ATTACKS.get(name)
        tasks = []
        if attack is not None:
            tasks = [loop.create_task(_attacking(visit, one, attack)) for one in people]


async def _heard(client: Client) -> Frame:
    """Return the next frame, however long it takes."""
    return client.session.receive(await client.socket.recv(decode=False))


async def _measured(ann: Client, bob: Client, visit: Visit, *, seconds: float) -> float:
    """Return the 99th percentile, in ms, from sending a message to its delivery."""
    sent: dict[bytes, float] = {}
    took: list[float] = []

    async def deliveries() -> None:
        while True:
            entry = await _heard(bob)
            if isinstance(entry, frames.Deliver):
                began = sent.pop(entry.body[-16:], None)
                if began is not None:
                    took.append(time.perf_counter() - began)
                await bob.send(frames.Acknowledge(log=entry.log, through=entry.sequence))

    async def answers() -> None:
        while True:
            answer = await _heard(ann)
            assert not isinstance(answer, frames.Close | frames.RefusedMessage), answer

    tasks = [asyncio.create_task(deliveries()), asyncio.create_task(answers())]
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        mark = secrets.token_bytes(16)
        sent[mark] = time.perf_counter()
        await ann.send(harness.message(ann, visit.conversation, epoch=1, body=mark))
        await asyncio.sleep(INTERVAL_S)
    async with asyncio.timeout(60):
        while sent:  # noqa: ASYNC110 - what was sent is waited for, each message counts
            await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if not isinstance(outcome, asyncio.CancelledError):
            raise outcome or AssertionError
    return sorted(took)[int(len(took) * 0.99)] * 1000


async def _ward(pipe: Connection, of: Hospital) -> None:
    """Measure when told to, for as long as told to."""
    loop = asyncio.get_running_loop()
    port, conversation = await loop.run_in_executor(None, pipe.recv)
    visit = Visit(port, of, conversation)
    ann, bob = [await visit.open(of.people[name]) for name in ("ann/phone", "bob/phone")]
    ann.person.counter = 1_000
    while True:
        seconds = await loop.run_in_executor(None, pipe.recv)
        if seconds is None:
            return
        pipe.send(await _measured(ann, bob, visit, seconds=seconds))


async def _relay(
    folder: Path, of: Hospital, ward: Connection, attackers: Connection, seconds: float
) -> bool:
    async with harness.running(folder, of, rates=SHIPPED) as site:
        clients, conversation = await site.meeting("ann/phone", "bob/phone")
        for client in clients:
            await client.socket.close()
        for pipe in (ward, attackers):
            pipe.send((site.port, conversation))
        loop = asyncio.get_running_loop()

        async def measured() -> float:
            ward.send(seconds)
            return float(await loop.run_in_executor(None, ward.recv))

        await measured()
        well = True
        for name in ATTACKS:
            found: dict[str, list[float]] = {"quiet": [], name: []}
            for _ in range(TURNS):
                for what, values in found.items():
                    attackers.send(what)
                    await asyncio.sleep(1.0 if what == "quiet" else 0.5)
                    values.append(await measured())
            quiet, attacked = map(median, found.values())
            fine = attacked <= max(quiet * RATIO, quiet + NOISE_MS)
            well = well and fine
            say(f"{name:28} {quiet:8.1f} {attacked:8.1f} {'' if fine else 'exceeded'}")
        for pipe in (ward, attackers):
            pipe.send(None)
        faults = site.relay.counters["faults"]
        say(f"faults {faults}, dropped unread {site.relay.counters['dropped_unread']}")
        await asyncio.sleep(1.0)
        return well and not faults


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.adversary.load", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--attackers", type=int, default=20)
    options = parser.parse_args()
    of = harness.hospital()
    for name in ("ann/phone", "bob/phone"):
        of.enrol(name)
    people = [of.enrol(f"eve{number}/phone") for number in range(options.attackers)]
    fork = multiprocessing.get_context("fork")
    pipes, processes = [], []
    for work in (lambda pipe: _ward(pipe, of), lambda pipe: _attackers(pipe, of, people)):
        ours, theirs = fork.Pipe()
        process = fork.Process(target=lambda p=theirs, w=work: uvloop.run(w(p)), daemon=True)
        process.start()
        pipes.append(ours)
        processes.append(process)
    say(f"{'attack':28} {'quiet':>8} {'attacked':>8}   p99, ms")
    with tempfile.TemporaryDirectory() as folder:
        well = uvloop.run(_relay(Path(folder), of, pipes[0], pipes[1], options.seconds))
    for process in processes:
        process.join(5)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
