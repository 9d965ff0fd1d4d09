"""A device's engine: how fast it catches up, what coming back to many conversations costs.

Run: ``make bench-client``; prints one JSON object a line (see ``bench.report``). All figures are
CPU time of the one process, so that they hold on a busy machine too.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

from bench.full_device import CONVERSATIONS, ME, OTHER, fill, join
from bench.report import Figure, report
from client.device import Device
from client.link import Address, Credentials
from client.store import Store
from client_cli.screens.panes import LISTED
from protocol import content, frames
from protocol.content import Text
from protocol.frames import Deliver, Frame
from tests.client.talk import Talker, Ward, assembled
from tests.server.harness import Hospital, hospital, now_ms

CATCH_UP = 10_000
NEW = 10
KEY = bytes(32)


def device_of(folder: Path, of: Hospital, person: Talker) -> Device:
    store = Store.create(folder / "store.db", KEY)
    store.settings.put("root", of.root.der)
    keys = person.person.keys
    credentials = Credentials(
        device=person.name,
        certificate=person.person.certificate,
        connection_key=keys.connection_key,
        signature_key=keys.signature_key,
    )
    address = Address(host="127.0.0.1", port=1, tls_pin=bytes(32), organisation=of.id)
    device = Device.over(store, credentials=credentials, address=address, clock=now_ms)
    device.engine.book.learn([one.certificate for one in of.people.values()], now_ms=now_ms())
    return device


async def nobody(make: Callable[[int], Frame]) -> Frame:
    raise AssertionError(make(0))


def said(ward: Ward, text: str) -> Deliver:
    return ward.entry(ward["ann/phone"].say(content.encode(Text(text=text)).decode("latin-1")))


def catching_up(folder: Path, of: Hospital) -> float:
    """Return messages a second of one device that was away."""
    ward = assembled(of, "ann/phone", ME)
    device = device_of(folder, of, ward[ME])
    join(device.store, ward)
    entries = [said(ward, f"bed {number} is free") for number in range(CATCH_UP)]
    wire = [frames.encode(entry) for entry in entries]
    gc.collect()
    started = time.process_time()
    through = asyncio.run(_take(device, wire))
    spent = time.process_time() - started
    assert through == CATCH_UP + 2
    assert len(device.messages(ward.conversation, limit=2 * CATCH_UP)) == CATCH_UP
    device.close()
    return CATCH_UP / spent


async def _take(device: Device, wire: list[bytes]) -> int:
    """Take frames in as they come from a connection, in its batches."""
    through = 0
    for start in range(0, len(wire), 512):
        batch = [
            frames.decode(data, sender=frames.Sender.RELAY) for data in wire[start : start + 512]
        ]
        entries = [one for one in batch if isinstance(one, Deliver)]
        done = await device.engine.following.take(entries, nobody, now_ms=now_ms())
        through = max(done.values())
    return through


def coming_back(folder: Path, of: Hospital) -> tuple[float, ...]:
    """Return ms to open, to take in few new messages, to list as a screen does, and to list all."""
    person = assembled(of, OTHER, ME)[ME]
    device = device_of(folder, of, person)
    full = fill(device.store, of, kept=NEW)
    device.store.close()
    new = [frames.encode(said(ward, "new")) for ward in full.wards]
    store = Store.open(folder / "store.db", KEY)
    gc.collect()
    started = time.process_time()
    again = Device.over(
        store,
        credentials=device.engine.credentials,
        address=device.address,
        clock=now_ms,
    )
    opened = time.process_time()
    asyncio.run(_come_back(again, new))
    taken = time.process_time()
    assert len([*again.conversations(LISTED), *again.alarming()]) == LISTED
    shown = time.process_time()
    assert len(again.conversations()) == CONVERSATIONS
    moments = (started, opened, taken, shown, time.process_time())
    again.close()
    return tuple(1000 * (end - start) for start, end in pairwise(moments))


async def _come_back(device: Device, wire: list[bytes]) -> None:
    device.engine.sending.connected(device.engine.store.outbox.last_id)
    await _take(device, wire)
    device.engine.sending.release_all()
    device.engine.steward.remind()


def figures() -> Iterator[Figure]:
    of = hospital()
    with tempfile.TemporaryDirectory() as folder:
        rate = catching_up(Path(folder), of)
    yield Figure(
        name="catching up with 10,000 messages",
        value=rate,
        unit="messages a CPU second",
        wanted=2_000,
        at_least=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        opened, taken, shown, listed = coming_back(Path(folder), of)
    yield Figure(name="engine over 5,000 conversations", value=opened, unit="ms CPU")
    yield Figure(
        name="coming back to 5,000 conversations and 10 new messages",
        value=taken,
        unit="ms CPU",
        wanted=300,
    )
    yield Figure(
        name=f"list as a screen shows it: {LISTED} of 5,000 conversations, and what is STAT",
        value=shown,
        unit="ms CPU",
        wanted=100,
    )
    yield Figure(name="list of all 5,000 conversations", value=listed, unit="ms CPU")


if __name__ == "__main__":
    sys.exit(report(figures()))
