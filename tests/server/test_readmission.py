"""Who was removed and let in again reads what is theirs, in order, and nothing in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from protocol import frames
from protocol.identifiers import DeviceId
from server.sqlite_store import SqliteStore
from server.store import Commit, Reader, Receipt
from tests.server import harness
from tests.server.stores import ANN, BOB, CAT, RECORDER, WARD, message, opened, staff


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


async def change(store: SqliteStore, number: int, commit: Commit) -> tuple[int, int]:
    """Append a Commit and its receipt; return their numbers."""
    head = store.head(WARD)
    assert head is not None
    staged = await store.append(message(ANN, number, epoch=head.epoch, effect=commit))
    effect = Receipt(commit=staged.seq)
    receipt = await store.append(message(ANN, number + 1, epoch=None, effect=effect))
    return staged.seq, receipt.seq


async def everything(store: SqliteStore, device: DeviceId, *, after: int = 0) -> list[int]:
    """Read to the end in pages of two, and return the numbers."""
    found: list[int] = []
    while True:
        page = await store.read(WARD, device, after=after, entries_max=2, bytes_max=1 << 20)
        found += [entry.seq for entry in page.entries]
        after = page.last
        if not page.more:
            return found


@pytest.mark.parametrize("restart", [False, True])
async def test_who_is_let_in_again_reads_up_to_the_removal_and_on_from_the_receipt(
    path: Path, *, restart: bool
) -> None:
    async with opened(path) as store:
        await staff(store)
        first = (await store.append(message(ANN, 1))).seq
        removal, _ = await change(store, 2, Commit(leaves=(CAT,)))
        secret = (await store.append(message(ANN, 4, epoch=1))).seq
        _, again = await change(store, 5, Commit(joins=(Reader(device=CAT),)))
        last = (await store.append(message(ANN, 7, epoch=2))).seq
        if not restart:
            assert await everything(store, CAT) == [first, removal, again, last]
            assert CAT in store.readers(WARD)
    async with opened(path) as store:
        assert await everything(store, CAT) == [first, removal, again, last]
        store.acknowledge(WARD, CAT, first)
        await store.settle()
        assert await everything(store, CAT) == [removal, again, last]
        store.acknowledge(WARD, CAT, removal)
        await store.settle()
        assert await everything(store, CAT) == [again, last]
        for device in (BOB, RECORDER):
            store.acknowledge(WARD, device, last)
        await store.settle()
        held = store.head(WARD)
        assert held is not None
        assert held.entries == 2
        assert removal < secret < again
        store.acknowledge(WARD, CAT, last)
        await store.settle()
        assert await everything(store, CAT) == []


async def test_who_leaves_and_joins_in_one_commit_keeps_its_place(path: Path) -> None:
    async with opened(path) as store:
        await staff(store)
        first = (await store.append(message(ANN, 1))).seq
        commit, receipt = await change(store, 2, Commit(leaves=(CAT,), joins=(Reader(device=CAT),)))
        assert await everything(store, CAT) == [first, commit, receipt]


async def test_a_connected_device_that_is_let_in_again_gets_its_log_in_order(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        (ann, bob, recorder), conversation = await site.meeting("ann/phone", "bob/phone")

        async def changed(epoch: int, **change: Any) -> None:
            sequence = await harness.commit(ann, conversation, epoch=epoch, **change)
            await harness.confirm(recorder, conversation, sequence=sequence, epoch=epoch + 1)

        # Nothing is acknowledged: what it was sent before its removal is still to be read.
        await ann.send(harness.message(ann, conversation, epoch=1, body=b"before"))
        await changed(1, removed=[bob.person.name])
        await ann.send(harness.message(ann, conversation, epoch=2, body=b"between"))
        await changed(2, added=[bob.person.name])
        await ann.send(harness.message(ann, conversation, epoch=3, body=b"after"))
        for again in (False, True):
            client = await site.open(bob.person) if again else bob
            told: list[frames.Deliver] = []
            while not (told and told[-1].body.endswith(b"after")):
                told.append(await client.expect(frames.Deliver, lambda e: e.log[:1] == b"c"))
            bodies = [entry.body for entry in told]
            assert not any(body.endswith(b"between") for body in bodies)
            assert any(body.endswith(b"before") for body in bodies)
            # It may be told again what it has not acknowledged, and then goes on from there.
            new = list(dict.fromkeys(entry.sequence for entry in told if entry.sequence > 2))
            assert new == sorted(new)
