"""The ratchet tree: its nodes, their hashes, and how a change moves it (RFC 9420, section 7).

A published tree is never changed: whoever changes one works on a ``copy`` that nobody else has
seen. Tree hashes are kept beside the nodes, so that a change costs its direct path and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

from crypto.codec import (
    Opaque,
    Reader,
    Struct,
    Wire,
    decode,
    opaque,
    optional,
    u8,
    u32,
    vector,
    vector_of,
)
from crypto.errors import InvalidError
from crypto.mls import tree_math
from crypto.mls.leaf_node import LeafNode
from crypto.mls.tree_math import LeafIndex, NodeIndex, read_leaf_index

if TYPE_CHECKING:
    from crypto.mls.cipher_suite import CipherSuite

MAX_LEAVES = 1 << 16
"""Leaves that a tree may have: bounds what a hostile Welcome or Add can make a receiver hold."""


def _read_leaf_count(reader: Reader) -> int:
    count = reader.u32()
    if not 0 < count <= MAX_LEAVES or count & (count - 1):
        raise reader.fail()
    return count


LeafCount = Annotated[int, Wire(_read_leaf_count, u32)]
"""Leaves of a tree, blank ones included: a power of two."""

_LEAF = 1
_PARENT = 2


@dataclass(frozen=True, slots=True)
class ParentNode(Struct):
    """RFC 9420, section 7.1."""

    encryption_key: Opaque
    parent_hash: Opaque
    unmerged_leaves: Annotated[tuple[LeafIndex, ...], vector_of(read_leaf_index, u32)]

    def without(self, leaves: frozenset[LeafIndex]) -> ParentNode:
        """Return the node with ``leaves`` struck from its unmerged ones."""
        kept = tuple(leaf for leaf in self.unmerged_leaves if leaf not in leaves)
        return ParentNode(self.encryption_key, self.parent_hash, kept)


Node = LeafNode | ParentNode


def read_node(reader: Reader) -> Node:
    """Read a Node (RFC 9420, section 12.4.3.3)."""
    kind = reader.u8()
    if kind == _LEAF:
        return LeafNode.read(reader)
    if kind == _PARENT:
        return ParentNode.read(reader)
    raise reader.fail()


def encode_node(node: Node) -> bytes:
    """Return the encoding of a Node."""
    return u8(_LEAF if isinstance(node, LeafNode) else _PARENT) + node.encode()


class RatchetTree:
    """The public state of a group's tree: a node or a blank at every index.

    Attributes:
        suite: Gives the hash.
        nodes: ``2 n - 1`` nodes for ``n`` leaves, a power of two; None is a blank.
    """

    __slots__ = ("_first_blank", "_hashes", "nodes", "suite")

    def __init__(self, suite: CipherSuite, nodes: list[Node | None]) -> None:
        self.suite = suite
        self.nodes = nodes
        self._hashes: list[bytes | None] = [None] * len(nodes)
        self._first_blank = 0  # no leaf left of it is blank

    def copy(self) -> RatchetTree:
        """Return a tree that may be changed without this one noticing."""
        tree = RatchetTree(self.suite, self.nodes.copy())
        tree._hashes = self._hashes.copy()
        tree._first_blank = self._first_blank
        return tree

    @classmethod
    def decode(cls, suite: CipherSuite, data: bytes) -> RatchetTree:
        """Decode a ``ratchet_tree`` (RFC 9420, section 12.4.3.3).

        Raises:
            DecodeError: ``data`` is no vector of optional nodes.
            InvalidError: The last node is no leaf, a node is of the wrong kind for its place, or
                the tree is too large.
        """
        found = decode(data, "ratchet_tree", lambda r: r.vector(lambda q: q.optional(read_node)))
        nodes: list[Node | None] = list(found)
        if not nodes or not isinstance(nodes[-1], LeafNode):
            raise InvalidError("last node of ratchet_tree is no leaf (12.4.3.3)")
        width = 1
        while width < len(nodes):
            width = 2 * width + 1
        if width > tree_math.node_width(MAX_LEAVES):
            raise InvalidError("ratchet_tree has too many leaves")
        for index, node in enumerate(nodes):
            if node is not None and isinstance(node, LeafNode) != (index % 2 == 0):
                raise InvalidError("node of the wrong kind for its index (12.4.3.3)")
        nodes.extend([None] * (width - len(nodes)))
        return cls(suite, nodes)

    def encode(self) -> bytes:
        """Return the ``ratchet_tree`` (RFC 9420, section 12.4.3.3)."""
        last = len(self.nodes)
        while last and self.nodes[last - 1] is None:
            last -= 1
        return vector(optional(encode_node(n) if n else None) for n in self.nodes[:last])

    @property
    def leaf_count(self) -> int:
        """The number of leaves, blank ones included; a power of two."""
        return (len(self.nodes) + 1) // 2

    def leaf(self, index: int) -> LeafNode | None:
        """Return the leaf at ``index``; None where it is blank or lies outside the tree."""
        if not 0 <= index < self.leaf_count:
            return None
        node = self.nodes[2 * index]
        return node if isinstance(node, LeafNode) else None

    def parent(self, index: NodeIndex) -> ParentNode | None:
        """Return the parent node at ``index``, None where it is blank."""
        node = self.nodes[index]
        return node if isinstance(node, ParentNode) else None

    @property
    def leaf_nodes(self) -> list[LeafNode | None]:
        """All leaves by index; None is a blank."""
        return cast("list[LeafNode | None]", self.nodes[::2])

    def leaves(self) -> Iterator[tuple[LeafIndex, LeafNode]]:
        """Iterate over the leaves that are not blank."""
        for index, node in enumerate(self.leaf_nodes):
            if node is not None:
                yield LeafIndex(index), node

    def resolution(self, index: NodeIndex) -> list[NodeIndex]:
        """Return the nodes that together cover the non-blank leaves below ``index`` (4.1.1)."""
        node = self.nodes[index]
        if isinstance(node, ParentNode):
            return [index, *map(tree_math.leaf_node, node.unmerged_leaves)]
        if node is not None:
            return [index]
        if index % 2 == 0:
            return []
        left, right = tree_math.left(index), tree_math.right(index)
        return self.resolution(left) + self.resolution(right)

    def filtered_direct_path(self, leaf: LeafIndex) -> list[tuple[NodeIndex, NodeIndex]]:
        """Return (ancestor, its child on the copath) where that child covers anyone (4.1.2)."""
        path = tree_math.direct_path(leaf, self.leaf_count)
        pairs = zip(path, tree_math.copath(leaf, self.leaf_count), strict=True)
        return [pair for pair in pairs if any(self.nodes[tree_math.subtree(pair[1])])]

    # -- changes, on a copy ------------------------------------------------------------------

    def set(self, index: NodeIndex, node: Node | None) -> None:
        """Put a node or a blank at ``index``."""
        self.nodes[index] = node
        self._forget_hashes(index)

    def _forget_hashes(self, index: NodeIndex) -> None:
        self._hashes[index] = None
        for ancestor in tree_math.ancestors(index, self.leaf_count):
            self._hashes[ancestor] = None

    def blank_path(self, leaf: LeafIndex) -> None:
        """Blank the direct path of ``leaf``."""
        for index in tree_math.direct_path(leaf, self.leaf_count):
            self.nodes[index] = None
        self._forget_hashes(tree_math.leaf_node(leaf))

    def add(self, leaf_node: LeafNode) -> LeafIndex:
        """Put a leaf at the leftmost blank, extending the tree if there is none (12.1.1).

        Raises:
            InvalidError: The tree has ``MAX_LEAVES`` members.
        """
        index = self._first_blank
        while index < self.leaf_count and self.nodes[2 * index] is not None:
            index += 1
        if index == self.leaf_count:
            self._extend()
        leaf = LeafIndex(index)
        for ancestor in tree_math.direct_path(leaf, self.leaf_count):
            node = self.parent(ancestor)
            if node is not None:
                unmerged = tuple(sorted((*node.unmerged_leaves, leaf)))
                self.nodes[ancestor] = ParentNode(node.encryption_key, node.parent_hash, unmerged)
        self.set(tree_math.leaf_node(leaf), leaf_node)
        self._first_blank = index + 1
        return leaf

    def _extend(self) -> None:
        if self.leaf_count == MAX_LEAVES:
            raise InvalidError("ratchet_tree has too many leaves")
        more = len(self.nodes) + 1
        self.nodes.extend([None] * more)
        self._hashes.extend([None] * more)

    def update(self, leaf: LeafIndex, leaf_node: LeafNode) -> None:
        """Replace a leaf and blank its direct path (12.1.2)."""
        self.blank_path(leaf)
        self.set(tree_math.leaf_node(leaf), leaf_node)

    def remove(self, *leaves: LeafIndex) -> None:
        """Blank leaves and their direct paths, then cut off blank right halves (12.1.3).

        Cutting once gives the same tree as cutting after each, without a search for each.
        """
        for leaf in leaves:
            self.blank_path(leaf)
            self.set(tree_math.leaf_node(leaf), None)
            self._first_blank = min(self._first_blank, leaf)
        last = len(self.nodes) - 1
        while last and self.nodes[last] is None:
            last -= 2
        while last < (half := len(self.nodes) // 2):
            del self.nodes[half:]
            del self._hashes[half:]

    # -- hashes ------------------------------------------------------------------------------

    def tree_hash(self) -> bytes:
        """Return the hash of the whole tree (RFC 9420, section 7.8)."""
        return self.hash_of(tree_math.root(self.leaf_count))

    def hash_of(self, index: NodeIndex) -> bytes:
        """Return the tree hash of the subtree at ``index`` (RFC 9420, section 7.8)."""
        cached = self._hashes[index]
        if cached is None:
            cached = self._compute_hash(index, self.nodes[index], self.hash_of)
            self._hashes[index] = cached
        return cached

    def _compute_hash(
        self, index: NodeIndex, node: Node | None, child_hash: Callable[[NodeIndex], bytes]
    ) -> bytes:
        """Source: RFC 9420, section 7.8, TreeHashInput."""
        encoded = optional(node.encode() if node else None)
        if index % 2 == 0:
            return self.suite.hash(u8(_LEAF) + u32(index // 2) + encoded)
        left = opaque(child_hash(tree_math.left(index)))
        right = opaque(child_hash(tree_math.right(index)))
        return self.suite.hash(u8(_PARENT) + encoded + left + right)

    def _original_hash(self, index: NodeIndex, unmerged: frozenset[LeafIndex]) -> bytes:
        """Hash the subtree as it was before ``unmerged`` were added (RFC 9420, section 7.9)."""
        below = frozenset(leaf for leaf in unmerged if tree_math.is_below(leaf, index))
        if not below:
            return self.hash_of(index)
        node = self.nodes[index]
        node = node.without(below) if isinstance(node, ParentNode) else None
        return self._compute_hash(index, node, lambda i: self._original_hash(i, below))

    def parent_hash(self, parent: NodeIndex, sibling: NodeIndex) -> bytes:
        """Return the parent hash of ``parent`` with its copath child ``sibling`` (7.9).

        Raises:
            InvalidError: ``parent`` is blank.
        """
        node = self.parent(parent)
        if node is None:
            raise InvalidError("parent hash of a blank node (7.9)")
        original = self._original_hash(sibling, frozenset(node.unmerged_leaves))
        encoded = opaque(node.encryption_key) + opaque(node.parent_hash) + opaque(original)
        return self.suite.hash(encoded)

    # -- validity of a tree that comes from outside ------------------------------------------

    def verify(self) -> None:
        """Check what a joiner must about the parents: keys, hashes and unmerged leaves.

        Raises:
            InvalidError: A rule of RFC 9420, section 12.4.3.1 or 7.9.2, is broken, or a key is
                malformed or of low order.
        """
        parents = {
            NodeIndex(index): node
            for index, node in enumerate(self.nodes)
            if isinstance(node, ParentNode)
        }
        unmerged = {index: frozenset(node.unmerged_leaves) for index, node in parents.items()}
        for index, node in parents.items():
            self.suite.hpke.group.check_public_key(node.encryption_key)
            if list(node.unmerged_leaves) != sorted(unmerged[index]):
                raise InvalidError("unmerged_leaves are not sorted and unique (7.1)")
            self._verify_unmerged(index, unmerged)
            self._verify_parent_hash(index, node)

    def _verify_unmerged(
        self, index: NodeIndex, unmerged: Mapping[NodeIndex, frozenset[LeafIndex]]
    ) -> None:
        for leaf in unmerged[index]:
            if not tree_math.is_below(leaf, index) or self.leaf(leaf) is None:
                raise InvalidError("unmerged leaf is blank or not below its node (12.4.3.1)")
            path = tree_math.direct_path(leaf, self.leaf_count)
            for between in path[: path.index(index)]:
                if leaf not in unmerged.get(between, (leaf,)):
                    raise InvalidError("unmerged leaf is missing further down (12.4.3.1)")

    def _verify_parent_hash(self, index: NodeIndex, node: ParentNode) -> None:
        """Source: RFC 9420, section 7.9.2."""
        children = tree_math.left(index), tree_math.right(index)
        for child, sibling in (children, children[::-1]):
            unmerged = {
                tree_math.leaf_node(leaf)
                for leaf in node.unmerged_leaves
                if tree_math.is_below(leaf, child)
            }
            resolution = set(self.resolution(child))
            below = resolution - unmerged
            if len(below) != 1 or not unmerged <= resolution:
                continue
            descendant = self.nodes[below.pop()]
            if descendant and descendant.parent_hash == self.parent_hash(index, sibling):
                return
        raise InvalidError("a parent node is not parent-hash valid (7.9.2)")
