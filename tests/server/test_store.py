"""What the store promises, promise by promise."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from pathlib import Path

import pytest

from protocol.identifiers import ConversationId, DeviceId, conversation_log
from server import pipeline, sqlite_schema, sqlite_wal
from server.ledger import Batch, Ledger
from server.sqlite_store import SqliteStore
from server.sqlite_wal import Left
from server.sqlite_writer import Writer
from server.store import (
    BODY_BYTES_MAX,
    RELAY,
    REPEAT_WINDOW,
    STOP_MS_MAX,
    AdoptLog,
    Append,
    Appended,
    AwaitingArchiveError,
    BeginServing,
    ChangeReaders,
    Commit,
    CreateLog,
    EndDevice,
    EntryState,
    Expire,
    Fact,
    LimitError,
    LogKey,
    MessageIdError,
    NotStagedError,
    PutFacts,
    Reader,
    Receipt,
    StaleEpochError,
    StoreFailedError,
    StoreInUseError,
    UnknownLogError,
    Void,
)
from tests.server.stores import (
    ANN,
    BOB,
    CAT,
    CONTROL,
    DEVICES,
    EVERYTHING,
    NOW_MS,
    ORGANISATION,
    OTHER,
    RECORDER,
    THEATRE,
    WARD,
    fetch,
    inbox,
    message,
    opened,
    reader,
    refusal,
    staff,
    submitted,
)
from tests.waiting import comes_true

DAY_MS = 24 * 3600 * 1000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


async def test_every_reader_gets_every_entry_in_order_with_its_predecessor(path: Path) -> None:
    async with opened(path) as store:
        await staff(store)
        for number in range(1, 6):
            await store.append(message(ANN, number, body=bytes([number])))
        for device in (BOB, CAT, RECORDER):
            entries = await fetch(store, WARD, device)
            assert [(e.seq, e.prev, e.body) for e in entries] == [
                (n, n - 1, bytes([n])) for n in range(1, 6)
            ]


async def test_a_repeat_gets_the_first_answer_even_when_the_entry_is_gone(path: Path) -> None:
    async with opened(path) as store:
        await store.change(CreateLog(WARD, readers=[Reader(device=BOB)]))
        first = await store.append(message(ANN, 7))
        store.acknowledge(WARD, BOB, first.seq)
        await store.settle()
        assert await fetch(store, WARD, BOB) == ()
    async with opened(path) as store:
        again = await store.append(message(ANN, 7))
        assert again == Appended(seq=first.seq, prev=first.prev, repeat=True)
        assert store.head(WARD).seq == first.seq  # type: ignore[union-attr]


async def test_a_number_before_the_window_is_refused_and_not_appended_twice(path: Path) -> None:
    async with opened(path) as store:
        await staff(store)
        await store.append(message(ANN, 1))
        await store.append(message(ANN, 1 + REPEAT_WINDOW))
        error = await refusal(store, message(ANN, 1))
        assert isinstance(error, MessageIdError)
        assert error.lowest == 2
        assert (await store.append(message(ANN, 2))).seq == 3


async def test_a_number_used_in_one_log_is_refused_in_another(path: Path) -> None:
    async with opened(path) as store:
        await staff(store)
        await store.change(CreateLog(THEATRE))
        await store.append(message(ANN, 1))
        assert isinstance(await refusal(store, message(ANN, 1, log=THEATRE)), MessageIdError)


async def test_repeats_stay_known_over_many_messages_and_the_table_stays_small(path: Path) -> None:
    async with opened(path) as store:
        await store.change(CreateLog(WARD, readers=[Reader(device=BOB)]))
        count = REPEAT_WINDOW * 3
        await submitted(store, [message(ANN, n) for n in range(1, count + 1)])
    async with opened(path) as store:
        again = await store.append(message(ANN, count - REPEAT_WINDOW + 1))
        assert again.repeat
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM sent").fetchone() == (REPEAT_WINDOW,)


async def test_of_a_thousand_racing_pairs_of_commits_exactly_one_wins(path: Path) -> None:
    async with opened(path) as store:
        await store.change(CreateLog(WARD, readers=[reader(device) for device in DEVICES]))
        for epoch in range(1000):
            racers = [(ANN, 2 * epoch + 1), (BOB, 2 * epoch + 1)]
            if epoch % 3:
                racers.reverse()
            answers = await asyncio.gather(
                *(
                    store.append(message(device, number, epoch=epoch, effect=Commit()))
                    for device, number in racers
                ),
                return_exceptions=True,
            )
            [won] = [answer for answer in answers if isinstance(answer, Appended)]
            [lost] = [answer for answer in answers if isinstance(answer, StaleEpochError)]
            assert (lost.epoch, lost.winner) == (epoch, won.seq)
            await store.append(
                message(RECORDER, epoch + 1, epoch=None, effect=Receipt(commit=won.seq))
            )


async def test_messages_of_the_epoch_are_accepted_until_its_receipt(path: Path) -> None:
    async with opened(path) as store:
        await staff(store)
        commit = await store.append(message(ANN, 1, effect=Commit()))
        await store.append(message(BOB, 1, epoch=0))
        assert isinstance(await refusal(store, message(BOB, 2, epoch=1)), StaleEpochError)
        receipt = message(RECORDER, 1, epoch=None, effect=Receipt(commit=commit.seq))
        await store.append(receipt)
        stale = await refusal(store, message(BOB, 2, epoch=0))
        assert isinstance(stale, StaleEpochError)
        assert (stale.epoch, stale.winner) == (1, commit.seq)
        # Encrypted again under the same number.
        assert not (await store.append(message(BOB, 2, epoch=1))).repeat


async def test_a_join_and_a_removal_take_effect_at_the_receipt(path: Path) -> None:
    async with opened(path) as store:
        for device in DEVICES:
            await store.change(CreateLog(inbox(device), readers=[Reader(device=device)]))
        await store.change(CreateLog(WARD, readers=[Reader(device=ANN), Reader(device=BOB)]))
        effect = Commit(joins=(Reader(device=CAT),), leaves=(BOB,), welcome=b"welcome")
        commit = await store.append(message(ANN, 1, effect=effect))
        assert commit.inboxes == ((CAT, 1),)
        [staged] = await fetch(store, inbox(CAT), CAT)
        assert (staged.state, staged.body) == (EntryState.STAGED, b"welcome")
        between = await store.append(message(ANN, 2))
        assert set(store.readers(WARD)) == {ANN, BOB}
        with pytest.raises(UnknownLogError):
            await fetch(store, WARD, CAT)
        receipt = await store.append(message(ANN, 3, epoch=None, effect=Receipt(commit=commit.seq)))
        after = await store.append(message(ANN, 4, epoch=1))
        assert set(store.readers(WARD)) == {ANN, CAT}
        assert [e.seq for e in await fetch(store, WARD, CAT)] == [receipt.seq, after.seq]
        assert [e.seq for e in await fetch(store, WARD, BOB)] == [commit.seq]
        assert between.seq > commit.seq
        [welcome] = await fetch(store, inbox(CAT), CAT)
        assert welcome.state == EntryState.EFFECTIVE
        store.acknowledge(WARD, BOB, commit.seq)
        await store.settle()
        with pytest.raises(UnknownLogError):
            await fetch(store, WARD, BOB)


async def test_a_void_empties_commit_and_welcome_and_reopens_the_epoch(path: Path) -> None:
    async with opened(path) as store:
        await staff(store)
        effect = Commit(joins=(Reader(device=CAT), Reader(device=BOB)), welcome=b"WELCOME-CANARY")
        commit = await store.append(message(ANN, 1, body=b"COMMIT-CANARY", effect=effect))
        await store.append(message(RECORDER, 1, epoch=None, effect=Void(commit=commit.seq)))
        entries = await fetch(store, WARD, BOB)
        voided = entries[0]
        assert (voided.seq, voided.prev) == (commit.seq, 0)
        assert (voided.state, voided.body) == (EntryState.VOIDED, b"")
        for device in (BOB, CAT):
            [reference] = await fetch(store, inbox(device), device)
            assert (reference.state, reference.body) == (EntryState.VOIDED, b"")
        assert (await store.append(message(BOB, 1, epoch=0, effect=Commit()))).seq == 3
    for file in path.parent.iterdir():
        assert b"CANARY" not in file.read_bytes()


async def test_a_commit_that_is_being_voided_is_never_given_as_effective(path: Path) -> None:
    async with opened(path) as store:
        await staff(store)
        effect = Commit(joins=(Reader(device=CAT),), welcome=b"welcome")
        commit = await store.append(message(ANN, 1, effect=effect))
        void = asyncio.ensure_future(
            store.append(message(RECORDER, 1, epoch=None, effect=Void(commit=commit.seq)))
        )
        seen = set()
        while not void.done():
            for log in (WARD, inbox(CAT)):
                seen.add((await fetch(store, log, CAT))[0].state)
        await void
        assert EntryState.EFFECTIVE not in seen
        assert (await fetch(store, WARD, CAT))[0].state == EntryState.VOIDED


async def test_a_receipt_or_void_must_name_the_staged_commit(path: Path) -> None:
    async with opened(path) as store:
        await staff(store)
        for effect in (Receipt(commit=1), Void(commit=1)):
            error = await refusal(store, message(RECORDER, 1, epoch=None, effect=effect))
            assert isinstance(error, NotStagedError)
            assert error.staged is None
        commit = await store.append(message(ANN, 1, effect=Commit()))
        error = await refusal(
            store, message(RECORDER, 1, epoch=None, effect=Receipt(commit=commit.seq + 1))
        )
        assert isinstance(error, NotStagedError)
        assert error.staged == commit.seq


async def test_a_staged_commit_survives_a_restart_with_all_that_it_will_do(path: Path) -> None:
    async with opened(path) as store:
        await staff(store)
        effect = Commit(joins=(Reader(device=DeviceId("dan/phone")),), leaves=(CAT,))
        commit = await store.append(message(ANN, 1, effect=effect))
    async with opened(path) as store:
        assert store.head(WARD).staged == commit.seq  # type: ignore[union-attr]
        await store.append(message(ANN, 2, epoch=None, effect=Receipt(commit=commit.seq)))
        assert set(store.readers(WARD)) == {ANN, BOB, RECORDER, "dan/phone"}


async def test_a_cursor_never_moves_back_nor_beyond_the_head(path: Path) -> None:
    async with opened(path) as store:
        await staff(store)
        for number in range(1, 4):
            await store.append(message(ANN, number))
        store.acknowledge(WARD, BOB, 2)
        store.acknowledge(WARD, BOB, 1)
        await store.settle()
        assert [e.seq for e in await fetch(store, WARD, BOB)] == [3]
        assert store.acknowledge(WARD, BOB, 99) == 2
        await store.settle()
        await store.append(message(ANN, 4))
        assert [e.seq for e in await fetch(store, WARD, BOB)] == [3, 4]
        assert store.acknowledge(WARD, BOB, 4) is None


async def test_nothing_is_deleted_before_the_archive_has_it(path: Path) -> None:
    async with opened(path) as store:
        await staff(store)
        last = [await store.append(message(ANN, n)) for n in range(1, 4)][-1]
        for device in (ANN, BOB, CAT):
            store.acknowledge(WARD, device, last.seq)
        await store.settle()
        assert store.head(WARD).entries == 3  # type: ignore[union-attr]
        tick = {"after_ms": DAY_MS, "wall_ms": 1}
        await store.change(Expire(**tick, monotonic_ms=0))
        await store.change(Expire(**tick, monotonic_ms=400 * DAY_MS))
        assert len(await fetch(store, WARD, RECORDER)) == 3
        store.acknowledge(WARD, RECORDER, last.seq)
        await store.settle()
        assert store.head(WARD).entries == 0  # type: ignore[union-attr]


async def test_numbers_go_on_after_everything_was_deleted_and_the_relay_restarted(
    path: Path,
) -> None:
    async with opened(path) as store:
        await staff(store)
        last = await store.append(message(ANN, 1))
        for device in DEVICES:
            store.acknowledge(WARD, device, last.seq)
        await store.change(ChangeReaders(WARD, end=DEVICES))
    async with opened(path) as store:
        assert (await store.append(message(ANN, 2))).seq == last.seq + 1


async def test_what_nobody_fetched_costs_the_reader_its_cursor_and_it_is_told(path: Path) -> None:
    async with opened(path) as store:
        await store.change(CreateLog(WARD, readers=[Reader(device=ANN), Reader(device=BOB)]))
        await store.change(Expire(after_ms=DAY_MS, wall_ms=1, monotonic_ms=0))
        old = await store.append(message(ANN, 1))
        lost = await store.change(Expire(after_ms=DAY_MS, wall_ms=1, monotonic_ms=DAY_MS // 2))
        assert lost == []
        await store.append(message(ANN, 2))
        lost = await store.change(Expire(after_ms=DAY_MS, wall_ms=1, monotonic_ms=3 * DAY_MS // 2))
        assert [(one.device, one.cursor) for one in lost] == [(BOB, 0)]
        assert old.seq == 1
        [told] = store.pending(ORGANISATION, BOB)
        assert told.lapsed
        with pytest.raises(UnknownLogError):
            await fetch(store, WARD, BOB)
        assert store.head(WARD).entries == 0  # type: ignore[union-attr]
    async with opened(path) as store:
        assert store.pending(ORGANISATION, BOB)[0].lapsed


async def test_a_wipe_order_waits_however_long_and_what_is_around_it_leaves_a_mark(
    path: Path,
) -> None:
    async with opened(path) as store:
        await staff(store)
        for number, expires in ((1, True), (2, False), (3, True)):
            request = message(ANN, number, log=inbox(BOB), epoch=None, expires=expires)
            await store.append(request)
        await store.change(Expire(after_ms=DAY_MS, wall_ms=1, monotonic_ms=0))
        await store.change(Expire(after_ms=DAY_MS, wall_ms=1, monotonic_ms=2 * DAY_MS))
        states = [(e.state, bool(e.body)) for e in await fetch(store, inbox(BOB), BOB)]
        gone, kept = (EntryState.EXPIRED, False), (EntryState.EFFECTIVE, True)
        assert states == [gone, kept, gone]


async def test_a_wall_clock_that_jumps_makes_nothing_old(path: Path) -> None:
    async with opened(path) as store:
        await store.change(CreateLog(WARD, readers=[Reader(device=BOB)]))
        await store.append(message(ANN, 1))
        century_ms = 100 * 365 * DAY_MS
        for wall_ms in (DAY_MS, century_ms, DAY_MS, 2 * century_ms):
            lost = await store.change(Expire(after_ms=30 * DAY_MS, wall_ms=wall_ms, monotonic_ms=1))
            assert lost == []
    async with opened(path) as store:
        # Across a stop the wall clock counts, and a wrong one costs no more than a day.
        await store.change(Expire(after_ms=30 * DAY_MS, wall_ms=9 * century_ms, monotonic_ms=1))
        days = STOP_MS_MAX // DAY_MS
        for more in (0, 29 - days):
            await store.change(
                Expire(after_ms=30 * DAY_MS, wall_ms=1, monotonic_ms=1 + more * DAY_MS)
            )
            assert len(await fetch(store, WARD, BOB)) == 1
        lost = await store.change(Expire(after_ms=30 * DAY_MS, wall_ms=1, monotonic_ms=31 * DAY_MS))
        assert [one.device for one in lost] == [BOB]


async def test_the_control_log_is_kept_whole_for_devices_that_come_later(path: Path) -> None:
    async with opened(path) as store:
        await store.change(CreateLog(CONTROL, readers=[Reader(device=ANN)]))
        for number in range(1, 4):
            await store.append(message(RELAY, 0, log=CONTROL, epoch=None))
            store.acknowledge(CONTROL, ANN, number)
        await store.change(Expire(after_ms=DAY_MS, wall_ms=1, monotonic_ms=0))
        await store.change(Expire(after_ms=DAY_MS, wall_ms=1, monotonic_ms=99 * DAY_MS))
        await store.change(ChangeReaders(CONTROL, add=[Reader(device=BOB, after=0)]))
        assert [e.seq for e in await fetch(store, CONTROL, BOB)] == [1, 2, 3]


async def test_pending_names_the_inbox_first_and_then_the_most_urgent_log(path: Path) -> None:
    async with opened(path) as store:
        await staff(store)
        await store.change(CreateLog(THEATRE, readers=[Reader(device=BOB)]))
        await store.append(message(ANN, 1, priority=1))
        await store.append(message(ANN, 2, log=THEATRE, priority=3))
        await store.append(message(ANN, 3, log=THEATRE, priority=0))
        await store.append(message(ANN, 4, log=inbox(BOB), epoch=None, priority=0))
        pending = store.pending(ORGANISATION, BOB)
        assert [(p.log, p.priority) for p in pending] == [(inbox(BOB), 0), (THEATRE, 3), (WARD, 1)]
        store.acknowledge(THEATRE, BOB, 1)
        await store.settle()
        assert {p.log: p.priority for p in store.pending(ORGANISATION, BOB)}[THEATRE] == 0


async def test_organisations_do_not_see_each_other(path: Path) -> None:
    other = LogKey(OTHER, WARD.id)
    async with opened(path) as store:
        await store.change(CreateLog(WARD, readers=[Reader(device=BOB)]))
        await store.change(CreateLog(other, readers=[Reader(device=BOB)]))
        await store.append(message(ANN, 1, body=b"ours"))
        await store.append(message(ANN, 1, log=other, body=b"theirs"))
        await store.change(PutFacts(ORGANISATION, [Fact(key=b"k", value=b"ours")]))
        assert [e.body for e in await fetch(store, other, BOB)] == [b"theirs"]
        assert await store.facts(OTHER) == {}
        assert len(store.pending(OTHER, BOB)) == 1
        await store.change(EndDevice(OTHER, BOB))
        assert len(await fetch(store, WARD, BOB)) == 1


async def test_a_revoked_device_reads_its_inbox_and_nothing_else(path: Path) -> None:
    async with opened(path) as store:
        await staff(store)
        await store.append(message(ANN, 1, log=inbox(BOB), epoch=None, expires=False))
        await store.append(message(ANN, 2))
        await store.change(EndDevice(ORGANISATION, BOB))
        with pytest.raises(UnknownLogError):
            await fetch(store, WARD, BOB)
        assert len(await fetch(store, inbox(BOB), BOB)) == 1


async def test_a_page_holds_to_its_limits_and_always_goes_on(path: Path) -> None:
    async with opened(path) as store:
        await staff(store)
        for number in range(1, 6):
            await store.append(message(ANN, number, body=b"x" * 100))
        page = await store.read(WARD, BOB, after=0, entries_max=2, bytes_max=1000)
        assert ([e.seq for e in page.entries], page.last, page.more) == ([1, 2], 2, True)
        page = await store.read(WARD, BOB, after=2, entries_max=9, bytes_max=250)
        assert ([e.seq for e in page.entries], page.more) == ([3, 4], True)
        page = await store.read(WARD, BOB, after=4, entries_max=9, bytes_max=1)
        assert ([e.seq for e in page.entries], page.more) == ([5], False)


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("body", message(ANN, 1, body=b"x" * (BODY_BYTES_MAX + 1))),
        ("priority", message(ANN, 1, priority=8)),
        ("message_id", message(ANN, 0)),
        ("message_id", message(ANN, 1 << 63)),
        ("epoch", message(ANN, 1, epoch=None, effect=Commit())),
        ("expires", message(ANN, 1, expires=False)),
        ("facts", Append(
            log=WARD, sender=ANN, message_id=1, at_ms=0, kind=1, priority=1, body=b"",
            facts=(Fact(key=b"", value=b""),),
        )),
    ],
)  # fmt: skip
async def test_a_bad_request_is_refused_and_takes_nothing_from_its_batch(
    path: Path, field: str, request_: Append
) -> None:
    async with opened(path) as store:
        await staff(store)
        good = [message(BOB, 1), message(BOB, 2)]
        first, bad, second = await submitted(store, [good[0], request_, good[1]])
        assert isinstance(bad, LimitError)
        assert bad.field == field
        assert [a.seq for a in (first, second) if isinstance(a, Appended)] == [1, 2]


async def test_a_bug_in_planning_leaves_no_half_of_a_batch(path: Path) -> None:
    async with opened(path) as store:
        await staff(store)
        broken = message(ANN, 1, body="no bytes")  # type: ignore[arg-type]
        answers = await submitted(store, [message(BOB, 1), broken])
        assert all(isinstance(answer, StoreFailedError) for answer in answers)
        assert (await store.append(message(BOB, 1))).seq == 1


async def test_facts_change_with_the_entry_or_not_at_all(path: Path) -> None:
    def request(number: int, epoch: int) -> Append:
        return Append(
            log=WARD,
            sender=ANN,
            message_id=number,
            at_ms=1,
            kind=1,
            priority=1,
            body=b"",
            epoch=epoch,
            facts=(Fact(key=b"user/ann", value=bytes([number])),),
        )

    async with opened(path) as store:
        await staff(store)
        await store.append(request(1, 0))
        await refusal(store, request(2, 5))
        assert await store.facts(ORGANISATION, b"user/") == {b"user/ann": b"\x01"}
        await store.change(PutFacts(ORGANISATION, [Fact(key=b"user/ann", value=None)]))
        assert await store.facts(ORGANISATION) == {}


@pytest.mark.parametrize("members", [2, 20, 200])
async def test_an_append_writes_the_same_rows_however_large_the_group(
    path: Path, members: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    original = Writer.commit

    def counting(self: Writer, batch: Batch) -> None:
        rows = sum(len(rows) for rows in batch.rows.values())
        drops = sum(len(rows) for rows in batch.drops.values())
        seen.append((len(batch.entries), len(batch.sent), rows, drops, len(batch.emptied)))
        original(self, batch)

    async with opened(path) as store:
        await store.change(
            CreateLog(
                WARD, readers=[Reader(device=DeviceId(f"user{n}/phone")) for n in range(members)]
            )
        )
        await store.append(message(ANN, 1))
        monkeypatch.setattr(Writer, "commit", counting)
        await store.append(message(ANN, 2))
    # The entry, the answer kept for repeats, and the one row that every batch writes.
    assert seen == [(1, 1, 1, 0, 0)]


async def test_many_appends_share_one_transaction(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = 0
    original = Writer.commit

    def counting(self: Writer, batch: Batch) -> None:
        nonlocal commits
        commits += 1
        original(self, batch)

    async with opened(path) as store:
        await staff(store)
        monkeypatch.setattr(Writer, "commit", counting)
        await asyncio.gather(*(store.append(message(ANN, n)) for n in range(1, 201)))
    assert commits == 1


@pytest.mark.parametrize("kept_bytes", [sqlite_wal.KEPT_BYTES, 0], ids=["cut", "overwritten"])
async def test_after_all_have_acknowledged_nothing_is_left_in_any_file_within_a_second(
    path: Path, monkeypatch: pytest.MonkeyPatch, kept_bytes: int
) -> None:
    monkeypatch.setattr(sqlite_wal, "KEPT_BYTES", kept_bytes)
    async with opened(path) as store:
        await staff(store)
        for number in range(1, 60):
            await store.append(message(ANN, number, body=b"CANARY" * 300))
        seen = b"".join(file.read_bytes() for file in path.parent.iterdir())
        assert b"CANARYCANARY" in seen
        for device in DEVICES:
            store.acknowledge(WARD, device, 59)
        await store.settle()
        # The time itself, of two checkpoints; here it is waited for on a machine that may be busy.
        assert pipeline.MOVE_S + 2 * pipeline.CHECKPOINT_S < 1
        files = path.parent
        await comes_true(lambda: not any(b"CANARY" in one.read_bytes() for one in files.iterdir()))


async def test_reading_logs_no_text_and_no_key_at_any_level(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with opened(path) as store:
        await staff(store)
        await store.append(message(ANN, 1, body=b"CANARY"))
        await store.change(PutFacts(ORGANISATION, [Fact(key=b"CANARY", value=b"CANARY")]))
        await fetch(store, WARD, BOB)
        await store.facts(ORGANISATION)
    assert "CANARY" not in caplog.text
    assert "ann" not in caplog.text


async def test_a_second_process_cannot_open_the_store(path: Path) -> None:
    async with opened(path):
        with pytest.raises(StoreInUseError):
            await SqliteStore.open(path)
    async with opened(path):
        pass


async def test_a_store_that_was_never_made_is_not_made_by_opening(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await SqliteStore.open(path)
    sqlite_schema.create(path)  # which finds nothing there


async def test_a_closed_store_refuses_what_comes_later(path: Path) -> None:
    async with opened(path) as store:
        await staff(store)
    with pytest.raises(StoreFailedError):
        await store.append(message(ANN, 1))


async def test_a_restored_store_serves_nothing_until_it_has_asked_the_archive(
    path: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.db"
    async with opened(path) as store:
        await staff(store)
        await store.append(message(ANN, 1))
        await store.backup(copy)
        commit = await store.append(message(ANN, 2, effect=Commit()))
        await store.append(message(BOB, 1, epoch=None, effect=Receipt(commit=commit.seq)))
        last = (await store.append(message(ANN, 3, epoch=1))).seq
    async with opened(copy) as restored:
        assert restored.awaiting_archive
        with pytest.raises(AwaitingArchiveError):
            await restored.append(message(ANN, 2))
        with pytest.raises(AwaitingArchiveError):
            await fetch(restored, WARD, BOB)
        with pytest.raises(AwaitingArchiveError):
            await restored.change(CreateLog(THEATRE))
        readers = [reader(device) for device in DEVICES]
        await restored.change(AdoptLog(WARD, last=last, epoch=1, readers=readers))
    async with opened(copy) as restored:
        assert restored.awaiting_archive
        await restored.change(BeginServing(wall_ms=NOW_MS))
    async with opened(copy) as restored:
        assert not restored.awaiting_archive
        # No number twice, no epoch twice: nothing that the archive has is forked.
        assert isinstance(await refusal(restored, message(ANN, 9, epoch=0)), StaleEpochError)
        first = (await restored.append(message(ANN, 9, epoch=1))).seq
        assert first > last
        holes = [(e.seq, e.prev) for e in await fetch(restored, WARD, CAT)]
        assert holes == [(1, 0), (first, last)]


async def test_a_backup_never_writes_over_a_file(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    target.write_bytes(b"precious")
    async with opened(path) as store:
        with pytest.raises(FileExistsError):
            await store.backup(target)
    assert target.read_bytes() == b"precious"


def test_a_batch_that_changes_nothing_is_not_written() -> None:
    assert not Batch()
    assert Ledger().pending(ORGANISATION, ANN) == []


async def test_a_listener_that_fails_takes_nothing_from_the_next(path: Path) -> None:
    def fails(_: object) -> None:
        raise RuntimeError

    async with opened(path) as store:
        await staff(store)
        store.submit([message(ANN, 1)], fails)
        assert (await store.append(message(ANN, 2))).seq == 2


async def test_the_write_ahead_log_is_not_truncated_for_every_write(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = 0
    original = Writer.checkpoint

    def counting(self: Writer) -> Left:
        nonlocal checkpoints
        checkpoints += 1
        return original(self)

    monkeypatch.setattr(Writer, "checkpoint", counting)
    monkeypatch.setattr(pipeline, "CHECKPOINT_S", 0.2)
    began = time.monotonic()
    async with opened(path) as store:
        await staff(store)
        for number in range(1, 100):
            await store.append(message(ANN, number))
            store.acknowledge(WARD, BOB, number)
        log, idle = path.with_name("relay.db-wal"), -1
        while idle != checkpoints or log.stat().st_size:
            idle = checkpoints
            await asyncio.sleep(0.5)
        took_s = time.monotonic() - began
        assert 1 <= idle <= min(99, took_s / pipeline.CHECKPOINT_S + 1)


def test_two_stores_are_never_made_at_one_path(path: Path) -> None:
    sqlite_schema.create(path)
    with pytest.raises(FileExistsError):
        sqlite_schema.create(path)
    assert path.stat().st_mode & 0o077 == 0


def test_the_names_of_logs_are_the_protocols_own() -> None:
    assert WARD.id == conversation_log(ConversationId(b"w" * 32))
    assert EVERYTHING["entries_max"] > 0
