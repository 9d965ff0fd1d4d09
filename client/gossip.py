"""The archive's checkpoints as members tell each other: two that contradict are an alarm.

A checkpoint rides in what every message says in the open. Whoever shows two people different
histories of the archive has to keep them from ever talking to each other.
"""

from __future__ import annotations

from client.store import Store
from protocol.authenticated_data import Checkpoint

CHECKPOINT = "checkpoint"
"""Setting: the newest checkpoint that was verified here. Rows of the cache: roots by tree size."""

KEPT = 1_024
"""Sizes whose roots are remembered, the newest: some weeks of a hospital's checkpoints."""


class Gossip:
    """What this device and those who talk with it have seen of the archive's log."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that was verified here: what this device tells others."""
        kept = self._store.settings.get(CHECKPOINT)
        if kept is None:
            return None
        return Checkpoint(tree_size=int.from_bytes(kept[:8], "big"), root_hash=kept[8:])

    def verified(self, size: int, root: bytes, *, now_ms: int) -> bool:
        """Keep a checkpoint that was verified; False where somebody told another of that size."""
        agrees = self.told(Checkpoint(tree_size=size, root_hash=root), now_ms=now_ms)
        newest = self.newest
        if newest is None or newest.tree_size < size:
            self._store.settings.put(CHECKPOINT, size.to_bytes(8, "big") + root)
        return agrees

    def told(self, checkpoint: Checkpoint, *, now_ms: int) -> bool:
        """Keep what a member says; False where it contradicts what is known of that size."""
        key = checkpoint.tree_size.to_bytes(8, "big")
        known = self._store.cache.get(CHECKPOINT, key)
        if known is not None:
            return known.value == checkpoint.root_hash
        self._store.cache.update(CHECKPOINT, {key: checkpoint.root_hash}, at_ms=now_ms)
        self._forget(now_ms)
        return True

    def _forget(self, now_ms: int) -> None:
        rows = self._store.cache.all(CHECKPOINT)
        if len(rows) > KEPT:
            gone: dict[bytes, bytes | None] = {row.key: None for row in rows[:-KEPT]}
            self._store.cache.update(CHECKPOINT, gone, at_ms=now_ms)
