"""Acknowledgements are gathered for ``MOVE_S``, and never behind what asks to be after them.

Batches do not wait while what others wrote is copied into the file.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from server import pipeline, sqlite_writer
from server.sqlite_store import SqliteStore
from server.sqlite_writer import Writer
from tests.server.stores import BOB, CAT, RECORDER, WARD, message, opened, staff
from tests.waiting import WITHIN_S, comes_true


def wal(path: Path) -> Path:
    """Return the write-ahead log of a store."""
    return path.with_name(path.name + "-wal")


def batches(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that gets every batch that is written from now on."""
    written: list[Any] = []
    commit = store._writer.commit_later

    def noted(batch: Any, done: Any) -> None:
        written.append(batch)
        commit(batch, done)

    monkeypatch.setattr(store._writer, "commit_later", noted)
    return written


async def test_acknowledgements_of_a_tenth_of_a_second_are_one_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "MOVE_S", 3600.0)
    async with opened(tmp_path / "relay.db") as store:
        await staff(store)
        seqs = [(await store.append(message(RECORDER, n))).seq for n in range(1, 21)]
        await store.settle()
        written = batches(store, monkeypatch)
        for seq in seqs:
            for device in (BOB, CAT):
                store.acknowledge(WARD, device, seq)
        # Known at once, on the disk a little later: what the timer does is done here by hand.
        assert not [p for p in store.pending(WARD.organisation, BOB) if p.log == WARD]
        await asyncio.sleep(0)
        assert written == []
        store._pipeline._move()
        await asyncio.sleep(0)
        assert len(written) == 1
        assert len(written[0].rows["cursor"]) == 2


async def test_who_asks_after_an_acknowledgement_finds_it_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "MOVE_S", 3600.0)
    path = tmp_path / "relay.db"
    async with opened(path) as store:
        await staff(store)
        seq = (await store.append(message(RECORDER, 1))).seq
        await store.settle()
        written = batches(store, monkeypatch)
        store.acknowledge(WARD, BOB, seq)
        await store.settle()
        assert len(written) == 1
    async with opened(path) as store:
        assert not [p for p in store.pending(WARD.organisation, BOB) if p.log == WARD]


async def test_batches_go_on_while_the_log_is_copied_into_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copying, go_on = threading.Event(), threading.Event()
    in_time: list[bool] = []
    original = Writer._copy_ahead

    def slowly(writer: Writer) -> None:
        copying.set()
        in_time.append(go_on.wait(WITHIN_S))
        original(writer)

    monkeypatch.setattr(Writer, "_copy_ahead", slowly)
    monkeypatch.setattr(pipeline, "AHEAD_ROWS", 1)
    path = tmp_path / "relay.db"
    async with opened(path) as store:
        await staff(store)
        await store.append(message(RECORDER, 1))
        assert await asyncio.to_thread(copying.wait, WITHIN_S)
        for number in range(2, 20):
            await store.append(message(RECORDER, number))
        assert wal(path).stat().st_size
        go_on.set()
        await comes_true(lambda: not wal(path).stat().st_size)
        assert all(in_time)


async def test_the_log_is_truncated_also_where_it_could_not_be_copied_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()

    def fails(_path: Path) -> sqlite3.Connection:
        asked.set()
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(pipeline, "AHEAD_ROWS", 1)
    path = tmp_path / "relay.db"
    async with opened(path) as store:
        await staff(store)
        monkeypatch.setattr(sqlite_writer, "connect", fails)
        await store.append(message(RECORDER, 1))
        assert await asyncio.to_thread(asked.wait, WITHIN_S)
        await comes_true(lambda: not wal(path).stat().st_size)


async def test_a_store_closes_behind_what_is_copied_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copying, copied = threading.Event(), threading.Event()

    def slowly(_writer: Writer) -> None:
        copying.set()
        time.sleep(0.1)
        copied.set()

    monkeypatch.setattr(Writer, "_copy_ahead", slowly)
    monkeypatch.setattr(pipeline, "AHEAD_ROWS", 1)
    async with opened(tmp_path / "relay.db") as store:
        await staff(store)
        await store.append(message(RECORDER, 1))
        assert await asyncio.to_thread(copying.wait, WITHIN_S)
    assert copied.is_set()
