"""The mirror: whatever was acknowledged is found in it, and leads on, whenever the host is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from archive import copying, founding, installation
from archive.authority_store import AuthorityStore
from archive.batch import Entry
from archive.desk import Desk
from archive.mirror import Mirror
from archive.record import RecordType
from archive.shredding import ARCHIVE_BUCKET, shred
from archive.store import Store
from bench.recorder import certified
from crypto.xwing import XWingKey
from protocol.content import kinds
from protocol.content.affairs import Card
from protocol.content.talk import ATTACHMENT_REF_BYTES, Attachment
from protocol.identifiers import ConversationId
from tests.archive.recording import Ward, ward
from tests.server.harness import now_ms

TABLES = (
    "leaf",
    "body",
    "record_key",
    "tile",
    "place",
    "epoch",
    "member",
    "patient",
    "context",
    "attachment",
    "officer_key",
    "followed",
)
"""What must be there at once; the others can be made anew, and come within a minute."""


def rows(store: Store, table: str) -> list[Any]:
    return sorted(store.rows(f"SELECT * FROM {table}"))


@pytest.fixture
def mirrored(tmp_path: Path) -> Iterator[tuple[Ward, Mirror]]:
    """An archive whose mirror has just taken everything over."""
    with ward(tmp_path / "archive") as made:
        files = made.archive.files
        with closing(Mirror(tmp_path / "mirror", files, founding.database_key(files))) as mirror:
            mirror.follow(made.publish(), now_ms=now_ms())
            yield made, mirror


def live_on(made: Ward) -> ConversationId:
    """Let happen what happens within a minute."""
    talk = made.conversation()
    assert made.take([talk.say(number) for number in range(5)])
    for content in (
        Card(title="Bed 4", patient="MRN-0042"),
        Attachment(
            blob="upload-1",
            ref=bytes(ATTACHMENT_REF_BYTES),
            name="scan.jpg",
            media_type="image/jpeg",
        ),
    ):
        talk.groups[0], message = talk.groups[0].encrypt(
            kinds.encode(content), authenticated_data=talk.said(talk.sequence)
        )
        assert made.take([talk.entry(message)])
    device = certified(made.archive, "newcomer/phone")
    made.recorder.note(RecordType.KEY_CEREMONY, [device.certificate], now_ms=now_ms())
    with made.log.store.transaction():
        key = XWingKey.generate().public_key
        made.recorder.index.add_officer_key("o1", b"clinical 2031Q1", key, issued_ms=2)
    return talk.id


def test_with_each_checkpoint_everything_goes_over_that_finds_its_records(
    mirrored: tuple[Ward, Mirror], tmp_path: Path
) -> None:
    made, mirror = mirrored
    live_on(made)
    mirror.follow(made.publish(), now_ms=now_ms())
    key = founding.database_key(made.archive.files)
    with closing(Store(tmp_path / "mirror" / founding.LOG_FILE, key)) as copy:
        for table in TABLES:
            assert rows(made.log.store, table) == rows(copy, table), table
            assert rows(copy, table), table
    with closing(AuthorityStore(tmp_path / "mirror" / founding.AUTHORITY_FILE, key)) as authority:
        assert authority.certificates() == made.archive.store.certificates()


def test_an_archive_restored_from_its_mirror_knows_a_conversation_that_had_just_begun(
    mirrored: tuple[Ward, Mirror], tmp_path: Path
) -> None:
    made, mirror = mirrored
    conversation = live_on(made)
    mirror.follow(made.publish(), now_ms=now_ms())
    key = founding.database_key(made.archive.files)
    file = made.archive.file
    made.archive.data.rename(tmp_path / "lost")
    copying.restore(file.parent, made.archive.files, tmp_path / "mirror", key=key)
    # Also where its witness knows no more: what follows from the records may be a minute older.
    assert not copying.may_go_on(made.archive.files)
    with installation.opened(file) as archive:
        renewal = copying.Renewal(folder=file.parent, files=archive.files, known=made.log.size)
        copying.renew(renewal, archive.store, key, now_ms=now_ms())
        with closing(archive.open_log(made.witness.key.verifier)) as log:
            recorder = archive.recorder(log)
            recorder.begin_again(bereft=True)
            assert recorder.rejoining == {conversation}
            assert recorder.index.of_patient("MRN-0042") == [conversation]
            assert recorder.index.unfetched(most=9) == ["upload-1"]
            assert len(recorder.index.of_user("user-1")) == 1
            (epoch,) = recorder.index.epochs(conversation)
            assert log.read(epoch.keys).type is RecordType.EPOCH_KEYS
            assert "newcomer/phone" in archive.authority.certificates()


def test_a_letter_of_the_officers_is_in_the_mirror_with_its_record(
    mirrored: tuple[Ward, Mirror], tmp_path: Path
) -> None:
    made, mirror = mirrored
    files, key = made.archive.files, founding.database_key(made.archive.files)
    with closing(Desk(files.desk, key)) as desk:
        with desk.transaction():
            desk.post((b"a letter",))
        entry = Entry(type=RecordType.APPROVAL, body=b"approved", bucket=ARCHIVE_BUCKET)
        made.log.record([entry], now_ms=now_ms())
        mirror.follow(made.publish(), now_ms=now_ms())
        with closing(Desk(tmp_path / "mirror" / founding.DESK_FILE, key)) as copy:
            assert copy.outgoing() == desk.outgoing() != []


def test_what_was_shredded_is_gone_from_the_mirror(
    mirrored: tuple[Ward, Mirror], tmp_path: Path
) -> None:
    made, mirror = mirrored
    entry = Entry(type=RecordType.MESSAGE, body=b"passing", bucket=b"passing")
    (index,) = made.log.record([entry], now_ms=now_ms())
    mirror.follow(made.publish(), now_ms=now_ms())
    key = founding.database_key(made.archive.files)
    with closing(Store(tmp_path / "mirror" / founding.LOG_FILE, key)) as copy:
        assert copy.body(index) is not None
        shred(made.log, b"passing", now_ms=now_ms())
        mirror.follow(made.publish(), now_ms=now_ms())
        assert copy.body(index) is None
