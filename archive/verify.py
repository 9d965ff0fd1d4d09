"""Audit of a log from its files alone: every leaf, tile, checkpoint, chain and body.

An audit says what is wrong and where, and goes on. It needs the last checkpoint that the auditor
knows from somewhere else: whoever holds every key can write a whole new history, and only that
checkpoint, a witness's or a device's, tells it from the true one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256

from archive.body import open_body
from archive.errors import ArchiveError
from archive.head import Head
from archive.log import LogFiles
from archive.record import (
    HASH_BYTES,
    NO_PREVIOUS,
    Record,
    RecordType,
    RecordView,
    bucket_tag,
    conversation_tag,
    log_id,
    view,
)
from archive.shredding import Holds, Shredding
from archive.store import Store
from crypto.checkpoint import Checkpoint
from crypto.errors import CryptoError, InvalidError
from crypto.merkle import Frontier, leaf_hash
from crypto.note import VerifierKey
from crypto.tiles import TILE_WIDTH, Tile, TiledTree, tiles_of


class Fault(StrEnum):
    """What is wrong."""

    DAMAGED = "a file or page cannot be read"
    FOREIGN = "the log is another's"
    HOLE = "a record is missing"
    RECORD = "what stands there is no record of this place in this log"
    TILE = "a tile is not that of the records"
    CHAIN = "a conversation's record does not follow the one before it"
    BODY = "a body or its key is missing, changed or too much"
    HELD = "a record was shredded while a hold covered it"
    INDEX = "a table by which records are found is not that of the records"
    CHECKPOINT = "the log is not what was signed last"
    ROLLED_BACK = "the log is smaller than a checkpoint that is known"
    FORKED = "the log does not begin with a checkpoint that is known"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        fault: What.
        index: Of the record or, for a tile, its first hash's place in its level; else ``None``.
    """

    fault: Fault
    index: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What an audit found.

    Attributes:
        size: Leaves without a hole from the first on.
        unsigned: Leaves beyond the last checkpoint that was signed: nobody has a receipt for them.
        findings: What is wrong; empty where all is well.
    """

    size: int
    unsigned: int
    findings: tuple[Finding, ...]


def audit(files: LogFiles, *, database_key: bytes, log_key: VerifierKey, last: Checkpoint) -> Audit:
    """Return what is wrong with a log that nothing writes to meanwhile.

    The journal is brought into the file, as every start does; audit a copy where that must not be.

    Args:
        files: Of the log or of a copy.
        database_key: Of the log's database.
        log_key: The log's *configured* key.
        last: The newest checkpoint that the auditor verified before, from a witness, a device or an
            earlier audit; for the first audit that of the empty tree.

    Raises:
        FileNotFoundError: A file is missing.
        UsageError: The database key has another length.
    """
    try:
        store = Store(files.log, database_key)
    except ArchiveError:
        return Audit(size=0, unsigned=0, findings=(Finding(fault=Fault.DAMAGED),))
    run = _Run(store)
    try:
        run.all(files, log_key, last)
    except ArchiveError:
        run.find(Fault.DAMAGED)
    finally:
        store.close()
    return Audit(size=run.size, unsigned=run.unsigned, findings=tuple(run.findings))


def audit_leaves(store: Store) -> Audit:
    """Return what is wrong with the leaves and tiles of a log, without its bodies.

    Raises:
        ArchiveError: The database cannot be read.
    """
    run = _Run(store)
    run.leaves()
    run.tiles()
    return Audit(size=run.size, unsigned=run.unsigned, findings=tuple(run.findings))


@dataclass(slots=True)
class _Run:
    """One audit, gathering what it finds."""

    store: Store
    findings: list[Finding] = field(default_factory=list)
    size: int = 0
    unsigned: int = 0
    chains: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)

    def find(self, fault: Fault, index: int | None = None) -> None:
        self.findings.append(Finding(fault=fault, index=index))

    def all(self, files: LogFiles, log_key: VerifierKey, last: Checkpoint) -> None:
        if self.store.damaged_pages():
            self.find(Fault.DAMAGED)
        if self.store.log_id != log_id(log_key):
            self.find(Fault.FOREIGN)
        self.leaves()
        self.tiles()
        self.conversations()
        self.bodies()
        self.checkpoints(files, log_key, last)

    def leaves(self) -> None:
        """Check each leaf by itself, against its tile, and against its conversation."""
        expected, tile, hashes, whole = 0, -1, b"", True
        for index, data in self.store.leaves():
            if index < 0:
                self.find(Fault.RECORD, index)
                continue
            if index != expected:
                self.find(Fault.HOLE, expected)
                whole = False
            expected = index + 1
            self.size += whole
            if index // TILE_WIDTH != tile:
                tile = index // TILE_WIDTH
                hashes = self.store.tile_hashes(0, tile)
            leaf = leaf_hash(data)
            at = index % TILE_WIDTH * HASH_BYTES
            if hashes[at : at + HASH_BYTES] != leaf:
                self.find(Fault.TILE, index)
            self._leaf(index, view(data), leaf)

    def _leaf(self, index: int, record: RecordView | None, leaf: bytes) -> None:
        if record is None or record.place != index or record.log_id != self.store.log_id:
            self.find(Fault.RECORD, index)
            return
        seq, prev = self.chains.get(record.conv_tag, (0, NO_PREVIOUS))
        if record.conv_seq != seq or record.conv_prev != prev:
            self.find(Fault.CHAIN, index)
        self.chains[record.conv_tag] = (record.conv_seq + 1, leaf)

    def tiles(self) -> None:
        """Check that the tiles are those of the tree, each full one under its parent."""
        expected = {(tile.level, tile.index): tile for tile in tiles_of(self.size)}
        lengths = {at: tile.width * HASH_BYTES for at, tile in expected.items()}
        if self.store.tile_places() != lengths:
            self.find(Fault.TILE)
        for tile in expected.values():
            if tile.width == TILE_WIDTH and not self._is_parent_right(tile):
                self.find(Fault.TILE, tile.index * TILE_WIDTH)

    def _is_parent_right(self, tile: Tile) -> bool:
        data = self.store.tile(tile)
        hashes = [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]
        if len(data) != TILE_WIDTH * HASH_BYTES:
            return False
        parent, place = divmod(tile.index, TILE_WIDTH)
        above = self.store.tile_hashes(tile.level + 1, parent)
        at = place * HASH_BYTES
        return above[at : at + HASH_BYTES] == Frontier().extend(hashes).root()

    def conversations(self) -> None:
        """Check the table of the conversations' ends against the chains."""
        ends = self.store.conversations()
        found = {tag: (end.records, end.last) for tag, end in ends.items()}
        tagged = all(
            tag == conversation_tag(self.store.conversation_key, end.group_id)
            for tag, end in ends.items()
        )
        if found != self.chains or not tagged:
            self.find(Fault.INDEX)

    def bodies(self) -> None:
        """Check each body against its leaf, and that what is missing was shredded, rightly."""
        bodies = _Bodies(self, Holds(self._tag_of), self.store.all_seen())
        for index, data in self.store.leaves():
            try:
                record = Record.decode(data)
            except CryptoError:
                continue  # found among the leaves
            if record.index == index:
                bodies.check(record)
        bodies.finish()

    def _tag_of(self, group_id: bytes) -> bytes:
        return conversation_tag(self.store.conversation_key, group_id)

    def checkpoints(self, files: LogFiles, log_key: VerifierKey, last: Checkpoint) -> None:
        """Check the log against what was signed last, and against what the auditor knows."""
        try:
            head = Head(files.head)
            try:
                signed = head.verified(log_key)
            finally:
                head.close()
        except ArchiveError:
            self.find(Fault.CHECKPOINT)
        else:
            self.unsigned = max(0, self.size - signed.size)
            if self._root(signed.size) != signed.root:
                self.find(Fault.CHECKPOINT)
            if last.size > signed.size:
                self.find(Fault.ROLLED_BACK)
        if last.size > self.size:
            self.find(Fault.ROLLED_BACK)
        elif self._root(last.size) != last.root:
            self.find(Fault.FORKED)

    def _root(self, size: int) -> bytes | None:
        if size > self.size:
            return None
        try:
            return TiledTree(size=size, source=self.store.tile).root()
        except InvalidError:
            return None


@dataclass(slots=True)
class _Bodies:
    """The bodies of a log, followed from its first record to its last."""

    run: _Run
    holds: Holds
    seen: dict[bytes, int]
    kept: int = 0
    records: int = 0
    missing: dict[int, Record] = field(default_factory=dict)

    def check(self, record: Record) -> None:
        """Check one record's body; what it says of holds and shreddings is taken in."""
        self.records += 1
        found = self.run.store.body(record.index)
        if found is None:
            self.missing[record.index] = record
            return
        self.kept += 1
        ciphertext, record_key = found
        try:
            body = open_body(ciphertext, record_key=record_key, record=record)
            self._follow(record, body)
        except CryptoError:
            self.run.find(Fault.BODY, record.index)
            return
        if self.seen.get(sha256(body).digest()) != record.index:
            self.run.find(Fault.INDEX, record.index)

    def _follow(self, record: Record, body: bytes) -> None:
        self.holds.follow(record.index, record.type, body)
        if record.type == RecordType.SHRED:
            self._shredded(record.index, Shredding.decode(body))

    def _shredded(self, index: int, shredding: Shredding) -> None:
        tag = bucket_tag(shredding.bucket)
        gone = [
            record
            for start, end in shredding.ranges
            for record in map(self.missing.get, range(start, min(end, index)))
            if record is not None and record.bucket == tag
        ]
        if len(gone) != sum(end - start for start, end in shredding.ranges):
            self.run.find(Fault.BODY, index)
        for record in gone:
            del self.missing[record.index]
            if self.holds.of(record) is not None:
                self.run.find(Fault.HELD, record.index)

    def finish(self) -> None:
        """Report what is missing without having been shredded, and what belongs to no record."""
        for index in self.missing:
            self.run.find(Fault.BODY, index)
        if self.run.store.body_counts() != (self.kept, self.kept):
            self.run.find(Fault.BODY)
        if len(self.seen) != self.records:
            self.run.find(Fault.INDEX)
