"""Who asks for much, or reads nothing, costs a bounded part of the relay and nobody's service."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.frames import Opcode

from crypto.names import Role
from crypto.statement import Purpose, StatementType
from protocol import frames, limits
from protocol.authenticated_data import Priority
from protocol.commands import Suspension
from protocol.errors import Code
from protocol.frames import Frame
from protocol.identifiers import AUDIT_LOG, CONTROL_LOG, DeviceId, conversation_log, inbox_log
from protocol.oncall.commands import SetQuietHours
from protocol.oncall.delivery import Quiet
from server import relay as relay_module
from server import transport
from server.configuration import Storage
from server.relay import ASKED, CREATED
from server.transport import (
    FRAGMENTS_MAX,
    TURN_REFUSALS,
    UNPROVED_BYTES,
    UNSENT_BYTES,
    Stream,
)
from server.turnstile import Turnstile
from tests.adversary.witness import closing, picture, refusal, ward
from tests.server import harness
from tests.server.harness import Client, Person, Site
from tests.server.test_control import signed
from tests.waiting import WITHIN_S

SLOW = harness.Rates(
    messages=1e4, commits=1e4, requests=1.0, claims=0.1, connections=1e4, secrets=0.02
)


def raw(socket: ClientConnection, *pieces: bytes) -> None:
    """Send bytes past the WebSocket library's own care."""
    socket.transport.writelines(pieces)


def frame(
    opcode: int, data: bytes, *, fin: bool = True, rsv1: bool = False, masked: bool = True
) -> bytes:
    """Return a WebSocket frame, well formed or not; its mask, where it has one, is zero."""
    first, bit = opcode | 0x80 * fin | 0x40 * rsv1, 0x80 * masked
    size = len(data)
    if size < 126:
        head = struct.pack("!BB", first, bit | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    return head + bytes(4 * masked) + data


def newest(site: Site) -> Stream:
    return site.relay.keeper.streams[-1]


async def unread(socket: ClientConnection, flood: bytes, stream: Stream, *, most: int) -> int:
    """Send a flood and read nothing until the relay has let go; return the most it held unsent."""
    socket.transport.pause_reading()
    held = 0
    for _ in range(200_000):
        if stream._transport.is_closing() or socket.transport.is_closing():
            socket.transport.abort()
            return held
        if socket.transport.get_write_buffer_size() < len(flood):
            raw(socket, flood)
            await asyncio.sleep(0)
        else:
            # The relay does not read for a while whoever exceeds a rate.
            await asyncio.sleep(0.001)
        held = max(held, stream._transport.get_write_buffer_size())
        assert held <= most
    raise AssertionError("the relay still answers a peer that reads nothing")


async def test_a_stranger_who_pings_and_reads_nothing_is_dropped(tmp_path: Path) -> None:
    async with ward(tmp_path) as there:
        socket = await there.site.socket()
        flood = frame(Opcode.PING, bytes(125)) * 200
        await unread(socket, flood, newest(there.site), most=UNSENT_BYTES)
        await there.is_served()


async def test_a_device_that_pings_and_reads_nothing_is_dropped(tmp_path: Path) -> None:
    async with ward(tmp_path) as there:
        eve = await there.site.open(there.site.hospital.enrol("eve/phone"))
        flood = frame(Opcode.PING, bytes(125)) * 2000
        held = await unread(
            eve.socket, flood, newest(there.site), most=UNSENT_BYTES + len(flood) * 2
        )
        assert held > 0
        await there.is_served()
        assert there.site.relay.delivery.connection(there.site.hospital.id, eve.person.name) is None


async def test_a_device_that_asks_and_asks_and_reads_nothing_is_dropped(tmp_path: Path) -> None:
    async with ward(tmp_path, rates=harness.Rates(requests=1e6, connections=1e4)) as there:
        names = [f"nurse{number}" for number in range(60)]
        for name in names:
            await there.site.open(there.site.hospital.enrol(f"{name}/phone"))
        eve = await there.site.open(there.site.hospital.enrol("eve/phone"))
        asked = frames.encode(frames.Lookup(ref=1, users=tuple(names)))
        flood = frame(Opcode.BINARY, asked) * 20
        await unread(eve.socket, flood, newest(there.site), most=UNSENT_BYTES + (4 << 20))
        await there.is_served()


async def test_a_flood_of_pings_that_is_read_is_answered_and_disturbs_nobody(
    tmp_path: Path,
) -> None:
    async with ward(tmp_path) as there:
        eve = await there.site.open(there.site.hospital.enrol("eve/phone"))
        for _ in range(50):
            raw(eve.socket, frame(Opcode.PING, b"") * 100)
            await asyncio.sleep(0)
        await eve.answer(lambda ref: frames.Lookup(ref=ref, users=()))
        await there.is_served()


async def test_a_stranger_holds_no_more_than_an_opening(tmp_path: Path) -> None:
    async with ward(tmp_path) as there:
        socket = await there.site.socket()
        head = frame(Opcode.BINARY, bytes(limits.FRAME_BYTES))[: UNPROVED_BYTES + 64]
        raw(socket, head)
        await asyncio.wait_for(socket.wait_closed(), WITHIN_S)
        await there.is_served()


@pytest.mark.parametrize(("size", "count"), [(64, 4 * 1024 * 1024 // 64), (0, 20_000), (1, 5000)])
async def test_a_message_in_crumbs_is_refused(tmp_path: Path, size: int, count: int) -> None:
    async with ward(tmp_path) as there:
        eve = await there.site.open(there.site.hospital.enrol("eve/phone"))
        raw(eve.socket, frame(Opcode.BINARY, bytes(size), fin=False))
        crumbs = frame(Opcode.CONT, bytes(size), fin=False) * 100
        for _ in range(count // 100):
            if eve.socket.transport.is_closing():
                break
            raw(eve.socket, crumbs)
            await asyncio.sleep(0)
        assert closing(await eve.closed()) is Code.TOO_LARGE
        await there.is_served()


async def test_fragments_up_to_the_limit_are_one_message(tmp_path: Path) -> None:
    async with ward(tmp_path) as there:
        eve = await there.site.open(there.site.hospital.enrol("eve/phone"))
        data = frames.encode(frames.Lookup(ref=7, users=("ann",) * 200))
        first, *rest = (data[at : at + 1] for at in range(min(len(data), FRAGMENTS_MAX) - 1))
        raw(eve.socket, frame(Opcode.BINARY, first, fin=False))
        raw(eve.socket, *(frame(Opcode.CONT, one, fin=False) for one in rest))
        raw(eve.socket, frame(Opcode.CONT, data[1 + len(rest) :]))
        assert (await eve.expect(frames.Directory)).ref == 7


async def test_a_message_beyond_the_largest_frame_ends_the_connection(tmp_path: Path) -> None:
    async with ward(tmp_path) as there:
        eve = await there.site.open(there.site.hospital.enrol("eve/phone"))
        before = await picture(there.site)
        raw(eve.socket, frame(Opcode.BINARY, bytes(limits.FRAME_BYTES + 1))[:64])
        await asyncio.wait_for(eve.socket.wait_closed(), WITHIN_S)
        assert eve.socket.close_code == 1009
        assert await picture(there.site) == before
        await there.is_served()


@pytest.mark.parametrize(
    "bad",
    [
        frame(Opcode.BINARY, b"\x00", rsv1=True),
        frame(Opcode.CONT, b"\x00"),
        frame(Opcode.PING, bytes(126)),
        frame(Opcode.PING, b"", fin=False),
        frame(Opcode.BINARY, b"x", masked=False),
        frame(3, b""),
        frame(Opcode.BINARY, b"", fin=False) + frame(Opcode.BINARY, b""),
        frame(Opcode.CLOSE, b"\x00"),
        frame(Opcode.CLOSE, b"\x03\xe8\xff"),
    ],
    ids=[
        "compressed", "continues nothing", "long ping", "ping in parts", "unmasked",
        "reserved opcode", "message within a message", "half a close code", "close without UTF-8",
    ],
)  # fmt: skip
async def test_what_breaks_the_websocket_protocol_ends_the_connection(
    tmp_path: Path, bad: bytes
) -> None:
    async with ward(tmp_path) as there:
        eve = await there.site.open(there.site.hospital.enrol("eve/phone"))
        before = await picture(there.site)
        raw(eve.socket, bad)
        await asyncio.wait_for(eve.socket.wait_closed(), WITHIN_S)
        assert await picture(there.site) == before
        await there.is_served()


async def refused_for_haste(client: Client, flood: frames.Frame, *, times: int) -> int:
    """Send a request many times; return how many were refused for haste."""
    data = client.session.send(flood)
    for _ in range(times):
        await client.socket.send(data)
    answers = [await client.expect(frames.Frame, _answers) for _ in range(times)]
    return sum(isinstance(a, frames.Refused) and a.code == Code.RATE_LIMITED for a in answers)


def _answers(frame: frames.Frame) -> bool:
    return getattr(frame, "ref", None) == 5


def _note(site: Site, person: Person) -> bytes:
    return signed(site, StatementType.DEVICE_REQUEST, b"note", person.signatory(Purpose.DEVICE))


@pytest.mark.parametrize(
    "kind", ["Post", "PublishKeyPackages", "StoreShare", "GetShare", "Command", "Lookup"]
)
async def test_requests_in_haste_are_refused_and_the_disk_stays_small(
    tmp_path: Path, kind: str
) -> None:
    async with ward(tmp_path, rates=SLOW) as there:
        site, ann = there.site, there.ann
        log = conversation_log(there.conversation)
        flood: dict[str, frames.Frame] = {
            "Post": frames.Post(ref=5, log=log, statement=_note(site, ann.person)),
            "PublishKeyPackages": frames.PublishKeyPackages(ref=5, packages=(), last_resort=b"x"),
            "StoreShare": frames.StoreShare(ref=5, share=bytes(32), pin_proof=bytes(32)),
            "GetShare": frames.GetShare(ref=5, pin_proof=bytes(32)),
            "Command": frames.Command(ref=5, statement=b""),
            "Lookup": frames.Lookup(ref=5, users=("ann",)),
        }
        client = ann
        if kind == "Command":
            client = await site.open(site.hospital.enrol("chief/desk", Role.ADMINISTRATOR))
        assert await refused_for_haste(client, flood[kind], times=60) >= 45
        await there.is_served()


async def test_the_archives_receipts_are_not_slowed(tmp_path: Path) -> None:
    async with ward(tmp_path, rates=SLOW) as there:
        lookup = frames.Lookup(ref=5, users=())
        assert await refused_for_haste(there.recorder, lookup, times=60) == 0


async def test_key_packages_are_claimed_slowly_whatever_names_are_asked_for(
    tmp_path: Path,
) -> None:
    rates = harness.Rates(requests=1e5, connections=1e4, claims=0.1)
    async with ward(tmp_path, rates=rates) as there:
        packages = tuple(f"{number}".encode() for number in range(50))
        await there.bob.answer(
            lambda ref: frames.PublishKeyPackages(ref=ref, packages=packages, last_resort=b"last")
        )

        async def claim(device: str) -> frames.Frame:
            return await there.ann.answer(
                lambda ref: frames.ClaimKeyPackage(ref=ref, device=device)
            )

        got = [await claim("bob/phone") for _ in range(20)]
        given = [a.package for a in got if isinstance(a, frames.KeyPackage)]
        assert len(given) == len(set(given)) == 5
        assert {refusal(a) for a in got[5:]} == {Code.RATE_LIMITED}
        for number in range(300):
            assert refusal(await claim(f"nobody{number}/phone")) is Code.NO_SUCH
        assert len(there.site.relay._claims._rest_at_s) == 1
        assert refusal(await claim("bob/phone")) is Code.RATE_LIMITED


async def test_a_stranger_cannot_fill_the_audit_log(tmp_path: Path) -> None:
    async with ward(tmp_path, rates=SLOW) as there:
        site, organisation = there.site, there.site.hospital.id
        await site.relay.store.settle()
        before = site.relay.store.head(site.key(AUDIT_LOG))
        for _ in range(20):
            client = await site.client(there.ann.person)
            await client.greet()
            wrong = frames.Prove(connection_signature=os.urandom(64), device_signature=b"")
            await client.send(wrong)
            assert closing(await client.closed()) is Code.NOT_PROVED
        await site.relay.store.settle()
        after = site.relay.store.head(site.key(AUDIT_LOG))
        assert before is not None
        assert after is not None
        assert 0 < after.seq - before.seq <= 5
        assert organisation in site.relay.organisations
        await there.is_served()


async def test_who_may_not_cannot_fill_the_audit_log_either(tmp_path: Path) -> None:
    async with ward(tmp_path, rates=SLOW) as there:
        site = there.site
        before = site.relay.store.head(site.key(AUDIT_LOG))
        for ref in range(100):
            await there.ann.send(frames.Command(ref=ref, statement=b""))
        await there.ann.expect(frames.Refused, lambda r: r.ref == 99)
        await site.relay.store.settle()
        after = site.relay.store.head(site.key(AUDIT_LOG))
        assert before is not None
        assert after is not None
        assert 0 < after.seq - before.seq <= 5


async def test_a_flood_from_one_device_leaves_the_others_logs_alone(tmp_path: Path) -> None:
    async with ward(tmp_path, rates=SLOW) as there:
        site = there.site
        eve = await site.open(site.hospital.enrol("eve/phone"))
        before = await picture(site)
        for ref in range(200):
            await eve.send(
                frames.Acknowledge(log=conversation_log(there.conversation), through=ref)
            )
            await eve.send(
                frames.Acknowledge(log=inbox_log(DeviceId("bob/phone")), through=1 << 62)
            )
            await eve.send(frames.Acknowledge(log=os.urandom(98), through=ref))
        await eve.answer(lambda ref: frames.Lookup(ref=ref, users=()))
        assert await picture(site) == before
        assert site.key(CONTROL_LOG) in before.heads
        await there.is_served()


async def test_many_small_frames_are_taken_in_turns_and_all_of_them(tmp_path: Path) -> None:
    async with ward(tmp_path) as there:
        eve = await there.site.open(there.site.hospital.enrol("eve/phone"))
        stream = newest(there.site)
        pings = frame(Opcode.PING, b"") * 20_000
        asked = frame(Opcode.BINARY, frames.encode(frames.Lookup(ref=9, users=())))
        # As the operating system hands over what has gathered meanwhile.
        stream.data_received(pings + asked)
        left = len(stream._waiting)
        assert left > len(pings) * 0.9
        assert (await eve.expect(frames.Directory)).ref == 9
        assert not stream._waiting
        await there.is_served()


async def test_what_comes_while_others_have_their_turn_keeps_its_order(tmp_path: Path) -> None:
    async with ward(tmp_path) as there:
        eve = await there.site.open(there.site.hospital.enrol("eve/phone"))
        stream = newest(there.site)
        lookups = [
            frame(Opcode.BINARY, frames.encode(frames.Lookup(ref=ref, users=())))
            for ref in range(1000)
        ]
        for start in range(0, 1000, 250):
            stream.data_received(b"".join(lookups[start : start + 250]))
        answers = [(await eve.expect(frames.Directory)).ref for _ in range(1000)]
        assert answers == list(range(1000))


async def test_who_asks_faster_than_it_may_is_not_listened_to_and_others_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "REST_S", 3600.0)
    rates = harness.Rates(requests=0.001, connections=1e4)
    async with ward(tmp_path, rates=rates) as there:
        eve = await there.site.open(there.site.hospital.enrol("eve/phone"))
        for ref in range(50):
            await eve.send(frames.Lookup(ref=ref, users=()))
        heard = [await eve.expect(Frame) for _ in range(5 + TURN_REFUSALS)]
        assert [type(one) for one in heard[5:]] == [frames.Refused] * TURN_REFUSALS
        stream = newest(there.site)
        await asyncio.sleep(0.05)
        assert there.site.relay.counters["refused_rate_limited"] == TURN_REFUSALS
        # It rests in the middle of what had arrived, and nothing of that is lost.
        await there.is_served()
        monkeypatch.setattr(transport, "REST_S", 0.001)
        stream._go_on()
        rest = [await eve.expect(frames.Refused) for _ in range(50 - len(heard))]
        assert [one.ref for one in rest] == list(range(len(heard), 50))


async def test_a_socket_too_many_from_one_address_is_closed_before_it_costs_anything(
    tmp_path: Path,
) -> None:
    rates = harness.Rates(connections=0.01)
    async with harness.running(tmp_path, harness.hospital(), rates=rates) as site:
        closed = 0
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            try:
                closed += not await reader.read()
            except ConnectionResetError:
                closed += 1
            writer.close()
        assert closed == site.relay.counters["closed_flooding"] == 10


async def test_who_asks_without_end_over_one_socket_is_turned_away_and_nobody_else_is(
    tmp_path: Path,
) -> None:
    asked = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    async with ward(tmp_path, rates=harness.Rates(connections=0.001)) as there:
        port = there.site.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(asked * 100)
        answers = await asyncio.wait_for(reader.read(1 << 20), WITHIN_S)
        while more := await asyncio.wait_for(reader.read(1 << 20), WITHIN_S):
            answers += more
        served, refused = answers.count(b"HTTP/1.1 200"), answers.count(b"HTTP/1.1 429")
        assert (served, refused) == (ASKED * 5, 1)
        assert there.site.relay.counters["closed_asking"] == 1
        writer.close()
        # Who is connected, and who asks from elsewhere, is not held up.
        await there.is_served()
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, local_addr=("127.0.0.2", 0)
        )
        writer.write(asked)
        assert b" 200 " in await asyncio.wait_for(reader.readline(), WITHIN_S)
        writer.close()


async def test_those_who_prove_themselves_at_once_pass_one_in_each_turn_of_the_loop() -> None:
    loop = asyncio.get_running_loop()
    turnstile = Turnstile(loop)
    turns = 0
    passed: list[tuple[int, int]] = []

    async def one(number: int) -> None:
        await turnstile.passed()
        passed.append((number, turns))

    tasks = [asyncio.create_task(one(number)) for number in range(6)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    while len(passed) < 5:
        turns += 1
        await asyncio.sleep(0)
    assert [number for number, _ in passed] == [0, 1, 2, 4, 5]
    assert len({turn for _, turn in passed}) == 5
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_one_device_leaves_a_bounded_number_of_bytes_for_who_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 400_000
    monkeypatch.setattr(relay_module, "KEPT_BURST_BYTES", most)
    rates = harness.Rates(messages=1e5, commits=1e4, requests=1e4, connections=1e4, kept_bytes=0.01)
    async with ward(tmp_path, rates=rates) as there:
        site, ann, bob = there.site, there.ann, there.bob
        key = site.key(conversation_log(there.conversation))
        await bob.socket.close()
        before = site.relay.store.head(key)
        assert before is not None

        async def refusals(make: Callable[[], Frame]) -> int:
            """Go on until it is refused; return how often it was not."""
            for taken in range(10_000):
                await ann.send(make())
                answer = await ann.expect(
                    Frame, lambda one: harness.is_verdict(one) or _answers(one)
                )
                if not isinstance(answer, frames.Accepted | frames.Done):
                    assert isinstance(answer, frames.Refused | frames.RefusedMessage)
                    assert refusal(answer) is Code.RATE_LIMITED
                    assert answer.detail > 0
                    return taken
            raise AssertionError("nothing stops it")

        def message(priority: Priority, size: int) -> Frame:
            return harness.message(
                ann, there.conversation, epoch=1, body=bytes(size), priority=priority
            )

        note = _note(site, ann.person)
        post = frames.Post(ref=5, log=key.id, statement=note)
        assert await refusals(lambda: message(Priority.ROUTINE, 60_000)) >= 4
        # The smallest, whose rows take more than they do, count for that; urgent ones count apart.
        assert await refusals(lambda: message(Priority.ROUTINE, 1)) < 60_000 / 512
        assert await refusals(lambda: message(Priority.STAT, 60_000)) >= 4
        assert await refusals(lambda: post) < 60_000 / len(note)
        _, commit = harness.commit_message(ann, os.urandom(32), epoch=0, added=[], removed=[])
        assert await refusals(lambda: frames.AppendCommit(message=commit, welcome=b"")) == 0
        await site.relay.store.settle()
        after = site.relay.store.head(key)
        assert after is not None
        assert most < after.held_bytes - before.held_bytes <= 2 * most
        # The recorder, which tends every conversation, is not held up by it.
        for _ in range(20):
            body = harness.message(there.recorder, there.conversation, epoch=1, body=bytes(60_000))
            await there.recorder.send(body)
            await there.recorder.expect(frames.Accepted)


async def test_a_device_begins_conversations_as_slowly_as_it_may_claim_for_them(
    tmp_path: Path,
) -> None:
    rates = harness.Rates(commits=1e4, claims=0.001, connections=1e4)
    async with ward(tmp_path, rates=rates) as there:
        logs = len((await picture(there.site)).heads)
        answers = []
        for _ in range(30):
            added = [harness.RECORDER]
            _, message = harness.commit_message(
                there.ann, os.urandom(32), epoch=0, added=added, removed=[]
            )
            await there.ann.send(
                frames.AppendCommit(message=message, welcome=b"\x00\x01\x00\x03welcome")
            )
            answers.append(await there.ann.expect(Frame, harness.is_verdict))
        refused = [one for one in answers if isinstance(one, frames.RefusedMessage)]
        assert {refusal(one) for one in refused} == {Code.RATE_LIMITED}
        # One was begun before: the ward's own.
        assert len(answers) - len(refused) == CREATED * 5 - 1
        assert len((await picture(there.site)).heads) - logs == CREATED * 5 - 1
        await there.is_served()


async def test_what_a_person_asks_for_themself_fills_no_log_that_is_kept(tmp_path: Path) -> None:
    rates = harness.Rates(requests=1e4, commits=0.001, connections=1e4, personal=0.001)
    async with ward(tmp_path, rates=rates) as there:
        site, ann = there.site, there.ann
        bob = DeviceId("bob/phone")

        async def ask(kind: StatementType, body: bytes) -> Frame:
            statement = signed(site, kind, body, ann.person.signatory(Purpose.DEVICE))
            return await ann.answer(
                lambda ref: frames.Post(ref=ref, log=CONTROL_LOG, statement=statement)
            )

        for version in range(1, 6):
            quiet = SetQuietHours(version=version, quiet=Quiet(zone="Europe/Berlin"))
            done = await ask(StatementType.DEVICE_REQUEST, quiet.encode())
            assert isinstance(done, frames.Done)
        late = await ask(StatementType.DEVICE_REQUEST, quiet.encode())
        assert refusal(late) is Code.RATE_LIMITED
        # A lost device of one's own is suspended all the same; others' are not one's own.
        body = Suspension(devices=(bob,), lifted=False).encode()
        assert refusal(await ask(StatementType.SUSPENSION, body)) is not Code.RATE_LIMITED
        await there.is_served()


def test_what_one_device_can_fill_of_the_disk_is_what_the_guide_says() -> None:
    days, rates = Storage().expiry_days, harness.Rates()
    one = relay_module.KEPT_BURST_BYTES + rates.kept_bytes * days * 24 * 3600
    guide = Path(__file__).parents[2] / "docs" / "operations.md"
    assert f"{2 * one / 1e9:.1f} GB" in guide.read_text()
