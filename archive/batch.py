"""A batch of records, made ready for one transaction: sealed, chained, hashed into tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from archive.body import MAX_BODY_BYTES, seal_body
from archive.record import (
    NO_FLAGS,
    NO_PREVIOUS,
    Record,
    RecordFlags,
    RecordType,
    bucket_tag,
    conversation_tag,
)
from archive.store import Conversation, Rows, Store
from crypto.errors import UsageError
from crypto.merkle import Frontier, Node, leaf_hash
from crypto.tiles import TILE_HEIGHT, TILE_WIDTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is to be recorded.

    Attributes:
        type: What it is about.
        body: For a message the MLSMessage exactly as it came. A body is recorded once however
            often it is given: what may happen twice says in its body when.
        bucket: Name of its retention bucket (class and quarter).
        group_id: Its conversation; empty where it belongs to none.
        epoch: Its MLS epoch.
        flags: What was noted of it.
    """

    type: RecordType
    body: bytes = field(repr=False)
    bucket: bytes
    group_id: bytes = field(default=b"", repr=False)
    epoch: int = 0
    flags: RecordFlags = NO_FLAGS

    def __post_init__(self) -> None:
        if len(self.body) > MAX_BODY_BYTES or not 0 <= self.epoch < 1 << 64:
            raise UsageError("an entry's body or epoch is out of range")


class Batch:
    """Entries on their way into the log; nothing is changed before ``rows`` is inserted.

    Attributes:
        frontier: Of the tree with what was added.
        salts: The salt of each record that was added, by its index.
    """

    def __init__(self, store: Store, frontier: Frontier, *, now_ms: int) -> None:
        self._store = store
        self._now_ms = now_ms
        self.frontier = frontier
        self.salts: dict[int, bytes] = {}
        self._leaves: list[tuple[int, bytes]] = []
        self._bodies: list[tuple[int, bytes]] = []
        self._record_keys: list[tuple[int, bytes]] = []
        self._seen: dict[bytes, int] = {}
        self._ends: dict[bytes, Conversation] = {}
        self._conversations: dict[bytes, Conversation] = {}
        self._tags: dict[bytes, bytes] = {}
        self._buckets: dict[bytes, bytes] = {}
        self._tiles: dict[tuple[int, int], bytearray] = {}

    def add(self, entries: Sequence[Entry]) -> tuple[int, ...]:
        """Return the index of each entry: where it stands, or has stood since it was first given.

        Once for a batch.
        """
        hashes = [sha256(entry.body).digest() for entry in entries]
        known = self._store.seen(hashes)
        fresh = [e for e, body_hash in zip(entries, hashes, strict=True) if body_hash not in known]
        self._ends = self._store.conversations_of([self._tag(entry.group_id) for entry in fresh])
        return tuple(
            known[body_hash] if body_hash in known else self._add(entry, body_hash)
            for entry, body_hash in zip(entries, hashes, strict=True)
        )

    def _add(self, entry: Entry, body_hash: bytes) -> int:
        if body_hash not in self._seen:
            self._seen[body_hash] = self.frontier.size
            self._append(entry, self.frontier.size)
        return self._seen[body_hash]

    def rows(self) -> Rows:
        """Return what is to be inserted."""
        return Rows(
            leaves=self._leaves,
            bodies=self._bodies,
            record_keys=self._record_keys,
            seen=list(self._seen.items()),
            conversations=self._conversations,
            tiles={at: bytes(data) for at, data in self._tiles.items()},
        )

    def _append(self, entry: Entry, index: int) -> None:
        tag = self._tag(entry.group_id)
        chain = self._chain(tag, entry.group_id)
        sealed = seal_body(entry.body, log_id=self._store.log_id, index=index)
        self.salts[index] = sealed.salt
        record = Record(
            type=entry.type,
            flags=entry.flags,
            index=index,
            at_ms=self._now_ms,
            log_id=self._store.log_id,
            conv_tag=tag,
            epoch=entry.epoch,
            conv_seq=chain.records,
            conv_prev=chain.last,
            commit=sealed.commit,
            body_length=len(entry.body),
            bucket=self._bucket(entry.bucket),
            record_key_id=sealed.record_key_id,
        ).encode()
        leaf = leaf_hash(record)
        self._leaves.append((index, record))
        self._bodies.append((index, sealed.ciphertext))
        self._record_keys.append((index, sealed.record_key))
        self._conversations[tag] = Conversation(entry.group_id, chain.records + 1, leaf)
        self.frontier, nodes = self.frontier.append(leaf)
        for node in nodes[::TILE_HEIGHT]:
            self._add_to_tile(node)

    def _chain(self, tag: bytes, group_id: bytes) -> Conversation:
        chain = self._conversations.get(tag) or self._ends.get(tag)
        return chain or Conversation(group_id, 0, NO_PREVIOUS)

    def _tag(self, group_id: bytes) -> bytes:
        if group_id not in self._tags:
            self._tags[group_id] = conversation_tag(self._store.conversation_key, group_id)
        return self._tags[group_id]

    def _bucket(self, name: bytes) -> bytes:
        if name not in self._buckets:
            self._buckets[name] = bucket_tag(name)
        return self._buckets[name]

    def _add_to_tile(self, node: Node) -> None:
        at = (node.level // TILE_HEIGHT, node.position // TILE_WIDTH)
        if at not in self._tiles:
            self._tiles[at] = bytearray(self._store.tile_hashes(*at))
        self._tiles[at] += node.hash
