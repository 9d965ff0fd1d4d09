"""Frames out of a socket's bytes however they are cut, and a turn's writes in one piece."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from protocol import frames
from protocol.frames import Deliver
from server import events, transport
from server.transport import TURN_FRAMES, WRITE_BUFFER_BYTES, Stream, Turn
from tests.waiting import comes_true

UPGRADE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@dataclass
class Socket:
    """What asyncio's transport is to a stream."""

    written: list[bytes] = field(default_factory=list)
    closing: bool = False
    reading: bool = True

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, high: int) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, _name: str) -> tuple[str, int]:
        return ("127.0.0.1", 1)


@dataclass
class Heard:
    """A connection that only listens."""

    messages: list[bytes] = field(default_factory=list)
    closed_with: Any = None
    proved: bool = True

    def receive(self, payload: bytes) -> None:
        self.messages.append(payload)

    def close(self, code: Any) -> None:
        self.closed_with = code


def opened(loop: asyncio.AbstractEventLoop) -> tuple[Stream, Socket, Heard]:
    """Return a stream whose handshake is done, its socket, and what hears its messages."""
    keeper = SimpleNamespace(watch=lambda _: None, forget=lambda _: None)
    relay = SimpleNamespace(
        origins=[None],
        silent=events.silent(),
        keeper=keeper,
        loop=loop,
        turn=Turn(loop),
        draining=False,
        address_of=lambda peer, _forwarded: peer,
        connection_wait_ms=lambda _: 0,
        count=lambda _: None,
    )
    stream, socket, heard = Stream(cast("Any", relay)), Socket(), Heard()
    stream.connection_made(cast("Any", socket))
    stream.data_received(UPGRADE)
    assert stream._connection is not None
    stream._connection = cast("Any", heard)
    return stream, socket, heard


def masked(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin=fin).serialize(mask=True)


@st.composite
def messages(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A message, and one of the ways in which a client may put it on the wire."""
    size = draw(st.sampled_from([0, 1, 125, 126, 127, 1000, 65_535, 65_536]))
    body = draw(st.binary(min_size=1, max_size=1)) * size
    ping = masked(Opcode.PING, b"?") if draw(st.booleans()) else b""
    if not draw(st.booleans()):
        return body, ping + masked(Opcode.BINARY, body)
    cut = draw(st.integers(0, size))
    first = masked(Opcode.BINARY, body[:cut], fin=False)
    return body, first + ping + masked(Opcode.CONT, body[cut:])


@given(st.lists(messages(), min_size=1, max_size=6), st.data())
def test_the_same_messages_are_heard_however_the_bytes_are_cut(
    said: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    wire = b"".join(encoded for _, encoded in said)
    places = data.draw(st.lists(st.integers(0, len(wire)), max_size=8).map(sorted))
    loop = asyncio.new_event_loop()
    try:
        stream, socket, heard = opened(loop)
        for start, end in pairwise([0, *places, len(wire)]):
            stream.data_received(wire[start:end])
        while stream._is_waiting:
            loop.run_until_complete(asyncio.sleep(0))
        assert socket.reading
        assert heard.messages == [body for body, _ in said]
        assert not socket.closing
    finally:
        loop.close()


@given(st.binary(min_size=1, max_size=12), st.integers(1, 12))
def test_whatever_a_peer_sends_is_heard_or_ends_the_stream(garbage: bytes, piece: int) -> None:
    loop = asyncio.new_event_loop()
    try:
        stream, _, heard = opened(loop)
        for start in range(0, len(garbage), piece):
            stream.data_received(garbage[start : start + piece])
        assert all(isinstance(message, bytes) for message in heard.messages)
    finally:
        loop.close()


async def test_more_small_frames_than_a_turn_takes_wait_for_the_next() -> None:
    stream, socket, heard = opened(asyncio.get_running_loop())
    stream.data_received(b"".join(masked(Opcode.BINARY, b"%d" % n) for n in range(3 * TURN_FRAMES)))
    assert len(heard.messages) == TURN_FRAMES
    assert not socket.reading
    turns = 0
    while len(heard.messages) < 3 * TURN_FRAMES:
        await asyncio.sleep(0)
        turns += 1
    assert heard.messages == [b"%d" % n for n in range(3 * TURN_FRAMES)]
    assert turns >= 2
    assert socket.reading


async def test_what_is_written_in_one_turn_goes_out_in_one_piece_to_each() -> None:
    loop = asyncio.get_running_loop()
    turn = Turn(loop)
    pairs = [opened(loop) for _ in range(2)]
    await asyncio.sleep(0)
    for stream, socket, _ in pairs:
        stream._relay.turn = turn
        socket.written.clear()
    for number in range(3):
        for stream, _, _ in pairs:
            stream.send(b"%d" % number)
    assert [socket.written for _, socket, _ in pairs] == [[], []]
    await asyncio.sleep(0)
    one = b"".join(transport.head(b"%d" % number) for number in range(3))
    assert [socket.written for _, socket, _ in pairs] == [[one], [one]]
    pairs[0][0].send(b"later")
    await asyncio.sleep(0)
    assert pairs[0][1].written == [one, transport.head(b"later")]


async def test_what_would_fill_a_sockets_buffer_does_not_wait_for_the_turns_end() -> None:
    stream, socket, _ = opened(asyncio.get_running_loop())
    await asyncio.sleep(0)
    socket.written.clear()
    stream.send(bytes(WRITE_BUFFER_BYTES))
    assert len(socket.written) == 1


async def test_a_stream_that_has_ended_within_the_turn_writes_nothing() -> None:
    stream, socket, _ = opened(asyncio.get_running_loop())
    await asyncio.sleep(0)
    socket.written.clear()
    stream.send(b"x")
    stream.abort()
    await asyncio.sleep(0)
    assert socket.written == []


@pytest.mark.parametrize("state", ["between", "inside"])
async def test_a_peer_that_writes_while_it_is_closed_hears_why_before_the_socket_goes(
    state: str,
) -> None:
    stream, socket, heard = opened(asyncio.get_running_loop())
    late = masked(Opcode.BINARY, b"late")
    if state == "inside":
        stream.data_received(late[:3])
    stream.send(b"why")
    stream.close()
    assert socket.written[-1].endswith(b"why\x88\x02\x03\xf0")  # a Close frame behind it
    stream.data_received(late[3:] + late if state == "inside" else late)
    assert not socket.closing  # over unread bytes it would be reset
    assert not heard.messages
    stream.data_received(masked(Opcode.CLOSE, b"\x03\xf0"))
    assert socket.closing


async def test_a_peer_that_does_not_answer_a_close_loses_its_socket_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "CLOSING_S", 0.0)
    stream, socket, _ = opened(asyncio.get_running_loop())
    stream.close()
    await comes_true(lambda: socket.closing)


def test_a_frame_that_is_encoded_in_its_place_has_the_bytes_of_one_that_is_headed_alone() -> None:
    written, alone = bytearray(), b""
    for size in (0, 80, 100, 126, 1024, 65_450, 65_535, 65_536, 100_000, 1):
        frame = Deliver(log=b"c", sequence=size, predecessor=0, at_ms=1, kind=0, body=bytes(size))
        transport.add(written, frame)
        alone += transport.head(frames.encode(frame))
    assert written == alone
