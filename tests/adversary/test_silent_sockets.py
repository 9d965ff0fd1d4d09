"""Sockets that say nothing, or never finish, are closed after ten seconds, whatever they speak."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from crypto.tls_certificate import create_tls_identity
from protocol import limits
from server import http
from server.listener import TICK_S, Listener
from server.tls import tls_context
from tests.adversary.test_floods import frame
from tests.adversary.witness import Ward, ward
from tests.server.harness import now_ms
from tests.waiting import WITHIN_S

SLACK_S = 20.0
"""What a busy machine may add to the ten seconds."""

_UPGRADE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(20)

Drip = Callable[[int], bytes]


def _once(data: bytes) -> Drip:
    return lambda second: b"" if second else data


PLAIN: dict[str, Drip] = {
    "nothing": _once(b""),
    "half a request line": _once(b"GET /hea"),
    "half a header": _once(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A"),
    "a header a second": lambda s: f"X-{s}: 1\r\n".encode() if s else b"GET / HTTP/1.1\r\n",
    "half an upgrade": _once(_UPGRADE[:-2]),
    "an answered request": _once(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"),
    "half a second request": _once(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /he"),
    "a body that nobody asked for": lambda s: (
        b"x" if s else b"POST /v1/attachments HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n"
    ),
    "no Hello": _once(_UPGRADE),
    "half a frame": _once(_UPGRADE + b"\x82\xfe\x10\x00"),
    "a byte of a frame a second": lambda s: b"\x00" if s else _UPGRADE + b"\x82\xfe\x10\x00",
    "pings alone": lambda s: b"\x89\x80\x00\x00\x00\x00" if s else _UPGRADE,
    "fragments without an end": lambda s: (
        frame(0 if s > 1 else 2, b"", fin=False) if s else _UPGRADE
    ),
}

ENCRYPTED: dict[str, Drip] = {
    "no handshake": _once(b""),
    "half a handshake": _once(_CLIENT_HELLO),
    "a byte of a handshake a second": lambda s: _CLIENT_HELLO[s : s + 1],
}


async def closed_after(port: int, drip: Drip, *, tls: ssl.SSLContext | None = None) -> float:
    """Return after how many seconds the relay closed a socket that is fed once a second."""
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    began = loop.time()
    ended = asyncio.create_task(_ended(reader))
    try:
        for second in range(int(limits.SILENT_CONNECTION_S + SLACK_S)):
            writer.write(drip(second))
            if (await asyncio.wait([ended], timeout=1.0))[0]:
                return loop.time() - began
    finally:
        ended.cancel()
        writer.transport.abort()
    return float("inf")


async def _ended(reader: asyncio.StreamReader) -> None:
    try:
        while await reader.read(65536):
            pass
    except OSError:
        return


@asynccontextmanager
async def encrypted(there: Ward, folder: Path) -> AsyncIterator[tuple[int, ssl.SSLContext]]:
    """Run a second listener of the same relay, with TLS; return its port and a client's context."""
    identity = create_tls_identity("relay", at_ms=now_ms())
    (folder / "tls.pem").write_bytes(identity.certificate)
    (folder / "tls.key").write_bytes(identity.key)
    relay = there.site.relay
    context = tls_context(folder / "tls.pem", folder / "tls.key")
    listener = Listener(relay, http.application(relay), tls=context)
    trusting = ssl.create_default_context(cafile=str(folder / "tls.pem"))
    trusting.check_hostname = False
    try:
        yield await listener.start(), trusting
    finally:
        await listener.drain()


async def _greeted(there: Ward) -> float:
    """Return after how many seconds a device that says Hello and proves nothing is closed."""
    client = await there.site.client(there.site.hospital.enrol("eve/phone"))
    began = asyncio.get_running_loop().time()
    await client.greet()
    async with asyncio.timeout(limits.SILENT_CONNECTION_S + SLACK_S):
        await client.socket.wait_closed()
    return asyncio.get_running_loop().time() - began


async def test_what_is_silent_or_never_finishes_is_closed_in_ten_seconds(tmp_path: Path) -> None:
    async with ward(tmp_path) as there, encrypted(there, tmp_path) as (port, trusting):
        attempts: dict[str, Awaitable[float]] = {
            name: closed_after(there.site.port, drip) for name, drip in PLAIN.items()
        }
        attempts |= {name: closed_after(port, drip) for name, drip in ENCRYPTED.items()}
        for name, drip in PLAIN.items():
            attempts[f"{name}, encrypted"] = closed_after(port, drip, tls=trusting)
        attempts["no proof"] = _greeted(there)
        waiting = asyncio.gather(*attempts.values())
        while not waiting.done():
            await there.is_served()
            await asyncio.wait([waiting], timeout=1.0)
        most = limits.SILENT_CONNECTION_S + TICK_S + SLACK_S
        took = dict(zip(attempts, await waiting, strict=True))
        assert not {name: seconds for name, seconds in took.items() if seconds > most}
        for patient in ("nothing", "no Hello", "no proof", "no Hello, encrypted"):
            assert took[patient] > limits.SILENT_CONNECTION_S - TICK_S
        await there.is_served()


ORIGINS = {
    "https://ward.example": 101,
    "https://ward.example:444": 403,
    "http://ward.example": 403,
    "https://ward.example.evil.example": 403,
    "https://evil.example": 403,
    "null": 403,
    "": 403,
    "https://ward.example, https://evil.example": 403,
}


@pytest.mark.parametrize("origin", ORIGINS)
async def test_only_a_listed_page_or_a_program_connects(tmp_path: Path, origin: str) -> None:
    async with ward(tmp_path) as there:
        there.site.relay.origins.append(Origin("https://ward.example"))
        url, tried = f"ws://127.0.0.1:{there.site.port}/v1/stream", {"Origin": origin}
        status = 101
        try:
            async with connect(url, proxy=None, additional_headers=tried):
                pass
        except InvalidStatus as refused:
            status = refused.response.status_code
        assert status == ORIGINS[origin]
        await there.is_served()


async def test_two_origins_are_none(tmp_path: Path) -> None:
    async with ward(tmp_path) as there:
        reader, writer = await asyncio.open_connection("127.0.0.1", there.site.port)
        twice = b"Origin: https://ward.example\r\nOrigin: https://evil.example\r\n\r\n"
        writer.write(_UPGRADE[:-2] + twice)
        head = await asyncio.wait_for(reader.read(200), WITHIN_S)
        assert not head.startswith(b"HTTP/1.1 101")
        writer.close()
        await there.is_served()


async def test_compression_is_not_agreed_to(tmp_path: Path) -> None:
    async with ward(tmp_path) as there:
        url = f"ws://127.0.0.1:{there.site.port}/v1/stream"
        async with connect(url, proxy=None, compression="deflate") as socket:
            assert socket.response is not None
            assert "Sec-WebSocket-Extensions" not in socket.response.headers
            assert "Server" not in socket.response.headers
