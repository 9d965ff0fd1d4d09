"""The attachment routes: ciphertext up in pieces, down in pieces, gone when all have it.

The token of an open stream is the only key to them, so they end with it. Whoever uploads names a
conversation and never the recipients: those are the conversation's readers as the relay knows them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from crypto.attachment_layout import STREAM_SIZES
from protocol import limits
from protocol.errors import Code
from protocol.identifiers import ConversationId, conversation_log
from server import access
from server.blobs import OffsetError, Progress, UnknownBlobError
from server.store import LimitError, LogKey, StoreError, StoreFullError

if TYPE_CHECKING:
    from server.connection import Connection
    from server.relay import Relay

PATH = "/v1/attachments"

PIECE_S = 60.0
"""Seconds that one piece may take to arrive or to leave: 1 MiB at the rate of a bad mobile network.
Nothing else that is asked for takes nearly as long."""

PIECES_AT_ONCE = 8
"""Pieces of one device that arrive or leave at a time: each is held in memory for up to
``PIECE_S``, by whoever sends or takes it byte by byte."""

WRITE_BYTES = 64 * 1024
"""Bytes of a piece that are written at once, and after which its writer waits for its reader."""

_BEARER = "bearer "
_DIGITS = 12

Act = Callable[["Relay", "Connection", Request], Awaitable[Response]]


class _Answer(Exception):  # noqa: N818 - an answer, not a fault
    """A request ends with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


def routes(relay: Relay) -> list[BaseRoute]:
    """Return the routes."""

    def served(act: Act) -> Callable[[Request], Awaitable[Response]]:
        return partial(_serve, relay, act)

    return [
        Route(PATH, served(_create), methods=["POST"]),
        Route(PATH + "/{blob}", served(_write), methods=["PATCH"]),
        Route(PATH + "/{blob}", served(_progress), methods=["HEAD"]),
        Route(PATH + "/{blob}", served(_read), methods=["GET"]),
        Route(PATH + "/{blob}", served(_fetched), methods=["DELETE"]),
    ]


async def _serve(relay: Relay, act: Act, request: Request) -> Response:
    """Ask who it is and whether they may, act, and turn whatever fails into a status."""
    try:
        return await act(relay, _caller(relay, request), request)
    except _Answer as answer:
        return Response(status_code=answer.status)
    except OffsetError as error:
        return Response(status_code=409, headers={"Upload-Offset": str(error.expected)})
    except UnknownBlobError:
        return Response(status_code=404)
    except LimitError:
        return Response(status_code=413)
    except StoreFullError:
        return Response(status_code=507)
    except (StoreError, TimeoutError, ClientDisconnect):
        return Response(status_code=503)


def _caller(relay: Relay, request: Request) -> Connection:
    """Return whose token a request carries, if they may use attachments now.

    Raises:
        _Answer: 401 without a valid token, 403 by policy, 429 too often.
    """
    scheme = request.headers.get("authorization", "")
    try:
        token = bytes.fromhex(scheme[len(_BEARER) :])
    except ValueError:
        raise _Answer(401) from None
    connection = relay.tokens.holder(token)
    if not scheme.lower().startswith(_BEARER) or connection is None or not connection.is_open:
        raise _Answer(401)
    device = connection.device
    policy = connection.organisation.policy
    if access.may_attach(request.method, device.identity.roles, policy) is not None:
        relay.refused(connection, "attachments", Code.FORBIDDEN)
        raise _Answer(403)
    if relay.request_wait_ms(connection):
        raise _Answer(429)
    return connection


def _number(text: str | None) -> int:
    """Return a decimal number of a header or query.

    Raises:
        _Answer: 400, it is none.
    """
    if text is None or not (text.isascii() and text.isdecimal()) or len(text) > _DIGITS:
        raise _Answer(400)
    return int(text)


async def _create(relay: Relay, caller: Connection, request: Request) -> Response:
    """Begin an upload for a conversation: ``Upload-Length`` and ``Wardline-Conversation``."""
    size = _number(request.headers.get("upload-length"))
    if size not in STREAM_SIZES:
        # Of a stream's length nobody is to learn more than its class.
        raise _Answer(413)
    try:
        conversation = ConversationId(
            bytes.fromhex(request.headers.get("wardline-conversation", ""))
        )
    except ValueError:
        raise _Answer(400) from None
    readers = relay.store.readers(LogKey(caller.organisation.id, conversation_log(conversation)))
    if caller.device_id not in readers:
        raise _Answer(404)
    others = [device for device in readers if device != caller.device_id]
    blob = await relay.blobs.create(
        caller.organisation.id, caller.device_id, size=size, readers=others
    )
    return Response(status_code=201, headers={"Location": f"{PATH}/{blob}", "Upload-Offset": "0"})


async def _write(relay: Relay, caller: Connection, request: Request) -> Response:
    """Take the piece that begins at ``Upload-Offset``."""
    offset = _number(request.headers.get("upload-offset"))
    with _under_way(relay, caller):
        data = await _piece(request)
    if not caller.is_open:
        # Its session may have ended in the minute that the piece took.
        raise _Answer(401)
    progress = await relay.blobs.write(
        caller.organisation.id,
        request.path_params["blob"],
        caller.device_id,
        offset=offset,
        data=data,
    )
    return _stands(progress)


@contextmanager
def _under_way(relay: Relay, caller: Connection) -> Iterator[None]:
    """Count a piece that arrives or leaves.

    Raises:
        _Answer: 429, there are too many of the device's.
    """
    if relay.pieces[caller.device_key] >= PIECES_AT_ONCE:
        raise _Answer(429)
    relay.pieces[caller.device_key] += 1
    try:
        yield
    finally:
        relay.pieces[caller.device_key] -= 1


async def _piece(request: Request) -> bytes:
    """Return a request's body, never holding more than one piece of it.

    Raises:
        _Answer: 413, it is longer.
        TimeoutError: It took longer than ``PIECE_S``.
    """
    data = bytearray()
    async with asyncio.timeout(PIECE_S):
        async for part in request.stream():
            data += part
            if len(data) > limits.ATTACHMENT_CHUNK_BYTES:
                raise _Answer(413)
    return bytes(data)


async def _progress(relay: Relay, caller: Connection, request: Request) -> Response:
    """Tell the uploader where to go on."""
    blob = request.path_params["blob"]
    return _stands(await relay.blobs.progress(caller.organisation.id, blob, caller.device_id))


def _stands(progress: Progress) -> Response:
    headers = {"Upload-Offset": str(progress.offset), "Upload-Length": str(progress.size)}
    return Response(status_code=204, headers=headers)


async def _read(relay: Relay, caller: Connection, request: Request) -> Response:
    """Give the bytes from ``offset`` to the end of its piece; none at the end."""
    counted = ExitStack()
    counted.enter_context(_under_way(relay, caller))
    try:
        data = await relay.blobs.read(
            caller.organisation.id,
            request.path_params["blob"],
            caller.device_id,
            offset=_number(request.query_params.get("offset", "0")),
        )
    except BaseException:
        counted.close()
        raise
    return _Leaving(data, counted)


class _Leaving(Response):
    """A piece, written no faster than its reader takes it; the listener ends one that does not."""

    media_type = "application/octet-stream"

    def __init__(self, data: bytes, counted: ExitStack) -> None:
        super().__init__(data)
        self._counted = counted

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send it in parts: each waits until the socket has taken the one before it."""
        start = {"status": self.status_code, "headers": self.raw_headers}
        with self._counted:
            await send({"type": "http.response.start", **start})
            for at in range(0, len(self.body), WRITE_BYTES):
                part = bytes(self.body[at : at + WRITE_BYTES])
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


async def _fetched(relay: Relay, caller: Connection, request: Request) -> Response:
    """Note that the caller has it on its own disk."""
    blob = request.path_params["blob"]
    await relay.blobs.fetched(caller.organisation.id, blob, caller.device_id)
    return Response(status_code=204)
