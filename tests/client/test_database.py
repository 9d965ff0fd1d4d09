"""The database's own promises: all or nothing, and no going on from what is not known."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.database import Database
from client.errors import DamagedError, FailedError, FullError
from client.mls_records import Keys
from client.store import Store
from crypto.errors import UsageError
from tests.client.ward import ANN, KEY, PATH, WARD, mute, saved, send, texts


def test_a_disk_without_room_keeps_nothing_and_the_store_goes_on(store: Store) -> None:
    send(store, "before")
    before = saved(store)
    store._database.rows("PRAGMA max_page_count=1")
    with pytest.raises(FullError):
        store.cache.replace("large", {b"a": bytes(1_000_000)}, at_ms=1)
    assert store.cache.all("large") == []
    assert saved(store) is before
    store._database.rows("PRAGMA max_page_count=1000000")
    send(store, "after")
    assert texts(store) == ["before", "after"]


def test_after_a_commit_that_failed_nothing_is_done_until_the_store_is_opened_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise FailedError

    monkeypatch.setattr(store._database, "checkpoint", fail)
    for act in (
        lambda: send(store, "perhaps"),
        lambda: send(store, "surely not"),
        lambda: store.messages.page(WARD, limit=1),
        lambda: store.received([mute(store, 1)]),
    ):
        with pytest.raises(FailedError):
            act()
    store.close()
    again = Store.open(tmp_path / PATH, KEY)
    assert texts(again) == ["perhaps"]
    assert [outgoing.message_id for outgoing in again.outbox.to_send(0)] == [1]
    again.close()


def test_a_change_that_is_in_the_log_and_found_no_room_behind_it_is_there_again_later(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise FullError

    monkeypatch.setattr(store._database, "checkpoint", fail)
    for text in ("kept", "surely not"):
        with pytest.raises(FailedError) as failed:
            send(store, text)
        assert failed.value.full
    store.close()
    again = Store.open(tmp_path / PATH, KEY)
    assert texts(again) == ["kept"]
    again.close()


def test_changes_belong_into_one_transaction(tmp_path: Path) -> None:
    database = Database.create(tmp_path / PATH, KEY)
    with pytest.raises(UsageError):
        database.change("CREATE TABLE t(a)")
    with database.transaction():
        database.change("CREATE TABLE t(a)")
        with pytest.raises(UsageError), database.transaction():
            pytest.fail("a second one inside")
    with pytest.raises(UsageError), database.transaction():
        database.change_many("INSERT INTO t VALUES(?)", [(1,), (1 << 70,)])
    assert database.rows("SELECT * FROM t") == []
    database.close()


def test_a_key_of_another_length_is_a_callers_bug(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        Database.create(tmp_path / PATH, KEY[:-1])


def test_a_database_is_made_once(tmp_path: Path) -> None:
    Database.create(tmp_path / PATH, KEY).close()
    with pytest.raises(FileExistsError):
        Database.create(tmp_path / PATH, KEY)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM mls WHERE part='epoch'",
        "UPDATE mls SET record=x'00' WHERE part='epoch'",
        "UPDATE message SET state=99",
        "DROP TABLE message",
    ],
)
def test_rows_that_this_program_did_not_write_are_damage(store: Store, sql: str) -> None:
    send(store, "here")
    database = store._database
    with database.transaction():
        database.change(sql)
    store.groups.forget_memory()
    with pytest.raises(DamagedError):
        assert (saved(store), texts(store)) is None


def test_key_package_secrets_that_do_not_decode_are_damage(store: Store) -> None:
    database = store._database
    with database.transaction():
        database.change("INSERT INTO key_package VALUES(x'01', x'02', 0)")
    with pytest.raises(DamagedError):
        Keys(database).package(b"\x01")


def test_no_error_of_the_driver_passes_with_what_it_quotes(store: Store) -> None:
    with pytest.raises(DamagedError) as refused:
        store._database.rows(f"SELECT '{ANN}' FROM canary")
    error: BaseException | None = refused.value
    while error is not None:
        assert "canary" not in str(error)
        assert error.__suppress_context__ or error.__context__ is None
        error = error.__cause__
