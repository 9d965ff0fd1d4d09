"""Requests beside the stream: whoever gives one up leaves no connection behind."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from client.errors import ImpostorError, UnreachableError
from client.https import Https
from client.link import Address
from protocol.identifiers import OrganisationId
from server.tls import tls_context
from tests.client.relay import PIN, TLS

SOON_S = 15.0


@dataclass
class Silent:
    """What takes a connection, and may never answer.

    Attributes:
        address: Where it is.
        asked: Set once a request has come.
        ended: Set once the other side has gone.
    """

    address: Address
    asked: asyncio.Event
    ended: asyncio.Event


@asynccontextmanager
async def silent(folder: Path, answer: bytes = b"") -> AsyncIterator[Silent]:
    """Run what has the relay's key; it says ``answer`` to each request, or nothing."""
    (folder / "tls.pem").write_bytes(TLS.certificate)
    (folder / "tls.key").write_bytes(TLS.key)
    asked, ended = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while await reader.read(65_536):
                asked.set()
                writer.write(answer)
        ended.set()
        writer.close()

    context = tls_context(folder / "tls.pem", folder / "tls.key")
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    address = Address(
        host="127.0.0.1",
        port=server.sockets[0].getsockname()[1],
        tls_pin=PIN,
        organisation=OrganisationId(bytes(32)),
    )
    try:
        yield Silent(address, asked, ended)
    finally:
        server.close()


async def test_a_request_that_is_given_up_ends_its_connection_at_once(tmp_path: Path) -> None:
    async with silent(tmp_path) as relay:
        https = Https(relay.address)
        request = asyncio.create_task(https.request("GET", "/", headers={}))
        await asyncio.wait_for(relay.asked.wait(), SOON_S)
        request.cancel()
        await asyncio.wait({request})
        # Long before the request's own time is over, and without anybody who closes it.
        await asyncio.wait_for(relay.ended.wait(), SOON_S)
        assert request.cancelled()


async def test_a_connection_that_comes_about_after_it_was_given_up_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connecting, go_on = threading.Event(), threading.Event()
    connect = HTTPSConnection.connect

    def slowly(connection: HTTPSConnection) -> None:
        connecting.set()
        go_on.wait(SOON_S)
        connect(connection)

    monkeypatch.setattr(HTTPSConnection, "connect", slowly)
    async with silent(tmp_path) as relay:
        https = Https(relay.address)
        request = asyncio.create_task(https.request("GET", "/", headers={"Wardline": "secret"}))
        await asyncio.to_thread(connecting.wait, SOON_S)
        request.cancel()
        await asyncio.wait({request})
        go_on.set()
        await asyncio.wait_for(relay.ended.wait(), SOON_S)
        assert not relay.asked.is_set()


async def test_after_a_request_was_given_up_the_next_has_a_connection_of_its_own(
    tmp_path: Path,
) -> None:
    async with silent(tmp_path) as relay:
        https = Https(relay.address)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await https.request("GET", "/", headers={})
        again = asyncio.create_task(https.request("GET", "/", headers={}))
        await asyncio.sleep(0)
        https.close()
        with pytest.raises(UnreachableError):
            await again


async def test_answers_come_over_one_connection_until_it_is_closed(tmp_path: Path) -> None:
    async with silent(tmp_path, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi") as relay:
        https = Https(relay.address)
        for _ in range(3):
            assert (await https.request("GET", "/", headers={}, most=2)).body == b"hi"
        with pytest.raises(UnreachableError):
            await https.request("GET", "/", headers={}, most=1)
        assert (await https.request("GET", "/", headers={}, most=2)).body == b"hi"
        https.close()
        await asyncio.wait_for(relay.ended.wait(), SOON_S)


async def test_who_has_another_key_or_is_not_there_leaves_nothing_open(tmp_path: Path) -> None:
    async with silent(tmp_path) as relay:
        with pytest.raises(ImpostorError):
            await Https(replace(relay.address, tls_pin=bytes(32))).request("GET", "/", headers={})
        await asyncio.wait_for(relay.ended.wait(), SOON_S)
        assert not relay.asked.is_set()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = replace(relay.address, port=unused.getsockname()[1])
        with pytest.raises(UnreachableError):
            await Https(nowhere).request("GET", "/", headers={})
