"""The Merkle tree against the definitions of RFC 9162, written out naively."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto import merkle
from crypto.errors import DecodeError, UsageError, VerificationError
from crypto.merkle import EMPTY_ROOT, MAX_TREE_SIZE, Frontier, leaf_hash
from tests.crypto.log_of_leaves import Log, naive_root
from tests.depth import DEPTH

SIZES = 330
"""Every tree up to here is compared: past one full tile, and past the next power of two below."""


def flips(value: bytes) -> list[bytes]:
    """Return ``value`` with each of its bits flipped in turn."""
    number = int.from_bytes(value, "big")
    return [(number ^ (1 << bit)).to_bytes(len(value), "big") for bit in range(8 * len(value))]


def test_the_empty_tree_and_a_leaf_hash_as_the_standard_says() -> None:
    assert Frontier().root() == EMPTY_ROOT
    known = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert leaf_hash(b"").hex() == known


def test_the_root_is_the_naive_one_at_every_size() -> None:
    log = Log(SIZES)
    frontier = Frontier()
    for size in range(1, SIZES + 1):
        frontier, nodes = frontier.append(log.leaves[size - 1])
        assert frontier.root() == naive_root(log.leaves[:size])
        for node in nodes:
            start = node.position << node.level
            assert node.hash == naive_root(log.leaves[start : start + (1 << node.level)])
        assert len(nodes) == (size & -size).bit_length()


def test_extending_is_appending_one_by_one() -> None:
    log = Log(100)
    frontier = Frontier()
    for cut in (0, 1, 7, 64, 100):
        expected = frontier
        for leaf in log.leaves[:cut]:
            expected, _ = expected.append(leaf)
        assert Frontier().extend(log.leaves[:cut]) == expected
        rest = Frontier().extend(log.leaves[:cut]).extend(log.leaves[cut:])
        assert rest.root() == naive_root(log.leaves)


def test_appending_leaves_the_older_frontier_as_it_was() -> None:
    before = Frontier().extend([leaf_hash(b"a"), leaf_hash(b"b"), leaf_hash(b"c")])
    root = before.root()
    before.append(leaf_hash(b"d"))
    assert (before.size, before.root()) == (3, root)


def test_what_is_no_hash_is_not_appended() -> None:
    with pytest.raises(UsageError):
        Frontier().append(b"short")
    with pytest.raises(UsageError):
        Frontier().extend([b"short"])
    full = Frontier(size=MAX_TREE_SIZE, hashes=(leaf_hash(b""),) * 63)
    with pytest.raises(UsageError):
        full.append(leaf_hash(b""))
    with pytest.raises(UsageError):
        full.extend([leaf_hash(b"")])
    with pytest.raises(UsageError):
        Frontier(size=3, hashes=(leaf_hash(b""),))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_frontier_or_no_frontier(data: bytes) -> None:
    try:
        frontier = Frontier.decode(data)
    except DecodeError:
        return
    assert frontier.encode() == data


def test_a_frontier_survives_its_encoding_and_no_truncation_does() -> None:
    data = Frontier().extend(Log(77).leaves).encode()
    assert Frontier.decode(data).encode() == data
    for cut in range(len(data)):
        with pytest.raises(DecodeError):
            Frontier.decode(data[:cut])
    with pytest.raises(DecodeError):
        Frontier.decode((1 << 63).to_bytes(8, "big") + bytes(32))


def test_every_inclusion_proof_verifies_and_for_no_other_leaf() -> None:
    for size in [*range(1, 70), 255, 256, 257, SIZES]:
        tree = Log(size)
        for index in range(0, size, 1 if size < 70 else 17):
            proof = tree.tiled().inclusion_proof(index)
            merkle.verify_inclusion(
                proof, leaf=tree.leaves[index], index=index, size=size, root=tree.root
            )
            with pytest.raises(VerificationError):
                merkle.verify_inclusion(
                    proof, leaf=leaf_hash(b"other"), index=index, size=size, root=tree.root
                )


def test_every_consistency_proof_verifies_and_from_no_other_root() -> None:
    for size in [*range(1, 40), 256, 257, SIZES]:
        tree = Log(size)
        for old in range(1, size + 1, 1 if size < 40 else 13):
            proof = tree.tiled().consistency_proof(old)
            old_root = naive_root(tree.leaves[:old])
            merkle.verify_consistency(
                proof, old_size=old, old_root=old_root, size=size, root=tree.root
            )
            with pytest.raises(VerificationError):
                merkle.verify_consistency(
                    proof, old_size=old, old_root=EMPTY_ROOT, size=size, root=tree.root
                )


def test_every_subtree_of_a_small_tree_is_proved_inside_it() -> None:
    for size in (1, 2, 7, 13, 16, 33):
        tree = Log(size)
        for start in range(size):
            for end in range(start + 1, size + 1):
                if not merkle.is_subtree(start, end):
                    continue
                inner = tree.tiled().subtree_root(start, end)
                assert inner == naive_root(tree.leaves[start:end])
                proof = tree.tiled().subtree_consistency_proof(start=start, end=end)
                merkle.verify_subtree_consistency(
                    proof, start=start, end=end, subtree_root=inner, size=size, root=tree.root
                )
                for index in range(start, end):
                    inclusion = tree.tiled().subtree_inclusion_proof(index, start=start, end=end)
                    merkle.verify_subtree_inclusion(
                        inclusion,
                        leaf=tree.leaves[index],
                        index=index,
                        start=start,
                        end=end,
                        root=inner,
                    )


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7, 8, 11])
def test_every_flipped_bit_of_an_inclusion_proof_is_refused(size: int) -> None:
    tree = Log(size)
    for index in range(size):
        proof = tree.tiled().inclusion_proof(index)
        for at, value in enumerate(proof):
            for flipped in flips(value):
                mutated = (*proof[:at], flipped, *proof[at + 1 :])
                with pytest.raises(VerificationError):
                    merkle.verify_inclusion(
                        mutated, leaf=tree.leaves[index], index=index, size=size, root=tree.root
                    )


@pytest.mark.parametrize("size", [2, 3, 6, 7, 8, 11])
def test_every_flipped_bit_of_a_consistency_proof_is_refused(size: int) -> None:
    tree = Log(size)
    for old in range(1, size):
        proof = tree.tiled().consistency_proof(old)
        old_root = naive_root(tree.leaves[:old])
        for at, value in enumerate(proof):
            for flipped in flips(value):
                mutated = (*proof[:at], flipped, *proof[at + 1 :])
                with pytest.raises(VerificationError):
                    merkle.verify_consistency(
                        mutated, old_size=old, old_root=old_root, size=size, root=tree.root
                    )


@settings(max_examples=150 * DEPTH)
@given(st.data())
def test_a_proof_cut_lengthened_or_turned_is_refused(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 70))
    tree = Log(size)
    old = data.draw(st.integers(1, size - 1))
    proof = list(tree.tiled().consistency_proof(old))
    spoiled = data.draw(
        st.sampled_from([proof[:-1], proof[1:], [*proof, EMPTY_ROOT], [EMPTY_ROOT, *proof], []])
    )
    with pytest.raises(VerificationError):
        merkle.verify_consistency(
            spoiled,
            old_size=old,
            old_root=naive_root(tree.leaves[:old]),
            size=size,
            root=tree.root,
        )


@settings(max_examples=150 * DEPTH)
@given(st.data())
def test_no_invented_history_verifies(data: st.DataObject) -> None:
    hashes = st.lists(st.binary(min_size=32, max_size=32), max_size=9)
    size = data.draw(st.integers(-1, 300) | st.integers(MAX_TREE_SIZE - 3, MAX_TREE_SIZE + 3))
    number = data.draw(st.integers(-1, 300) | st.integers(MAX_TREE_SIZE - 3, MAX_TREE_SIZE + 3))
    leaf = data.draw(st.binary(min_size=32, max_size=32))
    with pytest.raises(VerificationError):
        merkle.verify_inclusion(
            data.draw(hashes), leaf=leaf, index=number, size=size, root=EMPTY_ROOT
        )
    with pytest.raises(VerificationError):
        merkle.verify_consistency(
            data.draw(hashes), old_size=number, old_root=leaf, size=size, root=EMPTY_ROOT
        )


def test_a_proof_for_one_size_is_none_for_another() -> None:
    four = Log(4)
    inclusion = four.tiled().inclusion_proof(0)
    consistency = four.tiled().consistency_proof(2)
    half = naive_root(four.leaves[:2])
    for size in (4, 8, 9, 1 << 40):
        if size == 4:
            merkle.verify_inclusion(
                inclusion, leaf=four.leaves[0], index=0, size=size, root=four.root
            )
            merkle.verify_consistency(
                consistency, old_size=2, old_root=half, size=size, root=four.root
            )
            continue
        with pytest.raises(VerificationError):
            merkle.verify_inclusion(
                inclusion, leaf=four.leaves[0], index=0, size=size, root=four.root
            )
        with pytest.raises(VerificationError):
            merkle.verify_consistency(
                consistency, old_size=2, old_root=half, size=size, root=four.root
            )


def test_a_range_that_no_node_covers_is_in_no_tree() -> None:
    root = Log(3).root
    assert not merkle.is_subtree(1, 3)
    with pytest.raises(VerificationError):
        merkle.verify_subtree_consistency((), start=1, end=3, subtree_root=root, size=3, root=root)
    with pytest.raises(VerificationError):
        merkle.verify_subtree_inclusion((), leaf=root, index=1, start=1, end=3, root=root)


def test_consistency_with_the_empty_tree_proves_nothing_and_is_refused() -> None:
    with pytest.raises(VerificationError):
        merkle.verify_consistency((), old_size=0, old_root=EMPTY_ROOT, size=3, root=Log(3).root)


def test_hashes_of_other_lengths_never_join_to_a_proof() -> None:
    # node_hash joins its children, so 31 + 33 bytes hash to the same as 32 + 32.
    left, right = leaf_hash(b"l"), leaf_hash(b"r")
    root = merkle.node_hash(left, right)
    merkle.verify_inclusion([right], leaf=left, index=0, size=2, root=root)
    with pytest.raises(VerificationError):
        merkle.verify_inclusion([right[1:]], leaf=left + right[:1], index=0, size=2, root=root)
    with pytest.raises(VerificationError):
        merkle.verify_subtree_consistency(
            [right[1:]], start=0, end=1, subtree_root=left + right[:1], size=2, root=root
        )
