"""Trees from outside: what no honest group makes is refused; large ones cost what they weigh."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from crypto.codec import optional, vector
from crypto.errors import InvalidError
from crypto.mls import Group, joining
from crypto.mls.cipher_suite import X25519_CHACHA20POLY1305_SHA256_ED25519 as SUITE
from crypto.mls.external import join_by_external_commit
from crypto.mls.framing import encode_message
from crypto.mls.leaf_node import Extension
from crypto.mls.ratchet_tree import ParentNode, RatchetTree, encode_node
from crypto.mls.tree_math import LeafIndex, NodeIndex, node_width, subtree
from tests.crypto.mls.clients import accept, assemble, key_package

LEAF = key_package("nurse").key_package.leaf_node


def calls_of(work: Callable[[], object]) -> int:
    """Return how many Python and C calls ``work`` makes: a measure that no load disturbs."""
    count = 0

    def on_event(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(on_event)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def full(leaf_count: int) -> RatchetTree:
    tree = RatchetTree(SUITE, [None] * node_width(leaf_count))
    tree.nodes[::2] = [LEAF] * leaf_count
    return tree


def test_a_tree_that_ends_in_a_parent_is_refused() -> None:
    parent = ParentNode(SUITE.hpke.generate_key_pair()[1], b"", ())
    nodes = [optional(encode_node(node)) for node in (LEAF, parent)]
    with pytest.raises(InvalidError):
        RatchetTree.decode(SUITE, vector(nodes))


@pytest.mark.parametrize("key", [bytes(32), bytes(31), b""])
def test_a_parent_whose_key_nobody_could_encrypt_to_is_refused(key: bytes) -> None:
    nurse, *_ = assemble("nurse", "doctor", "porter")
    tree = nurse.current.tree.copy()
    root = tree.parent(NodeIndex(3))
    assert root is not None
    tree.verify()
    tree.set(NodeIndex(3), replace(root, encryption_key=key))
    with pytest.raises(InvalidError):
        tree.verify()


def test_a_group_info_with_an_extension_twice_is_refused() -> None:
    group = Group.create(key_package("nurse"), group_id=b"ward 7")
    epoch = group.current
    extensions = (joining.tree_extension(epoch), joining.external_pub_extension(epoch))
    for last in ((), (Extension(0xF0F0, b""),)):
        info = joining.sign_group_info(epoch, extensions + last)
        join_by_external_commit(encode_message(info), key_package("porter"), authenticate=accept)
    twice = joining.sign_group_info(epoch, extensions + last + last)
    with pytest.raises(InvalidError):
        join_by_external_commit(encode_message(twice), key_package("porter"), authenticate=accept)


def test_removing_many_at_once_gives_the_tree_of_removing_each() -> None:
    leaves = [LeafIndex(leaf) for leaf in (6, 5, 7, 2, 4)]
    once, each = full(8), full(8)
    once.remove(*leaves)
    for leaf in leaves:
        each.remove(leaf)
    assert once.nodes == each.nodes
    assert once.leaf_count == 4
    assert once.add(LEAF) == 2


def test_a_group_whose_last_member_left_is_one_blank_leaf() -> None:
    tree = full(2)
    tree.remove(LeafIndex(0), LeafIndex(1))
    assert tree.nodes == [None]


def test_the_hash_without_unmerged_leaves_costs_little_more_for_each() -> None:
    def cost(leaf_count: int) -> int:
        tree = full(leaf_count)
        everything = range(node_width(leaf_count))
        for index in map(NodeIndex, range(1, node_width(leaf_count), 2)):
            unmerged = tuple(LeafIndex(node // 2) for node in everything[subtree(index)][::2])
            tree.nodes[index] = ParentNode(bytes(32), b"", unmerged)
        root = NodeIndex(leaf_count - 1)
        return calls_of(lambda: tree.parent_hash(root, NodeIndex(leaf_count // 2 - 1)))

    assert cost(512) < 3 * cost(256)
