"""What the store alone reaches: JSON lines of name, value, unit and the value wanted.

python -m bench.store [directory]     appends, acknowledgements and drains, per second of CPU
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop

from protocol.identifiers import (
    ConversationId,
    DeviceId,
    OrganisationId,
    conversation_log,
)
from server import sqlite_schema
from server.sqlite_store import SqliteStore
from server.store import (
    Append,
    Appended,
    CreateLog,
    LogKey,
    Reader,
)

ORGANISATION = OrganisationId(b"o" * 32)
BODY = b"x" * 1024
PAIRS = 100
IN_FLIGHT = 4
MESSAGES = 40_000

# With the relay on top a message may cost 1/18,000 s of CPU: the store gets about a third of that.
WANTED_APPENDS = 50_000
WANTED_PAIRS = 30_000
WANTED_DRAINED = 100_000


def log_of(number: int) -> LogKey:
    return LogKey(ORGANISATION, conversation_log(ConversationId(number.to_bytes(32, "big"))))


def sender(number: int) -> DeviceId:
    return DeviceId(f"sender{number}/phone")


def reader(number: int) -> DeviceId:
    return DeviceId(f"reader{number}/phone")


def message(log: int, by: int, message_id: int) -> Append:
    return Append(
        log=log_of(log),
        sender=sender(by),
        message_id=message_id,
        at_ms=1_700_000_000_000,
        kind=1,
        priority=1,
        body=BODY,
        epoch=0,
    )


async def pairs(store: SqliteStore, *, count: int, acknowledge: bool) -> None:
    """Append from PAIRS senders, IN_FLIGHT each, and have the readers acknowledge at once."""
    loop = asyncio.get_running_loop()
    finished = loop.create_future()
    left = count

    def send(pair: int, message_id: int) -> None:
        def done(answers: list[Any]) -> None:
            nonlocal left
            answer = answers[0]
            assert isinstance(answer, Appended)
            if acknowledge:
                store.acknowledge(log_of(pair), reader(pair), answer.seq)
            left -= 1
            if left == 0:
                finished.set_result(None)
            if message_id + IN_FLIGHT <= count // PAIRS:
                send(pair, message_id + IN_FLIGHT)

        store.submit([message(pair, pair, message_id)], done)

    for pair in range(PAIRS):
        for first in range(1, IN_FLIGHT + 1):
            send(pair, first)
    await finished
    await store.settle()


async def group(store: SqliteStore, *, count: int, members: int) -> None:
    """One sender, ``members`` readers who acknowledge every batch cumulatively."""
    readers = [reader(number) for number in range(members)]
    key = log_of(0)
    for first in range(1, count, 32):
        done = asyncio.get_running_loop().create_future()
        store.submit([message(0, 0, first + i) for i in range(32)], done.set_result)
        last = (await done)[-1].seq
        for device in readers:
            store.acknowledge(key, device, last)
    await store.settle()


async def drain(store: SqliteStore, *, count: int) -> None:
    """Every reader reads what waits for it in pages, and acknowledges."""
    drained = 0
    for pair in range(PAIRS):
        after, more = 0, True
        while more:
            page = await store.read(
                log_of(pair), reader(pair), after=after, entries_max=128, bytes_max=1 << 20
            )
            drained += len(page.entries)
            after, more = page.last, page.more
            store.acknowledge(log_of(pair), reader(pair), after)
    await store.settle()
    assert drained == count


async def lone(store: SqliteStore, *, count: int) -> None:
    """One append after another."""
    for number in range(1, count + 1):
        await store.append(message(0, 0, 1_000_000 + number))


async def measured(name: str, wanted: float, count: int, run: Awaitable[None]) -> None:
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    await run
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    emit(f"{name} per CPU second", count / cpu, "1/s", wanted)
    emit(f"{name} per second", count / wall, "1/s", None)


def emit(name: str, value: float, unit: str, wanted: float | None) -> None:
    row = {"name": name, "value": round(value, 3), "unit": unit, "wanted": wanted}
    print(json.dumps(row), flush=True)


async def fresh(directory: Path, readers: Callable[[int], list[Reader]]) -> SqliteStore:
    path = directory / f"relay{time.monotonic_ns()}.db"
    sqlite_schema.create(path)
    store = await SqliteStore.open(path)
    for pair in range(PAIRS):
        await store.change(CreateLog(log_of(pair), readers=readers(pair)))
    return store


async def main(directory: Path) -> None:
    def one(pair: int) -> list[Reader]:
        return [Reader(device=reader(pair))]

    def many(pair: int) -> list[Reader]:
        return [Reader(device=reader(n)) for n in range(200)] if pair == 0 else []

    store = await fresh(directory, one)
    run = pairs(store, count=MESSAGES, acknowledge=True)
    await measured("appended, acknowledged and deleted", WANTED_PAIRS, MESSAGES, run)
    await store.close()

    store = await fresh(directory, one)
    run = pairs(store, count=MESSAGES, acknowledge=False)
    await measured("appended", WANTED_APPENDS, MESSAGES, run)
    await measured("drained and deleted", WANTED_DRAINED, MESSAGES, drain(store, count=MESSAGES))
    await store.close()

    store = await fresh(directory, many)
    await measured(
        "acknowledged in a group of 200", 1e6, 3200 * 200, group(store, count=3200, members=200)
    )
    started = time.perf_counter()
    await lone(store, count=500)
    emit("lone append", (time.perf_counter() - started) / 500 * 1000, "ms", 1.0)
    await store.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        uvloop.run(main(Path(name)))
