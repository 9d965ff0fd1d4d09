from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crypto.errors import DecodeError
from protocol.identifiers import ConversationId
from protocol.requests import DeviceRequest, RequestKind, decode_request


@given(kind=st.sampled_from(RequestKind), conversation=st.binary(min_size=32, max_size=32))
def test_a_request_survives_its_encoding(kind: RequestKind, conversation: bytes) -> None:
    request = DeviceRequest(kind=kind, conversation=ConversationId(conversation))
    assert decode_request(request.encode()) == request


@given(st.binary(max_size=40))
def test_any_bytes_are_a_request_or_none(data: bytes) -> None:
    try:
        request = decode_request(data)
    except DecodeError:
        return
    assert request.encode() == data
