"""Array-based trees: the arithmetic of node indices (RFC 9420, appendix C).

A tree has a power of two of leaves, ``n`` below; leaf ``i`` is node ``2 i``.
"""

from __future__ import annotations

from typing import Annotated, NewType

from crypto.codec import Reader, Wire, u32

LeafIndex = NewType("LeafIndex", int)
NodeIndex = NewType("NodeIndex", int)


def read_leaf_index(reader: Reader) -> LeafIndex:
    """Read a leaf index, a ``uint32``."""
    return LeafIndex(reader.u32())


LeafPlace = Annotated[LeafIndex, Wire(read_leaf_index, u32)]


def level(node: NodeIndex) -> int:
    """Return the height of ``node``; leaves are at 0."""
    return (~node & (node + 1)).bit_length() - 1


def node_width(n: int) -> int:
    """Return the number of nodes of a tree with ``n`` leaves."""
    return 2 * n - 1


def root(n: int) -> NodeIndex:
    """Return the root of a tree with ``n`` leaves."""
    return NodeIndex(n - 1)


def leaf_node(leaf: LeafIndex) -> NodeIndex:
    """Return the node of a leaf."""
    return NodeIndex(2 * leaf)


def left(node: NodeIndex) -> NodeIndex:
    """Return the left child of a parent."""
    return NodeIndex(node ^ (1 << (level(node) - 1)))


def right(node: NodeIndex) -> NodeIndex:
    """Return the right child of a parent."""
    return NodeIndex(node ^ (3 << (level(node) - 1)))


def parent(node: NodeIndex) -> NodeIndex:
    """Return the parent of a node that is not the root."""
    k = level(node)
    return NodeIndex((node | (1 << k)) & ~(1 << (k + 1)))


def sibling(node: NodeIndex) -> NodeIndex:
    """Return the other child of the parent of a node that is not the root."""
    return NodeIndex(node ^ (2 << level(node)))


def ancestors(node: NodeIndex, n: int) -> list[NodeIndex]:
    """Return the ancestors of a node, from its parent to the root.

    The ancestor at height ``k`` keeps the bits of ``node`` above ``k`` and has ``k`` ones below.
    """
    heights = range(level(node) + 1, n.bit_length())
    return [NodeIndex(((node >> (k + 1)) << (k + 1)) + (1 << k) - 1) for k in heights]


def direct_path(leaf: LeafIndex, n: int) -> list[NodeIndex]:
    """Return the ancestors of a leaf, from its parent to the root."""
    return ancestors(leaf_node(leaf), n)


def copath(leaf: LeafIndex, n: int) -> list[NodeIndex]:
    """Return the sibling of the leaf and of each ancestor below the root, from the bottom up."""
    below = [leaf_node(leaf), *direct_path(leaf, n)][:-1] if n > 1 else []
    return [sibling(node) for node in below]


def subtree(node: NodeIndex) -> slice:
    """Return where the nodes of the subtree of ``node`` stand."""
    reach = (1 << level(node)) - 1
    return slice(node - reach, node + reach + 1)


def is_below(leaf: LeafIndex, node: NodeIndex) -> bool:
    """Tell whether ``leaf`` lies in the subtree of ``node``."""
    reach = (1 << level(node)) - 1
    return node - reach <= 2 * leaf <= node + reach


def common_ancestor(a: LeafIndex, b: LeafIndex) -> NodeIndex:
    """Return the lowest node that is above two different leaves."""
    height = (a ^ b).bit_length()
    return NodeIndex(((a >> height) << (height + 1)) + (1 << height) - 1)
