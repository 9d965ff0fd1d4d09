"""A device's cursor passes what the device itself appended, whichever way the two overtake."""

from __future__ import annotations

from pathlib import Path

from tests.server.stores import ANN, BOB, CAT, RECORDER, WARD, message, opened, staff


async def test_an_acknowledgement_that_an_append_overtook_takes_own_entries_with_it(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "relay.db") as store:
        await staff(store)
        others = (await store.append(message(BOB, 1))).seq
        await store.append(message(ANN, 1))
        last = (await store.append(message(ANN, 2))).seq
        store.acknowledge(WARD, ANN, others)
        for device in (BOB, CAT, RECORDER):
            store.acknowledge(WARD, device, last)
        await store.settle()
        assert not (await store.read(WARD, ANN, after=0, entries_max=9, bytes_max=1 << 20)).entries


async def test_own_entries_are_not_passed_while_anothers_before_them_is_unread(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "relay.db") as store:
        await staff(store)
        first = (await store.append(message(BOB, 1))).seq
        await store.append(message(ANN, 1))
        unread = (await store.append(message(BOB, 2))).seq
        own = (await store.append(message(ANN, 2))).seq
        store.acknowledge(WARD, ANN, first)
        await store.settle()
        page = await store.read(WARD, ANN, after=0, entries_max=9, bytes_max=1 << 20)
        assert [entry.seq for entry in page.entries][-2:] == [unread, own]
