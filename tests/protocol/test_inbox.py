"""An inbox's items: told apart by their octet, and by nothing of what follows it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.errors import DecodeError
from protocol.inbox import Item, ItemKind, decode_item


@given(st.sampled_from(ItemKind), st.binary(min_size=1, max_size=40))
def test_an_item_is_what_its_octet_says_whatever_its_body_begins_with(
    kind: ItemKind, body: bytes
) -> None:
    item = Item(kind=kind, body=body)
    assert decode_item(item.encode()) == item


@given(st.binary(max_size=40))
def test_any_bytes_give_an_item_of_one_encoding_or_a_documented_error(data: bytes) -> None:
    try:
        item = decode_item(data)
    except DecodeError:
        assert len(data) < 2 or data[0] not in set(ItemKind)
        return
    assert item.encode() == data


@pytest.mark.parametrize("data", [b"", b"\x00body", b"\x04body", b"\x01", b"\x30\x82"])
def test_without_a_kind_or_a_body_it_is_no_item(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_item(data)
