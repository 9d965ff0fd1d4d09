"""Sockets that say nothing, or half of something, do not stay."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crypto.tls_certificate import create_tls_identity, tls_pin
from protocol import frames, limits
from server import http
from server.listener import HEADER_BYTES, Listener
from server.tls import tls_context
from tests.server import harness
from tests.server.harness import Site
from tests.waiting import WITHIN_S

HALF_A_HEADER = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"

UNHURRIED_S = 1.5
"""Time for a header where half of it must be enough, however busy the machine is."""


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(limits, "SILENT_CONNECTION_S", 0.2)
    async with harness.running(tmp_path, harness.hospital()) as running:
        yield running


async def ends(port: int, said: bytes) -> None:
    """Say something and wait until the relay has closed the socket."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(said)
    try:
        await asyncio.wait_for(reader.read(), WITHIN_S)
    except ConnectionError:
        pass
    finally:
        writer.close()


@pytest.mark.parametrize("said", [b"", b"G", HALF_A_HEADER], ids=["nothing", "a letter", "half"])
async def test_a_socket_that_finishes_no_header_is_closed(site: Site, said: bytes) -> None:
    await ends(site.port, said)


async def test_after_an_answer_the_next_request_has_its_own_time(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SILENT_CONNECTION_S", UNHURRIED_S)
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    for _ in range(3):
        writer.write(HALF_A_HEADER + b"\r\n")
        answer = await asyncio.wait_for(reader.readuntil(b"ok\n"), WITHIN_S)
        assert answer.startswith(b"HTTP/1.1 200")
        await asyncio.sleep(UNHURRIED_S / 2)
    assert await asyncio.wait_for(reader.read(), WITHIN_S) == b""
    writer.close()


async def test_a_header_without_end_is_refused(site: Site) -> None:
    await ends(site.port, HALF_A_HEADER + b"X: " + b"x" * (2 * HEADER_BYTES))


async def test_an_open_stream_outlives_the_time_for_a_header(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SILENT_CONNECTION_S", UNHURRIED_S)
    ann = await site.open(site.hospital.enrol("ann/phone"))
    await asyncio.sleep(1.5 * UNHURRIED_S)
    await ann.answer(lambda ref: frames.Lookup(ref=ref, users=()))


async def test_a_stalled_tls_handshake_is_closed(site: Site, tmp_path: Path) -> None:
    identity = create_tls_identity("relay", at_ms=harness.now_ms())
    (tmp_path / "tls.pem").write_bytes(identity.certificate)
    (tmp_path / "tls.key").write_bytes(identity.key)
    tls = tls_context(tmp_path / "tls.pem", tmp_path / "tls.key")
    listener = Listener(site.relay, http.application(site.relay), tls=tls)
    port = await listener.start()
    try:
        await ends(port, b"\x16\x03\x01")
    finally:
        await listener.drain()


async def test_the_pin_is_that_of_the_key_a_client_meets(site: Site, tmp_path: Path) -> None:
    identity = create_tls_identity("relay", at_ms=harness.now_ms())
    (tmp_path / "tls.pem").write_bytes(identity.certificate)
    (tmp_path / "tls.key").write_bytes(identity.key)
    tls = tls_context(tmp_path / "tls.pem", tmp_path / "tls.key")
    assert tls.minimum_version == ssl.TLSVersion.TLSv1_3
    listener = Listener(site.relay, http.application(site.relay), tls=tls)
    port = await listener.start()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        met = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        pem = ssl.DER_cert_to_PEM_cert(met).encode()
        assert tls_pin(pem) == tls_pin(identity.certificate)
        writer.close()
    finally:
        await listener.drain()


UPGRADE = (
    b"Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /v1/stream HTTP/1.1\r\nContent-Length: 4\r\n" + UPGRADE + b"\r\nabcd",
        b"GET /v1/stream HTTP/1.1\r\nContent-Length: 16\r\n" + UPGRADE + b"\r\nGET /metrics HTTP",
        b"GET /v1/stream HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + UPGRADE + b"\r\n0\r\n\r\n",
        b"GET http://x/v1/stream HTTP/1.1\r\n" + UPGRADE + b"\r\n",
        b"GET /v1/stream?x=1 HTTP/1.1\r\n" + UPGRADE + b"\r\n",
        b"GET /metrics HTTP/1.1\r\n" + UPGRADE + b"\r\n",
        b"GET /v1/stream HTTP/1.1\r\nOrigin : http://x\r\n" + UPGRADE + b"\r\n",
        b"GET /v1/stream HTTP/1.1\r\nSec-WebSocket-Key: BAAA\r\n" + UPGRADE + b"\r\n",
    ],
    ids=["post", "body", "chunked", "absolute", "query", "elsewhere", "space", "two keys"],
)  # fmt: skip
async def test_an_upgrade_that_is_anything_but_plain_opens_no_stream(
    site: Site, request_: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(request_)
    answer = await asyncio.wait_for(reader.read(), WITHIN_S)
    writer.close()
    assert answer[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 404")
    assert b"wardline_" not in answer
    assert not site.relay.counters["faults"]
