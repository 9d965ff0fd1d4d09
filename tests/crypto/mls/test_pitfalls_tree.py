"""Ratchet trees that others accepted or refused wrongly (RFC 9420, sections 7 and 12.4.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from crypto.codec import optional, vector
from crypto.errors import InvalidError, VerificationError
from crypto.mls import Add, Group
from crypto.mls.external import join_by_external_commit
from crypto.mls.framing import PublicMessage, decode_message
from crypto.mls.leaf_node import LeafNode, Lifetime, sign_leaf_node
from crypto.mls.proposal import Commit, HPKECiphertext, UpdatePath
from crypto.mls.ratchet_tree import MAX_LEAVES, Node, ParentNode, RatchetTree, encode_node
from crypto.mls.tree_math import LeafIndex, NodeIndex, direct_path
from tests.crypto.mls.ward import (
    STAFF,
    SUITE,
    admit,
    advance,
    anyone,
    assemble,
    breaks,
    by_roster,
    commit_anyway,
    enter,
    everyone_understands,
    evict,
    found,
    group_info_over,
    hear,
    key_package,
    pair,
    said_of,
    saved,
    stage,
    trio,
    twenty,
)


def _leaf(tree: RatchetTree, index: int) -> LeafNode:
    leaf = tree.leaf(index)
    assert leaf is not None
    return leaf


def _parent(tree: RatchetTree, index: int) -> ParentNode:
    parent = tree.parent(NodeIndex(index))
    assert parent is not None
    return parent


def _tampered(group: Group, index: int, node: Node | None) -> bytes:
    """Return a GroupInfo signed by a member over its tree with one node exchanged."""
    tree = group.current.tree.copy()
    tree.set(NodeIndex(index), node)
    return group_info_over(group, tree)


def _resigned(group: Group, parent_hash: bytes) -> LeafNode:
    """Return the member's leaf as from a Commit, with a parent hash of its choice."""
    return sign_leaf_node(
        SUITE,
        said_of(STAFF[group.own_leaf]),
        signer=group.current.signer,
        encryption_key=_leaf(group.current.tree, group.own_leaf).encryption_key,
        source=parent_hash,
        position=(group.group_id, group.own_leaf),
    )


@cache
def grown() -> Group:
    """Return the group of leaf 0, with keys on its path and three leaves unmerged at the root.

    Leaf 4 alone was in the right half when leaf 0 committed, so that the right half's parents are
    blank; leaves 5, 6 and 7 came without a path.
    """
    group = advance(assemble(5))[0]
    group, _, _ = admit(group, [key_package(name) for name in STAFF[5:8]], with_path=False)
    assert _parent(group.current.tree, 7).unmerged_leaves == (5, 6, 7)
    assert group.current.tree.parent(NodeIndex(11)) is None
    return group


def test_a_valid_tree_lets_a_joiner_in() -> None:
    for group in (*pair(), *trio(), grown(), twenty()[0]):
        assert enter(group.group_info(external_join=True)).group is not None


def test_one_valid_parent_hash_does_not_excuse_another() -> None:
    group = twenty()[0]
    tree = group.current.tree
    parents = [i for i in range(1, len(tree.nodes), 2) if tree.parent(NodeIndex(i))]
    assert len(parents) > 8
    for index in parents:
        node = _parent(tree, index)
        wrong = bytes(32) if not node.parent_hash else bytes([node.parent_hash[0] ^ 1]) * 32
        for changed in (
            replace(node, parent_hash=wrong),
            replace(node, encryption_key=SUITE.hpke.generate_key_pair()[1]),
        ):
            with breaks("7.9.2"):
                enter(_tampered(group, index, changed))


def test_an_empty_parent_hash_below_another_parent_is_refused() -> None:
    osei = twenty()[0]
    tree = osei.current.tree.copy()
    path = [i for i in direct_path(osei.own_leaf, tree.leaf_count) if tree.parent(i)]
    assert len(path) > 2
    tree.set(path[0], replace(_parent(tree, path[0]), parent_hash=b""))
    sibling = NodeIndex(2)  # of leaf 0, below its lowest parent
    tree.set(NodeIndex(0), _resigned(osei, tree.parent_hash(path[0], sibling)))
    with breaks("7.9.2"):
        enter(group_info_over(osei, tree))


def test_a_leaf_that_commits_to_no_parents_is_refused_below_one() -> None:
    osei = advance(assemble(4))[0]
    with breaks("7.9.2"):
        enter(_tampered(osei, 0, _resigned(osei, b"")))
    with breaks("7.9.2"):
        enter(_tampered(osei, 0, _resigned(osei, bytes(32))))


def test_a_parent_hash_spans_a_blank_intermediate() -> None:
    osei, *others = assemble(4)
    osei, staged = osei.commit([evict(1)], authenticate=by_roster)
    assert staged.group is not None
    osei = osei.merge(staged.group)
    tree = osei.current.tree
    assert tree.parent(NodeIndex(1)) is None
    assert tree.parent(NodeIndex(3)) is not None
    entered = enter(osei.group_info(external_join=True))
    assert entered.group is not None
    everyone_understands(
        [
            hear(osei, entered.message),
            *(hear(hear(g, staged.message), entered.message) for g in others[1:]),
            entered.group,
        ]
    )
    with breaks("7.9.2"):
        enter(_tampered(osei, 0, _resigned(osei, b"")))


def test_unmerged_leaves_below_a_blank_do_not_disturb_the_parent_hash() -> None:
    group = grown()
    entered = enter(group.group_info(external_join=True))
    assert entered.group is not None
    everyone_understands([hear(group, entered.message), entered.group])


@pytest.mark.parametrize("unmerged", [(), (5, 6), (5, 7), (6, 7)])
def test_a_leaf_struck_from_the_unmerged_ones_breaks_the_parent_hash(
    unmerged: tuple[int, ...],
) -> None:
    group = grown()
    leaves = tuple(map(LeafIndex, unmerged))
    root = replace(_parent(group.current.tree, 7), unmerged_leaves=leaves)
    with breaks("7.9.2"):
        enter(_tampered(group, 7, root))


@pytest.mark.parametrize(
    ("unmerged", "section"),
    [
        ((6, 5, 7), "7.1"),
        ((7, 6, 5), "7.1"),
        ((5, 5, 6, 7), "7.1"),
        ((5, 6, 7, 8), "12.4.3.1"),  # outside the tree
        ((5, 6, 7, 1 << 24), "12.4.3.1"),
        ((5, 6, 7, 0xFFFFFFFF), "12.4.3.1"),
        ((0, 5, 6, 7), "12.4.3.1"),  # not listed at node 1 and 3 between
    ],
)
def test_unmerged_leaves_must_be_sorted_unique_and_there(
    unmerged: tuple[int, ...], section: str
) -> None:
    group = grown()
    leaves = tuple(map(LeafIndex, unmerged))
    root = replace(_parent(group.current.tree, 7), unmerged_leaves=leaves)
    with breaks(section):
        enter(_tampered(group, 7, root))


def test_an_unmerged_leaf_outside_its_subtree_or_blank_is_refused() -> None:
    group = grown()
    left = _parent(group.current.tree, 3)
    with breaks("12.4.3.1"):
        enter(_tampered(group, 3, replace(left, unmerged_leaves=(LeafIndex(5),))))
    osei = advance(assemble(3))[0]
    root = _parent(osei.current.tree, 3)
    with breaks("12.4.3.1"):
        enter(_tampered(osei, 3, replace(root, unmerged_leaves=(LeafIndex(3),))))


def test_an_old_leaf_need_not_match_parents_that_others_have_replaced() -> None:
    groups = advance(advance(assemble(4), by=1), by=0)
    stale = _leaf(groups[0].current.tree, 1)
    assert stale.parent_hash is not None
    assert enter(groups[0].group_info(external_join=True)).group is not None
    _, joined, _ = admit(groups[0], [key_package("Weber")])
    assert _leaf(joined[0].current.tree, 1) == stale


def test_a_leaf_below_parents_that_an_update_blanked_is_accepted() -> None:
    osei, lindqvist, *_ = advance(assemble(4), by=1)
    osei, update = osei.propose_update()
    lindqvist = hear(lindqvist, update)
    lindqvist, staged = lindqvist.commit(authenticate=by_roster, with_path=True)
    assert staged.updated == (LeafIndex(0),)
    assert staged.group is not None
    assert enter(staged.group.group_info(external_join=True)).group is not None


def test_a_tree_that_is_not_the_groups_is_refused() -> None:
    osei, _, _ = trio()
    info = osei.group_info(external_join=True, with_tree=False)
    own = key_package("Weber")

    def join(tree: bytes | None) -> object:
        return join_by_external_commit(info, own, authenticate=anyone, ratchet_tree=tree)

    assert join(osei.ratchet_tree)
    with breaks("12.4.3.3"):
        join(None)
    for other in (pair()[0], grown()):
        with breaks("12.4.3.1"):
            join(other.ratchet_tree)


def test_a_tree_is_trimmed_once_all_of_a_commit_is_applied() -> None:
    groups = advance(assemble(5), by=4)
    # The last leaf goes and another comes in one Commit: 8 leaves become 4, then 8 again.
    newcomer = key_package("Tanaka")
    groups[0], staged = groups[0].commit(
        [evict(4), Add(newcomer.key_package)], authenticate=by_roster
    )
    assert staged.group is not None
    assert staged.welcome is not None
    joined = Group.join(staged.welcome, newcomer, authenticate=by_roster)
    after = [groups[0].merge(staged.group), *(hear(g, staged.message) for g in groups[1:4])]
    assert {g.current.tree.leaf_count for g in (*after, joined)} == {8}
    everyone_understands([*after, joined])
    # Without a newcomer the right half goes, and the state's records with it.
    after[0], staged = after[0].commit([evict(4)], authenticate=by_roster)
    assert staged.group is not None
    after = [after[0].merge(staged.group), *(hear(g, staged.message) for g in after[1:])]
    assert {g.current.tree.leaf_count for g in after} == {4}
    assert not any(key in saved(after[1]) for key in ("node/7", "node/8", "node/9"))
    everyone_understands(after)


def test_removing_all_others_leaves_a_tree_of_one() -> None:
    osei = assemble(5)[0]
    osei, staged = osei.commit([evict(leaf) for leaf in (4, 1, 3, 2)], authenticate=by_roster)
    assert staged.group is not None
    alone = osei.merge(staged.group)
    assert alone.current.tree.leaf_count == 1
    alone, joined, _ = admit(alone, [key_package("Weber")])
    everyone_understands([alone, *joined])


def test_a_tree_has_a_largest_size() -> None:
    leaf = _leaf(pair()[0].current.tree, 0)
    blanks = [optional(None)] * (2 * MAX_LEAVES)
    with breaks("12.4.3.3"):
        RatchetTree.decode(SUITE, vector(blanks))
    too_large = vector([*blanks, optional(encode_node(leaf))])
    with pytest.raises(InvalidError):
        RatchetTree.decode(SUITE, too_large)
    full: list[Node | None] = [leaf, None] * MAX_LEAVES
    with pytest.raises(InvalidError):
        RatchetTree(SUITE, full[:-1]).add(leaf)


def test_a_tree_with_nodes_in_the_wrong_places_is_refused() -> None:
    tree = advance(assemble(2))[0].current.tree
    leaf, parent = _leaf(tree, 0), _parent(tree, 1)
    misplaced: list[list[Node]] = [[parent], [leaf, leaf, leaf], [leaf, parent, parent]]
    for nodes in misplaced:
        with breaks("12.4.3.3"):
            RatchetTree.decode(SUITE, vector(optional(encode_node(node)) for node in nodes))
    with breaks("12.4.3.3"):
        RatchetTree.decode(SUITE, vector([]))
    with breaks("12.4.3.3"):
        RatchetTree.decode(SUITE, vector([optional(encode_node(leaf)), optional(None)]))


# -- paths of Commits ------------------------------------------------------------------------------


def _swap_leaf(group: Group, path: UpdatePath, **changes: object) -> UpdatePath:
    """Return the path with its leaf signed anew, with another key or source."""
    options: dict[str, object] = {
        "encryption_key": path.leaf_node.encryption_key,
        "source": path.leaf_node.parent_hash,
        **changes,
    }
    leaf = sign_leaf_node(
        SUITE,
        said_of(STAFF[group.own_leaf]),
        signer=group.current.signer,
        position=(group.group_id, group.own_leaf),
        **options,  # type: ignore[arg-type]  # the two that stand above
    )
    return UpdatePath(leaf, path.nodes)


def _node(path: UpdatePath, at: int, **changes: object) -> UpdatePath:
    nodes = list(path.nodes)
    nodes[at] = replace(nodes[at], **changes)  # type: ignore[arg-type]  # its own fields
    return UpdatePath(path.leaf_node, tuple(nodes))


def _drop_ciphertext(path: UpdatePath) -> UpdatePath:
    return _node(path, -1, encrypted_path_secret=path.nodes[-1].encrypted_path_secret[1:])


def _add_ciphertext(path: UpdatePath) -> UpdatePath:
    sealed = path.nodes[-1].encrypted_path_secret
    return _node(path, -1, encrypted_path_secret=(*sealed, sealed[0]))


OTHER_KEY = SUITE.hpke.generate_key_pair()[1]

PATHS: dict[str, tuple[str, Callable[[Group, UpdatePath], UpdatePath]]] = {
    "one_node_too_few": ("12.4.2", lambda _, p: UpdatePath(p.leaf_node, p.nodes[:-1])),
    "one_node_too_many": ("12.4.2", lambda _, p: UpdatePath(p.leaf_node, (*p.nodes, p.nodes[0]))),
    "no_nodes": ("12.4.2", lambda _, p: UpdatePath(p.leaf_node, ())),
    "another_parent_hash": ("7.9.2", lambda g, p: _swap_leaf(g, p, source=bytes(32))),
    "an_empty_parent_hash": ("7.9.2", lambda g, p: _swap_leaf(g, p, source=b"")),
    "another_key_of_a_node": ("7.9.2", lambda _, p: _node(p, 0, encryption_key=OTHER_KEY)),
    "one_ciphertext_too_few": ("7.6", lambda _, p: _drop_ciphertext(p)),
    "one_ciphertext_too_many": ("7.6", lambda _, p: _add_ciphertext(p)),
    "a_leaf_from_an_update": ("7.3", lambda g, p: _swap_leaf(g, p, source=None)),
    "a_leaf_from_a_key_package": (
        "7.3",
        lambda g, p: _swap_leaf(g, p, source=Lifetime(not_before=0, not_after=1)),
    ),
    "the_old_key_of_the_leaf": (
        "7.3",
        lambda g, p: _swap_leaf(
            g, p, encryption_key=_leaf(g.current.tree, g.own_leaf).encryption_key
        ),
    ),
    "another_members_key": (
        "7.3",
        lambda g, p: _swap_leaf(g, p, encryption_key=_leaf(g.current.tree, 1).encryption_key),
    ),
    "the_leafs_key_again_in_a_node": (
        "7.3",
        lambda _, p: _node(p, 0, encryption_key=p.leaf_node.encryption_key),
    ),
}


@pytest.mark.parametrize("name", PATHS)
def test_a_commit_with_a_path_that_breaks_a_rule_is_refused(name: str) -> None:
    osei, lindqvist, marchetti = trio()
    section, alter = PATHS[name]
    message = commit_anyway(osei, alter=lambda path, _: alter(osei, path))
    for member in (lindqvist, marchetti):
        before = saved(member)
        with breaks(section):
            member.process(message, authenticate=anyone)
        assert saved(member) == before


def test_an_insiders_untouched_commit_is_accepted() -> None:
    osei, lindqvist, marchetti = trio()
    message = commit_anyway(osei)
    assert stage(lindqvist, message).group is not None
    assert stage(marchetti, message).group is not None


def test_a_path_leaf_signed_for_another_place_is_refused() -> None:
    osei, lindqvist, _ = trio()

    def alter(path: UpdatePath, _: bytes) -> UpdatePath:
        leaf = replace(path.leaf_node, signature=bytes(64))
        return UpdatePath(leaf, path.nodes)

    with pytest.raises(VerificationError):
        lindqvist.process(commit_anyway(osei, alter=alter), authenticate=anyone)


def test_a_path_secret_that_gives_another_key_is_refused_by_whoever_can_open_it() -> None:
    osei, lindqvist, marchetti = trio()
    recipient = _leaf(osei.current.tree, 2).encryption_key

    def alter(path: UpdatePath, context: bytes) -> UpdatePath:
        other = SUITE.encrypt_with_label(recipient, "UpdatePathNode", context, bytes(32))
        return _node(path, -1, encrypted_path_secret=(HPKECiphertext(*other),))

    message = commit_anyway(osei, alter=alter)
    before = saved(marchetti)
    with breaks("12.4.2"):
        marchetti.process(message, authenticate=anyone)
    assert saved(marchetti) == before
    # Lindqvist's own ciphertext, lower down, is right: RFC 9420 gives no way to check others'.
    assert stage(lindqvist, message).group is not None


def test_the_committer_of_a_group_of_one_needs_no_path_nodes() -> None:
    osei = found("Osei")
    osei, staged = osei.commit(authenticate=by_roster)
    assert staged.group is not None
    assert osei.merge(staged.group).epoch == 1


def test_a_member_without_the_keys_of_its_place_follows_no_path() -> None:
    osei, lindqvist, _ = trio()
    _, staged = osei.commit(authenticate=by_roster)
    bare = replace(lindqvist, current=replace(lindqvist.current, private_keys={}))
    with breaks("7.5"):
        bare.process(staged.message, authenticate=by_roster)


def test_a_blank_node_has_no_parent_hash() -> None:
    tree = grown().current.tree
    assert tree.parent(NodeIndex(11)) is None
    with breaks("7.9"):
        tree.parent_hash(NodeIndex(11), NodeIndex(13))


def test_a_path_is_sealed_to_everyone_but_the_committer_and_those_whom_it_adds() -> None:
    group = grown()
    adds = [Add(key_package(name).key_package) for name in STAFF[8:10]]
    _, staged = group.commit([evict(6), *adds], authenticate=by_roster, public=True)
    assert staged.added == (6, 8)
    body = decode_message(staged.message)
    assert isinstance(body, PublicMessage)
    commit = body.message.content.content
    assert isinstance(commit, Commit)
    assert commit.path is not None
    # Leaf 1; nodes 5 (leaves 2 and 3, blank above); leaves 4, 5, 7; of the new half, nobody.
    assert [len(n.encrypted_path_secret) for n in commit.path.nodes] == [1, 2, 3, 0]
