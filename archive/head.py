"""The head: the last checkpoint that was signed, in a file apart from the log.

No signature is made but by compare-and-swap in this file. So of two instances with one key the
second stops, and a log that was set back is noticed before it signs a second history.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from archive.database import connect_plain, transaction, translating
from archive.errors import ConflictError, DamagedError
from crypto.checkpoint import Checkpoint, sign_checkpoint, verify_checkpoint
from crypto.errors import CryptoError, UsageError
from crypto.merkle import EMPTY_ROOT
from crypto.note import Note, SignerKey, VerifierKey
from storage.files import create_private, sync_directory

_STATEMENT = "CREATE TABLE head(id INTEGER PRIMARY KEY, note BLOB NOT NULL)"


class Head:
    """The open file."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise FileNotFoundError(path.name)
        with translating("head"):
            self._db = connect_plain(path)

    def read(self) -> Note:
        """Return the checkpoint's note, as yet unverified.

        Raises:
            DamagedError: There is none.
        """
        with translating("head"):
            row = self._db.execute("SELECT note FROM head WHERE id=1").fetchone()
        try:
            return Note.decode(row[0])
        except (CryptoError, TypeError):
            raise DamagedError("head") from None

    def verified(self, key: VerifierKey) -> Checkpoint:
        """Return the last checkpoint that was signed with ``key``.

        Raises:
            DamagedError: There is none.
        """
        try:
            return verify_checkpoint(self.read(), key)
        except CryptoError:
            raise DamagedError("head") from None

    def sign(self, new: Checkpoint, *, was: Checkpoint, key: SignerKey) -> Note:
        """Return ``new``, signed, once it has taken the place of ``was``.

        The caller knows that the tree of ``new`` begins with that of ``was``.

        Raises:
            ConflictError: The last checkpoint signed is not ``was``: another instance signs.
            DamagedError: The file is not what was written.
            UsageError: ``new`` is no larger than ``was``.
        """
        if new.size <= was.size:
            raise UsageError("a new checkpoint is larger than the last")
        # Signed inside the transaction: no two signatures can follow one checkpoint, and none
        # leaves this function before it is on the disk.
        with transaction(self._db, "head"):
            if self.verified(key.verifier) != was:
                raise ConflictError
            note = sign_checkpoint(new, key)
            self._db.execute("UPDATE head SET note=? WHERE id=1", (note.encode(),))
        return note

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()


def create_head(path: Path, key: SignerKey) -> None:
    """Make the file of a new log: it has signed the empty tree.

    Raises:
        FileExistsError: There is a file.
        StoreFullError: There is no room.
        StoreFailedError: The disk failed.
    """
    put_head(path, sign_checkpoint(Checkpoint(origin=key.name, size=0, root=EMPTY_ROOT), key))


def put_head(path: Path, note: Note) -> None:
    """Make the file of a log whose last checkpoint was ``note``, durable when this returns.

    Raises:
        FileExistsError: There is a file.
        StoreFullError: There is no room.
        StoreFailedError: The disk failed.
    """
    create_private(path)
    with translating("head"), closing(connect_plain(path)) as db, transaction(db, "head"):
        db.execute(_STATEMENT)
        db.execute("INSERT INTO head VALUES(1, ?)", (note.encode(),))
    sync_directory(path.parent)
