"""WebSocket over asyncio: bytes from the socket to frames of the session, and back.

``websockets`` parses and answers the WebSocket protocol without I/O; this module feeds it. One
``Stream`` is made by uvicorn when a request asks for the upgrade. A whole binary message in one
frame, which nearly all of them are, is taken out here; everything else of the protocol, and all
that breaks it, goes to the parser. Outgoing data frames are headed here once and written to as many
sockets as want them: a server's frames are not masked, so the same bytes serve all.
"""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any, cast

from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from protocol import frames, limits
from protocol.errors import Code
from server.connection import Connection

try:
    from websockets.speedups import apply_mask
except ImportError:  # built without its C extension
    from websockets.utils import apply_mask

if TYPE_CHECKING:
    from server.relay import Relay

PATH = "/v1/stream"
"""The one path of the stream; the version of its frames is negotiated inside."""

WRITE_BUFFER_BYTES = 256 * 1024
"""Unsent bytes of one connection above which it counts as slow and reads from its cursor: some
milliseconds of a fast network, and the most that a peer which reads nothing costs."""

UNSENT_BYTES = 2 * limits.FRAME_BYTES
"""Unsent bytes above which a peer is dropped. Deliveries stop at ``WRITE_BUFFER_BYTES``; what comes
on top are answers to a peer that asks and asks and reads nothing, and its pings."""

UNPROVED_BYTES = 3 * limits.STATEMENT_BYTES
"""Bytes that a peer may send until it is proved: a Hello with a certificate and a request, and a
proof, with room. Whoever is a stranger holds no more of the relay's memory than this."""

FRAGMENTS_MAX = 1024
"""Fragments of one message: the largest in pieces of 3 KiB. A smaller one costs more than it
brings, and an empty one nothing to send."""

TURN_FRAMES = 32
"""Frames after which a peer's further bytes wait for the next turn of the loop: what one sends
without end is taken as fast as there is time for it, and nobody else waits for all of it."""

PARSED_FRAMES = 8
"""For how many of them one counts that goes through the parser: pings, fragments, what is malformed
cost so much more than a message, and no device sends many."""

TURN_REFUSALS = 4
"""Requests that are refused for their rate in one turn, before the peer is not listened to for
``REST_S``: a refusal costs nearly what a request does."""

REST_S = 0.02
"""Seconds for which a peer that asks faster than it may is not read: its requests wait in its own
socket, at two hundred refusals a second. Who asks within its rate never waits."""

CLOSING_S = 2.0
"""Seconds that a peer gets to take the last frames before its socket is closed."""

_POLICY_VIOLATION = 1008
_SHORT, _MEDIUM, _LONG = struct.Struct("!BB"), struct.Struct("!BBH"), struct.Struct("!BBQ")
_BINARY = 0x80 | Opcode.BINARY
_MASK_BYTES = 4


def head(payload: bytes) -> bytes:
    """Return ``payload`` as one unmasked binary WebSocket frame.

    Source: RFC 6455, section 5.2.
    """
    size = len(payload)
    if size < 126:
        return _SHORT.pack(_BINARY, size) + payload
    if size < 1 << 16:
        return _MEDIUM.pack(_BINARY, 126, size) + payload
    return _LONG.pack(_BINARY, 127, size) + payload


def add(written: bytearray, frame: frames.Frame) -> None:
    """Append a frame of the session to ``written``, headed as ``head`` does.

    It is encoded in its place behind the head that nearly all have, and not copied again.
    """
    start = len(written)
    body = start + _MEDIUM.size
    frames.encode_into(frame, written, body)
    size = len(written) - body
    if 126 <= size < 1 << 16:
        _MEDIUM.pack_into(written, start, _BINARY, 126, size)
    else:
        written[start:] = head(bytes(written[body:]))


def measure(data: bytes | bytearray, start: int) -> tuple[int, int]:
    """Return where the body of the frame that begins at ``start`` begins and where it ends.

    Source: RFC 6455, section 5.2.

    Raises:
        IndexError: Its head is not all there.
    """
    head_bytes, size = start + 2, data[start + 1] & 0x7F
    if size == 126:
        size = data[start + 2] << 8 | data[start + 3]
        head_bytes += 2
    elif size == 127:
        size = int.from_bytes(data[head_bytes : head_bytes + 8], "big")
        head_bytes += 8
    if data[start + 1] & 0x80:
        head_bytes += _MASK_BYTES
    if head_bytes > len(data):
        raise IndexError
    return head_bytes, head_bytes + size


class Stream(asyncio.Protocol):
    """One socket that has asked to become a stream.

    Attributes:
        congested: Whether the peer reads slower than the relay writes.
        heard: Whether anything arrived since the last look of the keeper.
        address: The peer's address, for rate limits alone.
    """

    __slots__ = (
        "_between",
        "_closing",
        "_connection",
        "_is_waiting",
        "_owed",
        "_parts",
        "_refused",
        "_relay",
        "_rest",
        "_taken",
        "_transport",
        "_trusted",
        "_unproved_bytes",
        "_unsent",
        "_unsent_bytes",
        "_waiting",
        "_websocket",
        "address",
        "congested",
        "heard",
    )

    def __init__(self, relay: Relay, **_uvicorn: Any) -> None:
        self._relay = relay
        self._websocket = ServerProtocol(
            origins=relay.origins, max_size=limits.FRAME_BYTES, logger=relay.silent
        )
        self._connection: Connection | None = None
        self._parts: list[bytes] = []
        # Bytes that the parser is still to get of the frame it has begun; of a head cut short.
        self._owed = 0
        self._rest = b""
        self._unsent: list[bytes | bytearray] = []
        self._unsent_bytes = 0
        self._closing = False
        self._unproved_bytes = 0
        self._trusted = False
        # Whether the parser is between two messages and the peer has not begun to close.
        self._between = False
        self._waiting = b""
        self._is_waiting = False
        self._taken = 0
        self._refused = 0
        self.congested = False
        self.heard = True
        self.address = ""

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket over from the HTTP protocol."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        peer = transport.get_extra_info("peername")
        self.address = peer[0] if isinstance(peer, tuple) else ""
        self._relay.keeper.watch(self)

    def data_received(self, data: bytes) -> None:
        """Act on every message that is complete."""
        self.heard = True
        if not self._trusted and not self._is_trusted():
            self._unproved_bytes += len(data)
            if self._unproved_bytes > UNPROVED_BYTES:
                self.end(Code.TOO_LARGE)
                return
        if self._connection is None:
            self._parse(data)
        elif self._is_waiting:
            self._waiting += data
        else:
            self._turn(data)

    def _is_trusted(self) -> bool:
        # Asked of every read until it is so, and never again: who is proved stays it.
        self._trusted = self.proved
        return self._trusted

    def _turn(self, data: bytes) -> None:
        """Act on what has arrived, and leave the rest for later where it is many small frames."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        start = 0
        self._taken = 0
        while start < len(data) and self._taken < TURN_FRAMES and self._refused < TURN_REFUSALS:
            self._taken += 1
            start = self._take(data, start)
        if self._transport.is_closing():
            return
        if self._refused >= TURN_REFUSALS:
            self._wait(data[start:])
            self._relay.loop.call_later(REST_S, self._go_on)
        elif start < len(data):
            self._wait(data[start:])
            self._relay.loop.call_soon(self._go_on)

    def _wait(self, data: bytes) -> None:
        self._waiting, self._is_waiting, self._refused = data, True, 0
        self._transport.pause_reading()

    def _go_on(self) -> None:
        data, self._waiting, self._is_waiting = self._waiting, b"", False
        if self._transport.is_closing():
            return
        self._turn(data)
        if not self._is_waiting and not self._transport.is_closing():
            self._transport.resume_reading()

    def _take(self, data: bytes, start: int) -> int:
        """Take one frame, or what there is of it, from ``start``; return where it ends."""
        if self._owed:
            end = min(start + self._owed, len(data))
            self._owed -= end - start
            self._taken += PARSED_FRAMES
            self._parse(data[start:end])
            return end
        try:
            body, end = measure(data, start)
        except IndexError:
            self._rest = data[start:]
            return len(data)
        plain = data[start] == _BINARY and data[start + 1] & 0x80
        if plain and end <= len(data) and self._between:
            self._message(apply_mask(data[body:end], data[body - _MASK_BYTES : body]))
            return end
        self._owed = end - start
        return start

    def _parse(self, data: bytes) -> None:
        """Feed the parser and act on what it has found."""
        websocket = self._websocket
        websocket.receive_data(data)
        for event in websocket.events_received():
            if isinstance(event, Frame):
                self._frame(event)
            else:
                self._handshake(cast("Request", event))
        self._between = not self._parts and websocket.state is State.OPEN
        self._flush()

    def eof_received(self) -> None:
        """Let the parser know; the transport closes by itself."""
        self._websocket.receive_eof()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget the connection; what it had not acknowledged is still in the logs."""
        self._relay.keeper.forget(self)
        if self._connection is not None:
            self._connection.lost()

    def pause_writing(self) -> None:
        """Note that the peer is slow: from here it is served from its cursor."""
        self.congested = True
        if self._connection is not None:
            self._connection.congestion()

    def resume_writing(self) -> None:
        """Note that the peer has caught up with what was written."""
        self.congested = False
        if self._connection is not None:
            self._connection.writable()

    def shutdown(self) -> None:
        """End the stream because the relay stops; uvicorn's name for it."""
        self.end(Code.DRAINING)

    # What the connection and the keeper call.

    @property
    def proved(self) -> bool:
        """Whether the peer has proved who it is."""
        return self._connection is not None and self._connection.proved

    def send(self, payload: bytes) -> None:
        """Send one message."""
        self.write(head(payload))

    def write(self, headed: bytes | bytearray) -> None:
        """Send messages that ``head`` or ``add`` has made, with what else comes in this turn.

        Nothing is kept for a peer that has left too much unread already.
        """
        if self.congested and self._is_given_up():
            return
        if not self._unsent:
            self._relay.turn.add(self)
        self._unsent.append(headed)
        self._unsent_bytes += len(headed)
        if self._unsent_bytes > WRITE_BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand what was written to the socket, in one piece."""
        unsent, self._unsent, self._unsent_bytes = self._unsent, [], 0
        if unsent and not self._transport.is_closing():
            self._transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))

    def _is_given_up(self) -> bool:
        """Drop a peer that reads nothing; its cursors are where it acknowledged them."""
        if self._transport.is_closing():
            return True
        most = UNSENT_BYTES if self.proved else WRITE_BUFFER_BYTES
        if self._transport.get_write_buffer_size() <= most:
            return False
        self._relay.count("dropped_unread")
        self.abort()
        return True

    def tire(self) -> None:
        """Note that the peer was refused something for asking too often."""
        self._refused += 1

    def ping(self) -> None:
        """Ask for a sign of life."""
        if self._websocket.state is State.OPEN:
            self._websocket.send_ping(b"")
            self._flush()

    def end(self, code: Code) -> None:
        """Tell the peer why, where it can be told, and close."""
        if self._connection is not None:
            self._connection.close(code)
        else:
            self.abort()

    def close(self) -> None:
        """Close once the peer has answered what was written, or after ``CLOSING_S``.

        Until then it is read and not acted on: a socket that is closed over unread bytes is reset,
        and a peer that was writing would lose the word why (RFC 9293, 3.6.1; RFC 6455, 7.1.1).
        """
        if self._closing:
            return
        self._closing = True
        if self._websocket.state is State.OPEN:
            self._websocket.send_close(_POLICY_VIOLATION)
            self._flush()
            self.flush()
        else:
            self._finish()
        self._relay.loop.call_later(CLOSING_S, self.abort)

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    # The WebSocket protocol.

    def _handshake(self, request: Request) -> None:
        websocket = self._websocket
        forwarded = ",".join(request.headers.get_all("X-Forwarded-For"))
        self.address = self._relay.address_of(self.address, forwarded)
        if request.path != PATH:
            response = websocket.reject(404, "")
        elif self._relay.draining:
            response = websocket.reject(503, "")
        elif self._relay.connection_wait_ms(self.address):
            response = websocket.reject(429, "")
        else:
            response = websocket.accept(request)
        websocket.send_response(_plain(response))
        if response.status_code == 101:
            self._connection = Connection(self._relay, self)

    def _frame(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is Opcode.BINARY and frame.fin:
            self._message(bytes(frame.data))
        elif opcode is Opcode.BINARY or (opcode is Opcode.CONT and self._parts):
            self._parts.append(bytes(frame.data))
            if len(self._parts) > FRAGMENTS_MAX:
                self.end(Code.TOO_LARGE)
            elif frame.fin:
                parts, self._parts = self._parts, []
                self._message(b"".join(parts))
        elif opcode is Opcode.TEXT:
            self.end(Code.MALFORMED)

    def _message(self, payload: bytes) -> None:
        if self._connection is not None and not self._closing:
            self._connection.receive(payload)

    def _flush(self) -> None:
        for data in self._websocket.data_to_send():
            if data:
                self.write(data)
            else:
                # The parser's way of saying that the socket is done with.
                self._closing = True
                self._finish()

    def _finish(self) -> None:
        self.flush()
        self._transport.close()


def _plain(response: Response) -> Response:
    """Return the response without the headers that name programs and versions."""
    hidden = {"server"}
    kept = [
        (name, value) for name, value in response.headers.raw_items() if name.lower() not in hidden
    ]
    return Response(response.status_code, response.reason_phrase, Headers(kept), response.body)


class Turn:
    """Sends what was written in one turn of the event loop: a socket takes many messages at once.

    A call of the system costs more than all else that is done for a message.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._written: list[Stream] = []

    def add(self, stream: Stream) -> None:
        """Have a stream flushed at the end of the turn."""
        if not self._written:
            self._loop.call_soon(self._end)
        self._written.append(stream)

    def _end(self) -> None:
        written, self._written = self._written, []
        for stream in written:
            stream.flush()


class Keeper:
    """Closes what is silent, and asks the rest for signs of life; one timer for all connections."""

    def __init__(self) -> None:
        self._young: dict[Stream, float] = {}
        self._pinged: dict[Stream, bool] = {}
        self._round_s = 0.0

    def __len__(self) -> int:
        return len(self._pinged)

    @property
    def streams(self) -> list[Stream]:
        """Every socket that is or wants to become a stream."""
        return list(self._pinged)

    def watch(self, stream: Stream) -> None:
        """Begin to keep a stream."""
        self._young[stream] = asyncio.get_running_loop().time()
        self._pinged[stream] = False

    def forget(self, stream: Stream) -> None:
        """Stop to keep a stream."""
        self._young.pop(stream, None)
        self._pinged.pop(stream, None)

    def look(self, *, now_s: float) -> None:
        """Close streams that prove nothing in time; each ``PING_S``, ping and close the dead."""
        for stream, since_s in list(self._young.items()):
            if stream.proved:
                del self._young[stream]
            elif now_s - since_s >= limits.SILENT_CONNECTION_S:
                del self._young[stream]
                stream.end(Code.SILENT)
        if now_s - self._round_s >= limits.PING_S:
            self._round_s = now_s
            self._round()

    def _round(self) -> None:
        for stream, pinged in list(self._pinged.items()):
            if stream.heard:
                stream.heard = False
                self._pinged[stream] = False
            elif pinged:
                stream.abort()
            else:
                self._pinged[stream] = True
                stream.ping()
