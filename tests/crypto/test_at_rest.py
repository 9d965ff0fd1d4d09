"""Rows in another's keeping: opened by their key, in their place, unchanged, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.at_rest import KEY_BYTES, open_at_rest, seal_at_rest
from crypto.errors import UsageError, VerificationError

KEY = bytes(range(KEY_BYTES))


@given(st.binary(max_size=99), st.binary(max_size=20))
def test_what_was_sealed_opens_in_its_place(row: bytes, place: bytes) -> None:
    assert open_at_rest(seal_at_rest(row, key=KEY, context=place), key=KEY, context=place) == row


def test_one_row_is_never_sealed_twice_alike() -> None:
    assert len({seal_at_rest(b"row", key=KEY, context=b"") for _ in range(50)}) == 50


def test_a_change_of_any_byte_another_place_and_another_key_are_refused() -> None:
    sealed = seal_at_rest(b"row", key=KEY, context=b"here")
    for at in range(len(sealed)):
        changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        with pytest.raises(VerificationError):
            open_at_rest(changed, key=KEY, context=b"here")
    for key, place in ((KEY, b"there"), (bytes(KEY_BYTES), b"here")):
        with pytest.raises(VerificationError):
            open_at_rest(sealed, key=key, context=place)


@given(st.binary(max_size=64))
def test_any_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(VerificationError):
        open_at_rest(data, key=KEY, context=b"")


def test_a_key_of_another_length_is_the_callers_fault() -> None:
    for key in (b"", KEY[1:], KEY + b"\0"):
        with pytest.raises(UsageError):
            seal_at_rest(b"row", key=key, context=b"")
        with pytest.raises(UsageError):
            open_at_rest(bytes(40), key=key, context=b"")
