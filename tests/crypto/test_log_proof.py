"""Receipts: verified offline with configured keys, and nothing in them taken on trust."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.checkpoint import Checkpoint, sign_checkpoint
from crypto.errors import DecodeError, VerificationError
from crypto.log_proof import LogProof
from crypto.note import SignatureType, SignerKey, sign_note
from tests.crypto.log_of_leaves import Log
from tests.depth import DEPTH

KEY = SignerKey.generate("ward.example/log", SignatureType.ED25519)
LOG = Log(11)
NOTE = sign_checkpoint(Checkpoint(origin=KEY.name, size=11, root=LOG.root), KEY)


def receipt(index: int, extra: bytes | None = None) -> LogProof:
    proof = LOG.tiled().inclusion_proof(index)
    return LogProof(index=index, proof=proof, note=NOTE, extra=extra)


def test_every_leaf_of_a_log_has_a_receipt_that_verifies() -> None:
    for index in range(11):
        for extra in (None, b"", b"salt"):
            again = LogProof.decode(receipt(index, extra).encode())
            assert again == receipt(index, extra)
            assert again.verify(leaf=LOG.leaves[index], key=KEY.verifier).size == 11


def test_a_receipt_begins_as_the_specification_says() -> None:
    lines = receipt(4, b"x").encode().decode().split("\n")
    assert lines[:3] == ["c2sp.org/tlog-proof@v1", "extra eA==", "index 4"]
    assert lines[3 + len(receipt(4).proof)] == ""


def test_a_receipt_for_another_leaf_or_log_is_refused() -> None:
    with pytest.raises(VerificationError):
        receipt(4).verify(leaf=LOG.leaves[5], key=KEY.verifier)
    other = SignerKey.generate(KEY.name, SignatureType.ED25519)
    with pytest.raises(VerificationError):
        receipt(4).verify(leaf=LOG.leaves[4], key=other.verifier)
    nonsense = LogProof(index=4, proof=(), note=sign_note(b"nonsense\n", KEY))
    with pytest.raises(DecodeError):
        nonsense.verify(leaf=LOG.leaves[4], key=KEY.verifier)


def test_every_flipped_bit_of_a_receipt_is_refused() -> None:
    data = receipt(6).encode()
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((DecodeError, VerificationError)):
            LogProof.decode(bytes(changed)).verify(leaf=LOG.leaves[6], key=KEY.verifier)


def test_every_truncation_of_a_receipt_is_none() -> None:
    data = receipt(6, b"extra").encode()
    for cut in range(len(data)):
        with pytest.raises(DecodeError):
            LogProof.decode(data[:cut])


@settings(max_examples=300 * DEPTH)
@given(
    st.binary(max_size=60)
    | st.text(alphabet="index extra 0123+A=\n", max_size=60).map(lambda text: text.encode())
)
def test_any_bytes_are_a_receipt_that_encodes_back_or_none(start: bytes) -> None:
    first = b"c2sp.org/tlog-proof@v1"
    tail = b"\n\n" + NOTE.encode()
    for data in (start, first + tail, first + b"\n" + start + tail, first + b"\nindex " + start):
        try:
            proof = LogProof.decode(data)
        except DecodeError:
            continue
        assert proof.encode() == data
