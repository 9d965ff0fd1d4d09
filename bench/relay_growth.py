"""What a send costs the relay as its group grows and nobody is connected: it is to be flat.

The relay's own objects in this process, from the bytes of a frame to the synced row and its answer;
only sockets are left out, so that nothing but the send is in the figure.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from protocol import frames
from protocol.authenticated_data import AuthenticatedData
from protocol.frames import Sender
from protocol.identifiers import ConversationId, DeviceId, conversation_log
from protocol.session import Session, State
from server.connection import Connection
from server.directory import Device, context_fact
from server.store import (
    CreateLog,
    LogKey,
    PutFacts,
    Reader,
)
from tests.server.harness import RECORDER, Site, context, hospital, now_ms, private_message, running

MEMBERS = (10, 100, 1000)
BATCH = 64
"""Messages at once: some, as on a busy relay, and less than a device may have unanswered."""

BODY_BYTES = 1024


class Wire:
    """A transport that counts what is answered, and lets whoever waits go on."""

    address = ""
    congested = False

    def __init__(self) -> None:
        self.session = Session(Sender.CLIENT)
        self.answered = 0
        self.whole = asyncio.Event()

    def send(self, payload: bytes) -> None:
        frame = frames.decode(payload, sender=Sender.RELAY)
        if not isinstance(frame, frames.Accepted):
            raise TypeError(f"{frame} instead of being accepted")
        self.answered += len(frame.message_ids)
        if self.answered >= BATCH:
            self.whole.set()

    def write(self, headed: bytes | bytearray) -> None:  # noqa: ARG002 - as transports do
        raise TypeError("nobody is connected")

    def tire(self) -> None:
        raise TypeError("nobody is too fast")

    def close(self) -> None:
        raise TypeError("closed")


async def conversation(site: Site, members: int) -> bytes:
    """Return a conversation of so many devices, as Commits and receipts would have left it."""
    of, store = site.hospital, site.relay.store
    name = ConversationId(members.to_bytes(32, "big"))
    readers = [Reader(device=DeviceId(f"m{n}/1")) for n in range(members - 2)]
    readers += [Reader(device=DeviceId("boss/1")), Reader(device=RECORDER, expires=False)]
    await store.change(CreateLog(LogKey(of.id, conversation_log(name)), epoch=1, readers=readers))
    setting = context(of, "boss")
    await store.change(PutFacts(of.id, [context_fact(name, setting)]))
    site.relay.organisations[of.id].contexts[name] = setting
    return name


def sender(site: Site, wire: Wire) -> Connection:
    """Return the connection of the one who sends, proved."""
    organisation = site.relay.organisations[site.hospital.id]
    person = site.hospital.people["boss/1"]
    identity = next(one for one in site.hospital.trust.devices.values() if one.name == person.name)
    device = Device(identity=identity, certificate=person.certificate, seen_ms=now_ms())
    organisation.keep(device)
    made = Connection(site.relay, wire)
    made.session.state = State.OPEN
    made.organisation, made.device_id = organisation, person.name
    return made


async def _costs(batches: int) -> dict[int, float]:
    of = hospital()
    of.enrol("boss/1")
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder), of) as site:
            wire = Wire()
            boss = sender(site, wire)
            names = {members: await conversation(site, members) for members in MEMBERS}
            best = dict.fromkeys(MEMBERS, float("inf"))
            for _ in range(batches):
                # In turn, so that what else the machine does falls on all alike.
                for members in MEMBERS:
                    spent = await _batch(site, boss, wire, names[members])
                    best[members] = min(best[members], spent)
            return best


async def _batch(site: Site, boss: Connection, wire: Wire, name: bytes) -> float:
    """Return the microseconds of CPU, in all threads, that one message of a batch took."""
    person = site.hospital.people["boss/1"]
    sent = [
        frames.encode(
            frames.Append(
                message=private_message(
                    name,
                    AuthenticatedData(message_id=person.next_id()),
                    epoch=1,
                    body=bytes(BODY_BYTES),
                )
            )
        )
        for _ in range(BATCH)
    ]
    wire.answered = 0
    wire.whole.clear()
    before = time.process_time_ns()
    for payload in sent:
        boss.receive(payload)
    await wire.whole.wait()
    return (time.process_time_ns() - before) / 1000 / BATCH


def send_costs(*, batches: int) -> dict[int, float]:
    """Return the microseconds of CPU of a send, by the number of members."""
    return asyncio.run(_costs(batches))
