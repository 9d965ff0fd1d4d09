"""Attachments over HTTP: up in pieces, down in pieces, gone when all have them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest

from crypto.attachment_layout import STREAM_SIZES
from crypto.names import Role
from protocol import limits
from protocol.policy import Action, Policy
from server import listener
from server.attachments import PATH, PIECES_AT_ONCE
from tests.server import harness
from tests.server.harness import Client, Site
from tests.waiting import WITHIN_S, comes_true

SMALL = bytes(range(256)) * 256 + bytes(STREAM_SIZES[0] - 256 * 256)
"""A stream of the smallest class."""


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with harness.running(tmp_path, harness.hospital()) as running:
        yield running


@pytest.fixture
async def web(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{site.port}") as client:
        yield client


def bearer(client: Client, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {client.token.hex()}", **more}


async def upload(web: httpx.AsyncClient, by: Client, conversation: bytes, data: bytes) -> str:
    headers = bearer(
        by, **{"Upload-Length": str(len(data)), "Wardline-Conversation": conversation.hex()}
    )
    created = await web.post(PATH, headers=headers)
    assert created.status_code == 201, created.status_code
    place = str(created.headers["location"])
    for offset in range(0, len(data), limits.ATTACHMENT_CHUNK_BYTES):
        piece = data[offset : offset + limits.ATTACHMENT_CHUNK_BYTES]
        answer = await web.patch(
            place, content=piece, headers=bearer(by, **{"Upload-Offset": str(offset)})
        )
        assert answer.status_code == 204
        assert answer.headers["upload-offset"] == str(offset + len(piece))
    return place


async def download(web: httpx.AsyncClient, by: Client, place: str) -> bytes:
    data = b""
    while True:
        answer = await web.get(place, params={"offset": len(data)}, headers=bearer(by))
        assert answer.status_code == 200
        if not answer.content:
            return data
        data += answer.content


async def test_what_is_uploaded_is_what_every_member_fetches_and_then_it_is_gone(
    site: Site, web: httpx.AsyncClient, tmp_path: Path
) -> None:
    (ann, bob, recorder), conversation = await site.meeting("ann/phone", "bob/phone")
    data = b"canary!!" * (STREAM_SIZES[2] // 8) + bytes(STREAM_SIZES[2] % 8)
    place = await upload(web, ann, conversation, data)
    for reader in (bob, recorder):
        assert await download(web, reader, place) == data
        assert (await web.delete(place, headers=bearer(reader))).status_code == 204
    assert (await web.get(place, headers=bearer(bob))).status_code == 404
    assert not [f for f in (tmp_path / "attachments").rglob("*") if f.is_file()]


async def test_an_upload_goes_on_where_it_stopped(site: Site, web: httpx.AsyncClient) -> None:
    (ann, bob, _), conversation = await site.meeting("ann/phone", "bob/phone")
    size = len(SMALL)
    headers = bearer(
        ann, **{"Upload-Length": str(size), "Wardline-Conversation": conversation.hex()}
    )
    place = (await web.post(PATH, headers=headers)).headers["location"]

    async def patch(offset: int, data: bytes) -> httpx.Response:
        return await web.patch(
            place, content=data, headers=bearer(ann, **{"Upload-Offset": str(offset)})
        )

    assert (await patch(0, b"12345")).status_code == 204
    repeated = await patch(0, b"12345")
    assert (repeated.status_code, repeated.headers["upload-offset"]) == (409, "5")
    assert (await web.get(place, headers=bearer(bob))).status_code == 404
    stands = await web.head(place, headers=bearer(ann))
    assert (stands.headers["upload-offset"], stands.headers["upload-length"]) == ("5", str(size))
    assert (await patch(5, SMALL[4:])).status_code == 413
    assert (await patch(5, SMALL[5:])).status_code == 204
    assert await download(web, bob, place) == b"12345" + SMALL[5:]


async def test_without_a_token_or_membership_there_is_nothing(
    site: Site, web: httpx.AsyncClient
) -> None:
    (ann, _, _), conversation = await site.meeting("ann/phone", "bob/phone")
    eve = await site.open(site.hospital.enrol("eve/phone"))
    place = await upload(web, ann, conversation, SMALL)
    wanted = {"Upload-Length": str(len(SMALL)), "Wardline-Conversation": conversation.hex()}
    assert (await web.post(PATH, headers=bearer(eve, **wanted))).status_code == 404
    assert (await web.get(place, headers=bearer(eve))).status_code == 404
    assert (
        await web.patch(place, headers=bearer(eve, **{"Upload-Offset": "0"}))
    ).status_code == 404
    for authorization in ("", "Bearer", "Bearer zz", f"Bearer {bytes(32).hex()}", "Basic eA=="):
        for method in ("POST", "GET", "PATCH", "HEAD", "DELETE"):
            path = PATH if method == "POST" else place
            answer = await web.request(method, path, headers={"Authorization": authorization})
            assert answer.status_code == 401


async def test_the_token_ends_with_the_connection(site: Site, web: httpx.AsyncClient) -> None:
    (ann, _, _), conversation = await site.meeting("ann/phone", "bob/phone")
    place = await upload(web, ann, conversation, SMALL)
    await ann.socket.close()
    assert (await web.head(place, headers=bearer(ann))).status_code == 401


@pytest.mark.parametrize(
    "name", ["..", "%2e%2e%2fsecrets.db", "x" * 5000, "0" * 32, "../relay.db", "a/b"]
)
async def test_no_name_reaches_a_file(site: Site, web: httpx.AsyncClient, name: str) -> None:
    ann = await site.open(site.hospital.enrol("ann/phone"))
    answer = await web.get(f"{PATH}/{name}", headers=bearer(ann))
    assert answer.status_code in (404, 405)


@pytest.mark.parametrize(
    "length",
    [
        *("-1", "1e3", "", "٣", "0", "1", str(limits.ATTACHMENT_BYTES + 1)),
        *(str(STREAM_SIZES[0] - 1), str(STREAM_SIZES[-1])),
    ],
)
async def test_a_length_that_no_stream_has_is_refused(
    site: Site, web: httpx.AsyncClient, length: str
) -> None:
    (ann, _, _), conversation = await site.meeting("ann/phone", "bob/phone")
    headers: dict[str, str | bytes] = {
        **bearer(ann),
        "Wardline-Conversation": conversation.hex(),
        "Upload-Length": length.encode(),
    }
    answer = await web.post(PATH, headers=headers)  # type: ignore[arg-type]
    assert answer.status_code in (400, 413)


async def test_a_piece_beyond_its_limit_is_refused(site: Site, web: httpx.AsyncClient) -> None:
    (ann, _, _), conversation = await site.meeting("ann/phone", "bob/phone")
    headers = bearer(
        ann, **{"Upload-Length": str(STREAM_SIZES[3]), "Wardline-Conversation": conversation.hex()}
    )
    place = (await web.post(PATH, headers=headers)).headers["location"]
    answer = await web.patch(
        place,
        content=bytes(limits.ATTACHMENT_CHUNK_BYTES + 1),
        headers=bearer(ann, **{"Upload-Offset": "0"}),
    )
    assert answer.status_code == 413


async def test_a_device_has_a_few_pieces_on_the_way_and_no_more(site: Site) -> None:
    (ann, _, _), conversation = await site.meeting("ann/phone", "bob/phone")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{site.port}") as web:
        headers = {"Upload-Length": str(len(SMALL)), "Wardline-Conversation": conversation.hex()}
        place = (await web.post(PATH, headers=bearer(ann, **headers))).headers["location"]
    sockets = []
    for _ in range(PIECES_AT_ONCE + 3):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        head = f"PATCH {place} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ann.token.hex()}\r\n"
        writer.write(f"{head}Upload-Offset: 0\r\nContent-Length: {len(SMALL)}\r\n\r\n".encode())
        # Nearly all of it, and then nothing for as long as it may take.
        writer.write(SMALL[:-1])
        sockets.append((reader, writer))
    answers = [asyncio.create_task(reader.readline()) for reader, _ in sockets]
    await comes_true(lambda: sum(one.done() for one in answers) == 3)
    assert [one.result().split()[1] for one in answers if one.done()] == [b"429"] * 3
    assert site.relay.pieces[site.hospital.id, ann.person.name] == PIECES_AT_ONCE
    for _, writer in sockets:
        writer.transport.abort()
    await asyncio.gather(*answers, return_exceptions=True)
    await comes_true(lambda: not site.relay.pieces.total())


LARGE = next(size for size in STREAM_SIZES if size > limits.ATTACHMENT_CHUNK_BYTES)


NARROW_BYTES = 32 * 1024


@asynccontextmanager
async def asked(
    site: Site, by: Client, place: str, *more: str
) -> AsyncIterator[asyncio.StreamReader]:
    """Ask for a piece on a socket that holds little of it, and read nothing yet."""
    server = site.listener._server
    assert server is not None
    server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NARROW_BYTES)
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW_BYTES)
    narrow.setblocking(False)
    await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", site.port))
    # A reader that takes a little ahead of whoever asks it, and no more.
    reader, writer = await asyncio.open_connection(sock=narrow, limit=1024)
    lines = [f"GET {place} HTTP/1.1", "Host: x", f"Authorization: Bearer {by.token.hex()}", *more]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    try:
        yield reader
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def uploaded(site: Site) -> tuple[Client, str]:
    """Return somebody for whom a large attachment waits, and where it is."""
    (ann, bob, _), conversation = await site.meeting("ann/phone", "bob/phone")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{site.port}") as web:
        return bob, await upload(web, ann, conversation, bytes(LARGE))


async def test_a_piece_is_taken_as_slowly_as_a_bad_network_takes_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob, place = await uploaded(site)
    looks, look = [], listener._Http._give_up

    def counted(self: listener._Http) -> None:
        looks.append(self)
        look(self)

    monkeypatch.setattr(listener._Http, "_give_up", counted)
    monkeypatch.setattr(limits, "SILENT_CONNECTION_S", 0.05)
    async with asked(site, bob, place) as reader, asyncio.timeout(WITHIN_S):
        await comes_true(lambda: len(looks) >= 5)
        monkeypatch.setattr(limits, "SILENT_CONNECTION_S", WITHIN_S)
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(limits.ATTACHMENT_CHUNK_BYTES)


@pytest.mark.parametrize("header", ["Connection: keep-alive", "Connection: close"])
async def test_an_answer_that_nobody_takes_is_let_go_of_with_its_socket(
    site: Site, monkeypatch: pytest.MonkeyPatch, header: str
) -> None:
    bob, place = await uploaded(site)
    monkeypatch.setattr(limits, "SILENT_CONNECTION_S", 0.1)
    monkeypatch.setattr(listener, "PIECE_S", 0.3)
    async with asked(site, bob, place, header):
        await comes_true(lambda: site.relay.pieces.total() == 1)
        await comes_true(lambda: not site.relay.pieces.total())
        await comes_true(lambda: not site.listener._state.connections)


async def test_the_end_of_an_answer_that_nobody_takes_is_let_go_of_too(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob, place = await uploaded(site)
    answered = asyncio.Event()
    complete = listener._Http.on_response_complete

    def noted(self: listener._Http) -> None:
        complete(self)
        answered.set()

    monkeypatch.setattr(listener._Http, "on_response_complete", noted)
    monkeypatch.setattr(limits, "SILENT_CONNECTION_S", 0.1)
    # So much is written at once that all of it waits in a socket which is to be closed.
    monkeypatch.setattr(listener, "WRITE_BYTES", 2 * limits.ATTACHMENT_CHUNK_BYTES)
    async with asked(site, bob, place, "Connection: close"), asyncio.timeout(WITHIN_S):
        await answered.wait()
        await comes_true(lambda: not site.listener._state.connections)


async def test_a_device_has_a_few_pieces_on_the_way_to_it_and_no_more(site: Site) -> None:
    bob, place = await uploaded(site)
    async with AsyncExitStack() as asking, asyncio.timeout(WITHIN_S):
        sockets = [asked(site, bob, place) for _ in range(PIECES_AT_ONCE)]
        readers = [await asking.enter_async_context(one) for one in sockets]
        await comes_true(lambda: site.relay.pieces.total() == PIECES_AT_ONCE)
        refused = await asking.enter_async_context(asked(site, bob, place))
        assert b" 429 " in await refused.readline()
        assert site.relay.pieces[site.hospital.id, bob.person.name] == PIECES_AT_ONCE
        for reader in readers:
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(limits.ATTACHMENT_CHUNK_BYTES)
    await comes_true(lambda: not site.relay.pieces.total())


async def test_a_policy_can_take_attachments_away(site: Site, web: httpx.AsyncClient) -> None:
    ann = await site.open(site.hospital.enrol("ann/phone"))
    rights = {Action.ATTACH: frozenset({Role.RECORDER})}
    site.relay.organisations[site.hospital.id].policy = Policy(version=1, rights=rights)
    assert (await web.get(f"{PATH}/{'0' * 32}", headers=bearer(ann))).status_code == 403


async def test_health_and_readiness_need_no_token_and_say_nothing_else(
    site: Site, web: httpx.AsyncClient
) -> None:
    assert (await web.get("/healthz")).text == "ok\n"
    assert (await web.get("/readyz")).status_code == 200
    site.relay.draining = True
    assert (await web.get("/readyz")).status_code == 503
    for path in ("/", "/docs", "/v1", "/v1/stream/x", "/metrics/"):
        assert (await web.get(path)).status_code in (307, 404)


async def test_metrics_name_nobody(site: Site, web: httpx.AsyncClient) -> None:
    (ann, _, _), conversation = await site.meeting("ann/phone", "bob/phone")
    await ann.send(harness.message(ann, conversation, epoch=1))
    text = (await web.get("/metrics")).text
    assert "wardline_messages_accepted_total" in text
    for word in ("ann", "bob", "phone", conversation.hex(), site.hospital.id.hex()):
        assert word not in text
