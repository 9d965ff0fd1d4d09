"""Tiles as C2SP tlog-tiles lays them out."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import merkle
from crypto.errors import InvalidError, UsageError, VerificationError
from crypto.merkle import EMPTY_ROOT
from crypto.tiles import TILE_WIDTH, Tile, TiledTree, tiles_of
from tests.crypto.log_of_leaves import Log, naive_root


def always(data: bytes, _: Tile) -> bytes:
    """Give ``data`` for any tile."""
    return data


def test_a_tile_lies_where_the_specification_puts_it() -> None:
    assert Tile(level=0, index=1234067, width=256).path() == "tile/0/x001/x234/067"
    assert Tile(level=2, index=0, width=1).path() == "tile/2/000.p/1"
    assert Tile(level=1, index=999, width=256).path() == "tile/1/999"
    assert Tile(level=1, index=1000, width=17).path() == "tile/1/x001/000.p/17"


def test_a_tree_of_seventy_thousand_has_the_tiles_of_the_specification() -> None:
    tiles = list(tiles_of(70_000))
    full = [t for t in tiles if t.width == TILE_WIDTH]
    assert [sum(t.level == level for t in full) for level in (0, 1, 2)] == [273, 1, 0]
    some = {(t.level, t.index, t.width) for t in tiles if t.width < TILE_WIDTH}
    assert some == {(0, 273, 112), (1, 1, 17), (2, 0, 1)}


def test_a_tree_of_256_has_a_full_tile_and_one_hash_above() -> None:
    assert {(t.level, t.index, t.width) for t in tiles_of(256)} == {(0, 0, 256), (1, 0, 1)}


def test_the_empty_tree_has_no_tiles() -> None:
    assert list(tiles_of(0)) == []
    assert TiledTree(size=0, source=Log(0).source).root() == EMPTY_ROOT


@given(st.integers(0, 200_000), st.integers(0, 200_000))
def test_new_tiles_are_those_that_changed(one: int, other: int) -> None:
    old, new = sorted((one, other))
    before, after = set(tiles_of(old)), set(tiles_of(new))
    assert set(tiles_of(new, since=old)) == after - before


def test_tiles_of_a_shrinking_tree_are_a_bug_of_the_caller() -> None:
    with pytest.raises(UsageError):
        list(tiles_of(3, since=4))


def test_the_tiles_written_while_appending_are_those_of_the_layout() -> None:
    for size in (1, 255, 256, 257, 700):
        log = Log(size)
        written = {(*place, len(data) // 32) for place, data in log.tiles.items()}
        assert written == {(t.level, t.index, t.width) for t in tiles_of(size)}


def test_root_and_proofs_of_every_older_tree_come_from_the_tiles_of_the_newest() -> None:
    log = Log(600)
    for size in [*range(1, 30), 255, 256, 257, 511, 512, 513, 599, 600]:
        tree = TiledTree(size=size, source=log.source)
        root = naive_root(log.leaves[:size])
        assert tree.root() == root
        index = size * 2 // 3
        merkle.verify_inclusion(
            tree.inclusion_proof(index), leaf=log.leaves[index], index=index, size=size, root=root
        )


def test_two_levels_of_tiles_prove_a_large_tree() -> None:
    size = 66_000
    log = Log(size)
    assert (1, 1) in log.tiles
    assert (2, 0) in log.tiles
    tree = log.tiled()
    assert tree.root() == log.root
    for index in (0, 255, 256, 65_535, 65_536, size - 1):
        merkle.verify_inclusion(
            tree.inclusion_proof(index),
            leaf=log.leaves[index],
            index=index,
            size=size,
            root=log.root,
        )
    old = merkle.Frontier().extend(log.leaves[:65_537])
    merkle.verify_consistency(
        tree.consistency_proof(old.size),
        old_size=old.size,
        old_root=old.root(),
        size=size,
        root=log.root,
    )


def test_a_full_tile_serves_for_the_partial_one_that_was_dropped() -> None:
    log = Log(256)
    tree = TiledTree(size=200, source=lambda tile: log.tiles[tile.level, tile.index])
    assert tree.root() == naive_root(log.leaves[:200])


def test_a_tile_of_another_length_is_refused() -> None:
    log = Log(200)
    for wrong in (b"", log.tiles[0, 0][:-1], log.tiles[0, 0][:-32], log.tiles[0, 0] + b"\0"):
        with pytest.raises(InvalidError):
            TiledTree(size=200, source=partial(always, wrong)).root()


def test_a_source_that_lies_is_found_by_the_verifier() -> None:
    log = Log(9)
    lie = bytes([log.tiles[0, 0][0] ^ 1]) + log.tiles[0, 0][1:]
    proof = TiledTree(size=9, source=lambda _: lie).inclusion_proof(5)
    with pytest.raises(VerificationError):
        merkle.verify_inclusion(proof, leaf=log.leaves[5], index=5, size=9, root=log.root)


def test_no_proof_is_made_of_what_the_tree_does_not_have() -> None:
    tree = Log(9).tiled()
    with pytest.raises(UsageError):
        tree.inclusion_proof(9)
    with pytest.raises(UsageError):
        tree.consistency_proof(10)
    with pytest.raises(UsageError):
        tree.consistency_proof(0)
    with pytest.raises(UsageError):
        tree.subtree_root(1, 3)
