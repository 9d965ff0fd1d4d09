"""Tiles of 256 hashes: how a log stores its Merkle tree, and the proofs that are read from them.

A log writes tiles as its tree grows and never changes a full one. Whoever reads proofs from tiles
supplies the tiles by a function, so that they may lie in a file, a database or behind HTTP. What
is computed here is for a prover; a reader who does not trust the tiles verifies the result against
a checkpoint's root with ``crypto.merkle``.

Source: C2SP tlog-tiles; RFC 9162, sections 2.1.3.1 and 2.1.4.1 (proofs).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from crypto.errors import InvalidError, UsageError
from crypto.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    MAX_TREE_SIZE,
    is_subtree,
    node_hash,
)

TILE_HEIGHT = 8
"""Levels of the tree in a tile (tlog-tiles)."""

TILE_WIDTH = 1 << TILE_HEIGHT
"""Hashes in a full tile (tlog-tiles)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """Where a tile stands; its bytes are ``width`` hashes one after another.

    Attributes:
        level: Level of tiles, 0 for leaf hashes; a level spans eight levels of the tree.
        index: Position from the left within the level.
        width: Hashes in it, 1 to ``TILE_WIDTH``; below that the tile is partial.
    """

    level: int
    index: int
    width: int

    def path(self) -> str:
        """Return the tile's path below the log's prefix, as ``tile/0/x001/234.p/7``."""
        groups = f"{self.index:03d}"
        groups = groups.zfill(-(-len(groups) // 3) * 3)
        parts = [groups[at : at + 3] for at in range(0, len(groups), 3)]
        number = "/".join([f"x{part}" for part in parts[:-1]] + parts[-1:])
        suffix = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{self.level}/{number}{suffix}"


TileSource = Callable[[Tile], bytes]
"""Gives a tile's bytes: ``width`` hashes, or those of the full tile that it grew into."""


def tiles_of(size: int, *, since: int = 0) -> Iterator[Tile]:
    """Yield the tiles that a log of ``size`` leaves has and one of ``since`` leaves had not.

    Raises:
        UsageError: ``since`` is above ``size``.
    """
    if not 0 <= since <= size <= MAX_TREE_SIZE:
        raise UsageError("tiles of a tree from an older size to a newer one")
    level = 0
    while size >> (TILE_HEIGHT * level):
        hashes, had = size >> (TILE_HEIGHT * level), since >> (TILE_HEIGHT * level)
        if hashes > had:
            for index in range(had // TILE_WIDTH, -(-hashes // TILE_WIDTH)):
                width = min(TILE_WIDTH, hashes - index * TILE_WIDTH)
                yield Tile(level=level, index=index, width=width)
        level += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TiledTree:
    """A tree of a given size whose hashes are read from tiles: its root and its proofs.

    Attributes:
        size: Leaves; the source has every tile of ``tiles_of(size)``.
        source: Gives the tiles, each of them once: what was read and hashed is remembered, so that
            many proofs of one tree cost little more than the first.
    """

    size: int
    source: TileSource
    _tiles: dict[tuple[int, int], list[bytes]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _nodes: dict[tuple[int, int], bytes] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def root(self) -> bytes:
        """Return the tree's root.

        Raises:
            InvalidError: The source gave a tile of another length.
        """
        return self.subtree_root(0, self.size) if self.size else EMPTY_ROOT

    def subtree_root(self, start: int, end: int) -> bytes:
        """Return the hash over the leaves ``start`` to ``end``, exclusive.

        Raises:
            InvalidError: The source gave a tile of another length.
            UsageError: They are no subtree, or beyond the tree.

        Source: RFC 9162, section 2.1.1.
        """
        self._check_subtree(start, end)
        return self._range_hash(start, end)

    def inclusion_proof(self, index: int) -> tuple[bytes, ...]:
        """Return the proof that the leaf at ``index`` is in this tree.

        Raises:
            InvalidError: The source gave a tile of another length.
            UsageError: The tree has no such leaf.

        Source: RFC 9162, section 2.1.3.1.
        """
        return self.subtree_inclusion_proof(index, start=0, end=self.size)

    def subtree_inclusion_proof(self, index: int, *, start: int, end: int) -> tuple[bytes, ...]:
        """Return the proof that the leaf at ``index`` is in the subtree ``[start, end)``.

        Raises:
            InvalidError: The source gave a tile of another length.
            UsageError: The subtree is none of this tree, or the leaf not in it.

        Source: draft-ietf-plants-merkle-tree-certs, section 4.3.1.
        """
        self._check_subtree(start, end)
        if not start <= index < end:
            raise UsageError("a leaf outside the tree or subtree")
        proof = []
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                proof.append(self._range_hash(middle, end))
                end = middle
            else:
                proof.append(self._range_hash(start, middle))
                start = middle
        return tuple(reversed(proof))

    def consistency_proof(self, old_size: int) -> tuple[bytes, ...]:
        """Return the proof that this tree begins with its own first ``old_size`` leaves.

        Raises:
            InvalidError: The source gave a tile of another length.
            UsageError: ``old_size`` is 0, where nothing is to be proved, or above the size.

        Source: RFC 9162, section 2.1.4.1.
        """
        return self.subtree_consistency_proof(start=0, end=old_size)

    def subtree_consistency_proof(self, *, start: int, end: int) -> tuple[bytes, ...]:
        """Return the proof that this tree holds the subtree ``[start, end)``.

        Raises:
            InvalidError: The source gave a tile of another length.
            UsageError: The subtree is none of this tree.

        Source: draft-ietf-plants-merkle-tree-certs, section 4.4.1.
        """
        self._check_subtree(start, end)
        proof: list[bytes] = []
        low, high, known = 0, self.size, True
        while (low, high) != (start, end):
            middle = low + _split(high - low)
            if end <= middle:
                proof.append(self._range_hash(middle, high))
                high = middle
            else:
                proof.append(self._range_hash(low, middle))
                # The subtree lies across the split: what is left of it is no longer its root.
                known = known and start >= middle
                low = middle
                start = max(start, middle)
        if not known:
            proof.append(self._range_hash(low, high))
        return tuple(reversed(proof))

    def _check_subtree(self, start: int, end: int) -> None:
        if end > self.size or not is_subtree(start, end):
            raise UsageError("no subtree of this tree")

    def _range_hash(self, start: int, end: int) -> bytes:
        """Return the hash over ``[start, end)``, where ``start`` begins a subtree that holds it."""
        span = end - start
        if span & (span - 1) == 0:
            level = span.bit_length() - 1
            return self._node(level, start >> level)
        middle = start + _split(span)
        return node_hash(self._range_hash(start, middle), self._range_hash(middle, end))

    def _node(self, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree, from the one tile that holds its leaves."""
        tile_level, height = divmod(level, TILE_HEIGHT)
        if not height:
            tile, offset = divmod(index, TILE_WIDTH)
            return self._tile(tile_level, tile)[offset]
        known = self._nodes.get((level, index))
        if known is None:
            known = node_hash(
                self._node(level - 1, 2 * index), self._node(level - 1, 2 * index + 1)
            )
            self._nodes[level, index] = known
        return known

    def _tile(self, level: int, index: int) -> list[bytes]:
        known = self._tiles.get((level, index))
        if known is None:
            known = self._tiles[level, index] = self._read(level, index)
        return known

    def _read(self, level: int, index: int) -> list[bytes]:
        width = min(TILE_WIDTH, (self.size >> (TILE_HEIGHT * level)) - index * TILE_WIDTH)
        data = self.source(Tile(level=level, index=index, width=width))
        # A partial tile may have been dropped for the full one; more hashes do no harm.
        if len(data) not in (width * HASH_BYTES, TILE_WIDTH * HASH_BYTES):
            raise InvalidError("a tile has as many hashes as its width (tlog-tiles)")
        return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


def _split(span: int) -> int:
    """Return the largest power of two below ``span`` (RFC 9162, section 2.1.1)."""
    return 1 << ((span - 1).bit_length() - 1)
