"""A flipped bit is an error or harmless, never wrong data.

``WARDLINE_FLIPS`` (default 400) says how many bytes of the small database are flipped, spread over
all of it; 0 flips each.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from server import sqlite_schema
from server.sqlite_store import SqliteStore
from server.store import (
    AdoptLog,
    AwaitingArchiveError,
    Commit,
    CreateLog,
    DamagedError,
    Entry,
    Expire,
    Fact,
    PutFacts,
    Reader,
    StoreError,
)
from tests.flipped import flipped
from tests.server.stores import (
    ANN,
    BOB,
    CAT,
    DEVICES,
    EVERYTHING,
    ORGANISATION,
    THEATRE,
    WARD,
    fetch,
    inbox,
    message,
    opened,
    reader,
    refusal,
    staff,
)
from tests.waiting import comes_true

FLIPS = int(os.environ.get("WARDLINE_FLIPS", "400"))
LOGS = (WARD, THEATRE, *(inbox(device) for device in DEVICES))


def contents(path: Path) -> bytes:
    """What is in a file."""
    return path.read_bytes()


async def fill(path: Path) -> None:
    """A small store with a bit of everything in it."""
    async with opened(path) as store:
        await staff(store)
        await store.change(CreateLog(THEATRE, readers=[reader(ANN), reader(BOB)]))
        for number in range(1, 6):
            await store.append(message(ANN, number, body=f"ward {number}".encode() * 9))
        effect = Commit(joins=(Reader(device=CAT),), leaves=(BOB,), welcome=b"welcome" * 9)
        await store.append(message(BOB, 1, log=THEATRE, effect=effect))
        await store.append(message(BOB, 2, log=THEATRE, body=b"theatre"))
        store.acknowledge(WARD, BOB, 2)
        await store.change(
            PutFacts(ORGANISATION, [Fact(key=b"a", value=b"1"), Fact(key=b"b", value=b"2")])
        )
        await store.change(Expire(after_ms=1000, wall_ms=1, monotonic_ms=1))


async def told(store: SqliteStore) -> dict[Any, Any]:
    """All that the store tells, refusals by their class."""
    found: dict[Any, Any] = {}
    for log in LOGS:
        head = store.head(log)
        found["head", log] = head and (head.seq, head.epoch, head.staged)
        for device in DEVICES:
            try:
                page = await store.read(log, device, after=0, **EVERYTHING)
                found["entries", log, device] = {entry.seq: entry for entry in page.entries}
                found["damaged", log, device] = page.damaged
            except StoreError as error:
                found["entries", log, device] = type(error)
            cursors = {p.log: p.cursor for p in store.pending(ORGANISATION, device)}
            found["cursor", log, device] = cursors.get(log)
    try:
        found["facts"] = await store.facts(ORGANISATION)
    except StoreError as error:
        found["facts"] = type(error)
    return found


def believed(kind: str, value: Any) -> bool:
    """Whether a caller takes this for the truth."""
    if kind == "entries":
        return value is not DamagedError
    return kind == "head" or (kind == "facts" and not isinstance(value, type))


def wrong(before: dict[Any, Any], after: dict[Any, Any]) -> list[Any]:
    """What a caller would believe and must not."""
    found = []
    for key, value in after.items():
        was = before[key]
        if key[0] == "entries" and isinstance(value, dict) and isinstance(was, dict):
            damaged = after["damaged", *key[1:]]
            missing = [seq for seq in was if seq not in value and seq not in damaged]
            changed = [seq for seq, entry in value.items() if was.get(seq) != entry]
            found += [key] if changed or missing else []
        elif believed(key[0] if isinstance(key, tuple) else key, value) and value != was:
            found.append(key)
    return found


async def examine(path: Path, before: dict[Any, Any]) -> str:
    """Open what was damaged: what happened, or an assertion that something wrong was told."""
    try:
        store = await SqliteStore.open(path)
    except StoreError as error:
        return type(error).__name__
    try:
        after = await told(store)
        if store.awaiting_archive:
            return "awaits the archive"
        closed = {key[1] for key, value in after.items() if value is DamagedError and len(key) > 2}
        trusted = {k: v for k, v in after.items() if k == "facts" or k[1] not in closed}
        assert wrong(before, trusted) == []
        return "harmless" if after == before else "named"
    finally:
        await store.close()


async def test_no_flipped_byte_of_the_database_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    await fill(path)
    async with opened(path) as store:
        before = await told(store)
    whole = path.read_bytes()
    copy = tmp_path / "copy" / "relay.db"
    # A page's middle is mostly free: what lies there is never read.
    places = [at for at in range(len(whole)) if whole[at : at + 16] != bytes(16)]
    outcomes: dict[str, int] = {}
    for at in places[:: max(1, len(places) // FLIPS) if FLIPS else 1]:
        copy.parent.mkdir()
        flipped = bytearray(whole)
        flipped[at] ^= 1 << (at % 8)
        copy.write_bytes(flipped)
        outcome = await examine(copy, before)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        shutil.rmtree(copy.parent)
    assert outcomes.get("named", 0) + outcomes.get("awaits the archive", 0) > 0


async def test_no_flipped_byte_of_the_write_ahead_log_is_believed(tmp_path: Path) -> None:
    path, copy = tmp_path / "relay.db", tmp_path / "copy" / "relay.db"
    await fill(path)
    async with opened(path) as store:
        await comes_true(lambda: path.with_name("relay.db-wal").stat().st_size == 0)
        old = await told(store)
        await store.append(message(ANN, 9, body=b"the newest"))
        new = await told(store)
        main, log = contents(path), contents(path.with_name("relay.db-wal"))
    assert log
    for at in range(0, len(log), max(1, len(log) // 60)):
        copy.parent.mkdir()
        flipped = bytearray(log)
        flipped[at] ^= 0x10
        copy.write_bytes(main)
        copy.with_name("relay.db-wal").write_bytes(flipped)
        async with opened(copy) as store:
            # A log that ends early cannot be told from one that was cut off; what is before it
            # holds.
            assert await told(store) in (old, new)
        shutil.rmtree(copy.parent)


def spoil(path: Path, statement: str, *values: Any) -> None:
    """Change the database behind the store's back."""
    with sqlite3.connect(path) as db:
        assert db.execute(statement, values).rowcount > 0
    db.close()


async def test_a_damaged_body_is_named_and_the_others_are_given(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    await fill(path)
    with sqlite3.connect(path) as db:
        row, record = db.execute(
            "SELECT id, record FROM entry ORDER BY id LIMIT 1 OFFSET 2"
        ).fetchone()
    db.close()
    spoil(path, "UPDATE entry SET record=? WHERE id=?", flipped(record), row)
    async with opened(path) as store:
        page = await store.read(WARD, CAT, after=0, **EVERYTHING)
        assert page.damaged == (3,)
        assert [entry.seq for entry in page.entries] == [1, 2, 4, 5]
        store.acknowledge(WARD, CAT, 3)
        await store.settle()
        assert (await store.read(WARD, CAT, after=0, **EVERYTHING)).damaged == ()


async def test_a_damaged_head_is_known_by_its_answer(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    await fill(path)
    with sqlite3.connect(path) as db:
        row, record = db.execute(
            "SELECT id, record FROM entry ORDER BY id LIMIT 1 OFFSET 2"
        ).fetchone()
    db.close()
    spoil(path, "UPDATE entry SET record=? WHERE id=?", b"?" + record[1:], row)
    async with opened(path) as store:
        assert not store.awaiting_archive
        assert (await store.read(WARD, CAT, after=0, **EVERYTHING)).damaged == (3,)


@pytest.mark.parametrize("table", ["entry", "sent", "log", "device"])
async def test_a_row_that_vanished_makes_the_store_ask_the_archive(
    tmp_path: Path, table: str
) -> None:
    path = tmp_path / "relay.db"
    await fill(path)
    spoil(path, f"DELETE FROM {table} WHERE id=(SELECT max(id) FROM {table})")
    async with opened(path) as store:
        assert store.awaiting_archive
        with pytest.raises(AwaitingArchiveError):
            await store.append(message(ANN, 9))


async def test_a_lost_cursor_closes_its_log_and_no_other_until_it_is_adopted(
    tmp_path: Path,
) -> None:
    path = tmp_path / "relay.db"
    await fill(path)
    async with opened(path) as store:
        [number] = [log.no for log in store._pipeline.ledger.logs.values() if log.key == WARD]
        [row] = [
            cursor.row
            for cursor in store._pipeline.ledger.log_numbers[number].cursors.values()
            if cursor.device.key[1] == BOB
        ]
    spoil(path, "UPDATE cursor SET record=x'00' WHERE id=?", row)
    async with opened(path) as store:
        assert isinstance(await refusal(store, message(ANN, 9)), DamagedError)
        with pytest.raises(DamagedError):
            await fetch(store, WARD, CAT)
        assert (await store.append(message(ANN, 9, log=THEATRE))).seq == 3
        await store.change(
            AdoptLog(WARD, last=5, epoch=0, readers=[reader(device) for device in DEVICES])
        )
    async with opened(path) as store:
        assert (await store.append(message(ANN, 10))).seq == 6


async def test_an_older_fact_is_not_taken_for_the_newest(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    await fill(path)
    with sqlite3.connect(path) as db:
        name, record = db.execute("SELECT name, record FROM fact").fetchone()
    db.close()
    async with opened(path) as store:
        await store.change(PutFacts(ORGANISATION, [Fact(key=b"a", value=b"newer")]))
    spoil(path, "UPDATE fact SET record=? WHERE name=?", record, name)
    async with opened(path) as store:
        with pytest.raises(DamagedError):
            await store.facts(ORGANISATION)


async def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(DamagedError):
        await SqliteStore.open(path)
    path.unlink()
    with suppress(FileNotFoundError):
        path.with_name("relay.db.lock").unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE something(else_)")
    other.close()
    with pytest.raises(DamagedError):
        await SqliteStore.open(path)


def test_the_schema_names_every_table_that_rows_go_to() -> None:
    names = {statement.split("(")[0].split()[-1] for statement in sqlite_schema.STATEMENTS}
    assert names == {*sqlite_schema.RECORD_TABLES, "entry", "fact"}
    assert Entry.__struct_config__.frozen
