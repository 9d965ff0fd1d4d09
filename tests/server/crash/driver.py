"""The real store and the real secrets, put through everything that an acknowledgement may rest on.

python -m tests.server.crash.driver DIRECTORY ROUNDS [SYNCHRONOUS]

Prints a line of JSON before it asks for something whose effect could come early (``?``), and one
after the answer (``!``). Whoever kills it compares what was answered with what is found. The last
argument exists to show that the comparison finds what a weaker setting loses.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from server import pipeline, secrets, sqlite_schema, sqlite_wal
from server.secrets import ChangedError, Secrets, Share
from server.sqlite_store import SqliteStore
from server.store import (
    Commit,
    CreateLog,
    Fact,
    PutFacts,
    Reader,
    Receipt,
    StoreFailedError,
    StoreFullError,
    Void,
)
from tests.server.stores import ANN, BOB, CAT, ORGANISATION, RECORDER, WARD, inbox, message

T = TypeVar("T")

STORE = "relay.db"
SECRETS = "secrets.db"
KEY = "key"
READERS = (BOB, RECORDER)


def body_of(number: int) -> bytes:
    """What the message or Commit of this number says: long enough to lie on several sectors."""
    return f"body {number} ".encode() * (40 + number % 60)


def welcome_of(number: int) -> bytes:
    return f"welcome {number} ".encode() * 50


def tell(sign: str, what: str, **fields: Any) -> None:
    os.write(1, json.dumps({"sign": sign, "what": what, **fields}).encode() + b"\n")


async def insist(act: Callable[[], Awaitable[T]]) -> T:
    """Ask until it is granted, as a client does whose relay's disk is full or failing."""
    while True:
        try:
            return await act()
        except (StoreFullError, StoreFailedError):
            tell("?", "again")
            await asyncio.sleep(0.01)


def prepare(directory: Path) -> None:
    """What ``init`` does, long before anything goes wrong."""
    sqlite_schema.create(directory / STORE)
    secrets.create_key(directory / KEY)
    secrets.create(directory / SECRETS, directory / KEY)


class Driver:
    def __init__(self, store: SqliteStore, kept: Secrets) -> None:
        self.store = store
        self.kept = kept
        self.number = 0
        self.epoch = 0

    async def append(self, **fields: Any) -> int:
        self.number += 1
        number = self.number
        request = message(ANN, number, body=body_of(number), **fields)
        answer = await insist(lambda: self.store.append(request))
        tell("!", "append", number=number, seq=answer.seq, prev=answer.prev)
        return answer.seq

    async def acknowledge(self, device: str, seq: int) -> None:
        tell("?", "acknowledge", device=device, seq=seq)
        self.store.acknowledge(WARD, device, seq)  # type: ignore[arg-type]
        await insist(self.store.settle)
        tell("!", "acknowledge", device=device, seq=seq)

    async def change_epoch(self, *, void: bool) -> None:
        number = self.number + 1
        effect = Commit(joins=(Reader(device=CAT),), leaves=(CAT,), welcome=welcome_of(number))
        seq = await self.append(epoch=self.epoch, effect=effect)
        tell("!", "commit", number=number, seq=seq, epoch=self.epoch)
        await self.append(epoch=self.epoch)
        what = "void" if void else "receipt"
        tell("?", what, seq=seq, epoch=self.epoch)
        await self.append(epoch=None, effect=Void(commit=seq) if void else Receipt(commit=seq))
        tell("!", what, seq=seq, epoch=self.epoch)
        self.epoch += not void

    async def wipe(self, number: int) -> None:
        device: Any = f"lost{number}/phone"
        share = Share(share=b"share" * 6, pin_verifier=b"verifier")
        with suppress(ChangedError):  # where the disk failed after it was done
            await insist(lambda: self.kept.put_share(ORGANISATION, device, share, was=None))
        tell("!", "share", device=device)
        tell("?", "wipe", device=device)
        await insist(lambda: self.kept.wipe(ORGANISATION, device, number, b"order"))
        tell("!", "wipe", device=device)

    async def round(self, number: int) -> None:
        seqs = await asyncio.gather(*(self.append(epoch=self.epoch) for _ in range(3)))
        tell("?", "fact", value=number)
        facts = [Fact(key=b"round", value=str(number).encode())]
        await insist(lambda: self.store.change(PutFacts(ORGANISATION, facts)))
        tell("!", "fact", value=number)
        await self.acknowledge(BOB, seqs[number % 3])
        if number % 2:
            await self.change_epoch(void=number % 4 == 1)
        if number % 3 == 0:
            await self.acknowledge(RECORDER, seqs[1])
        if number % 4 == 2:
            await self.wipe(number)


async def main(directory: Path, rounds: int) -> None:
    store = await SqliteStore.open(directory / STORE)
    kept = await Secrets.open(directory / SECRETS, directory / KEY)
    readers = [Reader(device=BOB), Reader(device=RECORDER, expires=False)]
    await insist(lambda: store.change(CreateLog(inbox(CAT), readers=[Reader(device=CAT)])))
    await insist(lambda: store.change(CreateLog(WARD, readers=readers)))
    tell("!", "open")
    driver = Driver(store, kept)
    for number in range(1, rounds + 1):
        await driver.round(number)
    await store.close()
    await kept.close()
    tell("!", "closed")


if __name__ == "__main__":
    # Often enough that checkpoints, too, are cut in the middle; some cut the log, others keep it.
    pipeline.CHECKPOINT_S = 0.005
    pipeline.RETRY_S = 0.02
    sqlite_wal.KEPT_BYTES = 100_000
    if len(sys.argv) > 3:
        sqlite_schema.SYNCHRONOUS = sys.argv[3]
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
