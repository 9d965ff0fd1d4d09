"""The arithmetic of node indices, against what a tree is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.mls import tree_math
from crypto.mls.tree_math import LeafIndex, NodeIndex

SIZES = [1, 2, 4, 8, 64]


def _leaves(node: NodeIndex) -> list[int]:
    if node % 2 == 0:
        return [node // 2]
    return _leaves(tree_math.left(node)) + _leaves(tree_math.right(node))


@pytest.mark.parametrize("n", SIZES)
def test_every_parent_has_two_children_of_which_it_is_the_parent(n: int) -> None:
    for index in range(1, tree_math.node_width(n), 2):
        node = NodeIndex(index)
        left, right = tree_math.left(node), tree_math.right(node)
        assert left < node < right
        assert tree_math.parent(left) == tree_math.parent(right) == node
        assert tree_math.level(left) == tree_math.level(right) == tree_math.level(node) - 1
        below = [leaf for leaf in range(n) if tree_math.is_below(LeafIndex(leaf), node)]
        assert _leaves(node) == below


@pytest.mark.parametrize("n", SIZES)
def test_a_direct_path_goes_from_parent_to_parent_up_to_the_root(n: int) -> None:
    for leaf in map(LeafIndex, range(n)):
        node, path = tree_math.leaf_node(leaf), []
        while node != tree_math.root(n):
            node = tree_math.parent(node)
            path.append(node)
        assert tree_math.direct_path(leaf, n) == path
        copath = tree_math.copath(leaf, n)
        assert len(copath) == len(path)
        covered = sorted(i for node in copath for i in _leaves(node))
        assert covered == [i for i in range(n) if i != leaf]


@given(st.integers(0, 2**16 - 1), st.integers(0, 2**16 - 1))
def test_a_common_ancestor_is_the_lowest_node_above_both(one: int, two: int) -> None:
    if one == two:
        return
    a, b = LeafIndex(one), LeafIndex(two)
    path = tree_math.direct_path(a, 1 << 16)
    lowest = next(node for node in path if tree_math.is_below(b, node))
    assert tree_math.common_ancestor(a, b) == lowest
