"""The mirror: a second copy of the log, which has every record before the relay lets go of it.

It lies on another disk or a mounted one, under the same key, in the layout of a backup: an archive
whose host is lost is restored from it. With each checkpoint, before anything is acknowledged, go
over the records, what finds those of the conversations that they are in, and the authority's or the
officers' files where they tell of them. The rest, such as how far quiet logs were read, goes over
now and then.
"""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Any

from archive import copying, founding, uploads
from archive.authority_store import AuthorityStore
from archive.database import connect_plain, transaction, translating
from archive.desk import Desk
from archive.founding import RECORDER, Files
from archive.record import RecordType
from client.pace import is_due
from crypto.note import Note
from protocol.identifiers import AUDIT_LOG, CONTROL_LOG, DeviceId, inbox_log
from storage import encrypted
from storage.files import sync_directory, write_private

REST_MS = 60_000
"""How often, in ms, all that is beside the records goes over: index, authority and letters."""

_WHERE = "mirror"

_BY_INDEX = ("leaf", "body", "record_key", "place")
"""Tables whose new rows are those behind the last index."""

_TOUCHED = "(SELECT DISTINCT group_id FROM source.place WHERE idx >= :before)"
"""Conversations with new records."""

_EPOCHS = f"""(SELECT group_id, epoch FROM source.epoch WHERE group_id IN {_TOUCHED}
    AND (keys_idx >= :before OR roster_idx >= :before))"""  # noqa: S608 - ours
"""Epochs that are new, or whose keys were shared anew."""

_BY_CONVERSATION = {
    "epoch": f"(group_id, epoch) IN {_EPOCHS}",
    "member": f"(group_id, epoch) IN {_EPOCHS}",
    "patient": f"group_id IN {_TOUCHED}",
    "context": f"group_id IN {_TOUCHED}",
    "attachment": f"group_id IN {_TOUCHED} AND fetched = 0",
    "followed": f"log IN (SELECT CAST(x'63' || group_id AS BLOB) FROM {_TOUCHED})",  # noqa: S608 - ours
}
"""What is beside new records in the index, by table."""

_LOGS = (CONTROL_LOG, AUDIT_LOG, inbox_log(DeviceId(RECORDER)))
"""The relay's logs that are no conversation's."""

AUTHORITYS = frozenset(
    {RecordType.KEY_CEREMONY, RecordType.ADMINISTRATIVE_COMMAND, RecordType.WIPE_ORDER}
)
"""Records that come with a decision of the authority's."""

OFFICERS = frozenset(
    {
        RecordType.REVIEW_REQUEST,
        RecordType.APPROVAL,
        RecordType.SHARE_RELEASE,
        RecordType.HOLD_SET,
        RecordType.HOLD_RELEASED,
    }
)
"""Records that come with a letter of the officers'."""

_WHOLE = (
    "conversation",
    "epoch",
    "member",
    "patient",
    "context",
    "officer_key",
    "attachment",
    "followed",
)
"""Tables that go over as they are."""


class Mirror:
    """An open mirror of one archive's log, used by one thread at a time.

    Every method raises the archive's errors: a mirror that cannot be written stops acknowledging.
    """

    def __init__(self, folder: Path, files: Files, key: bytes) -> None:
        """Open the mirror in ``folder``, and make it where there is none.

        Raises:
            ArchiveError: It is another log's, damaged, or cannot be written.
        """
        self._folder, self._files, self._key = folder, files, key
        self._rest_ms = 0
        if not (folder / founding.LOG_FILE).exists():
            self._make()
        with translating(_WHERE):
            self._db: Any = encrypted.connect(folder / founding.LOG_FILE, key)
            attach = f"ATTACH DATABASE ? AS source KEY \"x'{key.hex()}'\""
            self._db.execute(attach, (str(files.log.log),))
        self._size = self._count()
        # Those that came before there was a mirror, or while it was away.
        source = files.authority.parent / uploads.FOLDER
        uploads.copy(source, self.attachments, uploads.kept(source))

    @property
    def attachments(self) -> Path:
        """Where each attachment must be before the relay may forget it."""
        return self._folder / uploads.FOLDER

    def _make(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        copying.copy_head(self._files.log.head, self._folder / founding.HEAD_FILE)
        copying.copy_log(self._files.log.log, self._folder / founding.LOG_FILE, self._key)
        write_private(self._folder / copying.MIRRORED, b"")

    def _count(self) -> int:
        with translating(_WHERE):
            return int(self._db.execute("SELECT coalesce(max(idx)+1, 0) FROM leaf").fetchone()[0])

    def follow(self, note: Note, *, now_ms: int) -> None:
        """Have every record that ``note`` covers, and the note; durable when this returns."""
        before = self._size
        with transaction(self._db, _WHERE):
            for table in _BY_INDEX:
                self._db.execute(
                    f"INSERT OR IGNORE INTO main.{table} "  # noqa: S608 - names from above
                    f"SELECT * FROM source.{table} WHERE idx >= ?",
                    (before,),
                )
            self._tiles(before)
            self._shredded(before)
            self._index(before)
            kinds = self._kinds(before)
        self._size = self._count()
        # After the records: what tells of a decision is there before the decision can be missed.
        if kinds & AUTHORITYS:
            self._follow_authority()
        if kinds & OFFICERS:
            self._follow_desk()
        self._head(note)
        if is_due(self._rest_ms, now_ms=now_ms, each_ms=REST_MS):
            self._rest_ms = now_ms
            self.follow_rest()

    def _tiles(self, before: int) -> None:
        """Take over the tiles that may have grown since the log had ``before`` leaves."""
        for level in range(8):
            self._db.execute(
                "REPLACE INTO main.tile SELECT * FROM source.tile WHERE level=? AND idx>=?",
                (level, before >> (8 * (level + 1))),
            )

    def _kinds(self, before: int) -> set[RecordType]:
        """Return the types of the new records."""
        query = "SELECT DISTINCT substr(record, 2, 1) FROM main.leaf WHERE idx >= ?"
        return {RecordType(row[0][0]) for row in self._db.execute(query, (before,))}

    def _index(self, before: int) -> None:
        """Take over what finds the new records."""
        for table, which in _BY_CONVERSATION.items():
            self._db.execute(
                f"REPLACE INTO main.{table} SELECT * FROM source.{table} WHERE {which}",  # noqa: S608 - ours
                {"before": before},
            )
        for log in _LOGS:
            self._db.execute(
                "REPLACE INTO main.followed SELECT * FROM source.followed WHERE log=?", (log,)
            )
        self._db.execute(
            "REPLACE INTO main.officer_key "
            "SELECT * FROM source.officer_key EXCEPT SELECT * FROM main.officer_key"
        )

    def _shredded(self, before: int) -> None:
        """Delete what the archive has deleted: where its new records say so, and only then."""
        if RecordType.SHRED in self._kinds(before):
            for table in ("body", "record_key"):
                self._db.execute(
                    f"DELETE FROM main.{table} WHERE idx NOT IN "  # noqa: S608 - names from above
                    f"(SELECT idx FROM source.{table})"
                )

    def _head(self, note: Note) -> None:
        with translating(_WHERE), closing(connect_plain(self._folder / founding.HEAD_FILE)) as db:
            db.execute("UPDATE head SET note=? WHERE id=1", (note.encode(),))

    def follow_rest(self) -> None:
        """Have the index, the authority and the letters as they are now."""
        with transaction(self._db, _WHERE):
            self._db.execute("INSERT OR IGNORE INTO main.seen SELECT * FROM source.seen")
            for table in _WHOLE:
                self._db.execute(
                    f"REPLACE INTO main.{table} SELECT * FROM source.{table}"  # noqa: S608 - ours
                )
        self._follow_authority()
        self._follow_desk()
        with translating(_WHERE):
            self._db.execute("PRAGMA main.wal_checkpoint(TRUNCATE)").fetchall()

    def _follow_authority(self) -> None:
        with closing(AuthorityStore(self._files.authority, self._key)) as authority:
            self._replace(founding.AUTHORITY_FILE, authority)

    def _follow_desk(self) -> None:
        with closing(Desk(self._files.desk, self._key)) as desk:
            self._replace(founding.DESK_FILE, desk)

    def _replace(self, name: str, store: AuthorityStore | Desk) -> None:
        made = self._folder / f"{name}.new"
        made.unlink(missing_ok=True)
        store.copy_to(made, self._key)
        os.replace(made, self._folder / name)  # noqa: PTH105 - the name changes hands in one step
        sync_directory(self._folder)

    def close(self) -> None:
        """Let go of the files."""
        self._db.close()
