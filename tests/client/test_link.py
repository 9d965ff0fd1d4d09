"""A device's connection: the pin is all its trust, answers find who asked, memory is bounded."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from client import link as links
from client.errors import ClosedError, ImpostorError, LostError, RefusedError, UnreachableError
from client.link import ASKED_MOST_S, Address, Backoff, Credentials, Link
from crypto.ed25519 import SigningKey
from crypto.tls_certificate import create_tls_identity
from protocol import frames
from protocol.errors import Code, LocalProtocolError
from protocol.frames import Frame
from protocol.identifiers import DeviceId, OrganisationId, UserName
from protocol.session import State
from server.connection import Connection
from server.tls import tls_context
from tests.client.relay import PIN, TLS, address_of, credentials_of, link_of, lying, serving
from tests.flipped import flipped
from tests.server import harness
from tests.server.harness import Site, now_ms
from tests.server.test_accounts import DAY_MS, PASSWORD, code, enrolled
from tests.waiting import WITHIN_S

STRANGER = Credentials(
    device=DeviceId("ann/phone"),
    certificate=b"",
    connection_key=SigningKey.generate(),
    signature_key=SigningKey.generate(),
)
NONCE = bytes(32)

SOON_S = 20.0
"""Longest wait for what comes at once on a machine that is not busy."""


async def let_in(socket: ServerConnection, *then: Frame) -> None:
    """Open as the relay does, then say ``then``."""
    await socket.recv()
    await socket.send(frames.encode(frames.Challenge(version=1, nonce=NONCE, pin=PIN)))
    await socket.recv()
    opened = frames.Opened(token=NONCE, now_ms=7, last_id=0)
    for frame in (opened, *then):
        await socket.send(frames.encode(frame))


def stands(link: Link) -> State:
    """Return where a connection stands, which a checker of types would take to stay so."""
    return link.state


async def connection(site: Site, name: str) -> Connection:
    found = site.relay.delivery.connection(site.hospital.id, DeviceId(name))
    assert found is not None
    return found


async def test_a_device_that_proves_both_keys_is_open_and_knows_the_relays_clock(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        link = await link_of(site, site.hospital.enrol("ann/phone"))
        assert stands(link) is State.OPEN
        assert len(link.token) == frames.TOKEN_BYTES
        assert abs(link.now_ms - now_ms()) < 60_000
        assert link.last_id == 0
        await link.close()
        assert link.token == b""


async def test_another_key_than_the_pinned_one_is_told_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        person = site.hospital.enrol("ann/phone")
        for pin in (bytes(32), flipped(PIN)):
            with pytest.raises(ImpostorError):
                await Link.open(address_of(site, pin=pin), credentials_of(person))
        assert site.relay.counters["unproved"] == 0


async def test_a_challenge_for_another_relays_key_is_not_signed(tmp_path: Path) -> None:
    said: list[bytes | str] = []

    async def relaying(socket: ServerConnection) -> None:
        said.append(await socket.recv())
        challenge = frames.Challenge(version=1, nonce=NONCE, pin=bytes(32))
        await socket.send(frames.encode(challenge))
        said.extend([data async for data in socket])

    async with lying(tmp_path, relaying) as address:
        with pytest.raises(ImpostorError):
            await Link.open(address, STRANGER)
    assert len(said) == 1


async def test_an_answer_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    asked = []

    def elsewhere(socket: ServerConnection, request: Request) -> Response:
        asked.append(request.path)
        response = socket.respond(307, "")
        response.headers["Location"] = "wss://localhost:1/v1/stream"
        return response

    (tmp_path / "pem").write_bytes(TLS.certificate + TLS.key)
    context = tls_context(tmp_path / "pem", tmp_path / "pem")
    async with serve(
        lambda _: asyncio.sleep(0), "127.0.0.1", 0, ssl=context, process_request=elsewhere
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        with pytest.raises(UnreachableError):
            await Link.open(
                Address(
                    host="127.0.0.1", port=port, tls_pin=PIN, organisation=OrganisationId(NONCE)
                ),
                STRANGER,
            )
    assert asked == ["/v1/stream"]


async def test_a_certificate_that_no_parser_takes_is_an_impostors(tmp_path: Path) -> None:
    made = create_tls_identity("relay", at_ms=now_ms())
    # X.509v2: TLS shows it, and its signature is nobody's business.
    der = ssl.PEM_cert_to_DER_cert(made.certificate.decode())
    odd = der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x01", 1)
    (tmp_path / "pem").write_bytes(ssl.DER_cert_to_PEM_cert(odd).encode() + made.key)
    context = tls_context(tmp_path / "pem", tmp_path / "pem")
    async with serve(lambda _: asyncio.sleep(0), "127.0.0.1", 0, ssl=context) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        with pytest.raises(ImpostorError):
            await Link.open(
                Address(
                    host="127.0.0.1", port=port, tls_pin=PIN, organisation=OrganisationId(NONCE)
                ),
                STRANGER,
            )


async def test_an_older_tls_is_not_spoken(tmp_path: Path) -> None:
    old = create_tls_identity("relay", at_ms=now_ms())
    (tmp_path / "pem").write_bytes(old.certificate + old.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serve(lambda _: asyncio.sleep(0), "127.0.0.1", 0, ssl=context) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        with pytest.raises(UnreachableError):
            await Link.open(
                Address(
                    host="127.0.0.1", port=port, tls_pin=PIN, organisation=OrganisationId(NONCE)
                ),
                STRANGER,
            )


async def test_where_nobody_listens_the_relay_is_unreachable(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        address, person = address_of(site), site.hospital.enrol("ann/phone")
    with pytest.raises(UnreachableError) as caught:
        await Link.open(address, credentials_of(person))
    assert not isinstance(caught.value, ImpostorError)


async def test_a_device_that_the_relay_does_not_know_is_told_no_more_than_that(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        with pytest.raises(ClosedError) as caught:
            await Link.open(address_of(site), STRANGER)
        assert caught.value.code is Code.NOT_PROVED


async def test_answers_find_who_asked_whatever_their_order(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        link = await link_of(site, site.hospital.enrol("ann/phone"))
        bob = await link_of(site, site.hospital.enrol("bob/phone"))

        def lookup(user: str) -> Callable[[int], Frame]:
            return lambda ref: frames.Lookup(ref=ref, users=(UserName(user),))

        users = ["ann", "bob", "nobody"] * 20
        answers = await asyncio.gather(*(link.ask(lookup(user)) for user in users))
        for user, answer in zip(users, answers, strict=True):
            assert isinstance(answer, frames.Directory)
            found = [entry.device for entry in answer.devices]
            assert found == ([] if user == "nobody" else [f"{user}/phone"])
        await link.close()
        await bob.close()


async def test_what_the_relay_refuses_says_why(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        link = await link_of(site, site.hospital.enrol("ann/phone"))
        with pytest.raises(RefusedError) as caught:
            await link.ask(lambda ref: frames.ClaimKeyPackage(ref=ref, device="bob/phone"))
        assert caught.value.code is Code.NO_SUCH
        await link.close()


async def test_a_locked_device_opens_on_the_same_connection(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        person = site.hospital.enrol("ann/phone")
        link = await link_of(site, person, locked=True)
        assert stands(link) is State.LOCKED
        assert link.token == b""
        with pytest.raises(LocalProtocolError):
            await link.ask(lambda ref: frames.Lookup(ref=ref, users=(UserName("ann"),)))
        await link.unlock(person.keys.signature_key)
        assert stands(link) is State.OPEN
        assert link.token != b""
        await link.close()


async def test_a_wrong_key_does_not_unlock(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        link = await link_of(site, site.hospital.enrol("ann/phone"), locked=True)
        with pytest.raises(ClosedError) as caught:
            await link.unlock(SigningKey.generate())
        assert caught.value.code is Code.NOT_PROVED
        await link.close()


async def test_after_long_absence_password_and_code_let_a_device_in(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        person, secret = await enrolled(site)
        await (await link_of(site, person)).close()
        site.later_ms = 31 * DAY_MS
        link = await link_of(site, person)
        assert stands(link) is State.ABSENT
        with pytest.raises(RefusedError) as caught:
            await link.authenticate("a wrong password altogether", code(site, secret))
        assert caught.value.code is Code.WRONG_SECRET
        assert stands(link) is State.ABSENT
        await link.authenticate(PASSWORD, code(site, secret))
        assert stands(link) is State.OPEN
        await link.close()


async def test_a_revoked_connection_says_so_to_everybody_who_waits(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        link = await link_of(site, site.hospital.enrol("ann/phone"))
        receiving = asyncio.create_task(link.receive())
        await asyncio.sleep(0)
        (await connection(site, "ann/phone")).close(Code.REVOKED)
        with pytest.raises(ClosedError) as caught:
            await receiving
        assert caught.value.code is Code.REVOKED
        for again in (link.receive(), link.send(frames.Acknowledge(log=b"o", through=1))):
            with pytest.raises(ClosedError):
                await again
        with pytest.raises(ClosedError):
            await link.ask(lambda ref: frames.Lookup(ref=ref, users=()))
        await link.close()


async def test_a_connection_that_breaks_is_lost_for_asker_and_receiver(tmp_path: Path) -> None:
    async def cutting(socket: ServerConnection) -> None:
        await let_in(socket, frames.Ended(log=b"o", code=1))
        await socket.recv()
        socket.transport.abort()

    async with lying(tmp_path, cutting) as address:
        link = await Link.open(address, STRANGER)
        with pytest.raises(LostError):
            await link.ask(lambda ref: frames.Lookup(ref=ref, users=()))
        # What had come before is still given.
        assert isinstance(await link.receive(), frames.Ended)
        with pytest.raises(LostError) as caught:
            await link.receive()
        assert caught.value.broke is None
        await link.close()


@pytest.mark.parametrize(
    ("said", "broke"),
    [
        (b"\x00", Code.MALFORMED),
        ("text", Code.MALFORMED),
        (frames.encode(frames.Locked()), Code.OUT_OF_STATE),
        (frames.encode(frames.Acknowledge(log=b"o", through=1)), Code.MALFORMED),
    ],
)
async def test_what_no_relay_may_say_ends_the_connection_as_a_fault(
    tmp_path: Path, said: bytes | str, broke: Code
) -> None:
    async def speaking(socket: ServerConnection) -> None:
        await let_in(socket)
        await socket.send(said)
        await socket.wait_closed()

    async with lying(tmp_path, speaking) as address:
        link = await Link.open(address, STRANGER)
        with pytest.raises(LostError) as caught:
            await link.receive()
        assert caught.value.broke is broke
        await link.close()


async def test_a_code_of_a_later_version_is_a_refusal_all_the_same(tmp_path: Path) -> None:
    async def refusing(socket: ServerConnection) -> None:
        await let_in(socket)
        await socket.recv()
        await socket.send(frames.encode(frames.Refused(ref=1, code=4_000_000_000, detail=3)))
        await socket.wait_closed()

    async with lying(tmp_path, refusing) as address:
        link = await Link.open(address, STRANGER)
        with pytest.raises(RefusedError) as caught:
            await link.ask(lambda ref: frames.Lookup(ref=ref, users=()))
        assert (caught.value.code, caught.value.detail) == (Code.INVALID, 3)
        await link.close()


def entry(number: int) -> bytes:
    return frames.encode(
        frames.Deliver(
            log=b"o", sequence=number, predecessor=number - 1, at_ms=0, kind=0, body=bytes(60_000)
        )
    )


async def test_who_does_not_receive_stops_the_relay_and_misses_nothing(tmp_path: Path) -> None:
    sent = 0
    wanted = 2_000

    async def flooding(socket: ServerConnection) -> None:
        nonlocal sent
        await let_in(socket)
        for number in range(1, wanted + 1):
            await socket.send(entry(number))
            sent = number
        await socket.wait_closed()

    async with lying(tmp_path, flooding) as address:
        link = await Link.open(address, STRANGER)
        before, now = -1, 0
        while before != now:
            await asyncio.sleep(0.3)
            before, now = now, sent
        # Of 120 MB the sockets' buffers and a little more are under way.
        assert now < wanted // 2
        assert link._waiting.size < links.WAITING_BYTES + 100_000
        got = [await link.receive() for _ in range(wanted)]
        assert [frame.sequence for frame in got if isinstance(frame, frames.Deliver)] == list(
            range(1, wanted + 1)
        )
        await link.close()


async def test_what_has_come_is_received_at_once_and_what_has_not_is_none(tmp_path: Path) -> None:
    async def speaking(socket: ServerConnection) -> None:
        await let_in(socket)
        for number in range(1, 4):
            await socket.send(entry(number))

    async with lying(tmp_path, speaking) as address:
        link = await Link.open(address, STRANGER)
        got: list[Frame | None] = [await link.receive()]
        assert link._reading is not None
        await asyncio.wait({link._reading}, timeout=SOON_S)
        got += [link.receive_now(), link.receive_now()]
        assert [e.sequence for e in got if isinstance(e, frames.Deliver)] == [1, 2, 3]
        with pytest.raises(LostError):
            link.receive_now()
        await link.close()


async def test_an_answer_behind_a_flood_is_found_by_who_does_not_receive(tmp_path: Path) -> None:
    async def flooding(socket: ServerConnection) -> None:
        await let_in(socket)
        await socket.recv()
        for number in range(1, 100):
            await socket.send(entry(number))
        await socket.send(frames.encode(frames.Directory(ref=1, devices=())))
        await socket.wait_closed()

    async with lying(tmp_path, flooding) as address:
        link = await Link.open(address, STRANGER)
        answer = await link.ask(lambda ref: frames.Lookup(ref=ref, users=()))
        assert isinstance(answer, frames.Directory)
        assert isinstance(await link.receive(), frames.Deliver)
        await link.close()


async def test_an_answer_that_nobody_awaits_any_more_is_no_frame_to_receive(
    tmp_path: Path,
) -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def late(socket: ServerConnection) -> None:
        await let_in(socket)
        await socket.recv()
        asked.set()
        await gone.wait()
        await socket.send(frames.encode(frames.Directory(ref=1, devices=())))
        await socket.send(entry(1))
        await socket.wait_closed()

    async with lying(tmp_path, late) as address:
        link = await Link.open(address, STRANGER)
        asking = asyncio.create_task(link.ask(lambda ref: frames.Lookup(ref=ref, users=())))
        await asyncio.wait_for(asked.wait(), SOON_S)
        asking.cancel()
        await asyncio.wait({asking})
        gone.set()
        assert isinstance(await link.receive(), frames.Deliver)
        await link.close()


async def test_a_flood_before_an_answer_ends_the_connection_rather_than_fill_the_memory(
    tmp_path: Path,
) -> None:
    async def flooding(socket: ServerConnection) -> None:
        await let_in(socket)
        await socket.recv()
        number = 0
        while True:
            number += 1
            await socket.send(entry(number))

    async with lying(tmp_path, flooding) as address:
        link = await Link.open(address, STRANGER)
        with pytest.raises(LostError):
            await link.ask(lambda ref: frames.Lookup(ref=ref, users=()))
        assert link._waiting.size < links.WAITING_MOST_BYTES + 100_000
        await link.close()


async def test_a_relay_that_lets_nobody_in_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(socket: ServerConnection) -> None:
        await socket.wait_closed()

    monkeypatch.setattr(links, "OPEN_S", 0.2)
    async with lying(tmp_path, silent) as address:
        with pytest.raises(UnreachableError):
            await Link.open(address, STRANGER)


async def test_a_relay_that_answers_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(socket: ServerConnection) -> None:
        await let_in(socket)
        await socket.wait_closed()

    monkeypatch.setattr(links, "ANSWER_S", 0.2)
    async with lying(tmp_path, silent) as address:
        link = await Link.open(address, STRANGER)
        with pytest.raises(LostError):
            await link.ask(lambda ref: frames.Lookup(ref=ref, users=()))
        assert stands(link) is State.CLOSED
        with pytest.raises(LostError):
            await link.receive()


def test_nothing_that_identifies_or_opens_is_printed() -> None:
    secret = replace(STRANGER, certificate=b"certificate")
    address = Address(
        host="relay", port=1, tls_pin=PIN, organisation=OrganisationId(b"organisation")
    )
    for text in (repr(secret), repr(address)):
        assert "ann" not in text
        assert "certificate" not in text
        assert "organisation" not in text


def test_pauses_double_to_a_minute_are_spread_and_begin_again_after_a_steady_connection() -> None:
    backoff = Backoff()
    pauses = [backoff.pause_s() for _ in range(12)]
    for number, pause in enumerate(pauses):
        most = min(0.5 * 2**number, 60.0)
        assert most / 2 <= pause <= most
    backoff.held(59.0)
    assert backoff.pause_s() >= 30.0
    backoff.held(61.0)
    assert backoff.pause_s() <= 0.5
    assert len({round(Backoff().pause_s(), 9) for _ in range(20)}) > 10


def test_a_pause_is_never_shorter_than_the_relay_asked_for() -> None:
    assert all(10.0 <= Backoff().pause_s(at_least_ms=10_000) <= 15.0 for _ in range(50))


def test_a_relay_that_asks_for_an_endless_pause_keeps_nobody_from_the_next_relay() -> None:
    assert Backoff().pause_s(at_least_ms=(1 << 64) - 1) <= 1.5 * ASKED_MOST_S
    assert ASKED_MOST_S <= links.LONGEST_PAUSE_S


async def _everything(link: Link) -> None:
    while True:
        await link.receive()


ENTRY = frames.Deliver(log=b"o", sequence=1, predecessor=0, at_ms=1, kind=0, body=b"")


@pytest.mark.parametrize(
    "said",
    [
        *(
            msgspec.structs.replace(ENTRY, log=log)
            for log in (b"c", b"cx", b"iann", b"i\xff", b"z", b"ibob/phone")
        ),
        *(frames.Ended(log=log, code=Code.EXPIRED) for log in (b"c", b"c" + bytes(31))),
        msgspec.structs.replace(ENTRY, sequence=(1 << 62) + 1),
        msgspec.structs.replace(ENTRY, predecessor=(1 << 63) - 1),
        msgspec.structs.replace(ENTRY, predecessor=1),
        msgspec.structs.replace(ENTRY, predecessor=1 << 40),
        frames.Accepted(message_ids=(1,), sequences=((1 << 63) - 1,)),
    ],
    ids=str,
)
async def test_a_log_or_number_that_there_cannot_be_ends_the_connection_and_nothing_else(
    tmp_path: Path, said: Frame
) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        ann = site.hospital.enrol("ann/phone")
        link = await link_of(site, ann)
        there = site.relay.delivery.connection(site.hospital.id, ann.name)
        assert there is not None
        there.send(said)
        with pytest.raises(LostError) as lost:
            await asyncio.wait_for(_everything(link), WITHIN_S)
        assert lost.value.broke is Code.MALFORMED
        await link.close()
        again = await link_of(site, ann)
        assert again.state is State.OPEN
        await again.close()
