"""A whole device that says a few things, tells each once it is promised, and ends.

``python -m tests.client.crash.speaking DIRECTORY RUN COUNT``

Keeps in ``keys`` what every seal of its process was made with, before it is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import sys
from pathlib import Path

from client.device import Device
from client.errors import NotMemberError
from client.messages import MessageKey, State
from crypto.hpke import Aead
from protocol.content import Text
from protocol.identifiers import ConversationId
from tests.client.crash.engine import DONE_S, opened

KEYS = "keys"


def tell(what: str, text: str) -> None:
    os.write(1, f"{what} {text}\n".encode())


def watch_keys(path: Path) -> None:
    """Note key and nonce of each seal, hashed."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    seal = Aead.seal

    def watched(aead: Aead, key: bytes, nonce: bytes, aad: bytes, plaintext: bytes) -> bytes:
        os.write(file, hashlib.sha256(key + nonce).digest())
        return seal(aead, key, nonce, aad, plaintext)

    Aead.seal = watched  # type: ignore[assignment,method-assign]


async def spoken(device: Device, conversation: ConversationId, text: str) -> MessageKey:
    """Say something; a device that has started over is let in again first."""
    while True:
        try:
            shown = await device.send(conversation, Text(text=text))
        except NotMemberError:
            await asyncio.sleep(0.1)
            continue
        assert shown is not None
        return shown.key


async def main(folder: Path, run: str, count: int) -> None:
    watch_keys(folder / KEYS)
    device = opened(folder)
    conversation = ConversationId(bytes.fromhex((folder / "where").read_text()))
    running: asyncio.Task[None] | None = None
    said = []
    for number in range(count):
        text = f"run {run}, {number}"
        said.append(await spoken(device, conversation, text))
        tell("said", text)
        # The first is written without a connection, the others while it stands.
        if running is None:
            running = asyncio.create_task(device.run())
            await device.online(DONE_S)
    await device.settled(DONE_S)
    for key in said:
        shown = device.message(key)
        assert shown is not None
        if shown.state is State.REFUSED:
            tell("refused", shown.text)
    if running is not None:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    device.close()
    tell("ended", run)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
