"""A whole device that talks until somebody kills it, and goes on when it is started again.

``python -m tests.client.crash.engine DIRECTORY``
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path

from client.device import Device
from client.link import Address, Credentials
from client.store import Store
from crypto.ed25519 import SigningKey
from protocol.content import Text
from protocol.identifiers import ConversationId, DeviceId, OrganisationId
from tests.client.devices import KEY
from tests.client.relay import PIN
from tests.server.harness import Hospital, Person, now_ms

WORDS = 60
DONE_S = 60.0


def text_of(number: int) -> str:
    return f"ann {number}"


def write(folder: Path, person: Person, of: Hospital, *, port: int) -> None:
    """Tell the program who it is and where to."""
    (folder / "who").write_text(
        json.dumps(
            {
                "device": person.name,
                "certificate": person.certificate.hex(),
                "root": of.root.der.hex(),
                "organisation": of.id.hex(),
                "signature": person.keys.signature_key.seed.hex(),
                "connection": person.keys.connection_key.seed.hex(),
                "pin": PIN.hex(),
                "port": port,
            }
        )
    )


def opened(folder: Path) -> Device:
    who = json.loads((folder / "who").read_text())
    store = Store.open(folder / "store.db", KEY)
    store.settings.put("root", bytes.fromhex(who["root"]))
    return Device.over(
        store,
        credentials=Credentials(
            device=DeviceId(who["device"]),
            certificate=bytes.fromhex(who["certificate"]),
            connection_key=SigningKey.from_seed(bytes.fromhex(who["connection"])),
            signature_key=SigningKey.from_seed(bytes.fromhex(who["signature"])),
        ),
        address=Address(
            host="127.0.0.1",
            port=who["port"],
            tls_pin=bytes.fromhex(who["pin"]),
            organisation=OrganisationId(bytes.fromhex(who["organisation"])),
        ),
        clock=now_ms,
    )


async def main(folder: Path) -> None:
    device = opened(folder)
    conversation = ConversationId(bytes.fromhex((folder / "where").read_text()))
    running = asyncio.create_task(device.run())
    page = device.messages(conversation, limit=100_000)
    # What was said stands on the disk before it can leave, so the disk says where to go on.
    for number in range(sum(one.own for one in page), WORDS):
        await device.send(conversation, Text(text=text_of(number)))
        await asyncio.sleep(0.02)
    await device.settled(DONE_S)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    device.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
