"""Backups of an archive, and beginning again from one: never with used keys, never a silent fork.

A backup holds the log, its index, the authority and the officers' letters, all encrypted under the
key that is kept elsewhere, and the attachments as they were uploaded; it holds nothing of the
recorder's live state, whose keys would be used twice. An archive that is begun from a backup signs
nothing before its witness has said how much it knows. Where that is more than the backup has, the
old log can never go on: a new one begins under a new origin, its first record names the old log and
how large it had grown, and everything that the backup has is recorded in it anew.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archive import founding, uploads
from archive.authority_store import AuthorityStore
from archive.batch import Entry
from archive.body import open_body
from archive.configuration import ConfigurationError
from archive.database import connect_plain, translating
from archive.desk import Desk
from archive.errors import ShreddedError
from archive.evidence import Gap
from archive.founding import Files
from archive.index import EpochPlace, Index
from archive.log import MAX_BATCH, Log, LogFiles, LogKeys, create_log
from archive.record import Record, RecordType, bucket_tag, conversation_tag
from archive.roster import Roster
from archive.segment import SealedSegment
from archive.shredding import ARCHIVE_BUCKET
from archive.store import INDEX_TABLES, LOG_TABLES, Store, create_store
from crypto.note import NoteSignature, SignerKey
from crypto.witness import AddCheckpoint
from storage import encrypted
from storage.files import create_private, replace_private, sync_directory, write_private

RESTORED = "restored"
"""File in the data directory: the witness must be asked before anything is signed."""

MIRRORED = "mirrored"
"""File of a mirror: its records are complete, and what follows from them may be a minute older."""

RENEWED, FORMER = "renewed", "former"
"""Directories: the log of a new origin while it is made, and the logs that ended."""

_NEW_LOG_KEY = "new log key"
_MADE = "made"
"""File beside a new log that is whole; it names the directory for the former one."""

_TABLE = re.compile(r"CREATE TABLE (\w+)\(")


def backup(folder: Path, files: Files, key: bytes, target: Path) -> None:
    """Copy an archive, which may be running, to a directory that does not exist yet.

    Args:
        folder: Of the configuration.
        files: Where the archive's files are.
        key: Of its databases, and of the copy's; it is not in the copy.
        target: The directory to make.

    Raises:
        FileExistsError: There is one.
        ArchiveError: A database cannot be read, or the copy not be written.
    """
    target.mkdir(mode=0o700, parents=True)
    # The head first: a log that is ahead of what it signed goes on, one that is behind does not.
    copy_head(files.log.head, target / founding.HEAD_FILE)
    copy_log(files.log.log, target / founding.LOG_FILE, key)
    with closing(AuthorityStore(files.authority, key)) as store:
        store.copy_to(target / founding.AUTHORITY_FILE, key)
    with closing(Desk(files.desk, key)) as desk:
        desk.copy_to(target / founding.DESK_FILE, key)
    # Last: what the log names by then is there, or is still at the relay.
    source = files.authority.parent / uploads.FOLDER
    uploads.copy(source, target / uploads.FOLDER, uploads.kept(source))
    for name in (founding.ROOT_FILE, founding.LOG_KEY_FILE, founding.WITNESS_KEY_FILE):
        if (folder / name).exists():
            write_private(target / name, (folder / name).read_bytes())
    sync_directory(target)


def copy_log(source: Path, target: Path, key: bytes) -> None:
    """Copy a log with its index, as it is at one instant, without the live state."""
    with closing(Store(source, key)) as store:
        create_store(target, key, log_id=store.log_id)
    tables = [_TABLE.match(text) for text in (*LOG_TABLES, *INDEX_TABLES)]
    with translating("log"), closing(encrypted.connect(target, key)) as db:
        db.execute(f"ATTACH DATABASE ? AS source KEY \"x'{key.hex()}'\"", (str(source),))
        db.execute("BEGIN IMMEDIATE")
        db.execute("DELETE FROM identity")
        for match in tables:
            if match is not None:
                name = match.group(1)
                db.execute(f"INSERT INTO main.{name} SELECT * FROM source.{name}")  # noqa: S608 - ours
        db.execute("COMMIT")
        db.execute("DETACH DATABASE source")


def copy_head(source: Path, target: Path) -> None:
    """Copy the file of the last checkpoint signed."""
    create_private(target)
    with translating("head"), closing(connect_plain(source)) as old:
        made: Any = sqlite3.connect(target)
        with closing(made) as new:
            old.backup(new)
    sync_directory(target.parent)


def restore(folder: Path, files: Files, source: Path, *, key: bytes) -> None:
    """Put a backup into the place of an archive that is lost; the key's file is there already.

    Raises:
        ConfigurationError: There is something in that place, or the source is no backup.
        ArchiveError: The backup's log is damaged.
        OSError: The files cannot be copied.
    """
    data = files.authority.parent
    if data.exists() and any(data.iterdir()):
        raise ConfigurationError(f"{data}: a backup is put where nothing is")
    names = (founding.LOG_FILE, founding.AUTHORITY_FILE, founding.DESK_FILE, founding.HEAD_FILE)
    if not all((source / name).is_file() for name in names):
        raise ConfigurationError(f"{source}: no backup of an archive")
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    # First, so that a copy that broke off is never taken for an archive that may sign.
    mirrored = (source / MIRRORED).exists()
    write_private(data / RESTORED, MIRRORED.encode() if mirrored else b"")
    # A mirror's last records may still be in its journal, which a copy of the file would lack.
    copy_log(source / founding.LOG_FILE, files.log.log, key)
    for name in (founding.AUTHORITY_FILE, founding.DESK_FILE):
        _copy(source / name, data / name)
    _copy(source / founding.HEAD_FILE, files.log.head)
    uploads.copy(
        source / uploads.FOLDER, data / uploads.FOLDER, uploads.kept(source / uploads.FOLDER)
    )
    with closing(Store(files.log.log, key)) as store:
        uploads.ask_again(store, data / uploads.FOLDER)
    for name in (founding.ROOT_FILE, founding.LOG_KEY_FILE, founding.WITNESS_KEY_FILE):
        if (source / name).exists() and not (folder / name).exists():
            _copy(source / name, folder / name)


def _copy(source: Path, target: Path) -> None:
    write_private(target, source.read_bytes())


def is_restored(files: Files) -> bool:
    """Tell whether the archive was put there from a backup, and its witness is yet to be asked."""
    return (files.authority.parent / RESTORED).exists()


def may_go_on(files: Files) -> bool:
    """Tell whether the restored log may be continued: a mirror's is recorded anew in any case."""
    return not (files.authority.parent / RESTORED).read_bytes()


def settled(files: Files) -> None:
    """Note that the witness was asked, and that the archive goes on."""
    (files.authority.parent / RESTORED).unlink()
    sync_directory(files.authority.parent)


# A new origin.


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """An archive whose log cannot go on.

    Attributes:
        folder: Of the configuration.
        files: Where its files are.
        known: Leaves of the old log that its witness knows.
    """

    folder: Path
    files: Files
    known: int

    @property
    def renewed(self) -> LogFiles:
        """Where the new log is made."""
        place = self.files.authority.parent / RENEWED
        return LogFiles(log=place / founding.LOG_FILE, head=place / founding.HEAD_FILE)


def is_renewing(files: Files) -> bool:
    """Tell whether a new log is made and is yet to take its place: nothing else may be done."""
    return (files.authority.parent / RENEWED / _MADE).exists()


def renew(renewal: Renewal, authority: AuthorityStore, key: bytes, *, now_ms: int) -> None:
    """Begin a new log under a new origin that holds what the old one has; the archive is settled.

    Broken off at any point it is done again; the old files stay, in a directory of their own.

    Raises:
        ArchiveError: The old log cannot be read, or the new one not be written.
    """
    if not is_renewing(renewal.files):
        _build(renewal, authority, key, now_ms=now_ms)
    _swap(renewal)
    kept = authority.secret(_NEW_LOG_KEY)
    assert kept is not None  # noqa: S101 - kept before the log was made
    with authority.transaction():
        authority.put_secret(founding.LOG_KEY, kept)
    verifier = SignerKey.decode(kept.decode()).verifier
    replace_private(renewal.folder / founding.LOG_KEY_FILE, verifier.encode().encode() + b"\n")
    settled(renewal.files)
    shutil.rmtree(renewal.renewed.log.parent, ignore_errors=True)


def _build(renewal: Renewal, authority: AuthorityStore, key: bytes, *, now_ms: int) -> None:
    """Make the new log beside the old one, and say so once it is whole."""
    place = renewal.renewed.log.parent
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o700)
    signer = founding.new_log_key(founding.log_signer(authority).name)
    with authority.transaction():
        authority.put_secret(_NEW_LOG_KEY, signer.encode().encode())
    keys = LogKeys(database=key, signer=signer, witness=signer.verifier)
    create_log(renewal.renewed, keys)
    with closing(Store(renewal.files.log.log, key)) as old:
        _keep_conversation_key(renewal.renewed.log, old, key)
        with closing(Log(renewal.renewed, keys, cosigner=_nobody)) as log:
            _record_anew(old, log, renewal, old_key=founding.log_signer(authority), now_ms=now_ms)
    former = renewal.files.authority.parent / FORMER
    former.mkdir(mode=0o700, exist_ok=True)
    write_private(place / _MADE, f"{sum(1 for _ in former.iterdir())}".encode())


def _nobody(_request: AddCheckpoint) -> NoteSignature:
    raise AssertionError("nothing is witnessed while a log is made")


def _keep_conversation_key(target: Path, old: Store, key: bytes) -> None:
    """Let conversations and patients keep their tags."""
    with translating("log"), closing(encrypted.connect(target, key)) as db:
        db.execute("UPDATE identity SET conversation_key=?", (old.conversation_key,))


def _record_anew(
    old: Store, log: Log, renewal: Renewal, *, old_key: SignerKey, now_ms: int
) -> None:
    gap = Gap(
        log=b"",
        after=old.size(),
        before=renewal.known,
        at_ms=now_ms,
        origin=old_key.name.encode(),
        size=renewal.known,
    )
    first = Entry(type=RecordType.RESTORE_OR_GAP, body=gap.encode(), bucket=ARCHIVE_BUCKET)
    log.record([first], now_ms=now_ms)
    places = {row[0]: row[1:] for row in old.rows("SELECT * FROM place")}
    names = _bucket_names(old)
    batch: list[tuple[int, Entry]] = []
    for index, entry in _entries(old, names):
        batch.append((index, entry))
        if len(batch) == MAX_BATCH:
            _record_batch(log, batch, places, now_ms=now_ms)
            batch = []
    _record_batch(log, batch, places, now_ms=now_ms)
    _copy_rest(old, log)
    log.sign()


def _entries(old: Store, names: dict[bytes, bytes]) -> Iterator[tuple[int, Entry]]:
    """Yield what the old log has, but for what was shredded."""
    groups = {tag: end.group_id for tag, end in old.conversations().items()}
    for (group_id,) in old.rows("SELECT DISTINCT group_id FROM place"):
        groups[conversation_tag(old.conversation_key, group_id)] = group_id
    for index, leaf in old.leaves():
        record = Record.decode(leaf)
        try:
            body = read_body(old, record)
        except ShreddedError:
            continue
        yield (
            index,
            Entry(
                type=record.type,
                body=body,
                bucket=names.get(record.bucket, ARCHIVE_BUCKET),
                group_id=groups.get(record.conv_tag, b""),
                epoch=record.epoch,
                flags=record.flags,
            ),
        )


def read_body(store: Store, record: Record) -> bytes:
    """Return a record's body, as it was given.

    Raises:
        ShreddedError: It was shredded.
        VerificationError: It is not what the leaf commits to.
    """
    kept = store.body(record.index)
    if kept is None:
        raise ShreddedError
    return open_body(kept[0], record_key=kept[1], record=record)


def _bucket_names(old: Store) -> dict[bytes, bytes]:
    """Return the buckets' names by their tags, as the sealed segments tell them."""
    names = {bucket_tag(ARCHIVE_BUCKET): ARCHIVE_BUCKET}
    for _, leaf in old.leaves():
        record = Record.decode(leaf)
        if record.type is RecordType.EPOCH_KEYS and record.bucket not in names:
            with suppress(ShreddedError):
                segment = SealedSegment.decode(read_body(old, record))
                names[bucket_tag(segment.name.bucket)] = segment.name.bucket
    return names


def _record_batch(
    log: Log, batch: list[tuple[int, Entry]], places: dict[int, Any], *, now_ms: int
) -> None:
    entries = [entry for _, entry in batch]
    index = Index(log.store)
    keys: dict[tuple[bytes, int], int] = {}
    with log.recording(entries, now_ms=now_ms) as recorded:
        for (old_index, entry), at in zip(batch, recorded.indices, strict=True):
            if old_index in places:
                log.store.change(
                    "INSERT OR IGNORE INTO place VALUES(?,?,?,?,?,?)", at, *places[old_index]
                )
            name = (entry.group_id, entry.epoch)
            if entry.type is RecordType.EPOCH_KEYS:
                keys[name] = at
                index.reseal(*name, keys=at)
            elif entry.type is RecordType.ROSTER and name in keys:
                place = EpochPlace(epoch=entry.epoch, keys=keys[name], roster=at, began_ms=now_ms)
                index.add_epoch(Roster.decode(entry.body), place, users=())


def _copy_rest(old: Store, log: Log) -> None:
    """Copy what the records do not say: who was where, and how far the relay's logs were read."""
    with log.store.transaction():
        for row in old.rows("SELECT group_id, epoch, began_ms FROM epoch"):
            log.store.change(
                "UPDATE epoch SET began_ms=? WHERE group_id=? AND epoch=?", row[2], row[0], row[1]
            )
        for table, marks in (
            ("member", 3),
            ("patient", 2),
            ("context", 2),
            ("officer_key", 4),
            ("attachment", 3),
            ("followed", 4),
        ):
            values = ",".join("?" * marks)
            log.store.change_many(
                f"REPLACE INTO {table} VALUES({values})",
                old.rows(f"SELECT * FROM {table}"),  # noqa: S608 - names from above
            )


def _swap(renewal: Renewal) -> None:
    """Put the new log in the place of the old one, which is kept; what is done is not done again.

    For a moment there is no log. Nobody may open the old one under a name that the new one gets.
    """
    files, renewed = renewal.files.log, renewal.renewed
    place = renewal.files.authority.parent / FORMER / (renewed.log.parent / _MADE).read_text()
    place.mkdir(mode=0o700, exist_ok=True)
    if renewed.log.exists():
        for path in sorted(files.log.parent.glob(founding.LOG_FILE + "*")):
            path.rename(place / path.name)
        sync_directory(place)
        renewed.log.rename(files.log)
        sync_directory(files.log.parent)
    if renewed.head.exists():
        # The head may lie on another disk.
        if not (place / founding.HEAD_FILE).exists():
            replace_private(place / founding.HEAD_FILE, files.head.read_bytes())
        replace_private(files.head, renewed.head.read_bytes())
        renewed.head.unlink()
