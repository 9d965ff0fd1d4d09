"""A witness's answers, check by check, and the race that the specification warns of."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.checkpoint import Checkpoint, cosign, sign_checkpoint, verify_cosignature
from crypto.errors import DecodeError
from crypto.merkle import EMPTY_ROOT, Frontier
from crypto.note import Note, SignatureType, SignerKey, sign_note
from crypto.witness import (
    MALFORMED,
    NOT_CONSISTENT,
    NOT_SIGNED,
    STALE,
    AddCheckpoint,
    RefusedError,
    TreeHead,
    admit,
)
from tests.crypto.log_of_leaves import Log, naive_root
from tests.depth import DEPTH

KEY = SignerKey.generate("ward.example/log", SignatureType.ED25519)
LOG = Log(40)


def head(size: int) -> TreeHead:
    return TreeHead(size=size, root=naive_root(LOG.leaves[:size]))


def request(old: int, new: int, *, proof: tuple[bytes, ...] | None = None) -> AddCheckpoint:
    """Return the honest request from ``old`` to ``new``, or one with another proof."""
    tree = LOG.tiled()
    root = naive_root(LOG.leaves[:new])
    note = sign_checkpoint(Checkpoint(origin=KEY.name, size=new, root=root), KEY)
    if proof is None:
        grown = type(tree)(size=new, source=LOG.source)
        proof = grown.consistency_proof(old) if 0 < old <= new else ()
    return AddCheckpoint(old_size=old, proof=proof, note=note)


def refusal(asked: AddCheckpoint, stored: TreeHead) -> tuple[int, int]:
    with pytest.raises(RefusedError) as caught:
        admit(asked, key=KEY.verifier, stored=stored)
    return caught.value.status, caught.value.stored_size


def test_growth_is_admitted_from_every_size_to_every_size() -> None:
    for old in range(41):
        for new in range(old, 41):
            asked = AddCheckpoint.decode(request(old, new).encode())
            assert admit(asked, key=KEY.verifier, stored=head(old)) == head(new)


def test_what_is_admitted_and_cosigned_verifies() -> None:
    witness = SignerKey.generate("relay.example/w", SignatureType.COSIGNATURE)
    asked = request(3, 9)
    admit(asked, key=KEY.verifier, stored=head(3))
    line = cosign(asked.note, witness, at_ms=5_000)
    assert verify_cosignature(asked.note.with_signatures(line), witness.verifier) == 5


def test_a_checkpoint_that_the_log_did_not_sign_is_not_cosigned() -> None:
    other = SignerKey.generate(KEY.name, SignatureType.ED25519)
    forged = sign_checkpoint(Checkpoint(origin=KEY.name, size=9, root=head(9).root), other)
    asked = AddCheckpoint(old_size=0, proof=(), note=forged)
    assert refusal(asked, TreeHead()) == (NOT_SIGNED, 0)
    nonsense = AddCheckpoint(old_size=0, proof=(), note=sign_note(b"nonsense\n", KEY))
    assert refusal(nonsense, TreeHead()) == (NOT_SIGNED, 0)


def test_an_old_size_above_the_new_is_malformed() -> None:
    assert refusal(request(9, 5), head(9)) == (MALFORMED, 9)


def test_an_old_size_that_is_not_the_stored_one_is_told_the_stored_one() -> None:
    assert refusal(request(5, 9), head(7)) == (STALE, 7)
    assert refusal(request(0, 9), head(7)) == (STALE, 7)


def test_of_two_requests_checked_at_once_the_smaller_cannot_roll_the_larger_back() -> None:
    stored = head(10)
    small, large = request(10, 12), request(10, 20)
    # Both would be admitted against the same stored head ...
    admit(small, key=KEY.verifier, stored=stored)
    stored = admit(large, key=KEY.verifier, stored=stored)
    # ... so the head is read again in the transaction that stores: the second one is stale.
    assert refusal(small, stored) == (STALE, 20)


def test_a_fork_at_any_size_is_refused() -> None:
    for old in range(1, 20):
        forked = [*LOG.leaves[: old - 1], bytes(32), *LOG.leaves[old:20]]
        root = Frontier().extend(forked).root()
        note = sign_checkpoint(Checkpoint(origin=KEY.name, size=20, root=root), KEY)
        asked = AddCheckpoint(old_size=old, proof=request(old, 20).proof, note=note)
        assert refusal(asked, head(old)) == (NOT_CONSISTENT, old)


def test_two_roots_of_one_size_are_a_fork() -> None:
    note = sign_checkpoint(Checkpoint(origin=KEY.name, size=9, root=bytes(32)), KEY)
    assert refusal(AddCheckpoint(old_size=9, proof=(), note=note), head(9))[0] == NOT_CONSISTENT
    assert refusal(request(9, 9, proof=(bytes(32),)), head(9))[0] == NOT_CONSISTENT


def test_from_the_empty_tree_nothing_is_to_be_proved() -> None:
    assert refusal(request(0, 9, proof=(bytes(32),)), TreeHead())[0] == NOT_CONSISTENT
    assert admit(request(0, 0), key=KEY.verifier, stored=TreeHead()) == TreeHead()
    note = sign_checkpoint(Checkpoint(origin=KEY.name, size=0, root=bytes(32)), KEY)
    asked = AddCheckpoint(old_size=0, proof=(), note=note)
    assert refusal(asked, TreeHead())[0] == NOT_CONSISTENT
    assert TreeHead().root == EMPTY_ROOT


def test_every_flipped_bit_of_a_request_is_refused() -> None:
    data = request(3, 7).encode()
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((DecodeError, RefusedError)):
            admit(AddCheckpoint.decode(bytes(changed)), key=KEY.verifier, stored=head(3))


def test_every_truncation_of_a_request_is_no_request() -> None:
    data = request(3, 7).encode()
    for cut in range(len(data)):
        with pytest.raises(DecodeError):
            AddCheckpoint.decode(data[:cut])


def test_more_hashes_than_a_tree_has_levels_are_no_request() -> None:
    note = request(3, 7).note
    most = AddCheckpoint(old_size=3, proof=(bytes(32),) * 63, note=note)
    assert AddCheckpoint.decode(most.encode()) == most
    for proof in ((bytes(32),) * 64, (bytes(31),)):
        with pytest.raises(DecodeError):
            AddCheckpoint.decode(AddCheckpoint(old_size=3, proof=proof, note=note).encode())


NOTE = request(0, 1).note.encode()


@settings(max_examples=300 * DEPTH)
@given(
    st.binary(max_size=60)
    | st.text(alphabet="old 019+A=\n", max_size=60).map(lambda text: text.encode())
)
def test_any_bytes_are_a_request_that_encodes_back_or_none(start: bytes) -> None:
    for data in (start, start + b"\n\n" + NOTE, b"old " + start + b"\n\n" + NOTE):
        try:
            asked = AddCheckpoint.decode(data)
        except DecodeError:
            continue
        assert asked.encode() == data
        assert isinstance(asked.note, Note)
