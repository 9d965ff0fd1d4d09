"""Encryption under keys that are used once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.errors import UsageError, VerificationError
from crypto.single_use import KEY_BYTES, TAG_BYTES, open_once, seal_once


@given(st.binary(max_size=300), st.binary(max_size=40))
def test_what_was_sealed_opens_under_its_key_and_context(plaintext: bytes, context: bytes) -> None:
    key, ciphertext = seal_once(plaintext, context=context)
    assert (len(key), len(ciphertext)) == (KEY_BYTES, len(plaintext) + TAG_BYTES)
    assert open_once(ciphertext, key=key, context=context) == plaintext


def test_no_two_bodies_share_a_key() -> None:
    assert len({seal_once(b"same", context=b"") for _ in range(100)}) == 100


@given(st.integers(min_value=0), st.sampled_from(["ciphertext", "key", "context"]))
def test_a_changed_bit_anywhere_opens_nothing(bit: int, where: str) -> None:
    key, ciphertext = seal_once(b"bp 90/60", context=b"record 7")
    parts = {"ciphertext": ciphertext, "key": key, "context": b"record 7"}
    changed = bytearray(parts[where])
    changed[bit // 8 % len(changed)] ^= 1 << bit % 8
    parts[where] = bytes(changed)
    with pytest.raises(VerificationError):
        open_once(parts["ciphertext"], key=parts["key"], context=parts["context"])


@pytest.mark.parametrize("size", [0, 15])
def test_what_is_shorter_than_a_tag_opens_nothing(size: int) -> None:
    with pytest.raises(VerificationError):
        open_once(bytes(size), key=bytes(KEY_BYTES), context=b"")


def test_a_key_of_another_length_is_the_callers_bug() -> None:
    with pytest.raises(UsageError):
        open_once(bytes(40), key=bytes(16), context=b"")
