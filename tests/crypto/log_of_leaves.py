"""A small log in memory with its tiles, and the Merkle tree as RFC 9162 defines it, naively."""

from __future__ import annotations

from functools import lru_cache

from crypto.merkle import EMPTY_ROOT, Frontier, Node, leaf_hash, node_hash
from crypto.tiles import TILE_HEIGHT, TILE_WIDTH, Tile, TiledTree


def leaf_at(index: int) -> bytes:
    """Return the leaf hash at ``index`` of every such log."""
    return leaf_hash(b"record %d" % index)


@lru_cache(maxsize=100_000)
def _naive_root(leaves: tuple[bytes, ...]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(_naive_root(leaves[:split]), _naive_root(leaves[split:]))


def naive_root(leaves: list[bytes]) -> bytes:
    """Return the Merkle tree hash of ``leaves`` by its definition (RFC 9162, section 2.1.1)."""
    return _naive_root(tuple(leaves)) if leaves else EMPTY_ROOT


class Log:
    """The first ``size`` leaves, stored in tiles as the appended nodes come."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.leaves = [leaf_at(index) for index in range(size)]
        self.tiles: dict[tuple[int, int], bytes] = {}
        frontier = Frontier()
        for leaf in self.leaves:
            frontier, nodes = frontier.append(leaf)
            self.store(nodes)
        self.root = frontier.root()

    def store(self, nodes: tuple[Node, ...]) -> None:
        for node in nodes:
            level, height = divmod(node.level, TILE_HEIGHT)
            if height == 0:
                place = (level, node.position // TILE_WIDTH)
                self.tiles[place] = self.tiles.get(place, b"") + node.hash

    def source(self, tile: Tile) -> bytes:
        return self.tiles[tile.level, tile.index][: tile.width * 32]

    def tiled(self) -> TiledTree:
        return TiledTree(size=self.size, source=self.source)
