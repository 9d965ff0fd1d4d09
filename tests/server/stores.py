"""A ward to keep logs for: names, requests and stores that the tests of the store share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from protocol.identifiers import (
    CONTROL_LOG,
    ConversationId,
    DeviceId,
    OrganisationId,
    conversation_log,
    inbox_log,
)
from server import sqlite_schema
from server.sqlite_store import SqliteStore
from server.store import (
    Append,
    Commit,
    CreateLog,
    Entry,
    LogKey,
    Reader,
    Receipt,
    StoreError,
    Void,
)

ORGANISATION = OrganisationId(b"\x01" * 32)
OTHER = OrganisationId(b"\x02" * 32)
ANN = DeviceId("ann/phone")
BOB = DeviceId("bob/phone")
CAT = DeviceId("cat/phone")
RECORDER = DeviceId("recorder/archive")
NOW_MS = 1_700_000_000_000
DEVICES = (ANN, BOB, CAT, RECORDER)

WARD = LogKey(ORGANISATION, conversation_log(ConversationId(b"w" * 32)))
THEATRE = LogKey(ORGANISATION, conversation_log(ConversationId(b"t" * 32)))
CONTROL = LogKey(ORGANISATION, CONTROL_LOG)

EVERYTHING = {"entries_max": 10_000, "bytes_max": 1 << 40}


def inbox(device: DeviceId, organisation: OrganisationId = ORGANISATION) -> LogKey:
    return LogKey(organisation, inbox_log(device))


def reader(device: DeviceId) -> Reader:
    return Reader(device=device, expires=device != RECORDER)


def message(
    sender: DeviceId,
    message_id: int,
    *,
    log: LogKey = WARD,
    body: bytes = b"ciphertext",
    epoch: int | None = 0,
    effect: Commit | Receipt | Void | None = None,
    priority: int = 1,
    expires: bool = True,
) -> Append:
    return Append(
        log=log,
        sender=sender,
        message_id=message_id,
        at_ms=NOW_MS,
        kind=1,
        priority=priority,
        body=body,
        epoch=epoch,
        effect=effect,
        expires=expires,
    )


def make(path: Path) -> None:
    """An empty store at ``path``, where there is none."""
    if not path.exists():
        sqlite_schema.create(path)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteStore]:
    """The store at ``path``, made where there is none."""
    make(path)
    store = await SqliteStore.open(path)
    try:
        yield store
    finally:
        await store.close()


async def staff(store: SqliteStore, *, log: LogKey = WARD) -> None:
    """Inboxes for all, and a conversation that all read."""
    for device in DEVICES:
        await store.change(CreateLog(inbox(device), readers=[Reader(device=device)]))
    await store.change(CreateLog(log, readers=[reader(device) for device in DEVICES]))


async def fetch(store: SqliteStore, log: LogKey, device: DeviceId) -> tuple[Entry, ...]:
    """All that waits for a device in a log."""
    return (await store.read(log, device, after=0, **EVERYTHING)).entries


async def refusal(store: SqliteStore, request: Append) -> StoreError:
    """The refusal that ``request`` must get."""
    answers = await submitted(store, [request])
    assert isinstance(answers[0], StoreError)
    return answers[0]


async def submitted(store: SqliteStore, requests: list[Append]) -> list[object]:
    """The answers to ``requests``, in their order."""
    future: asyncio.Future[list[object]] = asyncio.get_running_loop().create_future()
    store.submit(requests, lambda answers: future.set_result(list(answers)))
    return await future
