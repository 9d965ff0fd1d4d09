"""What the machine of a mirror keeps: the log's leaves, and beside them rows that it cannot read.

The leaves are as the log has them, so that the mirror itself sees that they lead from each
checkpoint to the next. All else is sealed under a key that stays with the archive; a row that is
shredded there is overwritten here.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path

from archive.database import connect_plain, translating
from archive.errors import DamagedError, HistoryError
from archive.record import Record, log_id
from crypto.checkpoint import Checkpoint, verify_checkpoint
from crypto.errors import CryptoError, InvalidError
from crypto.merkle import Frontier, leaf_hash, verify_consistency
from crypto.note import Note, VerifierKey
from storage import database
from storage.files import create_private, sync_directory

COPY_FILE = "mirror.db"
"""The file in a mirror's directory."""

_WHERE = "mirror"

_STATEMENTS = (
    "CREATE TABLE leaf(idx INTEGER PRIMARY KEY, record BLOB NOT NULL)",
    "CREATE TABLE sealed(name BLOB PRIMARY KEY, value BLOB NOT NULL)",
    "CREATE TABLE head(id INTEGER PRIMARY KEY, note BLOB NOT NULL, at_ms INTEGER NOT NULL)",
)


class Copy:
    """A mirror's open file, used by one thread at a time.

    Every method raises the archive's errors beside what it names.
    """

    def __init__(self, path: Path, log_key: VerifierKey) -> None:
        """Open the file that ``create_copy`` made, and see that its leaves are what was confirmed.

        Raises:
            FileNotFoundError: There is none.
            DamagedError: Leaves were changed or are missing, or the file is none of these.
        """
        if not path.exists():
            raise FileNotFoundError(path.name)
        self._log_key, self._log_id = log_key, log_id(log_key)
        self._begun = False
        with translating(_WHERE):
            self._db = connect_plain(path)
        try:
            with translating(_WHERE):
                self._db.execute("PRAGMA secure_delete=ON").fetchall()
            self._load()
        except BaseException:
            self.close()
            raise

    def _load(self) -> None:
        """Know the tree as it was confirmed last, and the leaves behind it."""
        last = self.last()
        size = 0 if last is None else last[0].size
        self._frontier = Frontier().extend(self._hashes(0, size))
        if last is not None and (self._frontier.size, self._frontier.root()) != (
            size,
            last[0].root,
        ):
            raise DamagedError("leaf")
        self._pending = list(self._hashes(size, None))

    def _hashes(self, first: int, end: int | None) -> Iterable[bytes]:
        query = "SELECT idx, record FROM leaf WHERE idx >= ? ORDER BY idx LIMIT ?"
        with translating(_WHERE):
            rows = self._db.execute(query, (first, -1 if end is None else end - first))
            for place, (index, record) in enumerate(rows, first):
                if index != place:
                    raise DamagedError("leaf")
                yield leaf_hash(record)

    def last(self) -> tuple[Checkpoint, int] | None:
        """Return the checkpoint that was confirmed last and when, in ms, or ``None`` before any.

        Raises:
            DamagedError: It is none of this log's.
        """
        with translating(_WHERE):
            row = self._db.execute("SELECT note, at_ms FROM head").fetchone()
        if row is None:
            return None
        try:
            return verify_checkpoint(Note.decode(row[0]), self._log_key), int(row[1])
        except CryptoError:
            raise DamagedError("head") from None

    @property
    def size(self) -> int:
        """Leaves, those behind the last checkpoint included."""
        return self._frontier.size + len(self._pending)

    @property
    def held(self) -> int:
        """Leaves under the last checkpoint: with them came all that stands beside them."""
        return self._frontier.size

    # What comes, inside ``begin`` and ``confirm`` or ``forget``.

    def begin(self) -> None:
        """Take what comes next together, or not at all."""
        if not self._begun:
            with translating(_WHERE):
                self._db.execute("BEGIN IMMEDIATE")
            self._begun = True

    def forget(self) -> None:
        """Leave it at what is on the disk: the connection ended before more was asked for.

        A full disk has ended the transaction by itself: what came with it is not here either.
        """
        if not self._begun:
            return
        with translating(_WHERE):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        self._pending = list(self._hashes(self._frontier.size, None))
        self._begun = False

    def take_leaves(self, first: int, records: Sequence[bytes]) -> None:
        """Take the records that follow.

        Raises:
            InvalidError: They are no records of this log, or others follow.
        """
        if first != self.size:
            raise InvalidError("records follow on each other")
        self.begin()
        for index, data in enumerate(records, first):
            record = Record.decode(data)
            if (record.index, record.log_id) != (index, self._log_id):
                raise InvalidError("a record says where it stands")
            with translating(_WHERE):
                self._db.execute("INSERT INTO leaf VALUES(?,?)", (index, data))
        self._pending += [leaf_hash(data) for data in records]

    def take_rows(self, rows: Sequence[tuple[bytes, bytes]]) -> None:
        """Take sealed rows, in the place of older ones."""
        self.begin()
        with translating(_WHERE):
            self._db.executemany("REPLACE INTO sealed VALUES(?,?)", rows)

    def drop_rows(self, names: Sequence[bytes]) -> None:
        """Delete rows that were shredded; what stood there is overwritten."""
        self.begin()
        with translating(_WHERE):
            self._db.executemany("DELETE FROM sealed WHERE name=?", [(name,) for name in names])

    def confirm(self, size: int, note: Note, proof: Sequence[bytes], *, now_ms: int) -> None:
        """Make what came durable, once it is seen to be what the log's key has signed.

        Args:
            size: Leaves that are asked for; more may be here.
            note: A checkpoint of the log's, of as many leaves or more.
            proof: That its tree begins with these leaves; empty where it is of these alone.
            now_ms: Now.

        Raises:
            HistoryError: It is not: the log was rewritten, set back or forked. What came is
                forgotten.
            VerificationError: The checkpoint is not of the log's key.
        """
        checkpoint = verify_checkpoint(note, self._log_key)
        grown = size - self._frontier.size
        if not 0 <= grown <= len(self._pending):
            raise HistoryError
        frontier = self._frontier.extend(self._pending[:grown])
        _check_begins(frontier, checkpoint, proof)
        self.begin()
        with translating(_WHERE):
            if size == checkpoint.size:
                values = (note.encode(), now_ms)
                self._db.execute("REPLACE INTO head VALUES(1,?,?)", values)
            self._db.execute("COMMIT")
        self._begun = False
        if size == checkpoint.size:
            self._frontier, self._pending = frontier, self._pending[grown:]

    # What is there.

    def leaves(self) -> list[bytes]:
        """Return all records in their order."""
        with translating(_WHERE):
            return [row[0] for row in self._db.execute("SELECT record FROM leaf ORDER BY idx")]

    def sealed(self) -> Generator[tuple[bytes, bytes], None, None]:
        """Yield every sealed row by its name; closed before this is, by who does not read all."""
        with translating(_WHERE):
            yield from self._db.execute("SELECT name, value FROM sealed")

    def note(self) -> Note | None:
        """Return the checkpoint that was confirmed last, as it was signed and cosigned."""
        with translating(_WHERE):
            row = self._db.execute("SELECT note FROM head").fetchone()
        return None if row is None else Note.decode(row[0])

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()


def _check_begins(frontier: Frontier, checkpoint: Checkpoint, proof: Sequence[bytes]) -> None:
    """Check that the checkpoint's tree begins with these leaves.

    Raises:
        HistoryError: It does not.
    """
    try:
        if frontier.size == 0 or frontier.size == checkpoint.size:
            same = frontier.size == 0 or frontier.root() == checkpoint.root
            if proof or not same:
                raise HistoryError
            return
        verify_consistency(
            proof,
            old_size=frontier.size,
            old_root=frontier.root(),
            size=checkpoint.size,
            root=checkpoint.root,
        )
    except CryptoError:
        raise HistoryError from None


def create_copy(path: Path) -> None:
    """Make an empty file, durable when this returns.

    Raises:
        FileExistsError: There is one.
        ArchiveError: It cannot be written.
    """
    create_private(path)
    with translating(_WHERE), closing(connect_plain(path)) as db, database.transaction(db):
        for statement in _STATEMENTS:
            db.execute(statement)
    sync_directory(path.parent)
