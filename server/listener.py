"""The listening socket: TLS 1.3, HTTP by uvicorn, streams beside it, and ten seconds for either.

uvicorn's own server has no limit on a silent socket, half a header or a stalled TLS handshake, so
its protocols are used and its server is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from email.utils import formatdate
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from protocol import limits
from server.attachments import PIECE_S, WRITE_BYTES
from server.tls import Encrypted
from server.transport import Stream

if TYPE_CHECKING:
    from server.relay import Relay

BACKLOG = 2048
"""Connections that the kernel holds until they are accepted: a ward's devices after a power cut."""

HEADER_BYTES = 16 * 1024
"""Largest head of a request, in bytes; a token and a range need a fraction."""

DRAIN_S = 10.0
"""Seconds that requests and streams get to end when the relay stops."""

TICK_S = 1.0
"""Seconds between looks at what is silent."""


class _Http(H11Protocol):
    """HTTP/1.1 whose peer must deliver a request's head, and take the end of an answer, in time.

    ``SILENT_CONNECTION_S`` for either, and ``PIECE_S`` more for what lies between. The clock runs
    until the socket is gone: one that is closed over an answer that nobody takes would stay.
    """

    _deadline: asyncio.TimerHandle | None = None
    _latest_s = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock with the connection."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_BYTES)
        self._await_head()

    def _await_head(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._latest_s = self.loop.time() + limits.SILENT_CONNECTION_S + PIECE_S
        self._look_again()

    def _look_again(self) -> None:
        self._deadline = self.loop.call_later(limits.SILENT_CONNECTION_S, self._give_up)

    def _give_up(self) -> None:
        answers = self.cycle is not None and not self.cycle.response_complete
        if answers and not self.transport.is_closing() and self.loop.time() < self._latest_s:
            self._look_again()
        else:
            self.transport.abort()

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Stop the clock: from here the stream's keeper has one."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Give the next request on this connection, or the end of this one, its own time."""
        super().on_response_complete()
        self._await_head()


class _Door(asyncio.Protocol):
    """Lets a new socket in, unless its address floods the relay: then it costs nothing more."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close the socket, or hand it to what speaks on it."""
        opened = cast("asyncio.Transport", transport)
        if self._listener.relay.is_flooding(opened):
            opened.abort()
            return
        inside = self._listener.protocol()
        opened.set_protocol(inside)
        inside.connection_made(opened)


class Listener:
    """Accepts connections for a relay until it is told to drain.

    Attributes:
        relay: The relay.
    """

    def __init__(self, relay: Relay, application: Starlette, *, tls: ssl.SSLContext | None) -> None:
        self.relay = relay
        self._tls = tls
        self._state = ServerState()
        self._config = uvicorn.Config(
            application,
            http=_Http,
            ws=cast("Any", partial(_stream, relay)),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=HEADER_BYTES,
        )
        self._config.load()
        self._server: asyncio.Server | None = None
        self._ticking: asyncio.TimerHandle | None = None

    async def start(self) -> int:
        """Begin to listen; return the port."""
        listen = self.relay.configuration.listen
        self._server = await self.relay.loop.create_server(
            lambda: _Door(self), listen.host, listen.port, backlog=BACKLOG
        )
        self._tick()
        return int(self._server.sockets[0].getsockname()[1])

    def protocol(self) -> asyncio.BaseProtocol:
        """Return what speaks on a new socket."""
        http = _Http(config=self._config, server_state=self._state, app_state={})
        if self._tls is None:
            return http
        return Encrypted(http, self._tls, loop=self.relay.loop)

    def _tick(self) -> None:
        date = formatdate(time.time(), usegmt=True).encode()
        self._state.default_headers = [(b"date", date)]
        self.relay.keeper.look(now_s=self.relay.now_s())
        self._ticking = self.relay.loop.call_later(TICK_S, self._tick)

    async def drain(self) -> None:
        """Accept nothing more, tell every stream to come back later, let requests end."""
        self.relay.draining = True
        if self._server is not None:
            self._server.close()
        for stream in self.relay.keeper.streams:
            stream.shutdown()
        for connection in list(self._state.connections):
            cast("_Http", connection).shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self._ended()
        if self._ticking is not None:
            self._ticking.cancel()

    async def _ended(self) -> None:
        """Return when the last connection has ended; they tell nobody, so it looks now and then."""
        while self._state.connections or len(self.relay.keeper):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def _stream(relay: Relay, **uvicorn_arguments: Any) -> Stream:
    return Stream(relay, **uvicorn_arguments)
