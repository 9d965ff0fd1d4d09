"""The header of an MLS message, as the relay reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.errors import DecodeError, InvalidError
from crypto.mls import framing
from crypto.mls.framing import PrivateMessage
from protocol.authenticated_data import AuthenticatedData, CommitData
from protocol.routing import ContentType, check_welcome, route, target_of
from tests.protocol.strategies import HASHES, authenticated_data, mutated

_LAST_ID = (1 << 63) - 2
"""The relay answers with the next one, too, in a number of 63 bits."""


LENGTHS = (0, 63, 64, 16383, 16384)
"""Of which each is the first or the last that takes as many octets."""


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    data = draw(authenticated_data())
    kinds = [3] if data.commit is not None else [1, 2]
    return framing.encode_message(
        PrivateMessage(
            group_id=draw(HASHES),
            epoch=draw(st.integers(0, (1 << 63) - 1)),
            content_type=framing.ContentType(draw(st.sampled_from(kinds))),
            authenticated_data=data.encode(),
            encrypted_sender_data=draw(st.binary(max_size=40)),
            ciphertext=draw(st.binary(max_size=100) | st.sampled_from(LENGTHS).map(bytes)),
        )
    )


@given(messages())
def test_the_header_is_what_mls_framing_reads(message: bytes) -> None:
    whole = framing.decode_message(message)
    assert isinstance(whole, PrivateMessage)
    header = route(message)
    assert header.conversation == whole.group_id
    assert header.epoch == whole.epoch
    assert int(header.content_type) == int(whole.content_type)
    assert header.data.encode() == whole.authenticated_data


@given(messages())
def test_the_target_alone_is_what_the_whole_header_says(message: bytes) -> None:
    assert target_of(message) == route(message).data.target


@given(st.one_of(st.binary(max_size=200), mutated(messages())))
def test_a_target_that_is_asked_of_whatever_bytes_is_that_of_the_header_or_a_documented_error(
    data: bytes,
) -> None:
    try:
        target = target_of(data)
    except (DecodeError, InvalidError):
        target = None
    try:
        routed = route(data)
    except (DecodeError, InvalidError):
        return
    assert routed.data.target == target


@given(st.one_of(st.binary(max_size=200), mutated(messages())))
def test_whatever_routes_is_a_private_message_and_the_rest_is_a_documented_error(
    data: bytes,
) -> None:
    try:
        route(data)
    except (DecodeError, InvalidError):
        return
    assert isinstance(framing.decode_message(data), PrivateMessage)


@given(HASHES)
def test_a_commit_and_nothing_else_says_how_it_changes_cursors(conversation: bytes) -> None:
    for kind, commit in ((1, CommitData()), (2, CommitData()), (3, None)):
        message = framing.encode_message(
            PrivateMessage(
                group_id=conversation,
                epoch=0,
                content_type=framing.ContentType(kind),
                authenticated_data=AuthenticatedData(message_id=1, commit=commit).encode(),
                encrypted_sender_data=b"",
                ciphertext=b"",
            )
        )
        with pytest.raises(InvalidError):
            route(message)


@given(HASHES)
def test_a_message_id_that_the_relay_could_not_answer_is_refused(conversation: bytes) -> None:
    for message_id, routes in ((_LAST_ID, True), (_LAST_ID + 1, False)):
        message = framing.encode_message(
            PrivateMessage(
                group_id=conversation,
                epoch=1,
                content_type=framing.ContentType(1),
                authenticated_data=AuthenticatedData(message_id=message_id).encode(),
                encrypted_sender_data=b"",
                ciphertext=b"",
            )
        )
        if routes:
            assert route(message).data.message_id == message_id
        else:
            with pytest.raises(InvalidError):
                route(message)


def test_content_types_are_those_of_mls() -> None:
    assert {t.name: int(t) for t in ContentType} == {t.name: int(t) for t in framing.ContentType}


def test_only_a_welcome_is_headed_as_one() -> None:
    check_welcome(b"\x00\x01\x00\x03rest")
    for other in (b"", b"\x00\x01\x00\x02rest", b"\x00\x02\x00\x03"):
        with pytest.raises(DecodeError):
            check_welcome(other)
