"""A real relay, a real archive and devices: what they showed is what it holds."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from archive import configuration, founding
from archive.founding import RECORDER
from archive.intray import Intray
from archive.record import Record, RecordFlags, RecordType
from archive.running import serve
from client.https import Https
from client.link import Address
from crypto.attachment_layout import STREAM_SIZES
from crypto.checkpoint import Checkpoint
from crypto.errors import VerificationError
from crypto.statement import StatementType, statement_type, verify_statement
from protocol.archived import Archived, ArchivedMessage
from protocol.content import kinds
from protocol.content.talk import ATTACHMENT_REF_BYTES, Attachment
from protocol.frames import Deliver, EntryKind
from protocol.identifiers import ConversationId, DeviceId
from protocol.inbox import ItemKind, decode_item
from tests.client.people import further
from tests.scenarios.blackbox import (
    BlackBox,
    hospital_with_archive,
    hospital_without_archive,
    point_at,
    published,
)
from tests.scenarios.members import Member, NoKeyPackageError, Talk
from tests.scenarios.process import Installation
from tests.scenarios.test_restore import restored
from tests.server.harness import now_ms
from tests.waiting import comes_true


class Device(Member):
    """A member that keeps what its inbox brings."""

    async def _delivered(self, entry: Deliver) -> None:
        if entry.log[:1] == b"i" and entry.kind == EntryKind.MESSAGE:
            item = decode_item(entry.body)
            if item.kind is ItemKind.STATEMENT:
                self.__dict__.setdefault("statements", {})[entry.sequence] = item.body
        await super()._delivered(entry)

    def _message(self, talk: Talk, entry: Deliver) -> None:
        if not entry.body.startswith(b"\x01"):  # a note for the steward
            super()._message(talk, entry)

    @property
    def archived(self) -> list[Archived]:
        """What it was told of its messages."""
        found = []
        for statement in self.__dict__.get("statements", {}).values():
            if statement_type(statement) is StatementType.ARCHIVED:
                verified = verify_statement(
                    statement,
                    expected=StatementType.ARCHIVED,
                    trust=self.at.hospital.trust,
                    at_ms=now_ms(),
                )
                found.append(Archived.decode(verified.body))
        return found


async def gathered(at: Installation, *names: str) -> tuple[list[Device], ConversationId]:
    """Devices in a conversation that the first of them made, confirmed by the archive."""
    members = [Device(at.hospital.people[name], at) for name in names]
    for member in members:
        await member.connect()
        await member.publish(10)
    conversation = members[0].begin()
    added = [DeviceId(RECORDER), *(member.name for member in members[1:])]
    await members[0].change(conversation, add=sorted(added))
    for member in members[1:]:
        await member.reaches(conversation, 1)
    return members, conversation


async def recorded(
    box: BlackBox, sender: Device, conversation: ConversationId, words: bytes, *, count: int
) -> list[bytes]:
    """Say something so many times; return the messages, once the archive holds them."""
    sent = [await sender.told(conversation, words + b" %d" % number) for number in range(count)]
    await box.until_it_holds(hashes_of(sent))
    return sent


@asynccontextmanager
async def recorded_of_ann(
    folder: Path,
) -> AsyncIterator[tuple[Installation, BlackBox, Device, ConversationId]]:
    """A conversation of one person's and the archive; what that has in the end is whole."""
    async with hospital_with_archive(folder, ["ann/phone"]) as (_, at, box):
        (ann,), conversation = await gathered(at, "ann/phone")
        yield at, box, ann, conversation
        assert "FINDING" not in await box.command("verify")


def hashes_of(messages: list[bytes]) -> set[bytes]:
    return {hashlib.sha256(message).digest() for message in messages}


def of_type(records: list[Record], kind: RecordType) -> list[Record]:
    return [record for record in records if record.type is kind]


async def test_what_devices_show_the_archive_holds_as_it_was_sent(tmp_path: Path) -> None:
    async with hospital_with_archive(tmp_path, ["ann/phone", "ben/phone"]) as (_, at, box):
        (ann, ben), conversation = await gathered(at, "ann/phone", "ben/phone")
        sent = [await ann.told(conversation, b"text %d" % n) for n in range(5)]
        sent += [await ben.told(conversation, b"answer %d" % n) for n in range(5)]
        await ben.sees(conversation, b"text 4")
        await ann.sees(conversation, b"answer 4")
        await box.until_it_holds(hashes_of(sent))
        records = box.records()
        messages = of_type(records, RecordType.MESSAGE)
        assert len(messages) == 10
        assert all(record.flags & RecordFlags.SIGNATURE_CHECKED for record in messages)
        assert {record.bucket for record in messages} == {
            record.bucket for record in of_type(records, RecordType.EPOCH_KEYS)
        }
        assert len(of_type(records, RecordType.ROSTER)) == 1


async def test_a_sender_checks_for_itself_that_its_messages_are_archived(tmp_path: Path) -> None:
    async with hospital_with_archive(tmp_path, ["ann/phone", "ben/phone"]) as (_, at, box):
        (ann, ben), conversation = await gathered(at, "ann/phone", "ben/phone")
        sent = [await ann.told(conversation, b"text %d" % n) for n in range(30)]
        await ann.until(lambda: sum(len(one.messages) for one in ann.archived) == 30)
        log, witnesses = founding.log_key(box.file), founding.witness_keys(box.file)
        proved: dict[int, ArchivedMessage] = {}
        for told in ann.archived:
            checkpoint = told.verify(log=log, witnesses=witnesses)
            assert isinstance(checkpoint, Checkpoint)
            with pytest.raises(VerificationError):
                told.verify(log=log, witnesses=())
            proved |= {message.sequence: message for message in told.messages}
        for message in sent:
            digest = hashlib.sha256(message).digest()
            (number,) = [n for n, h in ben.talks[conversation].seen.items() if h == digest]
            proved[number].verify(message_hash=digest)
            with pytest.raises(VerificationError):
                proved[number].verify(message_hash=hashlib.sha256(digest).digest())
        assert ben.archived == []


async def test_an_insiders_garbage_commit_is_voided_kept_and_stops_nobody(tmp_path: Path) -> None:
    async with hospital_with_archive(tmp_path, ["ann/phone", "ben/phone"]) as (_, at, box):
        (ann, ben), conversation = await gathered(at, "ann/phone", "ben/phone")
        sent = [await ben.told(conversation, b"before")]
        garbage = await ann.stage(conversation, garble=True)
        during = await ben.say(conversation, b"during")
        await ben.until(lambda: ben.talks[conversation].voids == 1)
        await ben.until(lambda: during in ben.accepted)
        await ann.until(lambda: ann.talks[conversation].voids == 1)
        assert garbage in ann.accepted
        sent.append(await ben.told(conversation, b"after"))
        sent.append(await ann.told(conversation, b"all is well"))
        await ben.sees(conversation, b"all is well")
        await box.until_it_holds(hashes_of(sent))
        records = box.records()
        evidence = of_type(records, RecordType.FAULT_EVIDENCE)
        assert len(of_type(records, RecordType.MESSAGE)) == 4
        # The Commit itself is kept as it came: ben was given the same bytes.
        commits = [e for e in ben.kept[conversation].values() if e.kind == EntryKind.COMMIT]
        assert evidence
        assert hashes_of([commit.body for commit in commits]) <= box.hashes()


async def test_an_archive_that_is_killed_again_and_again_loses_nothing_and_has_nothing_twice(
    tmp_path: Path,
) -> None:
    chosen = random.Random(7)
    async with hospital_with_archive(tmp_path, ["ann/phone", "ben/phone"]) as (_, at, box):
        (ann, ben), conversation = await gathered(at, "ann/phone", "ben/phone")
        sent = []
        for life in range(4):
            for number in range(12):
                who = chosen.choice((ann, ben))
                sent.append(await who.told(conversation, b"%d in life %d" % (number, life)))
            await asyncio.sleep(chosen.random() * 0.3)
            box.kill()
            sent.append(await ann.told(conversation, b"while it was away %d" % life))
            box.start()
        await box.until_it_holds(hashes_of(sent))
        await ann.change(conversation)  # a Commit that only the archive can confirm in time
        sent.append(await ben.told(conversation, b"next epoch"))
        await box.until_it_holds(hashes_of(sent))
        records = box.records()
        assert len(of_type(records, RecordType.MESSAGE)) == len(sent)
        assert of_type(records, RecordType.RESTORE_OR_GAP) == []
        evidence = of_type(records, RecordType.FAULT_EVIDENCE)
        assert evidence == []


async def test_of_two_archives_with_one_key_the_second_stops(tmp_path: Path) -> None:
    async with hospital_with_archive(tmp_path, ["ann/phone"]) as (_, at, box):
        (ann,), conversation = await gathered(at, "ann/phone")
        second = BlackBox(box.file, at)
        second.log = tmp_path / "second.log"
        second.start()
        sent = []
        async with asyncio.timeout(60):
            while box.running() and second.running():
                sent.append(await ann.told(conversation, b"text"))
                await asyncio.sleep(0.2)
        ended, other = (box, second) if second.running() else (second, box)
        ended.process = None
        assert other.running()
        sent.append(await ann.told(conversation, b"after"))
        await other.until_it_holds(hashes_of(sent))
        assert len(of_type(other.records(), RecordType.MESSAGE)) == len(sent)
        other.kill()


async def test_the_steward_removes_a_revoked_device_and_adds_a_persons_further_one(
    tmp_path: Path,
) -> None:
    names = ["ann/phone", "ben/phone", "cy/phone"]
    async with hospital_without_archive(tmp_path, names) as (organisation, at, archive):
        task = asyncio.create_task(serve(archive))
        await published(organisation, at, archive)
        (ann, ben, cy), conversation = await gathered(at, *names)
        await ann.told(conversation, b"all three")
        archive.authority.revoke(["cy/phone"], now_ms=now_ms())
        await ann.reaches(conversation, 2)
        await ben.reaches(conversation, 2)
        assert len(ann.talks[conversation].mls.members) == 3
        tablet = Device(further(organisation, organisation.people["ben/phone"], "tablet"), at)
        await tablet.connect()
        await tablet.publish(5)
        await ann.reaches(conversation, 3)
        await tablet.reaches(conversation, 3)
        await ann.told(conversation, b"to the tablet")
        await tablet.sees(conversation, b"to the tablet")
        assert cy.closed_with is not None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_backup_verify_status_and_check_say_that_all_is_well_and_that_it_is_not(
    tmp_path: Path,
) -> None:
    async with hospital_with_archive(tmp_path, ["ann/phone"]) as (_, at, box):
        (ann,), conversation = await gathered(at, "ann/phone")
        await recorded(box, ann, conversation, b"said on the ward", count=10)
        told = await box.command("status", code=None)
        assert "connected True" in told
        assert {line.split()[1] for line in told.splitlines() if "ALARM" in line} <= {"LIVENESS"}
        await box.command("backup", str(tmp_path / "copy"))
        assert "FINDING" not in await box.command("verify")
        assert "FINDING" not in await box.command("verify", str(tmp_path / "copy"))
        everything = b"".join(p.read_bytes() for p in (tmp_path / "copy").iterdir() if p.is_file())
        assert b"said on the ward" not in everything
        assert (box.file.parent / "database.key").read_bytes() not in everything
        assert await box.stop() == 0
        assert "ok quorum: 2 of 4" in await box.command(
            "check", "--report", str(tmp_path / "report")
        )
        assert (tmp_path / "report").read_text().startswith("Wardline check")
        with (tmp_path / "copy" / "log.db").open("r+b") as file:
            file.seek(9000)
            file.write(bytes(100))
        assert "FINDING" in await box.command("verify", str(tmp_path / "copy"), code=1)


async def test_a_restored_archive_asks_its_witness_and_begins_a_log_that_names_the_old_one(
    tmp_path: Path,
) -> None:
    async with recorded_of_ann(tmp_path) as (at, box, ann, conversation):
        early = await recorded(box, ann, conversation, b"early", count=5)
        await box.command("backup", str(tmp_path / "copy"))
        late = await recorded(box, ann, conversation, b"late", count=5)
        # The relay has let go of them: it took the archive's word for it.
        await comes_true(lambda: not any(m in f for m in late for f in at.files().values()))
        old = founding.log_key(box.file)
        await box.is_lost_and_restored(tmp_path / "copy", tmp_path / "lost")
        box.start()
        gap, *_ = await box.until_there_are(RecordType.RESTORE_OR_GAP, 1)
        assert gap.index == 0
        await box.until_it_holds(hashes_of(early))
        # What it had acknowledged and lost shows as a hole, and what comes is recorded.
        await recorded(box, ann, conversation, b"after", count=1)
        # Only now: the log stands in its place a moment before the file of its key does.
        assert founding.log_key(box.file) != old
        assert (box.file.parent / "data" / "former" / "0" / "log.db").exists()
        assert not hashes_of(late) & box.hashes()
        assert len(await box.until_there_are(RecordType.RESTORE_OR_GAP, 2)) >= 2


async def test_an_archive_restored_twice_from_one_backup_records_again_each_time(
    tmp_path: Path,
) -> None:
    """The relay knows a later log policy than the backup does, and takes none that it has had."""
    async with recorded_of_ann(tmp_path) as (at, box, ann, conversation):
        early = await recorded(box, ann, conversation, b"early", count=3)
        await box.command("backup", str(tmp_path / "copy"))
        keys = {founding.log_key(box.file)}
        for time in range(2):
            await recorded(box, ann, conversation, b"late %d" % time, count=2)
            await box.is_lost_and_restored(tmp_path / "copy", tmp_path / f"lost {time}")
            box.start()
            await box.until_it_holds(hashes_of(early))
            (after,) = await recorded(box, ann, conversation, b"after %d" % time, count=1)
            keys.add(founding.log_key(box.file))
            # Witnessed as well, or the relay would not let go of it.
            await comes_true(lambda sent=after: not any(sent in f for f in at.files().values()))  # type: ignore[misc]
        assert len(keys) == 3


async def test_an_archive_restored_together_with_its_witness_begins_a_new_log_and_both_serve(
    tmp_path: Path,
) -> None:
    """Both backups are as old: the witness would say that nothing lacks, and the log would fork."""
    async with recorded_of_ann(tmp_path) as (at, box, ann, conversation):
        early = await recorded(box, ann, conversation, b"early", count=5)
        await box.command("backup", str(tmp_path / "copy"))
        await asyncio.to_thread(at.command, "backup", str(tmp_path / "old"))
        await recorded(box, ann, conversation, b"late", count=5)
        old = founding.log_key(box.file)
        box.kill()
        shutil.move(box.file.parent / "data", tmp_path / "lost")
        await restored(at, tmp_path / "old")
        point_at(box.file, at)
        await box.command("restore", str(tmp_path / "copy"))
        box.start()
        await ann.lost()
        gap, *_ = await box.until_there_are(RecordType.RESTORE_OR_GAP, 1)
        assert gap.index == 0
        await box.until_it_holds(hashes_of(early))
        await box.until_it_says("reconciling")
        assert founding.log_key(box.file) != old
        await ann.served()
        await recorded(box, ann, conversation, b"after", count=1)


async def test_an_archive_restored_from_a_backup_that_lacks_nothing_goes_on_with_its_log(
    tmp_path: Path,
) -> None:
    async with recorded_of_ann(tmp_path) as (_, box, ann, conversation):
        sent = await recorded(box, ann, conversation, b"text", count=5)
        await box.stop()
        await box.command("backup", str(tmp_path / "copy"))
        old = founding.log_key(box.file)
        await box.is_lost_and_restored(tmp_path / "copy", tmp_path / "lost")
        box.start()
        await recorded(box, ann, conversation, b"after", count=1)
        await box.until_it_holds(hashes_of(sent))
        assert founding.log_key(box.file) == old
        assert of_type(box.records(), RecordType.RESTORE_OR_GAP) == []


async def test_a_relay_that_lost_its_disk_learns_from_the_archive_where_everything_stands(
    tmp_path: Path,
) -> None:
    names = ["ann/phone", "ben/phone"]
    async with hospital_with_archive(tmp_path, names) as (_, at, box):
        (ann, ben), conversation = await gathered(at, *names)
        sent = [await ann.told(conversation, b"before the backup")]
        await asyncio.to_thread(at.command, "backup", str(tmp_path / "old"))
        await ann.change(conversation)
        sent.append(await ann.told(conversation, b"after the backup"))
        await ben.sees(conversation, b"after the backup")
        await box.until_it_holds(hashes_of(sent))
        position = ben.talks[conversation].position
        at.kill()
        lost = at.data.rename(at.folder / "lost")
        await asyncio.to_thread(at.command, "restore", str(tmp_path / "old"))
        for name in ("secrets.key", "tls.pem", "tls.key"):
            shutil.copy(lost / name, at.data / name)
        await box.stop()
        await at.start()
        point_at(box.file, at)
        for member in (ann, ben):
            await member.lost()
        box.start()
        await box.until_it_says("reconciling")
        await ann.served()
        await ben.connect()
        # Numbers go on behind the last that the archive had, and the epoch is the new one.
        number = await ann.say(conversation, b"after the restore")
        await ann.until(lambda: number in ann.accepted)
        assert ann.accepted[number][1] > position
        await ben.sees(conversation, b"after the restore")
        await box.until_it_holds(hashes_of([ben.kept[conversation][ann.accepted[number][1]].body]))
        assert len(founding.witness_keys(box.file)) == 2
        assert "FINDING" not in await box.command("verify")


async def test_an_attachment_is_fetched_as_it_was_uploaded_and_the_relay_lets_go_of_it(
    tmp_path: Path,
) -> None:
    async with hospital_with_archive(tmp_path, ["ann/phone"]) as (organisation, at, box):
        (ann,), conversation = await gathered(at, "ann/phone")
        address = Address(
            host="127.0.0.1",
            port=at.port,
            tls_pin=bytes.fromhex(configuration.read(box.file).relay.pin),
            organisation=organisation.id,
        )
        data = random.Random(1).randbytes(STREAM_SIZES[1])
        https = Https(address)
        assert ann.client is not None
        token = {"Authorization": f"Bearer {ann.client.token.hex()}"}
        size = {"Upload-Length": str(len(data)), "Wardline-Conversation": conversation.hex()}
        made = await https.request("POST", "/v1/attachments", headers={**token, **size})
        place = made.headers["location"]
        offset = {"Upload-Offset": "0"}
        await https.request("PATCH", place, headers={**token, **offset}, body=data)
        https.close()
        content = Attachment(
            blob=place.rpartition("/")[2],
            ref=bytes(ATTACHMENT_REF_BYTES),
            name="scan.jpg",
            media_type="image/jpeg",
        )
        await ann.told(conversation, kinds.encode(content))
        kept = box.file.parent / "data" / "attachments" / content.blob
        await comes_true(kept.exists)
        assert kept.read_bytes() == data
        (message,) = of_type(box.records(), RecordType.MESSAGE)
        assert message.flags & RecordFlags.ATTACHMENT
        await comes_true(lambda: all(data[:64] not in kept for kept in at.files().values()))


async def test_until_officers_have_keys_nothing_is_read_or_let_go_of_and_then_all_is_archived(
    tmp_path: Path,
) -> None:
    names = ["ann/phone", "ben/phone"]
    async with hospital_without_archive(tmp_path, names) as (organisation, at, archive):
        task = asyncio.create_task(serve(archive))
        members = [Device(at.hospital.people[name], at) for name in names]
        ann, ben = members
        for member in members:
            await member.connect()
        async with asyncio.timeout(60):
            while True:
                try:
                    await ann.publish(5)
                    await ben.publish(5)
                    conversation = ann.begin()
                    await ann.stage(conversation, add=sorted([DeviceId(RECORDER), ben.name]))
                    break
                except NoKeyPackageError:
                    await asyncio.sleep(0.2)
        status = archive.data / "status.json"
        await comes_true(
            lambda: status.exists() and "OFFICERS" in json.loads(status.read_text())["alarms"]
        )
        await asyncio.sleep(3)
        assert ann.talks[conversation].mls.epoch == 0
        intray = Intray(archive.files.log.log, founding.database_key(archive.files))
        assert intray.store.rows("SELECT * FROM epoch") == []
        await published(organisation, at, archive)
        await ann.reaches(conversation, 1)
        await ben.reaches(conversation, 1)
        sent = [await ben.told(conversation, b"at last")]
        await ann.sees(conversation, b"at last")
        await comes_true(lambda: hashes_of(sent) <= set(intray.store.all_seen()))
        assert len(intray.store.rows("SELECT * FROM epoch")) == 1
        intray.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_archive_whose_host_is_lost_is_restored_from_its_mirror_without_a_message_less(
    tmp_path: Path,
) -> None:
    async with hospital_with_archive(tmp_path, ["ann/phone"]) as (_, at, box):
        await box.stop()
        settings = box.file.read_text()
        box.file.write_text(settings.replace('mirror = ""', f'mirror = "{tmp_path / "mirror"}"'))
        box.start()
        (ann,), conversation = await gathered(at, "ann/phone")
        sent = [await ann.told(conversation, b"text %d" % n) for n in range(20)]
        # What the relay was told to let go of is in the mirror.
        await comes_true(lambda: not any(m in f for m in sent for f in at.files().values()))
        await box.is_lost_and_restored(tmp_path / "mirror", tmp_path / "lost")
        box.file.write_text(settings)
        box.start()
        await box.until_it_holds(hashes_of(sent))
        await recorded(box, ann, conversation, b"after", count=1)
        assert "FINDING" not in await box.command("verify")
