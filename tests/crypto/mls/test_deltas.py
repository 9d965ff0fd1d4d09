"""What is saved after each step: little, whatever the group's size, and always enough."""

from __future__ import annotations

import math
from functools import cache

import pytest

from crypto.mls import Add, Group
from crypto.mls.leaf_node import LeafNode
from tests.crypto.mls.ward import (
    STAFF,
    advance,
    assemble,
    by_roster,
    evict,
    hear,
    key_package,
    read,
    saved,
)

MEMBERS = 1000
HEIGHT = math.ceil(math.log2(MEMBERS))


def _crowd(leaf: LeafNode, replaced: LeafNode | None) -> None:
    """Judge every leaf good: a thousand members are more than the ward's roster names."""


@cache
def hospital() -> tuple[Group, Group]:
    """Return the groups of leaf 0 and leaf 500 of a thousand, after each has committed."""
    founder = key_package("Osei")
    group = Group.create(founder, group_id=b"all staff")
    packages = [key_package("Weber") for _ in range(MEMBERS - 1)]
    adds = [Add(own.key_package) for own in packages]
    group, staged = group.commit(adds, authenticate=_crowd)
    assert staged.group is not None
    assert staged.welcome is not None
    other = Group.join(staged.welcome, packages[499], authenticate=_crowd)
    group = group.merge(staged.group)
    other, staged = other.commit(authenticate=_crowd)
    assert staged.group is not None
    return _hear(group, staged.message), other.merge(staged.group)


def _hear(group: Group, message: bytes) -> Group:
    group, received = group.process(message, authenticate=_crowd)
    following = received.group  # type: ignore[union-attr]  # a StagedCommit
    assert following is not None
    return group.merge(following)


def _bytes(changes: dict[str, bytes | None]) -> int:
    return sum(len(key) + len(data or b"") for key, data in changes.items())


def _secrets(changes: dict[str, bytes | None]) -> bool:
    return all(key.startswith("secret/") for key in changes)


def test_an_application_message_among_a_thousand_saves_a_few_hundred_bytes() -> None:
    osei, weber = hospital()
    first, message = osei.encrypt(b"text")
    assert len(first.changes(osei)) <= 2 * HEIGHT + 2  # a path of the secret tree opens once
    second, _ = first.encrypt(b"text")
    assert len(second.changes(first)) == 1
    assert _bytes(second.changes(first)) < 200
    assert _secrets(first.changes(osei))
    heard, received = weber.process(message, authenticate=_crowd)
    assert received is not None
    assert len(heard.changes(weber)) <= 2 * HEIGHT + 2
    assert _bytes(heard.changes(weber)) < 1500
    assert _secrets(heard.changes(weber))


def test_a_commit_among_a_thousand_saves_a_path_and_not_the_tree() -> None:
    osei, weber = hospital()
    sender, staged = osei.commit(authenticate=_crowd)
    assert staged.group is not None
    merged = sender.merge(staged.group)
    heard = _hear(weber, staged.message)
    for before, after in ((sender, merged), (weber, heard)):
        changes = after.changes(before)
        nodes = [key for key in changes if key.startswith("node/")]
        assert len(nodes) <= HEIGHT + 1
        # Beside them: the epoch, the past one, the new secret tree's root.
        assert len(changes) <= 2 * HEIGHT + 6
        assert _bytes(changes) < 200 * HEIGHT + 4000


def test_a_received_message_of_a_past_epoch_saves_as_little() -> None:
    osei, weber = hospital()
    osei, early = osei.encrypt(b"early")
    _, late = osei.encrypt(b"late")
    weber, staged = weber.commit(authenticate=_crowd)
    assert staged.group is not None
    weber = weber.merge(staged.group)
    weber, _ = weber.process(early, authenticate=_crowd)
    after, _ = weber.process(late, authenticate=_crowd)
    assert len(after.changes(weber)) == 1
    assert _secrets(after.changes(weber))


def test_what_was_seen_or_does_not_concern_the_state_saves_nothing() -> None:
    osei, lindqvist = assemble(2)
    assert osei.changes(osei) == {}
    for message in (osei.encrypt(b"own")[1], osei.propose_update(public=True)[1]):
        after, _ = osei.process(message, authenticate=by_roster)
        assert after.changes(osei) == {}
    staged = osei.commit(authenticate=by_roster, public=True)[1]
    after, _ = lindqvist.process(staged.message, authenticate=by_roster)
    assert after.changes(lindqvist) == {}  # staged: the next epoch is a value of its own


def _store(changes: dict[str, bytes | None], store: dict[str, bytes]) -> None:
    for key, data in changes.items():
        if data is None:
            assert key in store, "a record is deleted that was never written"
            del store[key]
        else:
            store[key] = data


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_the_sum_of_all_deltas_is_the_whole_state(size: int) -> None:
    groups = assemble(size)
    stores: list[dict[str, bytes]] = [{} for _ in groups]
    for group, store in zip(groups, stores, strict=True):
        _store(group.changes(None), store)

    def step(after: list[Group]) -> None:
        for at, group in enumerate(after):
            _store(group.changes(groups[at]), stores[at])
            assert stores[at] == saved(group)
            groups[at] = Group.load(stores[at])
            assert saved(groups[at]) == stores[at]

    for round_ in range(8):
        speaker = round_ % size
        after = list(groups)
        after[speaker], message = groups[speaker].encrypt(b"round")
        step([g if at == speaker else read(g, message)[0] for at, g in enumerate(after)])
        after = list(groups)
        after[speaker], update = groups[speaker].propose_update()
        step([g if at == speaker else hear(g, update) for at, g in enumerate(after)])
        step(advance(groups, by=(round_ * 5) % size))


def test_deltas_follow_a_tree_that_grows_and_shrinks() -> None:
    group = assemble(1)[0]
    store: dict[str, bytes] = {}
    _store(group.changes(None), store)
    for change in (
        [Add(key_package(name).key_package) for name in STAFF[1:6]],
        [evict(5), evict(4), evict(2)],
        [Add(key_package(name).key_package) for name in STAFF[6:17]],
        [evict(1), evict(3)],
        [evict(leaf) for leaf in range(2, 14) if leaf != 3],
    ):
        committer, staged = group.commit(change, authenticate=by_roster)
        assert staged.group is not None
        _store(committer.changes(group), store)
        merged = committer.merge(staged.group)
        _store(merged.changes(committer), store)
        assert store == saved(merged)
        group = Group.load(store)
        assert [leaf for leaf, _ in group.members] == [leaf for leaf, _ in merged.members]
