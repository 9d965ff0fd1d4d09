"""Attachments on their way into the archive: nothing that one member sends keeps out another's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from archive import attachments
from archive.attachments import LONGEST_PUT_OFF_S, PUT_OFF_S, TRIES, Attachments
from archive.index import Index
from archive.store import Store, create_store
from client.errors import UnreachableError
from client.https import Answer
from client.link import Link
from protocol import limits

KEY = bytes(32)
DATA = b"ciphertext" * 1000


class Relay:
    """Gives what it has, and answers with a status where one is set."""

    def __init__(self) -> None:
        self.has: dict[str, bytes] = {}
        self.answers: dict[str, int] = {}
        self.forgotten: list[str] = []
        self.asked: list[str] = []
        self.endless = ""

    def __call__(self, _address: object) -> Relay:
        return self

    async def request(
        self, method: str, path: str, *, headers: Mapping[str, str], most: int = 0
    ) -> Answer:
        blob, _, offset = path.rpartition("/")[2].partition("?offset=")
        if method == "DELETE":
            self.forgotten.append(blob)
            return Answer(status=204, headers={}, body=b"")
        self.asked.append(blob)
        if blob == self.endless:
            return Answer(status=200, headers={}, body=bytes(most))
        status = self.answers.get(blob, 200 if blob in self.has else 404)
        body = self.has.get(blob, b"")[int(offset) :][:4096] if status == 200 else b""
        return Answer(status=status, headers={}, body=body)

    def close(self) -> None:
        pass


class Archive:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        create_store(folder / "log.db", KEY, log_id=bytes(32))
        self.store = Store(folder / "log.db", KEY)
        self.index = Index(self.store)
        self.folder = folder / "attachments"
        self.relay = Relay()
        self.now_s = 1000.0
        monkeypatch.setattr(attachments, "Https", self.relay)
        clock = SimpleNamespace(monotonic=lambda: self.now_s)
        monkeypatch.setattr("archive.attachments.time", clock)
        self.attachments = Attachments(self.store, self.folder)
        self.link = cast("Link", SimpleNamespace(address=None, token=b"token"))

    def named(self, *blobs: str) -> None:
        with self.store.transaction():
            for blob in blobs:
                self.index.add_attachment(blob, bytes(32))

    async def fetch(self) -> None:
        while await self.attachments.fetch(self.link):
            pass

    @property
    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Archive(tmp_path, monkeypatch)
    yield made
    made.store.close()


async def test_what_a_message_names_is_kept_and_the_relay_lets_go_of_it(archive: Archive) -> None:
    archive.named("one", "two")
    archive.relay.has |= {"one": DATA, "two": b"short"}
    await archive.fetch()
    assert archive.files == {"one": DATA, "two": b"short"}
    assert sorted(archive.relay.forgotten) == ["one", "two"]
    assert archive.index.unfetched(most=9) == []


async def test_an_upload_that_is_finished_after_the_archive_looked_is_archived_all_the_same(
    archive: Archive,
) -> None:
    archive.named("later")
    await archive.fetch()
    assert archive.files == {}
    archive.relay.has["later"] = DATA
    await archive.fetch()
    assert archive.relay.asked == ["later"]
    archive.now_s += PUT_OFF_S
    await archive.fetch()
    assert archive.files == {"later": DATA}


@pytest.mark.parametrize("status", [400, 403, 404, 413, 503])
async def test_one_that_the_relay_does_not_give_keeps_no_other_waiting(
    archive: Archive, status: int
) -> None:
    bad = [f"a{number}" for number in range(3 * attachments.AT_ONCE)]
    archive.named(*bad, "wanted")
    archive.relay.answers = dict.fromkeys(bad, status)
    archive.relay.has["wanted"] = DATA
    await archive.fetch()
    assert archive.files == {"wanted": DATA}
    assert len(archive.relay.asked) < 3 * attachments.AT_ONCE + 10


@pytest.mark.parametrize("status", [401, 429])
async def test_an_answer_about_the_connection_costs_no_try(archive: Archive, status: int) -> None:
    archive.named("one")
    archive.relay.has["one"] = DATA
    archive.relay.answers["one"] = status
    with pytest.raises(UnreachableError):
        await archive.fetch()
    del archive.relay.answers["one"]
    await archive.fetch()
    assert archive.files == {"one": DATA}


async def test_a_relay_that_never_ends_fills_no_disk(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ATTACHMENT_BYTES", 5 * limits.ATTACHMENT_CHUNK_BYTES)
    archive.named("endless")
    archive.relay.endless = "endless"
    await archive.fetch()
    assert archive.files == {}
    assert len(archive.relay.asked) == 6


async def test_what_never_comes_is_tried_for_a_month_and_then_given_up(archive: Archive) -> None:
    archive.named("never")
    began_s = archive.now_s
    while archive.index.unfetched(most=1):
        await archive.fetch()
        archive.now_s += PUT_OFF_S
    assert len(archive.relay.asked) == TRIES
    assert archive.now_s - began_s > limits.ENTRY_EXPIRY_MS / 1000
    assert archive.now_s - began_s < TRIES * LONGEST_PUT_OFF_S
