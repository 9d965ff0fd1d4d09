"""The mirror on another machine: it has all that was acknowledged, reads none of it, and checks."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from archive import (
    copying,
    founding,
    installation,
    mirror_frames,
    mirror_link,
    mirror_rows,
    uploads,
)
from archive.batch import Entry
from archive.configuration import MirrorHost
from archive.errors import DamagedError, StoreFailedError
from archive.log import LogFiles
from archive.mirror_frames import Confirm, Hello, Leaves, Reason
from archive.mirror_link import SecondMachine, Sources
from archive.mirror_machine import Machine, Pairing, tls_context
from archive.mirror_store import COPY_FILE, Copy, create_copy
from archive.record import RecordType
from archive.shredding import ARCHIVE_BUCKET, shred
from archive.store import Store
from archive.verify import audit
from client.link import tls_context as client_context
from crypto.checkpoint import Checkpoint
from crypto.note import Note, VerifierKey
from crypto.tls_certificate import create_tls_identity, tls_pin
from tests.archive.recording import Ward, ward
from tests.archive.test_mirror import TABLES, live_on, rows
from tests.server.harness import now_ms
from tests.waiting import comes_true

TOKEN = bytes(range(32))
WAIT_S = 30.0


@dataclass(kw_only=True)
class Second:
    """A mirror's machine in this process, on a port of its own.

    Attributes:
        folder: Its files.
        log_key: Of the log that it was made for.
    """

    folder: Path
    log_key: VerifierKey
    port: int = 0
    pin: str = ""
    copy: Copy | None = None
    machine: Machine | None = None
    server: asyncio.Server | None = field(default=None, repr=False)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    async def start(self) -> None:
        if not self.data.exists():
            self.data.mkdir(parents=True)
            create_copy(self.data / COPY_FILE)
            identity = create_tls_identity("mirror", at_ms=now_ms())
            (self.folder / "tls.pem").write_bytes(identity.certificate)
            (self.folder / "tls.key").write_bytes(identity.key)
            self.pin = tls_pin(identity.certificate).hex()
        self.copy = Copy(self.data / COPY_FILE, self.log_key)
        pairing = Pairing(token_hash=hashlib.sha256(TOKEN).digest(), log_key=self.log_key)
        self.machine = Machine(self.data, self.copy, pairing)
        context = tls_context(self.folder / "tls.pem", self.folder / "tls.key")
        self.server = await asyncio.start_server(
            self.machine.serve, "127.0.0.1", self.port, ssl=context
        )
        self.port = self.server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self.server is not None and self.machine is not None and self.copy is not None:
            self.server.close()
            await self.machine.close()
            await self.server.wait_closed()
            self.copy.close()
        self.server = None


@dataclass(kw_only=True)
class Following:
    """An archive's side of it, and what it said of the mirror being away."""

    link: SecondMachine
    told: list[int | None]
    task: asyncio.Task[None]

    async def holds(self, note: Note, size: int) -> None:
        self.link.follow(note)
        async with asyncio.timeout(WAIT_S):
            await self.link.until_held(size)

    async def until_away(self) -> None:
        await comes_true(lambda: None in self.told)


@asynccontextmanager
async def following(made: Ward, second: Second, *, wait: bool = True) -> AsyncIterator[Following]:
    """Follow an archive's log to a mirror that may or may not run."""
    folder = made.archive.file.parent
    token = folder / "mirror.token"
    token.unlink(missing_ok=True)
    token.touch(mode=0o600)
    token.write_text(TOKEN.hex())
    host = MirrorHost(
        host="127.0.0.1", port=second.port, pin=second.pin, token_file=token.name, wait=wait
    )
    sources = Sources(
        log=made.log,
        file=made.archive.file,
        data=made.archive.data,
        key=founding.database_key(made.archive.files),
    )
    told: list[int | None] = []
    link = SecondMachine(host, sources, tell=told.append)
    task = asyncio.create_task(link.run(now_ms))
    try:
        yield Following(link=link, told=told, task=task)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Ward]:
    with ward(tmp_path / "archive") as found:
        yield found


@asynccontextmanager
async def machine(made: Ward, folder: Path) -> AsyncIterator[Second]:
    second = Second(folder=folder, log_key=founding.log_key(made.archive.file))
    await second.start()
    try:
        yield second
    finally:
        await second.stop()


def unpacked(made: Ward, second: Second, target: Path) -> Path:
    key = founding.database_key(made.archive.files)
    mirror_rows.unpack(second.data, target, log_key=second.log_key, key=key)
    return target


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


async def test_all_that_finds_and_opens_its_records_goes_over_and_comes_back_as_it_was(
    made: Ward, tmp_path: Path
) -> None:
    async with machine(made, tmp_path / "second") as second, following(made, second) as link:
        await link.holds(made.publish(), made.log.size)
        live_on(made)
        attachment = made.archive.data / uploads.FOLDER / "upload-1"
        attachment.parent.mkdir()
        attachment.write_bytes(b"as it was uploaded" * 99_999)
        await link.link.hold_attachment("upload-1")
        await link.holds(made.publish(), made.log.size)
        assert link.told[-1] == made.log.size
    copy = unpacked(made, second, tmp_path / "unpacked")
    key = founding.database_key(made.archive.files)
    with closing(Store(copy / founding.LOG_FILE, key)) as back:
        for table in (*TABLES, "conversation", "identity", "seen"):
            assert rows(made.log.store, table) == rows(back, table), table
            assert rows(back, table), table
    assert (copy / uploads.FOLDER / "upload-1").read_bytes() == attachment.read_bytes()
    assert (second.data / "archive.toml").read_text() == made.archive.file.read_text()


async def test_its_machine_can_read_and_find_nothing(made: Ward, tmp_path: Path) -> None:
    async with machine(made, tmp_path / "second") as second, following(made, second) as link:
        conversation = live_on(made)
        await link.holds(made.publish(), made.log.size)
    seen = everything(tmp_path / "second")
    key = founding.database_key(made.archive.files)
    secret = [key, conversation, b"user-1", b"MRN-0042", made.log.store.conversation_key]
    secret += [row[0] for row in made.log.store.rows("SELECT record_key FROM record_key")]
    secret += [row[0] for row in made.log.store.rows("SELECT ciphertext FROM body")]
    settings = made.archive.file.read_bytes()
    assert all(one not in seen.replace(settings, b"") for one in secret)
    with pytest.raises(DamagedError):
        mirror_rows.unpack(
            second.data, tmp_path / "opened", log_key=second.log_key, key=secrets.token_bytes(32)
        )


async def test_an_archive_that_is_restored_from_it_knows_a_conversation_that_had_just_begun(
    made: Ward, tmp_path: Path
) -> None:
    async with machine(made, tmp_path / "second") as second, following(made, second) as link:
        conversation = live_on(made)
        await link.holds(made.publish(), made.log.size)
    copy = unpacked(made, second, tmp_path / "unpacked")
    key, file = founding.database_key(made.archive.files), made.archive.file
    made.archive.data.rename(tmp_path / "lost")
    copying.restore(file.parent, made.archive.files, copy, key=key)
    # A mirror's log is recorded anew also where its witness knows no more.
    assert not copying.may_go_on(made.archive.files)
    with installation.opened(file) as archive:
        renewal = copying.Renewal(folder=file.parent, files=archive.files, known=made.log.size)
        copying.renew(renewal, archive.store, key, now_ms=now_ms())
        with closing(archive.open_log(made.witness.key.verifier)) as log:
            recorder = archive.recorder(log)
            recorder.begin_again(bereft=True)
            assert recorder.rejoining == {conversation}
            assert recorder.index.of_patient("MRN-0042") == [conversation]
            assert "newcomer/phone" in archive.authority.certificates()


async def test_a_mirror_that_was_away_is_brought_up_in_steps_each_of_them_checked(
    made: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_link, "STEP", 3)
    confirmed: list[int] = []
    confirm = Copy.confirm

    def counted(self: Copy, size: int, note: Note, proof: Any, *, now_ms: int) -> None:
        confirm(self, size, note, proof, now_ms=now_ms)
        confirmed.append(size)
        if size < made.log.size <= size + 3:
            raise OSError  # Before the last step the connection ends.

    monkeypatch.setattr(Copy, "confirm", counted)
    async with machine(made, tmp_path / "second") as second:
        live_on(made)
        async with following(made, second) as link:
            await link.holds(made.publish(), made.log.size)
    size = made.log.size
    assert confirmed == [*range(3, 3 * len(confirmed), 3), size]
    assert len(confirmed) > 3
    copy = unpacked(made, second, tmp_path / "unpacked")
    key = founding.database_key(made.archive.files)
    with closing(Store(copy / founding.LOG_FILE, key)) as back:
        for table in TABLES:
            assert rows(made.log.store, table) == rows(back, table), table


async def test_what_a_full_disk_took_back_is_brought_again_before_it_is_confirmed(
    made: Ward, tmp_path: Path
) -> None:
    async with machine(made, tmp_path / "second") as second, following(made, second) as link:
        await link.holds(made.publish(), made.log.size)
        assert second.copy is not None
        db = second.copy._db
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count={pages + 2}").fetchall()
        entries = [
            Entry(type=RecordType.VIEW, body=secrets.token_bytes(2000), bucket=ARCHIVE_BUCKET)
            for _ in range(20)
        ]
        made.log.record(entries, now_ms=now_ms())
        note = made.publish()
        link.link.follow(note)
        await link.until_away()
        db.execute(f"PRAGMA max_page_count={1 << 30}").fetchall()
        await link.holds(note, made.log.size)
        records = made.log.store.rows("SELECT record FROM leaf ORDER BY idx")
        assert second.copy.leaves() == [row[0] for row in records]


async def test_an_archive_remembers_no_row_of_each_record_and_epoch_that_went_over(
    made: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remembered: set[str] = set()
    is_new = mirror_link.Bringing._is_new

    def noted(self: mirror_link.Bringing, table: str, row: Any) -> bool:
        remembered.add(table)
        return is_new(self, table, row)

    monkeypatch.setattr(mirror_link.Bringing, "_is_new", noted)
    async with machine(made, tmp_path / "second") as second, following(made, second) as link:
        live_on(made)
        await link.holds(made.publish(), made.log.size)
    assert "conversation" in remembered
    assert not remembered & {"body", "record_key", "place", "epoch", "member"}


async def test_a_disk_that_fails_as_a_connection_ends_leaves_nothing_to_the_next_one(
    made: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = founding.log_key(made.archive.file).encode()
    records = [row[0] for row in made.log.store.rows("SELECT record FROM leaf ORDER BY idx")]
    hello, leaves = Hello(token=TOKEN, log_key=key), Leaves(first=0, records=records)
    async with machine(made, tmp_path / "second") as second:
        assert second.copy is not None

        def fail(*_: object) -> Iterator[bytes]:
            raise StoreFailedError

        with monkeypatch.context() as patched:
            patched.setattr(second.copy, "_hashes", fail)
            # The second greeting is refused once the records are in the open transaction.
            (known, _) = await said(second, hello, leaves, hello)
            assert isinstance(known, mirror_frames.Known)
            await comes_true(lambda: second.machine is not None and not second.machine._open)
        (known,) = await said(second, hello, answers=1)
        assert isinstance(known, mirror_frames.Known)
        assert known.size == 0


async def test_what_was_shredded_is_gone_from_its_disk(made: Ward, tmp_path: Path) -> None:
    async with machine(made, tmp_path / "second") as second, following(made, second) as link:
        entry = Entry(type=RecordType.MESSAGE, body=b"passing", bucket=b"passing")
        (index,) = made.log.record([entry], now_ms=now_ms())
        await link.holds(made.publish(), made.log.size)
        assert second.copy is not None
        names = {
            mirror_rows.Rows(founding.database_key(made.archive.files)).name(table, (index,))
            for table in mirror_rows.SHREDDED
        }
        was = dict(second.copy.sealed())
        assert names <= was.keys()
        shred(made.log, b"passing", now_ms=now_ms())
        await link.holds(made.publish(), made.log.size)
        assert not names & dict(second.copy.sealed()).keys()
        seen = everything(second.data)
        assert all(was[name] not in seen for name in names)
    # One that begins later gets of it what the log still has, and all proofs.
    async with machine(made, tmp_path / "third") as third, following(made, third) as link:
        note = made.publish()
        await link.holds(note, made.log.size)
    key = founding.database_key(made.archive.files)
    for number, one in enumerate((second, third)):
        copy = unpacked(made, one, tmp_path / f"unpacked {number}")
        files = LogFiles(log=copy / founding.LOG_FILE, head=copy / founding.HEAD_FILE)
        last = Checkpoint.decode(note.text)
        assert not audit(files, database_key=key, log_key=one.log_key, last=last).findings


async def test_a_history_that_was_set_back_and_goes_on_otherwise_is_refused_by_the_mirror(
    made: Ward, tmp_path: Path
) -> None:
    """With the log's own key, and a witness that forgot."""
    note = made.publish()
    lost = tmp_path / "earlier"
    copying.backup(
        made.archive.file.parent,
        made.archive.files,
        founding.database_key(made.archive.files),
        lost,
    )
    async with machine(made, tmp_path / "second") as second:
        async with following(made, second) as link:
            live_on(made)
            await link.holds(made.publish(), made.log.size)
            held = made.log.size
        made.die()
        for name, place in (
            ("log.db", made.archive.files.log.log),
            ("head.db", made.archive.files.log.head),
        ):
            for old in place.parent.glob(f"{name}*"):
                old.unlink()
            place.write_bytes((lost / name).read_bytes())
        made.witness = type(made.witness)(founding.log_signer(made.archive.store))
        made.live()
        while made.log.size < held + 5:
            body = secrets.token_bytes(8)
            made.log.record(
                [Entry(type=RecordType.VIEW, body=body, bucket=ARCHIVE_BUCKET)], now_ms=now_ms()
            )
        async with following(made, second) as link:
            link.link.follow(made.publish())
            await link.until_away()
            assert not link.task.done()
            assert set(link.told) == {None}
        assert second.copy is not None
        last = second.copy.last()
        assert last is not None
        assert last[0].size == held
    assert note != made.publish()


async def said(
    second: Second, *spoken: mirror_frames.Frame, answers: int = 2
) -> list[mirror_frames.Answer]:
    """Say frames to a mirror; return what it answers until it closes, or so many answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", second.port, ssl=client_context())
    found: list[mirror_frames.Answer] = []
    try:
        writer.write(b"".join(map(mirror_frames.encode, spoken)))
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            async with asyncio.timeout(WAIT_S):
                while len(found) < answers:
                    found.append(mirror_frames.decode_answer(await mirror_frames.receive(reader)))
    finally:
        writer.transport.abort()
    return found


async def test_a_stranger_and_another_log_change_nothing(made: Ward, tmp_path: Path) -> None:
    async with machine(made, tmp_path / "second") as second:
        key = second.log_key.encode()
        leaf = Leaves(
            first=0, records=[row[0] for row in made.log.store.rows("SELECT record FROM leaf")]
        )
        stranger = Hello(token=bytes(32), log_key=key)
        assert await said(second, stranger, leaf) == []
        assert await said(second, leaf) == []
        other = VerifierKey(
            name="other", kind=second.log_key.kind, public_key=second.log_key.public_key
        )
        (answer,) = await said(second, Hello(token=TOKEN, log_key=other.encode()), leaf)
        assert isinstance(answer, mirror_frames.Refused)
        assert answer.reason is Reason.OTHER_LOG
        assert second.copy is not None
        assert second.copy.size == 0


async def test_nothing_is_confirmed_that_the_logs_key_has_not_signed(
    made: Ward, tmp_path: Path
) -> None:
    note = made.publish()
    records = [row[0] for row in made.log.store.rows("SELECT record FROM leaf ORDER BY idx")]
    changed = [*records]
    at = len(records) // 2
    changed[at] = changed[at][:-1] + bytes([changed[at][-1] ^ 1])
    hello = Hello(token=TOKEN, log_key=founding.log_key(made.archive.file).encode())
    size = len(records)
    forged = Note(
        text=note.text.replace(b"\n%d\n" % size, b"\n%d\n" % (size - 1)), signatures=note.signatures
    )
    refused = {
        Reason.NOT_CONSISTENT: [
            (changed, Confirm(size=size, note=note.encode(), proof=[])),
            (records[:-1], Confirm(size=size - 1, note=note.encode(), proof=[bytes(32)])),
            (records[:-1], Confirm(size=size, note=note.encode(), proof=[])),
        ],
        Reason.INVALID: [
            (records[:-1], Confirm(size=size - 1, note=forged.encode(), proof=[])),
            (records, Confirm(size=size, note=b"no note", proof=[])),
            (records[1:], Confirm(size=size - 1, note=note.encode(), proof=[])),
        ],
    }
    async with machine(made, tmp_path / "second") as second:
        for reason, cases in refused.items():
            for leaves, confirm in cases:
                *_, answer = await said(second, hello, Leaves(first=0, records=leaves), confirm)
                assert isinstance(answer, mirror_frames.Refused)
                assert answer.reason is reason
        answers = await said(
            second,
            hello,
            Leaves(first=0, records=records),
            Confirm(size=size, note=note.encode(), proof=[]),
        )
        assert [type(one) for one in answers] == [mirror_frames.Known, mirror_frames.Confirmed]
        assert second.copy is not None
        assert second.copy.size == size


async def test_a_changed_leaf_or_row_on_its_disk_is_an_error_and_never_wrong_data(
    made: Ward, tmp_path: Path
) -> None:
    async with machine(made, tmp_path / "second") as second, following(made, second) as link:
        await link.holds(made.publish(), made.log.size)
        assert second.copy is not None
        db = second.copy._db
        (name, value), *_ = second.copy.sealed()
        db.execute(
            "UPDATE sealed SET value=? WHERE name=?", (value[:-1] + bytes([value[-1] ^ 1]), name)
        )
    with pytest.raises(DamagedError):
        unpacked(made, second, tmp_path / "one")
    with closing(Copy(second.data / COPY_FILE, second.log_key)) as copy:
        copy._db.execute("UPDATE sealed SET value=? WHERE name=?", (value, name))
        (leaf,) = copy._db.execute("SELECT record FROM leaf WHERE idx=1").fetchone()
        copy._db.execute(
            "UPDATE leaf SET record=? WHERE idx=1", (leaf[:-1] + bytes([leaf[-1] ^ 1]),)
        )
    with pytest.raises(DamagedError):
        Copy(second.data / COPY_FILE, second.log_key)


async def test_where_receipts_do_not_wait_nothing_waits_for_a_mirror_that_is_away(
    made: Ward, tmp_path: Path
) -> None:
    async with machine(made, tmp_path / "second") as second:
        await second.stop()
        async with following(made, second, wait=False) as link:
            assert not link.link.waits
            async with asyncio.timeout(WAIT_S):
                await link.link.hold_attachment("upload-1")
            link.link.follow(made.publish())
            await link.until_away()
            link.link._attachments.clear()
            await second.start()
            async with asyncio.timeout(WAIT_S):
                await link.link.until_held(made.log.size)
            assert link.told[-1] == made.log.size
