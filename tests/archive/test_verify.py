"""The audit: what an insider with every key, or a failing disk, does to a log is found."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from archive.batch import Batch
from archive.database import connect_plain
from archive.errors import ArchiveError
from archive.head import Head
from archive.log import LogFiles
from archive.record import Record
from archive.store import SCHEMA, Store
from archive.verify import Audit, Fault
from crypto.checkpoint import Checkpoint, sign_checkpoint
from crypto.merkle import Frontier, leaf_hash
from storage import encrypted
from tests.archive.logs import NOW_MS, Site, fill, messages
from tests.depth import DEPTH

COUNT = 600
"""Records: two full tiles and a part of one."""

FLIPS = 300 * DEPTH
"""Single-byte changes tried."""


@pytest.fixture
def filled(site: Site) -> tuple[Site, Checkpoint]:
    log = site.create()
    last = fill(log, COUNT)
    log.close()
    assert site.audit(last) == Audit(size=COUNT, unsigned=0, findings=())
    return site, last


def faults(audit: Audit) -> set[Fault]:
    return {finding.fault for finding in audit.findings}


def edit(site: Site, *statements: str) -> None:
    """What whoever holds the database's key does to it."""
    with closing(encrypted.connect(site.files.log, site.database_key)) as db:
        for statement in statements:
            db.execute(statement)


RECORD_5 = "(SELECT record FROM leaf WHERE idx=5)"

EDITS = {
    "a leaf cut out": (("DELETE FROM leaf WHERE idx=5",), {Fault.HOLE}),
    "the last leaf cut off": (("DELETE FROM leaf WHERE idx=599",), {Fault.ROLLED_BACK}),
    "a record cut out": (
        tuple(f"DELETE FROM {table} WHERE idx=5" for table in ("leaf", "body", "record_key")),
        {Fault.HOLE, Fault.CHAIN},
    ),
    "a leaf appended": ((f"INSERT INTO leaf VALUES(600, {RECORD_5})",), {Fault.RECORD}),
    "a leaf far beyond": ((f"INSERT INTO leaf VALUES(1 << 62, {RECORD_5})",), {Fault.HOLE}),
    "a leaf before the first": ((f"INSERT INTO leaf VALUES(-1, {RECORD_5})",), {Fault.RECORD}),
    "two leaves swapped": (
        (
            "UPDATE leaf SET idx=-5 WHERE idx=5",
            "UPDATE leaf SET idx=5 WHERE idx=7",
            "UPDATE leaf SET idx=7 WHERE idx=-5",
        ),
        {Fault.RECORD, Fault.TILE},
    ),
    "a leaf changed": (
        ("UPDATE leaf SET record=CAST(substr(record, 1, 190) || zeroblob(9) AS BLOB) WHERE idx=5",),
        {Fault.TILE},
    ),
    "a leaf of another type": (("UPDATE leaf SET record=7 WHERE idx=5",), {Fault.DAMAGED}),
    "two bodies swapped": (
        (
            "UPDATE body SET idx=-5 WHERE idx=5",
            "UPDATE body SET idx=5 WHERE idx=7",
            "UPDATE body SET idx=7 WHERE idx=-5",
        ),
        {Fault.BODY},
    ),
    "two keys swapped": (
        (
            "UPDATE record_key SET idx=-5 WHERE idx=5",
            "UPDATE record_key SET idx=5 WHERE idx=7",
            "UPDATE record_key SET idx=7 WHERE idx=-5",
        ),
        {Fault.BODY},
    ),
    "a body gone": (("DELETE FROM body WHERE idx=5",), {Fault.BODY}),
    "a key gone": (("DELETE FROM record_key WHERE idx=5",), {Fault.BODY}),
    "both gone": (
        ("DELETE FROM body WHERE idx=5", "DELETE FROM record_key WHERE idx=5"),
        {Fault.BODY},
    ),
    "a body too much": (("INSERT INTO body VALUES(600, x'00')",), {Fault.BODY}),
    "a body changed": (("UPDATE body SET ciphertext=x'00' WHERE idx=5",), {Fault.BODY}),
    "a tile gone": (("DELETE FROM tile WHERE level=0 AND idx=0",), {Fault.TILE}),
    "a tile too much": (("INSERT INTO tile VALUES(2, 0, x'00')",), {Fault.TILE}),
    "a tile cut": (("UPDATE tile SET hashes=substr(hashes, 1, 32) WHERE level=0",), {Fault.TILE}),
    "a higher tile changed": (
        ("UPDATE tile SET hashes=zeroblob(64) WHERE level=1",),
        {Fault.TILE, Fault.CHECKPOINT},
    ),
    "a conversation forgotten": (
        ("DELETE FROM conversation WHERE records=300",),
        {Fault.INDEX},
    ),
    "a conversation renamed": (("UPDATE conversation SET group_id=x'00'",), {Fault.INDEX}),
    "a hash forgotten": (("DELETE FROM seen WHERE idx=5",), {Fault.INDEX}),
    "a hash elsewhere": (("UPDATE seen SET idx=6 WHERE idx=5",), {Fault.INDEX}),
    "another log's name": (("UPDATE identity SET log_id=zeroblob(32)",), {Fault.FOREIGN}),
    "a table gone": (("DROP TABLE seen",), {Fault.DAMAGED}),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_with_the_databases_key_is_found(
    filled: tuple[Site, Checkpoint], name: str
) -> None:
    site, last = filled
    statements, expected = EDITS[name]
    edit(site, *statements)
    assert expected <= faults(site.audit(last))


def test_each_edit_is_another(filled: tuple[Site, Checkpoint]) -> None:
    assert len({statements for statements, _ in EDITS.values()}) == len(EDITS)


def rewritten(site: Site, change: Callable[[list[Any]], list[Any]], *, sign: bool) -> None:
    """Write the whole log anew with every key, as ``change`` wants its entries."""
    old = Store(site.files.log, site.database_key)
    identity, conversation_key = old.log_id, old.conversation_key
    old.close()
    site.files.log.unlink()
    entries = change([(entry, NOW_MS) for entry in messages(0, COUNT)])
    site.files.log.touch(mode=0o600)
    with closing(encrypted.connect(site.files.log, site.database_key)) as db:
        for statement in SCHEMA.statements:
            db.execute(statement)
        db.execute(f"PRAGMA user_version={SCHEMA.version}")
        db.execute("INSERT INTO identity VALUES(1, ?, ?)", (identity, conversation_key))
    store = Store(site.files.log, site.database_key)
    frontier = Frontier()
    with store.transaction():
        batch = Batch(store, frontier, now_ms=NOW_MS)
        batch.add([entry for entry, _ in entries])
        store.insert(batch.rows())
    store.close()
    if sign:
        set_head(site, batch.frontier)


def set_head(site: Site, frontier: Frontier) -> None:
    """Sign what pleases, past the compare-and-swap."""
    new = Checkpoint(origin=site.signer.name, size=frontier.size, root=frontier.root())
    note = sign_checkpoint(new, site.signer).encode()
    with closing(connect_plain(site.files.head)) as db:
        db.execute("UPDATE head SET note=?", (note,))


HISTORIES: dict[str, Callable[[list[Any]], list[Any]]] = {
    "a record left out": lambda entries: entries[:5] + entries[6:],
    "a record put in": lambda entries: [*entries[:5], (messages(9000, 1)[0], 0), *entries[5:]],
    "two records swapped": lambda entries: [entries[1], entries[0], *entries[2:]],
    "the end cut off": lambda entries: entries[:-1],
    "the same again": lambda entries: entries,
    "a longer fork": lambda entries: [*entries[1:], *((e, 0) for e in messages(9000, 50))],
}


@pytest.mark.parametrize("name", HISTORIES)
@pytest.mark.parametrize("sign", [False, True])
def test_a_history_rewritten_with_every_key_is_told_from_the_true_one(
    filled: tuple[Site, Checkpoint], name: str, sign: bool
) -> None:
    site, last = filled
    rewritten(site, HISTORIES[name], sign=sign)
    found = faults(site.audit(last))
    assert found & {Fault.FORKED, Fault.ROLLED_BACK}
    # Without a checkpoint from elsewhere the head alone can tell, and a head signed anew cannot.
    assert (faults(site.audit()) == set()) == sign


def test_a_rollback_of_every_file_is_found_by_the_last_checkpoint(site: Site) -> None:
    log = site.create()
    early = fill(log, 250)
    old = site.copied(head=True)
    last = fill(log, 250, first=250)
    assert old.audit(early).findings == ()
    assert faults(old.audit(last)) == {Fault.ROLLED_BACK}
    assert site.audit(early).findings == site.audit(last).findings == ()


def test_a_head_that_is_another_keys_or_unreadable_is_found(
    filled: tuple[Site, Checkpoint],
) -> None:
    site, last = filled
    forged = Site(site.directory)
    set_head(forged, Frontier())
    assert faults(site.audit(last)) == {Fault.CHECKPOINT}
    site.files.head.write_bytes(b"nothing")
    assert faults(site.audit(last)) == {Fault.CHECKPOINT}


def test_a_head_that_was_set_back_alone_is_found_by_the_last_checkpoint(site: Site) -> None:
    log = site.create()
    fill(log, 250)
    old = site.files.head.read_bytes()
    last = fill(log, 250, first=250)
    site.files.head.write_bytes(old)
    audit = site.audit(last)
    assert (audit.size, audit.unsigned) == (500, 250)
    assert faults(audit) == {Fault.ROLLED_BACK}


def content(site: Site) -> tuple[str, bytes]:
    """Return a digest of everything that the log says, and its head's note."""
    digest = sha256()
    with closing(encrypted.connect(site.files.log, site.database_key)) as db:
        for table in ("leaf", "body", "record_key", "seen", "conversation", "tile", "identity"):
            for row in db.execute(f"SELECT * FROM {table} ORDER BY 1, 2"):
                digest.update(repr(row).encode())
    with closing(connect_plain(site.files.head)) as db:
        (note,) = db.execute("SELECT note FROM head WHERE id=1").fetchone()
    return digest.hexdigest(), note


@pytest.mark.parametrize("journal", [False, True])
def test_a_changed_byte_is_found_or_alters_no_record(site: Site, journal: bool) -> None:
    log = site.create()
    last = fill(log, 300)
    copy = site.copied(head=True)  # while it is open, so that the journal is there
    log.close()
    if not journal:
        copy.audit(last)
    pristine = copy.directory / "pristine"
    pristine.mkdir()
    paths = [path for path in copy.directory.iterdir() if path.is_file()]
    paths = [path for path in paths if not path.name.endswith("-shm") and path.stat().st_size]
    assert any(path.name.endswith("-wal") for path in paths) == journal
    for path in paths:
        shutil.copy(path, pristine / path.name)
    trial = Site(copy.directory / "trial", signer=site.signer, database_key=site.database_key)
    told = content(copied_to(trial, pristine))
    random_ = random.Random(7)
    found = 0
    for _ in range(FLIPS // 2):
        copied_to(trial, pristine)
        flip(trial.directory / random_.choice(paths).name, random_)
        if trial.audit(last).findings:
            found += 1
        else:
            assert content(trial) == told
    assert found > FLIPS // 10


def test_a_changed_byte_of_the_head_is_damage_or_alters_nothing(
    filled: tuple[Site, Checkpoint], memory: Path
) -> None:
    site, last = filled
    path, whole = memory / "head", site.files.head.read_bytes()
    found = 0
    for at in range(0, len(whole), max(1, 8 // DEPTH)):
        data = bytearray(whole)
        data[at] ^= 0x80 >> at % 3
        path.write_bytes(data)
        try:
            with closing(Head(path)) as head:
                assert head.verified(site.signer.verifier) == last
        except ArchiveError:
            found += 1
    assert found > 30


def copied_to(trial: Site, pristine: Path) -> Site:
    shutil.rmtree(trial.directory, ignore_errors=True)
    shutil.copytree(pristine, trial.directory)
    return trial


def flip(path: Path, random_: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
    path.write_bytes(data)


def test_a_record_that_leaves_its_conversation_is_found_even_where_all_else_is_made_to_fit(
    filled: tuple[Site, Checkpoint],
) -> None:
    site, last = filled
    with closing(encrypted.connect(site.files.log, site.database_key)) as db:
        data = db.execute("SELECT record FROM leaf WHERE idx=599").fetchone()[0]
        changed = replace(Record.decode(data), conv_prev=b"x" * 32).encode()
        db.execute("UPDATE leaf SET record=? WHERE idx=599", (changed,))
        (hashes,) = db.execute("SELECT hashes FROM tile WHERE level=0 AND idx=2").fetchone()
        hashes = hashes[:-32] + leaf_hash(changed)
        db.execute("UPDATE tile SET hashes=? WHERE level=0 AND idx=2", (hashes,))
    found = faults(site.audit(last))
    assert found >= {Fault.CHAIN, Fault.CHECKPOINT, Fault.FORKED}


def test_a_missing_file_is_not_an_audit(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with pytest.raises(FileNotFoundError):
        site.audit()
    site.create().close()
    site.files = LogFiles(log=site.files.log, head=tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        site.audit()
