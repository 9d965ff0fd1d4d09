"""Officers' devices cosign the archive's log, and find one that its relay no longer can."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

from archive import founding
from archive.record import RecordType
from client.link import Address
from crypto.tls_certificate import tls_pin
from crypto.witness import TreeHead
from protocol.cosigning import witness_name
from protocol.identifiers import DeviceId
from server.directory import tree_head_fact
from server.program import DATABASE
from server.sqlite_store import SqliteStore
from server.store import PutFacts
from tests.client.devices import Running, opened
from tests.scenarios.blackbox import (
    BlackBox,
    Organisation,
    hospital_with_archive,
    point_at,
)
from tests.scenarios.process import STOP_S, Installation
from tests.scenarios.test_archive import gathered, hashes_of
from tests.waiting import comes_true

OFFICER = DeviceId("o1/desk")


def cosigned(box: BlackBox) -> int:
    """Return how large a tree an officer's device has cosigned, as ``status`` shows it."""
    file = box.file.parent / "data" / "status.json"
    return int(json.loads(file.read_text())["cosigned"]) if file.exists() else 0


async def officer(folder: Path, of: Organisation, at: Installation) -> Running:
    pin = tls_pin((at.data / "tls.pem").read_bytes())
    address = Address(host="127.0.0.1", port=at.port, tls_pin=pin, organisation=of.id)
    running = Running(opened(folder, of.people[OFFICER], of, address))
    await running.begin()
    return running


async def forget(at: Installation, box: BlackBox) -> None:
    """Take from a relay that was stopped what it has cosigned, as one set back would have."""
    store = await SqliteStore.open(at.data / DATABASE)
    try:
        fact = tree_head_fact(founding.log_key(box.file).name, TreeHead())
        await store.change(PutFacts(at.hospital.id, [fact]))
    finally:
        await store.close()


async def test_what_only_an_officers_device_knows_to_be_lost_stops_the_log_and_begins_another(
    tmp_path: Path,
) -> None:
    async with hospital_with_archive(tmp_path, ["ann/phone"]) as (organisation, at, box):
        olga = await officer(tmp_path, organisation, at)
        (ann,), conversation = await gathered(at, "ann/phone")
        await comes_true(lambda: cosigned(box) > 0)
        await olga.until(lambda: olga.device.log_policy and olga.device.log_policy.officer_keys)
        policy = olga.device.log_policy
        assert policy is not None
        assert [key.partition("+")[0] for key in policy.officer_keys] == [witness_name(OFFICER)]
        await box.command("backup", str(tmp_path / "copy"))
        sent = [await ann.told(conversation, b"late %d" % n) for n in range(5)]
        await box.until_it_holds(hashes_of(sent))
        before = len(box.records())
        await box.stop()
        box.start()  # At each start everybody is asked.
        await comes_true(lambda: cosigned(box) >= before)
        box.kill()
        await olga.end()
        olga.device.close()
        at.kill()
        await forget(at, box)
        await at.start()
        point_at(box.file, at)
        data, old = box.file.parent / "data", founding.log_key(box.file)
        # Log and head set back, behind the program's back: what an officer showed stands elsewhere.
        for path in data.glob("log.db*"):
            path.unlink()
        for name in ("log.db", "head.db"):
            shutil.copy(tmp_path / "copy" / name, data / name)
        box.start()
        assert box.process is not None
        assert await asyncio.to_thread(box.process.wait, STOP_S) == 1
        box.process = None
        assert founding.log_key(box.file) == old
        # A backup put in place by the book, which the relay would let go on.
        await box.is_lost_and_restored(tmp_path / "copy", tmp_path / "lost")
        olga = await officer(tmp_path, organisation, at)
        box.start()
        gap, *_ = await box.until_there_are(RecordType.RESTORE_OR_GAP, 1)
        assert gap.index == 0
        await comes_true(lambda: founding.log_key(box.file) != old)
        assert '"set_back"' in box.words()
        await comes_true(lambda: cosigned(box) > 0)
        await olga.end()
        olga.device.close()
