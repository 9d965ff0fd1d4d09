"""After a restore, numbers go on where no store that was lost can have come to."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest

from server.sqlite_store import SqliteStore
from server.store import GENERATION_BITS, GENERATION_MS, RELAY
from tests.server.stores import (
    ANN,
    BOB,
    CAT,
    NOW_MS,
    ORGANISATION,
    WARD,
    inbox,
    message,
    opened,
    staff,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


async def numbers(store: SqliteStore, *, first_id: int) -> list[int]:
    """Append to a conversation and to an inbox, and return the numbers given."""
    given = [await store.append(message(ANN, number)) for number in range(first_id, first_id + 3)]
    given += [await store.append(message(RELAY, 0, log=inbox(BOB), epoch=None)) for _ in range(3)]
    return [one.seq for one in given]


async def test_no_restore_gives_a_number_that_a_lost_store_may_have_given(
    path: Path, tmp_path: Path
) -> None:
    old, later = tmp_path / "old.db", tmp_path / "later.db"
    async with opened(path) as store:
        await staff(store)
        await store.backup(old)
        given = [await numbers(store, first_id=1)]
    for life in (1, 2):
        place = tmp_path / f"{life}.db"
        shutil.copy(old, place)
        async with opened(place) as restored:
            await restored.resume(wall_ms=NOW_MS + life * GENERATION_MS)
            given.append(await numbers(restored, first_id=1))
            if life == 2:
                await restored.backup(later)
    async with opened(later) as restored:
        await restored.resume(wall_ms=0)
        given.append(await numbers(restored, first_id=4))
    for lost, following in itertools.pairwise(given):
        assert max(lost) < min(following)


async def test_numbers_go_on_one_by_one_in_a_new_generation_and_across_a_start(
    path: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.db"
    async with opened(path) as store:
        await staff(store)
        await store.backup(copy)
    first = NOW_MS // GENERATION_MS << GENERATION_BITS
    async with opened(copy) as restored:
        await restored.resume(wall_ms=NOW_MS)
        assert (await restored.append(message(ANN, 1))).seq == first
    async with opened(copy) as restored:
        assert (await restored.append(message(ANN, 2))).seq == first + 1
        (waiting,) = [p for p in restored.pending(ORGANISATION, CAT) if p.log == WARD]
        assert (waiting.head - waiting.cursor, waiting.waiting) == (first + 1, 2)
