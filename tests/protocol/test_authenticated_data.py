"""What a message says of itself: one encoding each, and a documented error for everything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.errors import DecodeError, InvalidError
from protocol.authenticated_data import (
    AuthenticatedData,
    Checkpoint,
    CommitData,
    Priority,
    Target,
    TargetKind,
)
from tests.protocol.strategies import authenticated_data, mutated


@given(authenticated_data())
def test_what_is_encoded_decodes_to_the_same_value(value: AuthenticatedData) -> None:
    assert AuthenticatedData.decode(value.encode()) == value


@given(st.one_of(st.binary(max_size=120), mutated(authenticated_data().map(lambda v: v.encode()))))
def test_any_bytes_give_a_value_of_one_encoding_or_a_documented_error(data: bytes) -> None:
    try:
        value = AuthenticatedData.decode(data)
    except (DecodeError, InvalidError):
        return
    assert value.encode() == data


@pytest.mark.parametrize(("message_id", "previous_id"), [(0, 0), (1, 1), (1, 2), (1 << 64, 0)])
def test_message_ids_count_up_from_one(message_id: int, previous_id: int) -> None:
    with pytest.raises(InvalidError):
        AuthenticatedData(message_id=message_id, previous_id=previous_id)


@pytest.mark.parametrize("first_id", [-1, 3, 4])
def test_what_is_said_again_was_said_under_a_smaller_id_first(first_id: int) -> None:
    with pytest.raises(InvalidError):
        AuthenticatedData(message_id=3, first_id=first_id)


def test_a_message_is_named_by_its_first_id() -> None:
    assert AuthenticatedData(message_id=3).named == 3
    again = AuthenticatedData.decode(AuthenticatedData(message_id=3, first_id=2).encode())
    assert (again.message_id, again.named) == (3, 2)
    none = AuthenticatedData(message_id=3, first_id=2).encode()[:-8] + bytes(8)
    with pytest.raises(InvalidError):
        AuthenticatedData.decode(none)


def test_a_change_of_cursors_in_another_order_is_refused() -> None:
    with pytest.raises(InvalidError):
        CommitData(added=("b/1", "a/1"))  # type: ignore[arg-type]
    with pytest.raises(InvalidError):
        CommitData(removed=("a/1", "a/1"))  # type: ignore[arg-type]


def test_an_unknown_version_priority_flag_or_target_kind_is_refused() -> None:
    good = AuthenticatedData(message_id=1).encode()
    for offset, bad in ((0, 2), (1, 0), (1, 5), (2, 2), (2, 4), (3, 5)):
        with pytest.raises(DecodeError):
            AuthenticatedData.decode(good[:offset] + bytes([bad]) + good[offset + 1 :])


def test_a_target_has_a_name_unless_it_is_the_conversation() -> None:
    for kind in list(TargetKind)[1:]:
        with pytest.raises(InvalidError):
            Target(kind=kind)
    with pytest.raises(InvalidError):
        Target(kind=TargetKind.CONVERSATION, name="icu")


def test_a_checkpoint_of_nothing_or_with_a_short_root_is_refused() -> None:
    with pytest.raises(InvalidError):
        Checkpoint(tree_size=0, root_hash=bytes(32))
    with pytest.raises(InvalidError):
        Checkpoint(tree_size=1, root_hash=bytes(31))


def test_stat_is_above_urgent_above_routine_above_info() -> None:
    assert Priority.STAT > Priority.URGENT > Priority.ROUTINE > Priority.INFO
