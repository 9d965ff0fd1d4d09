"""``Store`` on plain SQLite: one thread writes (``server.pipeline``), aiosqlite reads."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import aiosqlite

from protocol.identifiers import DeviceId, OrganisationId
from server import appending, sqlite_backup, sqlite_reads, sqlite_schema, upkeep
from server.database import translated
from server.ledger import Batch, Ledger
from server.pipeline import Pipeline
from server.sqlite_writer import Writer
from server.store import (
    Answer,
    Append,
    Appended,
    Change,
    DamagedError,
    Head,
    LogKey,
    Page,
    Pending,
    StoreError,
    StoreInUseError,
)
from storage.database import DATABASE_ERRORS, uri

# At DEBUG it would write every statement with its values: keys and ciphertext.
logging.getLogger("aiosqlite").setLevel(logging.WARNING)


T = TypeVar("T")

_log = logging.getLogger(__name__)

FORGET_S = 0.3
"""Seconds from a read until its connection lets go of the pages: else it keeps them, and what is
deleted meanwhile, until it reads again. What is read at once by many is fetched once."""


class SqliteStore:
    """See ``server.store.Store``; made by ``open_store``, which says who may have it."""

    def __init__(
        self, path: Path, *, writer: Writer, pipeline: Pipeline, reader: aiosqlite.Connection
    ) -> None:
        self._path = path
        self._writer = writer
        self._pipeline = pipeline
        self._reader = reader
        self._forgetting: asyncio.Task[None] | None = None
        self._lock = -1

    @classmethod
    async def open(cls, path: Path) -> SqliteStore:
        """Open the store that ``sqlite_schema.create`` made at ``path``.

        Raises:
            FileNotFoundError: There is none.
            StoreInUseError: Another process has it open.
            DamagedError: It is no store, or its pages cannot be read.
            StoreFullError: There is no room to open it.
            StoreFailedError: The disk failed.
        """
        lock = _lock(path)
        writer = Writer(path, asyncio.get_running_loop())
        try:
            ledger, facts_whole = await writer.ask(writer.open)
            reader = await aiosqlite.connect(uri(path, "ro"), uri=True)
            reader.text_factory = sqlite_schema.text
        except BaseException:
            await writer.stop()
            os.close(lock)
            raise
        pipeline = Pipeline(writer, ledger, facts_whole=facts_whole)
        store = cls(path, writer=writer, pipeline=pipeline, reader=reader)
        store._lock = lock
        return store

    @property
    def awaiting_archive(self) -> bool:
        """See ``Store``."""
        return self._pipeline.ledger.awaiting

    @property
    def was_restored(self) -> bool:
        """See ``Store``."""
        return self._pipeline.ledger.floor > 0

    # Requests that change something: queued, planned in order, answered after the sync.

    def submit(self, requests: Sequence[Append], done: Callable[[list[Answer]], None]) -> None:
        """See ``Store``."""
        count = len(requests)

        def answered(answers: list[Answer] | None, error: StoreError | None) -> None:
            if answers is None:
                assert error is not None  # noqa: S101 - one of the two is always there
                done([error] * count)
            else:
                done(answers)

        self._pipeline.enqueue(count, partial(_append_all, requests), answered)

    async def append(self, request: Append) -> Appended:
        """See ``Store``."""
        return await self._pipeline.ask(
            lambda ledger, batch: appending.append(ledger, request, batch)
        )

    def acknowledge(self, log: LogKey, device: DeviceId, seq: int) -> int | None:
        """See ``Store``."""
        return self._pipeline.acknowledge(log, device, seq)

    async def settle(self) -> None:
        """See ``Store``."""
        await self._pipeline.settle()

    def change(self, change: Change[T]) -> Awaitable[T]:
        """See ``Store``."""
        return self._pipeline.ask(partial(upkeep.apply, change))

    # Answers from memory, and reads.

    def pending(self, organisation: OrganisationId, device: DeviceId) -> Sequence[Pending]:
        """See ``Store``."""
        return self._pipeline.ledger.pending(organisation, device)

    def head(self, log: LogKey) -> Head | None:
        """See ``Store``."""
        known = self._pipeline.ledger.logs.get(log)
        return known.describe() if known is not None else None

    def last_id(self, organisation: OrganisationId, device: DeviceId) -> int:
        """See ``Store``."""
        known = self._pipeline.ledger.devices.get((organisation, device))
        return known.last if known is not None else 0

    def readers(self, log: LogKey) -> Collection[DeviceId]:
        """See ``Store``."""
        known = self._pipeline.ledger.logs.get(log)
        return known.live.keys() if known is not None else ()

    async def read(
        self, log: LogKey, device: DeviceId, *, after: int, entries_max: int, bytes_max: int
    ) -> Page:
        """See ``Store``."""
        while True:
            ledger = self._pipeline.ledger
            selection = sqlite_reads.select(
                ledger,
                ledger.log(log),
                device,
                after=after,
                entries_max=entries_max,
                bytes_max=bytes_max,
                committed=self._pipeline.committed,
            )
            try:
                page = await sqlite_reads.read(self._reader, ledger, selection)
            except DATABASE_ERRORS as error:
                raise translated(error, "database") from None
            if selection.rows:
                self._forget_soon()
            # A write that failed meanwhile has replaced the ledger that the rows were chosen by.
            if ledger is self._pipeline.ledger:
                return page

    def _forget_soon(self) -> None:
        if self._forgetting is None:
            self._forgetting = asyncio.create_task(self._forget())

    async def _forget(self) -> None:
        await asyncio.sleep(FORGET_S)
        self._forgetting = None
        try:
            await sqlite_reads.forget(self._reader)
        except DATABASE_ERRORS as error:
            # The next read finds the same, and tells whoever asked.
            _log.error("forgetting failed: %s", type(error).__name__)

    async def facts(
        self, organisation: OrganisationId, prefix: bytes = b""
    ) -> Mapping[bytes, bytes]:
        """See ``Store``."""
        if not self._pipeline.facts_whole:
            raise DamagedError("fact")
        try:
            return await sqlite_reads.read_facts(self._reader, organisation, prefix)
        except DATABASE_ERRORS as error:
            raise translated(error, "database") from None

    async def backup(self, target: Path) -> None:
        """See ``Store``."""
        await self.settle()
        await asyncio.to_thread(sqlite_backup.backup, self._path, target)

    async def close(self) -> None:
        """See ``Store``."""
        if self._pipeline.closed:
            return
        await self._pipeline.close()
        if self._forgetting is not None:
            self._forgetting.cancel()
        await self._reader.close()
        await self._writer.stop()
        os.close(self._lock)


def _append_all(requests: Sequence[Append], ledger: Ledger, batch: Batch) -> list[Answer]:
    answers: list[Answer] = []
    for request in requests:
        try:
            answers.append(appending.append(ledger, request, batch))
        except StoreError as refusal:
            answers.append(refusal)
    return answers


def _lock(path: Path) -> int:
    """Take the store for this process; the lock ends with it, however it ends.

    On a file beside the database: closing any descriptor of the database itself would drop the
    locks that SQLite holds on it.
    """
    if not path.exists():
        raise FileNotFoundError(path.name)
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise StoreInUseError from None
    return descriptor
