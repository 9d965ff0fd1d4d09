"""Who gets in, as what, and that nobody else does."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from crypto import ed25519
from crypto.ed25519 import SigningKey
from protocol import frames, limits
from protocol.authenticated_data import Priority
from protocol.errors import Code
from protocol.frames import Frame
from protocol.identifiers import AUDIT_LOG, inbox_log
from server import posts
from server.configuration import Listen
from tests.adversary.test_revoked_in_time import suspend
from tests.protocol.strategies import example_frame
from tests.server import harness
from tests.server.harness import Client, Site
from tests.server.test_control import administrator
from tests.waiting import WITHIN_S, comes_true

DAY_MS = 24 * 3600 * 1000


async def proved_wrong(site: Site, client: Client, **changes: object) -> Code:
    await client.greet(**changes)
    answer = await client.prove()
    assert isinstance(answer, frames.Close)
    return Code(answer.code)


async def test_a_device_that_proves_both_keys_is_open(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        ann = await site.open(site.hospital.enrol("ann/phone"))
        again = await site.client(ann.person)
        await again.greet(certificate=b"")
        assert isinstance(await again.prove(), frames.Opened)


async def test_a_stranger_s_proof_costs_the_same_whether_the_name_is_somebody_s_or_nobody_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        await site.open(site.hospital.enrol("ann/phone"))
        verified = 0
        verify = ed25519.verify

        def counting(*, public_key: bytes, message: bytes, signature: bytes) -> None:
            nonlocal verified
            verified += 1
            verify(public_key=public_key, message=message, signature=signature)

        monkeypatch.setattr(ed25519, "verify", counting)
        stranger = harness.hospital().enrol("eve/phone")
        costs = []
        for name in ("ann/phone", "nobody/phone"):
            verified = 0
            client = await site.client(stranger)
            assert await proved_wrong(site, client, device=name, certificate=b"") is Code.NOT_PROVED
            costs.append(verified)
        assert costs == [1, 1]


@pytest.mark.parametrize("wrong", ["connection", "device", "organisation", "name", "unknown"])
async def test_whatever_is_wrong_with_a_proof_the_answer_is_the_same(
    tmp_path: Path, wrong: str
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        person = site.hospital.enrol("ann/phone")
        other = site.hospital.enrol("bob/phone")
        changes: dict[str, object] = {}
        keys = person.keys
        if wrong == "connection":
            keys = dataclasses.replace(keys, connection_key=SigningKey.generate())
        elif wrong == "device":
            keys = dataclasses.replace(keys, signature_key=SigningKey.generate())
        elif wrong == "organisation":
            changes["organisation"] = bytes(32)
        elif wrong == "name":
            changes["device"] = other.name
        else:
            changes["certificate"] = b""
        impostor = dataclasses.replace(person, keys=keys)
        client = await site.client(impostor)
        assert await proved_wrong(site, client, **changes) is Code.NOT_PROVED
        organisation = site.relay.organisations[site.hospital.id]
        assert person.name not in organisation.devices


async def test_a_proof_made_for_another_connection_is_worth_nothing(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        person = site.hospital.enrol("ann/phone")
        first, second = await site.client(person), await site.client(person)
        await first.greet()
        await second.greet()
        second.hello, second.challenge = first.hello, first.challenge
        answer = await second.prove()
        assert isinstance(answer, frames.Close)
        assert answer.code == Code.NOT_PROVED


async def test_another_organisations_certificate_opens_nothing(tmp_path: Path) -> None:
    north, south = harness.hospital("North"), harness.hospital("South")
    async with harness.running(tmp_path, north, south) as site:
        stranger = south.enrol("ann/phone")
        client = await site.client(stranger)
        assert await proved_wrong(site, client) is Code.NOT_PROVED


async def test_no_common_version_is_told(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        person = site.hospital.enrol("ann/phone")
        client = await site.client(person)
        hello = frames.Hello(
            versions=(9,),
            organisation=site.hospital.id,
            device=person.name,
            nonce=bytes(32),
            certificate=b"",
            request=b"",
        )
        await client.send(hello)
        assert (await client.closed()).code == Code.VERSION


@pytest.mark.parametrize(
    "kind", [k for k in frames.FRAMES if k not in (frames.Hello, frames.Prove)]
)
async def test_before_a_proof_every_other_frame_ends_the_connection(
    tmp_path: Path, kind: type[Frame]
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        client = await site.client(site.hospital.enrol("ann/phone"))
        await client.socket.send(frames.encode(example_frame(kind)))
        expected = Code.OUT_OF_STATE if kind.sender is frames.Sender.CLIENT else Code.MALFORMED
        assert (await client.closed()).code == expected


async def test_a_second_connection_of_a_device_replaces_the_first(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        (ann, bob, _), conversation = await site.meeting("ann/phone", "bob/phone")
        second = await site.open(bob.person)
        assert (await bob.closed()).code == Code.REPLACED
        await ann.send(harness.message(ann, conversation, epoch=1, body=b"to the second"))
        await second.expect(frames.Deliver, lambda e: e.body.endswith(b"to the second"))


async def test_a_locked_device_rings_and_reads_nothing_until_it_is_unlocked(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        (ann, bob, _), conversation = await site.meeting("ann/phone", "bob/phone")
        locked = await site.client(bob.person)
        await locked.greet()
        assert isinstance(await locked.prove(unlocked=False), frames.Locked)
        urgent = harness.message(ann, conversation, epoch=1, body=b"canary", priority=Priority.STAT)
        await ann.send(urgent)
        ring = await locked.expect(frames.Ring)
        assert (ring.priority, ring.role) == (Priority.STAT, "")
        assert not [frame for frame in locked.early if isinstance(frame, frames.Deliver)]
        await locked.send(frames.Unlock(signature=locked.device_signature()))
        await locked.expect(frames.Opened)
        entry = await locked.expect(frames.Deliver, lambda e: e.body.endswith(b"canary"))
        assert entry.log[1:] == conversation


async def test_what_a_locked_or_suspended_device_acknowledges_unread_stays_in_its_inbox(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        chief = await administrator(site)
        ann = await site.open(site.hospital.enrol("ann/phone"))
        await ann.socket.close()
        inbox = site.key(inbox_log(ann.person.name))
        await posts.append_own(site.relay, inbox, b"\x03unread")

        async def acknowledged(client: Client) -> None:
            await client.send(frames.Acknowledge(log=inbox.id, through=1))
            await client.socket.close()
            await site.relay.store.settle()
            assert site.relay.store.pending(site.hospital.id, ann.person.name)[0].cursor == 0

        locked = await site.client(ann.person)
        await locked.greet()
        assert isinstance(await locked.prove(unlocked=False), frames.Locked)
        await acknowledged(locked)
        await suspend(site, chief, ann.person.name)
        suspended = await site.client(ann.person)
        await suspended.greet()
        assert isinstance(await suspended.prove(), frames.Ordered)
        await acknowledged(suspended)


async def test_a_device_that_comes_again_and_again_is_noted_now_and_then(tmp_path: Path) -> None:
    rates = harness.Rates(secrets=0.02, connections=1e4)
    async with harness.running(tmp_path, harness.hospital(), rates=rates) as site:
        recorder = await site.open(site.hospital.people[harness.RECORDER])
        ann = site.hospital.enrol("ann/phone")
        for _ in range(20):
            await (await site.open(ann)).socket.close()
        await recorder.answer(lambda ref: frames.GetWitnessKey(ref=ref))
        await site.relay.store.settle()
        head = site.relay.store.head(site.key(AUDIT_LOG))
        assert head is not None
        assert 1 <= head.seq <= 8
        assert site.relay.counters["audits_left_out"] >= 12


@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        ((), "203.0.113.9", "127.0.0.1"),
        (("127.0.0.1",), "203.0.113.9", "203.0.113.9"),
        (("127.0.0.1",), "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        (("192.0.2.1",), "203.0.113.9", "127.0.0.1"),
        (("127.0.0.1",), "", "127.0.0.1"),
    ],
)
async def test_a_proxys_word_about_the_client_counts_where_it_is_configured(
    tmp_path: Path, proxies: tuple[str, ...], forwarded: str, expected: str
) -> None:
    listen = Listen(host="127.0.0.1", port=0, proxies=proxies)
    async with harness.running(tmp_path, harness.hospital(), listen=listen) as site:
        headers = {"X-Forwarded-For": forwarded} if forwarded else {}
        socket = await connect(
            f"ws://127.0.0.1:{site.port}/v1/stream", additional_headers=headers, proxy=None
        )
        assert {stream.address for stream in site.relay.keeper.streams} == {expected}
        await socket.close()
        async with httpx.AsyncClient(trust_env=False) as web:
            answer = await web.get(f"http://127.0.0.1:{site.port}/metrics", headers=headers)
        assert answer.status_code == (200 if expected == "127.0.0.1" else 404)


def test_behind_a_proxy_the_loopback_is_believed() -> None:
    assert "127.0.0.1" in Listen(host="127.0.0.1", behind_proxy=True).believed()
    assert not Listen(host="127.0.0.1").believed()


async def test_a_locked_device_cannot_unlock_with_another_key(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        client = await site.client(site.hospital.enrol("ann/phone"))
        await client.greet()
        await client.prove(unlocked=False)
        await client.send(frames.Unlock(signature=bytes(64)))
        assert (await client.closed()).code == Code.NOT_PROVED


async def test_a_device_that_was_long_away_proves_its_person_first(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        ann = await site.open(site.hospital.enrol("ann/phone"))
        site.later_ms += 31 * DAY_MS
        client = await site.client(ann.person)
        await client.greet()
        assert isinstance(await client.prove(), frames.Absent)


async def test_an_expired_certificate_opens_nothing(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        ann = await site.open(site.hospital.enrol("ann/phone"))
        site.later_ms += 91 * DAY_MS
        client = await site.client(ann.person)
        await client.greet()
        answer = await client.prove()
        assert isinstance(answer, frames.Close)
        assert answer.code == Code.OUTDATED


async def test_a_connection_that_proves_nothing_is_closed_after_ten_seconds(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        ann = await site.open(site.hospital.enrol("ann/phone"))
        silent = await site.socket()
        greeted = await site.client(ann.person)
        await greeted.greet()
        soon = site.relay.now_s() + limits.SILENT_CONNECTION_S
        site.relay.keeper.look(now_s=soon - 1)
        await ann.answer(lambda ref: frames.Lookup(ref=ref, users=()))
        site.relay.keeper.look(now_s=soon)
        assert (await greeted.closed()).code == Code.SILENT
        await asyncio.wait_for(silent.wait_closed(), WITHIN_S)
        await ann.answer(lambda ref: frames.Lookup(ref=ref, users=()))


async def test_a_peer_that_answers_no_ping_is_dropped(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        ann = await site.open(site.hospital.enrol("ann/phone"))
        dead = await site.open(site.hospital.enrol("bob/phone"))
        dead.socket.transport.pause_reading()
        now_s = site.relay.now_s()
        for turn in range(1, 4):
            await ann.answer(lambda ref: frames.Lookup(ref=ref, users=()))
            site.relay.keeper.look(now_s=now_s + turn * limits.PING_S)
        connection = site.relay.delivery.connection
        await comes_true(lambda: connection(site.hospital.id, dead.person.name) is None)
        assert connection(site.hospital.id, ann.person.name) is not None
        # It would else be asked to close, and waited for.
        dead.socket.transport.abort()


@pytest.mark.parametrize("path", ["/", "/v1/stream/", "/v2/stream", "/ws"])
async def test_there_is_one_path_for_streams(tmp_path: Path, path: str) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"ws://127.0.0.1:{site.port}{path}", proxy=None)
        assert caught.value.response.status_code == 404


async def test_a_web_page_that_is_not_on_the_list_cannot_connect(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        url = f"ws://127.0.0.1:{site.port}/v1/stream"
        with pytest.raises(InvalidStatus) as caught:
            await connect(url, proxy=None, additional_headers={"Origin": "https://evil.example"})
        assert caught.value.response.status_code == 403


async def test_an_address_that_connects_too_often_waits(tmp_path: Path) -> None:
    rates = harness.Rates(connections=0.1)
    async with harness.running(tmp_path, harness.hospital(), rates=rates) as site:
        for _ in range(5):
            await site.socket()
        with pytest.raises(InvalidStatus) as caught:
            await site.socket()
        assert caught.value.response.status_code == 429


async def test_a_text_message_ends_the_connection(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        client = await site.client(site.hospital.enrol("ann/phone"))
        await client.socket.send("text")
        assert (await client.closed()).code == Code.MALFORMED


async def test_a_fragmented_message_is_one_message(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        ann = await site.open(site.hospital.enrol("ann/phone"))
        data = ann.session.send(frames.Lookup(ref=7, users=("ann",)))
        await ann.socket.send([data[:3], data[3:]])
        found = await ann.expect(frames.Directory)
        assert [entry.device for entry in found.devices] == ["ann/phone"]
        assert found.devices[0].certificate == ann.person.certificate


async def test_draining_tells_every_client_to_come_back(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        ann = await site.open(site.hospital.enrol("ann/phone"))
        await site.listener.drain()
        assert (await ann.closed()).code == Code.DRAINING
