"""A large attachment over a network that breaks: what a device's memory grows by, and how long.

``python -m bench.transfer [MIB]``: the relay in a process of its own, 100 MiB by default, the
connection cut three times each way. Fails where memory grows by 64 MiB or the file differs.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from bench.report import Figure, report
from client.link import Address
from client.transfer import Sealed, Transfers, save
from crypto.statement import StatementType
from crypto.tls_certificate import tls_pin
from protocol import frames
from protocol.identifiers import ConversationId
from tests.client.cutting import breaking
from tests.scenarios.process import Installation, serving
from tests.server import harness
from tests.server.harness import Client

MEBIBYTE = 1 << 20
GROWTH_BYTES = 64 * MEBIBYTE
"""Wanted: less than this in memory, whatever the file's size."""


class Watch(threading.Thread):
    """Notes the most memory that this process has had."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.began = self.most = resident_bytes()

    def run(self) -> None:
        while True:
            self.most = max(self.most, resident_bytes())
            time.sleep(0.01)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def conversation(relay: Installation) -> tuple[Client, Client, ConversationId]:
    """Return two devices of a conversation whose first Commit is confirmed."""
    of = relay.hospital
    ann = await relay.opened(of.enrol("ann/phone"))
    bob = await relay.opened(of.enrol("bob/phone"))
    recorder = await relay.opened(of.people[harness.RECORDER])
    conversation = ConversationId(secrets.token_bytes(32))
    number, message = harness.commit_message(
        ann,
        conversation,
        epoch=0,
        added=[bob.person.name, recorder.person.name],
        removed=[],
    )
    await ann.send(frames.AppendCommit(message=message, welcome=b"\x00\x01\x00\x03welcome"))
    accepted = await ann.expect(frames.Accepted, lambda a: number in a.message_ids)
    await harness.verdict(
        recorder,
        conversation,
        sequence=accepted.sequences[0],
        epoch=1,
        kind=StatementType.EPOCH_RECEIPT,
        commit_hash=hashlib.sha256(message).digest(),
    )
    return ann, bob, conversation


@dataclass
class Way:
    """One way of the file, through a network that breaks three times.

    Attributes:
        seconds: How long it took.
    """

    relay: Installation
    client: Client
    files: Path
    cuts: list[int]
    seconds: float = 0.0

    async def go(self, run: Callable[[Transfers], Awaitable[None]]) -> None:
        """Do it."""
        pin = tls_pin((self.relay.data / "tls.pem").read_bytes())
        self.files.mkdir()
        async with breaking(self.relay.port, *self.cuts) as network:
            address = Address(
                host="127.0.0.1",
                port=network.port,
                tls_pin=pin,
                organisation=self.relay.hospital.id,
            )
            transfers = Transfers(address, files=self.files, token=self._token)
            began_s = time.monotonic()
            await run(transfers)
            self.seconds = time.monotonic() - began_s
            transfers.close()
            assert network.cuts == []

    async def _token(self) -> bytes:
        return self.client.token


async def measure(folder: Path, mebibytes: int) -> list[Figure]:
    """Send a file one way and fetch it the other."""
    path, saved = folder / "scan", folder / "saved"
    write(path, mebibytes)
    cuts = [mebibytes * MEBIBYTE * part // 4 for part in (1, 2, 3)]
    async with serving(folder / "relay", harness.hospital()) as relay:
        ann, bob, where = await conversation(relay)
        there = Way(relay, ann, folder / "ann", cuts)
        back = Way(relay, bob, folder / "bob", cuts)
        watch = Watch()
        watch.start()
        sent: list[tuple[Sealed, str]] = []

        async def send(transfers: Transfers) -> None:
            sealed = await transfers.seal(path, on_progress=quiet)
            sent.append((sealed, await transfers.upload(sealed.stream, where, on_progress=quiet)))

        async def fetch(transfers: Transfers) -> None:
            ((sealed, blob),) = sent
            stream = await transfers.download(blob, sealed.ref, on_progress=quiet)
            await asyncio.to_thread(save, sealed.ref, stream, saved)

        await there.go(send)
        await back.go(fetch)
        growth = (watch.most - watch.began) / MEBIBYTE
    assert digest(path) == digest(saved)
    of_size = f"of {mebibytes} MiB, three breaks each way"
    wanted = GROWTH_BYTES / MEBIBYTE
    return [
        Figure(name="memory grown by", value=growth, unit=f"MiB, {of_size}", wanted=wanted),
        Figure(name="sealed and sent", value=there.seconds, unit=f"s, {of_size}"),
        Figure(name="fetched and saved", value=back.seconds, unit=f"s, {of_size}"),
    ]


def write(path: Path, mebibytes: int) -> None:
    with path.open("wb") as file:
        for _ in range(mebibytes):
            file.write(os.urandom(MEBIBYTE))


def quiet(_done: int, _of: int) -> None:
    """Hear of no progress."""


def digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def main(mebibytes: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        return report(asyncio.run(measure(Path(folder), mebibytes)))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100))
