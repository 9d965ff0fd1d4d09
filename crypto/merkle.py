"""The Merkle tree of a transparency log: hashes, an appending frontier, and verifiers of proofs.

A verifier takes untrusted sizes, indices and proofs and raises ``VerificationError`` for whatever
does not hold; the roots come from a checkpoint that the caller has verified. Sizes are those that
the proof is checked against, never those that a prover claims.

Source: RFC 9162, section 2.1; draft-ietf-plants-merkle-tree-certs, section 4 (subtrees).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from crypto import codec
from crypto.errors import UsageError, VerificationError

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()
"""Root of the tree without leaves (RFC 9162, section 2.1.1)."""

MAX_TREE_SIZE = (1 << 63) - 1
"""Leaves at most: C2SP formats hold a size in a signed 64-bit integer, a proof has 63 hashes."""

MAX_PROOF_HASHES = 63
"""Hashes at most in a proof between two sizes that are below ``MAX_TREE_SIZE`` (tlog-witness)."""


class Node(NamedTuple):
    """A complete subtree: its 2^``level`` leaves start at ``position`` times 2^``level``."""

    level: int
    position: int
    hash: bytes


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of a log entry as a leaf.

    Source: RFC 9162, section 2.1.1.
    """
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node from its children's hashes.

    Source: RFC 9162, section 2.1.1.
    """
    return sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """The right edge of a tree: all that is needed to append leaves and to know the root.

    Attributes:
        size: Leaves in the tree.
        hashes: Roots of its complete subtrees from left to right, one for each 1 bit of ``size``.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if len(self.hashes) != self.size.bit_count():
            raise UsageError("a frontier holds one hash for each 1 bit of its size")

    def append(self, leaf: bytes) -> tuple[Frontier, tuple[Node, ...]]:
        """Return the frontier after ``leaf`` (a leaf *hash*), and the nodes that this completes.

        The nodes come from the leaf upwards; those whose level is a multiple of eight are the ones
        that tiles hold. Takes O(log size) and leaves ``self`` as it is.

        Raises:
            UsageError: The tree is full, or ``leaf`` is no hash.
        """
        if len(leaf) != HASH_BYTES or self.size >= MAX_TREE_SIZE:
            raise UsageError("a leaf hash has 32 bytes and a tree 2^63 - 1 leaves at most")
        hashes, level, position = list(self.hashes), 0, self.size
        nodes = [Node(level, position, leaf)]
        while position & 1:
            leaf, level, position = node_hash(hashes.pop(), leaf), level + 1, position >> 1
            nodes.append(Node(level, position, leaf))
        hashes.append(leaf)
        return Frontier(size=self.size + 1, hashes=tuple(hashes)), tuple(nodes)

    def extend(self, leaves: Iterable[bytes]) -> Frontier:
        """Return the frontier after all ``leaves`` (leaf hashes), as an auditor needs it.

        Raises:
            UsageError: The tree is full, or a leaf is no hash.
        """
        hashes, size = list(self.hashes), self.size
        for leaf in leaves:
            if len(leaf) != HASH_BYTES or size >= MAX_TREE_SIZE:
                raise UsageError("a leaf hash has 32 bytes and a tree 2^63 - 1 leaves at most")
            hashes.append(leaf)
            size += 1
            # As many pairs close as the new size has trailing 0 bits.
            for _ in range((size & -size).bit_length() - 1):
                right = hashes.pop()
                hashes.append(node_hash(hashes.pop(), right))
        return Frontier(size=size, hashes=tuple(hashes))

    def root(self) -> bytes:
        """Return the root of the tree.

        Source: RFC 9162, section 2.1.1.
        """
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node_hash(left, root)
        return root

    def encode(self) -> bytes:
        """Return ``uint64 size; opaque hash[32] hashes[popcount(size)]``."""
        return codec.u64(self.size) + b"".join(self.hashes)

    @classmethod
    def decode(cls, data: bytes) -> Frontier:
        """Return the frontier that ``encode`` wrote.

        Raises:
            DecodeError: The bytes are no frontier.
        """
        return codec.decode(data, "Frontier", _read_frontier)


def _read_frontier(reader: codec.Reader) -> Frontier:
    size = reader.u64()
    if size > MAX_TREE_SIZE:
        raise reader.fail()
    hashes = tuple(reader.take(HASH_BYTES) for _ in range(size.bit_count()))
    return Frontier(size=size, hashes=hashes)


def is_subtree(start: int, end: int) -> bool:
    """Tell whether leaves ``start`` to ``end`` (exclusive) are all a single node may cover.

    Source: draft-ietf-plants-merkle-tree-certs, section 4.1: ``start`` is a multiple of the
    smallest power of two that is not below ``end - start``.
    """
    if not 0 <= start < end <= MAX_TREE_SIZE:
        return False
    return start % (1 << (end - start - 1).bit_length()) == 0


def verify_inclusion(
    proof: Sequence[bytes], *, leaf: bytes, index: int, size: int, root: bytes
) -> None:
    """Check that the leaf hash ``leaf`` stands at ``index`` in the tree of ``size`` and ``root``.

    Args:
        proof: Sibling hashes from the leaf upwards.
        leaf: ``leaf_hash`` of the entry.
        index: Zero-based.
        size: Leaves in the tree.
        root: Its root, from a verified checkpoint.

    Raises:
        VerificationError: It does not, or an argument cannot be.

    Source: RFC 9162, section 2.1.3.2.
    """
    verify_subtree_inclusion(proof, leaf=leaf, index=index, start=0, end=size, root=root)


def verify_subtree_inclusion(
    proof: Sequence[bytes], *, leaf: bytes, index: int, start: int, end: int, root: bytes
) -> None:
    """Check that ``leaf`` stands at ``index`` in the subtree ``[start, end)`` with hash ``root``.

    Raises:
        VerificationError: It does not, or an argument cannot be.

    Source: draft-ietf-plants-merkle-tree-certs, section 4.3.2, which for ``start`` 0 is
    RFC 9162, section 2.1.3.2.
    """
    _check_hashes((leaf, *proof))
    if not is_subtree(start, end) or not start <= index < end:
        raise VerificationError
    position, last, computed = index - start, end - start - 1, leaf
    for sibling in proof:
        if last == 0:
            raise VerificationError
        if position & 1 or position == last:
            computed = node_hash(sibling, computed)
            # On the right edge, levels at which this node has no sibling are skipped.
            while not position & 1:
                position, last = position >> 1, last >> 1
        else:
            computed = node_hash(computed, sibling)
        position, last = position >> 1, last >> 1
    if last or computed != root:
        raise VerificationError


def verify_consistency(
    proof: Sequence[bytes], *, old_size: int, old_root: bytes, size: int, root: bytes
) -> None:
    """Check that the tree of ``size`` and ``root`` begins with that of ``old_size``, ``old_root``.

    From the empty tree nothing can be proved, so an ``old_size`` of 0 is refused.

    Args:
        proof: Hashes as RFC 9162 orders them.
        old_size: Leaves in the older tree, at least 1.
        old_root: Its root, from a verified checkpoint.
        size: Leaves in the newer tree.
        root: Its root, from a verified checkpoint.

    Raises:
        VerificationError: It does not, or an argument cannot be.

    Source: RFC 9162, section 2.1.4.2.
    """
    if old_size == 0:
        raise VerificationError
    verify_subtree_consistency(
        proof, start=0, end=old_size, subtree_root=old_root, size=size, root=root
    )


def verify_subtree_consistency(
    proof: Sequence[bytes], *, start: int, end: int, subtree_root: bytes, size: int, root: bytes
) -> None:
    """Check that the tree of ``size`` and ``root`` holds ``subtree_root`` over ``[start, end)``.

    An empty range holds the empty root in every tree that reaches it, and nothing else.

    Raises:
        VerificationError: It does not, or an argument cannot be.

    Source: draft-ietf-plants-merkle-tree-certs, section 4.4.3, which for ``start`` 0 is
    RFC 9162, section 2.1.4.2.
    """
    _check_hashes(proof)
    if not 0 <= start <= end <= size <= MAX_TREE_SIZE:
        raise VerificationError
    if start == end:
        if proof or subtree_root != EMPTY_ROOT:
            raise VerificationError
        return
    if not is_subtree(start, end):
        raise VerificationError
    computed = _roots_of_consistency(proof, start, end - 1, size - 1, subtree_root)
    if computed != (subtree_root, root):
        raise VerificationError


def _roots_of_consistency(
    proof: Sequence[bytes], first: int, last: int, tree_last: int, subtree_root: bytes
) -> tuple[bytes, bytes]:
    """Return the subtree's hash and the tree's root, as ``proof`` gives them.

    ``first``, ``last`` and ``tree_last`` (the draft's fn, sn and tn) number the nodes above the
    subtree's first and last leaf and the tree's last leaf, at the level that the proof has reached.
    """
    while first != last and (last == tree_last or last & 1):
        first, last, tree_last = first >> 1, last >> 1, tree_last >> 1
    hashes = iter(proof)
    # A complete subtree is itself the proof's first node, and so is not in the proof.
    start = subtree_root if first == last else next(hashes, b"")
    old = new = start
    for sibling in hashes:
        if tree_last == 0:
            raise VerificationError
        if last & 1 or last == tree_last:
            old = node_hash(sibling, old) if first < last else old
            new = node_hash(sibling, new)
            while not last & 1:
                first, last, tree_last = first >> 1, last >> 1, tree_last >> 1
        else:
            new = node_hash(new, sibling)
        first, last, tree_last = first >> 1, last >> 1, tree_last >> 1
    if tree_last:
        raise VerificationError
    return old, new


def _check_hashes(hashes: Iterable[bytes]) -> None:
    """Refuse what is no hash: lengths that vary would let one proof be read in two ways."""
    if any(len(value) != HASH_BYTES for value in hashes):
        raise VerificationError
