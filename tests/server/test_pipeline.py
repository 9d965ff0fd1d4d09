"""Acknowledgements are gathered for ``MOVE_S``, and never behind what asks to be after them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from server import pipeline
from server.sqlite_store import SqliteStore
from tests.server.stores import BOB, CAT, RECORDER, WARD, message, opened, staff


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
