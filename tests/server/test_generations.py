"""After a restore, numbers go on where no store that was lost can have come to."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest

from protocol.identifiers import DeviceId
from server.sqlite_store import SqliteStore
from server.store import (
    GENERATION_BITS,
    GENERATION_MS,
    RELAY,
    AdoptLog,
    Append,
    BeginServing,
    Commit,
    Receipt,
    StaleEpochError,
    Void,
)
from tests.server.stores import (
    ANN,
    BOB,
    CAT,
    NOW_MS,
    ORGANISATION,
    RECORDER,
    WARD,
    inbox,
    message,
    opened,
    reader,
    refusal,
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
            await restored.change(BeginServing(wall_ms=NOW_MS + life * GENERATION_MS))
            given.append(await numbers(restored, first_id=1))
            if life == 2:
                await restored.backup(later)
    async with opened(later) as restored:
        await restored.change(BeginServing(wall_ms=0))
        given.append(await numbers(restored, first_id=4))
    for lost, following in itertools.pairwise(given):
        assert max(lost) < min(following)


async def test_a_number_that_a_lost_store_gave_is_acknowledged_and_one_that_never_was_is_not(
    path: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old.db"
    async with opened(path) as store:
        await staff(store)
        await store.append(message(ANN, 1))
        await store.backup(old)
        lost = await store.append(message(ANN, 2))
    async with opened(old) as restored:
        await restored.change(BeginServing(wall_ms=NOW_MS + GENERATION_MS))
        assert restored.acknowledge(WARD, BOB, lost.seq) is None
        assert restored.acknowledge(WARD, BOB, 1 << 62) == lost.seq - 1
        here = await restored.append(message(ANN, 2))
        assert restored.acknowledge(WARD, BOB, here.seq) is None
        assert restored.acknowledge(WARD, BOB, here.seq + 1) == here.seq


async def test_numbers_go_on_one_by_one_in_a_new_generation_and_across_a_start(
    path: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.db"
    async with opened(path) as store:
        await staff(store)
        await store.backup(copy)
    first = NOW_MS // GENERATION_MS << GENERATION_BITS
    async with opened(copy) as restored:
        await restored.change(BeginServing(wall_ms=NOW_MS))
        assert (await restored.append(message(ANN, 1))).seq == first
    async with opened(copy) as restored:
        assert (await restored.append(message(ANN, 2))).seq == first + 1
        (waiting,) = [p for p in restored.pending(ORGANISATION, CAT) if p.log == WARD]
        assert (waiting.head - waiting.cursor, waiting.waiting) == (first + 1, 2)


async def restored_at(path: Path, *, epoch: int) -> None:
    """Make a store that was restored, with a conversation in an epoch as the archive knows it."""
    copy = path.with_name("copy.db")
    async with opened(copy) as store:
        await staff(store)
        await store.backup(path)
    async with opened(path) as store:
        readers = [reader(one) for one in (ANN, BOB, RECORDER)]
        await store.change(AdoptLog(WARD, last=9, epoch=epoch, readers=readers))
        await store.change(BeginServing(wall_ms=NOW_MS))


def commit(sender: DeviceId, number: int, *, epoch: int) -> Append:
    return message(sender, number, epoch=epoch, effect=Commit(joins=(), leaves=()))


async def test_members_who_know_a_later_epoch_than_a_restored_store_lead_it_there(
    path: Path,
) -> None:
    await restored_at(path, epoch=3)
    async with opened(path) as store:
        assert isinstance(await refusal(store, message(ANN, 1, epoch=5)), StaleEpochError)
        assert isinstance(await refusal(store, commit(ANN, 2, epoch=2)), StaleEpochError)
        staged = await store.append(commit(ANN, 3, epoch=5))
        lost = await refusal(store, commit(BOB, 1, epoch=5))
        assert isinstance(lost, StaleEpochError)
        assert (lost.epoch, lost.winner) == (3, staged.seq)
    async with opened(path) as store:
        # Which epoch it ends is known after a start as well; until the receipt the old one is open.
        head = store.head(WARD)
        assert head is not None
        assert (head.epoch, head.staged, head.ends) == (3, staged.seq, 5)
        await store.append(message(BOB, 2, epoch=3))
        receipt = Receipt(commit=staged.seq)
        await store.append(message(RELAY, 0, epoch=None, effect=receipt))
        await store.append(message(BOB, 3, epoch=6))
        # That was once: whoever names a later one from now on is refused as everywhere.
        assert isinstance(await refusal(store, commit(BOB, 4, epoch=9)), StaleEpochError)


async def test_an_epoch_that_nobody_confirms_leaves_a_restored_store_where_it_was(
    path: Path,
) -> None:
    await restored_at(path, epoch=3)
    async with opened(path) as store:
        staged = await store.append(commit(ANN, 1, epoch=99))
        await store.append(message(RELAY, 0, epoch=None, effect=Void(commit=staged.seq)))
        await store.append(message(BOB, 1, epoch=3))
        staged = await store.append(commit(BOB, 2, epoch=3))
        await store.append(message(RELAY, 0, epoch=None, effect=Receipt(commit=staged.seq)))
        await store.append(message(ANN, 2, epoch=4))


async def test_a_store_that_was_never_restored_is_led_nowhere(path: Path) -> None:
    async with opened(path) as store:
        await staff(store)
        staged = await store.append(commit(ANN, 1, epoch=0))
        await store.append(message(RELAY, 0, epoch=None, effect=Receipt(commit=staged.seq)))
        assert isinstance(await refusal(store, commit(ANN, 2, epoch=2)), StaleEpochError)
