"""The context that all members of a conversation share."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.errors import DecodeError, InvalidError
from protocol.group_context import WardlineContext
from protocol.identifiers import UserName
from tests.protocol.strategies import contexts, example_context, mutated


@given(contexts())
def test_what_is_encoded_decodes_to_the_same_value(value: WardlineContext) -> None:
    assert WardlineContext.decode(value.encode()) == value


@given(st.one_of(st.binary(max_size=120), mutated(contexts().map(lambda v: v.encode()))))
def test_any_bytes_give_a_value_of_one_encoding_or_a_documented_error(data: bytes) -> None:
    try:
        value = WardlineContext.decode(data)
    except (DecodeError, InvalidError):
        return
    assert value.encode() == data


def test_a_conversation_that_does_not_require_the_archive_is_refused() -> None:
    data = example_context().encode()
    assert data[-1] == 1
    with pytest.raises(InvalidError):
        WardlineContext.decode(data[:-1] + b"\x00")


def test_an_unknown_type_or_version_is_refused() -> None:
    data = example_context().encode()
    for offset, bad in ((0, 2), (33, 0), (33, 7)):
        with pytest.raises(DecodeError):
            WardlineContext.decode(data[:offset] + bytes([bad]) + data[offset + 1 :])


@pytest.mark.parametrize("owners", [(), ("b", "a"), ("a", "a"), ("Not A Name",), ("a",) * 33])
def test_owners_are_named_ascending_and_at_least_one(owners: tuple[str, ...]) -> None:
    with pytest.raises(InvalidError):
        dataclasses.replace(example_context(), owners=tuple(map(UserName, owners)))
