"""The log: records go in, receipts come out, and nothing that got a receipt can be lost or changed.

The order is the point. Leaves, bodies, record keys and tiles are one synced transaction; then the
checkpoint over them is signed, by compare-and-swap in a file apart from the log; then the witness
cosigns it; only then is there a receipt. Killed between two of these steps, the log is ahead of
what it signed or what was cosigned, and the next call goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from archive.batch import Batch, Entry
from archive.body import open_body, open_salted
from archive.errors import ConflictError, DamagedError, HistoryError, ShreddedError
from archive.head import Head, create_head
from archive.record import Record, conversation_tag, log_id
from archive.store import Store, create_store
from crypto.checkpoint import Checkpoint, verify_cosignature
from crypto.errors import CryptoError, InvalidError, UsageError
from crypto.log_proof import LogProof
from crypto.merkle import Frontier
from crypto.note import Note, NoteSignature, SignerKey, VerifierKey
from crypto.tiles import Tile, TiledTree
from crypto.witness import STALE, AddCheckpoint, RefusedError

MAX_BATCH = 100
"""Records in one transaction at most: beyond it the sync's share in the cost is small already."""

Cosigner = Callable[[AddCheckpoint], NoteSignature]
"""Asks the witness. Raises what the transport raises, and ``RefusedError`` for a refusal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFiles:
    """Where a log is; ``head`` is best on another disk than ``log``.

    Attributes:
        log: The encrypted database.
        head: The last checkpoint signed.
    """

    log: Path
    head: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class LogKeys:
    """What an instance that records must hold; no ``repr`` shows a secret.

    Attributes:
        database: ``database.KEY_BYTES`` bytes.
        signer: Signs checkpoints; its name is the log's origin.
        witness: The witness's configured key.
    """

    database: bytes = field(repr=False)
    signer: SignerKey
    witness: VerifierKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What stands in the log once its transaction has ended.

    Attributes:
        indices: Of each entry, old or new.
        salts: Of the new ones, by index.
    """

    indices: tuple[int, ...]
    salts: Mapping[int, bytes] = field(repr=False)


class Log:
    """The open log, used by one thread at a time.

    Beside what each method names, all raise ``DamagedError``, ``StoreFailedError``,
    ``StoreFullError`` and ``ConflictError``. After any of these but ``StoreFullError`` the log is
    opened anew before it is used again.
    """

    def __init__(self, files: LogFiles, keys: LogKeys, *, cosigner: Cosigner) -> None:
        """Open the log that ``create_log`` made.

        Raises:
            FileNotFoundError: A file is missing.
            HistoryError: The log does not continue what was signed.
        """
        self._keys = keys
        self._cosigner = cosigner
        self._witnessed = 0
        self._note: Note | None = None
        self._store = Store(files.log, keys.database)
        try:
            self._head = Head(files.head)
            self._load()
        except BaseException:
            self.close()
            raise

    def _load(self) -> None:
        if self._store.log_id != log_id(self._keys.signer.verifier):
            raise DamagedError("log")
        self._signed = self._head.verified(self._keys.signer.verifier)
        size = self._store.size()
        if size < self._signed.size:
            raise HistoryError
        try:
            root = self._tree(self._signed.size).root()
            self._frontier = _frontier(self._tree(size))
        except InvalidError:
            raise DamagedError("tile") from None
        if root != self._signed.root:
            raise HistoryError

    @property
    def size(self) -> int:
        """Leaves, those that no checkpoint covers yet included."""
        return self._frontier.size

    @property
    def signed(self) -> Checkpoint:
        """The last checkpoint signed."""
        return self._signed

    @property
    def store(self) -> Store:
        """The database, for the tables that stand beside the log."""
        return self._store

    @property
    def witness(self) -> VerifierKey:
        """The key by which cosignatures are verified."""
        return self._keys.witness

    @property
    def verifier(self) -> VerifierKey:
        """The key by which checkpoints are verified; its name is the log's origin."""
        return self._keys.signer.verifier

    def change_witness(self, key: VerifierKey) -> None:
        """Have another witness from now on, which may know less of the log."""
        self._keys = replace(self._keys, witness=key)
        self._witnessed = 0

    @property
    def id(self) -> bytes:
        """The log's identifier in each of its records."""
        return self._store.log_id

    def append(self, entries: Sequence[Entry], *, now_ms: int) -> tuple[LogProof, ...]:
        """Return a receipt for each entry: its proof under a checkpoint that is cosigned.

        A body that was recorded before gets the receipt of its old index. Where this raises, some
        or all of the entries may be recorded: repeat it.

        Args:
            entries: ``MAX_BATCH`` at most.
            now_ms: Now, in ms since the epoch.

        Raises:
            HistoryError: The witness has cosigned a larger or another tree.
            UsageError: The entries are too many.
            VerificationError: The cosignature is not the witness's.
        """
        indices = self.record(entries, now_ms=now_ms)
        note = self.publish()
        return self.receipts(indices, note)

    def record(self, entries: Sequence[Entry], *, now_ms: int) -> tuple[int, ...]:
        """Return each entry's index, once it is on the disk; no receipt may be given for it yet.

        Raises:
            UsageError: The entries are too many.
        """
        with self.recording(entries, now_ms=now_ms) as recorded:
            return recorded.indices

    @contextmanager
    def recording(self, entries: Sequence[Entry], *, now_ms: int) -> Iterator[Recorded]:
        """Record ``entries`` in one transaction with what the block changes in ``store``.

        It is on the disk once the block has ended; where that raises, nothing has changed.

        Raises:
            UsageError: The entries are too many.
        """
        if len(entries) > MAX_BATCH:
            raise UsageError("a batch has 100 entries at most")
        with self._adding(now_ms) as batch:
            indices = batch.add(entries) if entries else ()
            yield Recorded(indices=indices, salts=batch.salts)

    def replace_bodies(self, indices: Sequence[int], entry: Entry, *, now_ms: int) -> int:
        """Delete the bodies and record keys of ``indices``, in one transaction with their record.

        What is deleted is overwritten in the file and its journal emptied. Whether it may be
        deleted is for the caller to know: this is ``archive.shredding``'s, and nobody else's.

        Args:
            indices: Of records.
            entry: The record that says which bodies went.
            now_ms: Now, in ms since the epoch.
        """
        with self._adding(now_ms) as batch:
            (index,) = batch.add([entry])
            self._store.delete_bodies(indices)
        self._store.truncate_journal()
        return index

    @contextmanager
    def _adding(self, now_ms: int) -> Iterator[Batch]:
        with self._store.transaction():
            # Inside the transaction, so that of two instances the second sees the first's leaves.
            if self._store.size() != self._frontier.size:
                raise ConflictError
            batch = Batch(self._store, self._frontier, now_ms=now_ms)
            yield batch
            self._store.insert(batch.rows())
        self._frontier = batch.frontier

    def sign(self) -> Note:
        """Return the checkpoint of all that is recorded, signed once and for all.

        Raises:
            ConflictError: Another instance signed since this one did; it must stop.
        """
        if self._note is None or self._signed.size != self._frontier.size:
            self._note = self._signed_note()
        return self._note

    def _signed_note(self) -> Note:
        if self._signed.size == self._frontier.size:
            return self._head.read()
        origin = self._keys.signer.name
        new = Checkpoint(origin=origin, size=self._frontier.size, root=self._frontier.root())
        note = self._head.sign(new, was=self._signed, key=self._keys.signer)
        self._signed = new
        return note

    def signed_note(self) -> Note:
        """Return the last checkpoint that was signed, as it was signed."""
        return self._head.read()

    def publish(self) -> Note:
        """Return the checkpoint of all that is recorded, signed and cosigned.

        Raises:
            HistoryError: The witness has cosigned a larger or another tree.
            VerificationError: The cosignature is not the witness's.
        """
        request = self.request()
        try:
            signature = self._cosigner(request)
        except RefusedError as refusal:
            self.correct(refusal)
            request = self.request()
            try:
                signature = self._cosigner(request)
            except RefusedError:
                raise HistoryError from None
        return self.accept(request.note, signature)

    def request(self) -> AddCheckpoint:
        """Return what the witness is asked to cosign: all that is recorded, signed.

        Raises:
            ConflictError: Another instance signed since this one did; it must stop.
        """
        note = self.sign()
        proof: tuple[bytes, ...] = ()
        if self._witnessed:
            proof = self._tree(self._signed.size).consistency_proof(self._witnessed)
        return AddCheckpoint(old_size=self._witnessed, proof=proof, note=note)

    def correct(self, refusal: RefusedError) -> None:
        """Take in that the witness knows another size than was believed; ask once more then.

        Raises:
            HistoryError: It has cosigned a larger or another tree: this log was set back.
        """
        if refusal.status != STALE or refusal.stored_size > self._signed.size:
            raise HistoryError
        # It has cosigned more than this instance remembers, as after a restart.
        self._witnessed = refusal.stored_size

    def accept(self, note: Note, signature: NoteSignature) -> Note:
        """Return the checkpoint of a ``request`` with the witness's cosignature, verified.

        Raises:
            VerificationError: The cosignature is not the witness's.
        """
        cosigned = note.with_signatures(signature)
        verify_cosignature(cosigned, self._keys.witness)
        self._witnessed = max(self._witnessed, Checkpoint.decode(note.text).size)
        return cosigned

    def receipts(self, indices: Sequence[int], note: Note) -> tuple[LogProof, ...]:
        """Return the proof of each record under the checkpoint in ``note``.

        Args:
            indices: Of records that the checkpoint covers.
            note: What ``publish`` returned.

        Raises:
            UsageError: The checkpoint covers no such record.
        """
        size = Checkpoint.decode(note.text).size
        tree = TiledTree(size=size, source=self._store.tile)
        return tuple(
            LogProof(index=index, proof=tree.inclusion_proof(index), note=note) for index in indices
        )

    def consistency_proof(self, *, old_size: int, size: int) -> tuple[bytes, ...]:
        """Return the proof that the tree of ``size`` begins with that of ``old_size``.

        Raises:
            UsageError: There are no such trees.
        """
        return self._tree(size).consistency_proof(old_size)

    def root(self, size: int) -> bytes:
        """Return the root of the tree of the first ``size`` leaves.

        Raises:
            UsageError: There are not so many.
        """
        return self._tree(size).root()

    def tile(self, tile: Tile) -> bytes:
        """Return a tile, for whoever audits or mirrors the log."""
        return self._store.tile(tile)

    def read(self, index: int) -> Record:
        """Return the record at ``index``.

        Raises:
            UsageError: There is none.
        """
        data = self._store.leaf(index)
        if data is None:
            raise UsageError("the log has no such record")
        try:
            return Record.decode(data)
        except CryptoError:
            raise DamagedError("leaf") from None

    def records(self) -> Iterator[Record]:
        """Yield every record in order."""
        for index in range(self.size):
            yield self.read(index)

    def body(self, index: int) -> bytes:
        """Return the body at ``index`` as it was given: for a message the MLSMessage, still sealed.

        Raises:
            ShreddedError: It was shredded.
            UsageError: There is no such record.
        """
        record, kept = self.read(index), self._store.body(index)
        if kept is None:
            raise ShreddedError
        ciphertext, record_key = kept
        try:
            return open_body(ciphertext, record_key=record_key, record=record)
        except CryptoError:
            raise DamagedError("body") from None

    def salt_of(self, index: int) -> bytes | None:
        """Return what the record at ``index`` commits with, or ``None`` once it was shredded.

        Raises:
            UsageError: There is no such record.
        """
        record, kept = self.read(index), self._store.body(index)
        if kept is None:
            return None
        try:
            salt, _ = open_salted(kept[0], record_key=kept[1], record=record)
        except CryptoError:
            raise DamagedError("body") from None
        return salt

    def has_body(self, index: int) -> bool:
        """Tell whether the body at ``index`` is still kept."""
        return self._store.body(index) is not None

    def index_of(self, body_hash: bytes) -> int | None:
        """Return where a body stands, by its SHA-256, or ``None``."""
        return self._store.seen([body_hash]).get(body_hash)

    def tag_of(self, group_id: bytes) -> bytes:
        """Return what names a conversation in this log's records."""
        return conversation_tag(self._store.conversation_key, group_id)

    def close(self) -> None:
        """Let go of the files."""
        self._store.close()
        if hasattr(self, "_head"):
            self._head.close()

    def _tree(self, size: int) -> TiledTree:
        return TiledTree(size=size, source=self._store.tile)


def create_log(files: LogFiles, keys: LogKeys) -> None:
    """Make the files of a new log, whose first checkpoint is that of the empty tree.

    Raises:
        FileExistsError: There is a file.
        StoreFullError: There is no room.
        StoreFailedError: The disk failed.
    """
    create_store(files.log, keys.database, log_id=log_id(keys.signer.verifier))
    create_head(files.head, keys.signer)


def _frontier(tree: TiledTree) -> Frontier:
    """Return the right edge of a tree, from its tiles."""
    hashes, start = [], 0
    for level in reversed(range(tree.size.bit_length())):
        if tree.size >> level & 1:
            hashes.append(tree.subtree_root(start, start + (1 << level)))
            start += 1 << level
    return Frontier(size=tree.size, hashes=tuple(hashes))
