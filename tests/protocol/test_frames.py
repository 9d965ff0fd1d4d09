"""Frames: one encoding each, strict, and closed to everything else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol import frames, limits
from protocol.errors import Code, RemoteProtocolError
from protocol.frames import Append, Authenticate, Frame, Sender
from tests.protocol.strategies import any_frame, mutated


@given(any_frame())
def test_what_is_encoded_decodes_to_the_same_frame(frame: Frame) -> None:
    assert frames.decode(frames.encode(frame), sender=frame.sender) == frame


@given(any_frame())
def test_a_frame_of_the_other_side_is_malformed(frame: Frame) -> None:
    other = Sender.RELAY if frame.sender is Sender.CLIENT else Sender.CLIENT
    with pytest.raises(RemoteProtocolError) as caught:
        frames.decode(frames.encode(frame), sender=other)
    assert caught.value.code is Code.MALFORMED


@given(
    st.one_of(st.binary(max_size=200), mutated(any_frame().map(frames.encode))),
    st.sampled_from(Sender),
)
def test_any_bytes_give_a_frame_of_one_encoding_or_a_documented_error(
    data: bytes, sender: Sender
) -> None:
    try:
        frame = frames.decode(data, sender=sender)
    except RemoteProtocolError:
        return
    assert frames.encode(frame) == data


@pytest.mark.parametrize(
    "value",
    [
        [5],
        [5, b"x", b"y"],
        [5, "x"],
        {"type": 5, "message": b"x"},
        [99, b"x"],
        [5, None],
        5,
        [5, b"x" * (limits.COMMIT_BYTES + 1)],
        [8, b"a", -1],
        [8, b"a", 1 << 63],
        [8, b"a", 1.0],
    ],
)
def test_a_frame_with_other_fields_types_or_sizes_is_malformed(value: object) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        frames.decode(msgspec.msgpack.encode(value), sender=Sender.CLIENT)
    assert caught.value.code is Code.MALFORMED


def test_a_longer_encoding_of_the_same_number_is_malformed() -> None:
    data = frames.encode(frames.Acknowledge(log=b"o", through=1))
    assert data.endswith(b"\x01")
    with pytest.raises(RemoteProtocolError):
        frames.decode(data[:-1] + b"\xcc\x01", sender=Sender.CLIENT)


def test_a_frame_beyond_the_largest_is_refused_before_it_is_read() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        frames.decode(b"\x00" * (limits.FRAME_BYTES + 1), sender=Sender.CLIENT)
    assert caught.value.code is Code.TOO_LARGE


def test_a_frame_shows_neither_content_nor_secrets() -> None:
    for frame in (Append(message=b"canary"), Authenticate(ref=1, password="canary", code="1")):
        assert "canary" not in repr(frame)
        assert "canary" not in str(frame)


def test_every_tag_is_used_once_and_every_frame_is_decodable() -> None:
    tags = [kind.__struct_config__.tag for kind in frames.FRAMES]
    assert len(set(tags)) == len(tags)
    subclasses = {kind for side in Frame.__subclasses__() for kind in side.__subclasses__()}
    assert subclasses == set(frames.FRAMES)


def test_a_relay_tells_no_time_that_a_device_could_not_show() -> None:
    entry = frames.Deliver(
        log=b"o", sequence=1, predecessor=0, at_ms=limits.TIME_MAX_MS, kind=0, body=b""
    )
    last = datetime.fromtimestamp(limits.TIME_MAX_MS / 1000, UTC)
    for hours in (-24, 24):
        assert last + timedelta(hours=hours)
    assert frames.decode(frames.encode(entry), sender=Sender.RELAY) == entry
    told = (
        replace(entry, at_ms=limits.TIME_MAX_MS + 1),
        replace(entry, until_ms=1 << 62),
        frames.Opened(token=bytes(32), now_ms=1 << 62, last_id=0),
        frames.Statements(ref=1, entries=(frames.StandingEntry(1, 1 << 62, b""),), more=False),
        frames.Reach(ref=1, devices=(frames.DeviceReach("a/b", True, 1 << 62, 0),)),
        frames.Reach(ref=1, devices=(frames.DeviceReach("a/b", True, 0, 1 << 62),)),
    )
    for frame in told:
        with pytest.raises(RemoteProtocolError) as caught:
            frames.decode(frames.encode(frame), sender=Sender.RELAY)
        assert caught.value.code is Code.MALFORMED
