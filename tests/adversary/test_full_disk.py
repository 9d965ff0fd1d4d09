"""A disk without room: a clear refusal to each, nothing lost, and it goes on by itself."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path

import httpx
import pytest

from protocol import frames
from protocol.errors import Code
from server import refusals, sqlite_schema, sqlite_writer
from server.sqlite_store import SqliteStore
from tests.adversary.witness import Ward, refusal, ward
from tests.server import harness
from tests.waiting import comes_true

LONG = bytes(60_000)


def _says(body: bytes, entry: frames.Deliver) -> bool:
    return entry.body.endswith(body)


class Disk:
    """What the writer's file may grow to."""

    def __init__(self) -> None:
        self.full = False
        self._connect = sqlite_schema.connect

    def connect(self, path: Path) -> sqlite3.Connection:
        """Open the database; on a full disk it grows no more, and SQLite says so itself."""
        db = self._connect(path)
        if self.full:
            db.execute("PRAGMA max_page_count=1").fetchall()
        return db


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk()
    monkeypatch.setattr(sqlite_writer, "connect", made.connect)
    return made


async def fill(there: Ward, disk: Disk) -> tuple[frames.Append, list[bytes]]:
    """Let the disk have no more room; return the message that was refused, and those before it."""
    store = there.site.relay.store
    assert isinstance(store, SqliteStore)
    disk.full = True
    writer = store._writer
    await writer.ask(
        lambda: writer._db and writer._db.execute("PRAGMA max_page_count=1").fetchall()
    )
    taken: list[bytes] = []
    for number in range(100):
        body = LONG + number.to_bytes(4, "big")
        message = harness.message(there.ann, there.conversation, epoch=1, body=body)
        await there.ann.send(message)
        answer = await there.ann.expect(frames.Frame, harness.is_verdict)
        if isinstance(answer, frames.RefusedMessage):
            assert refusal(answer) is Code.FULL
            assert answer.detail == refusals.RETRY_MS
            return message, taken
        taken.append(body)
    raise AssertionError("the disk was never full")


async def test_a_full_disk_is_said_to_each_and_what_was_refused_comes_once_there_is_room(
    tmp_path: Path, disk: Disk
) -> None:
    async with ward(tmp_path) as there:
        site, ann, bob = there.site, there.ann, there.bob
        refused, taken = await fill(there, disk)
        # Everybody is told, in the words of what they asked for, and nobody is sent away.
        packages = tuple(bytes([number]) * 10_000 for number in range(20))
        answer = await bob.answer(
            lambda ref: frames.PublishKeyPackages(ref=ref, packages=packages, last_resort=b"")
        )
        assert refusal(answer) is Code.FULL
        # What was taken is delivered and acknowledged meanwhile, and what was refused is not.
        for body in taken:
            got = await bob.expect(frames.Deliver, partial(_says, body))
            await bob.send(frames.Acknowledge(log=got.log, through=got.sequence))
        await bob.answer(lambda ref: frames.Lookup(ref=ref, users=("ann",)))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{site.port}") as web:
            assert (await web.get("/healthz")).status_code == 200
            said = (await web.get("/metrics")).text
        assert 'wardline_events_total{event="refused_full"}' in said
        # Room is made elsewhere. Nothing is started, and the same message is sent again.
        disk.full = False
        verdicts: list[frames.Frame] = []
        while not isinstance(verdicts[-1] if verdicts else None, frames.Accepted):
            await ann.send(refused)
            verdicts.append(await ann.expect(frames.Frame, harness.is_verdict))
            assert len(verdicts) < 10_000
        assert {one.code for one in verdicts if isinstance(one, frames.RefusedMessage)} <= {
            Code.FULL
        }
        await there.is_served()
        waiting = [one for one in bob.early if isinstance(one, frames.Deliver)]
        assert sum(one.body == refused.message for one in waiting) == 1
        store = site.relay.store
        await comes_true(lambda: not site.relay.counters["faults"] and not store.awaiting_archive)
