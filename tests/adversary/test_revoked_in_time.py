"""A session ends with the device's right to it, at whatever moment that ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from crypto.attachment_layout import STREAM_SIZES
from crypto.names import Role
from crypto.statement import Purpose, StatementType
from protocol import frames
from protocol.commands import SetHolders, Suspension
from protocol.errors import Code
from protocol.identifiers import DeviceId, RoleName, UserName, inbox_log
from protocol.proof import connection_proof
from server import program
from server.attachments import PATH
from tests.adversary.witness import closing
from tests.server import harness
from tests.server.harness import Client, Person, Site
from tests.server.test_accounts import DAY_MS, PASSWORD, code, enrolled
from tests.server.test_control import administrator, signed, submit, wipe
from tests.waiting import WITHIN_S, comes_true


async def suspend(site: Site, chief: Client, device: DeviceId) -> None:
    body = Suspension(devices=(device,), lifted=False).encode()
    signatory = chief.person.signatory(Purpose.ADMINISTRATOR)
    statement = signed(site, StatementType.SUSPENSION, body, signatory)
    assert isinstance(await submit(chief, statement), frames.Done)


async def destroy(site: Site, chief: Client, person: Person) -> None:
    order = wipe(site, chief.person, person, complete=True)
    assert isinstance(await submit(chief, order), frames.Done)


@pytest.mark.parametrize("destroyed", [False, True])
async def test_a_device_that_ended_while_its_person_was_asked_for_does_not_open(
    tmp_path: Path, destroyed: bool
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        person, secret = await enrolled(site)
        await site.open(person)
        site.later_ms += 31 * DAY_MS
        ann = await site.client(person)
        await ann.greet()
        assert isinstance(await ann.prove(), frames.Absent)
        chief = await administrator(site)
        if destroyed:
            await destroy(site, chief, person)
        else:
            await suspend(site, chief, person.name)
        one_time = code(site, secret)
        await ann.send(frames.Authenticate(ref=1, password=PASSWORD, code=one_time))
        assert closing(await ann.receive()) is Code.REVOKED
        assert not site.relay.tokens._holders.keys() & {ann.token}


def queued(lock: asyncio.Lock) -> int:
    """Return how many wait for a lock."""
    return len(getattr(lock, "_waiters", None) or ())


async def test_a_suspension_outlives_a_visit_that_was_under_way(tmp_path: Path) -> None:
    of = harness.hospital()
    async with harness.running(tmp_path, of) as site:
        ann = await site.open(of.enrol("ann/phone"))
        chief = await administrator(site)
        site.later_ms += 2 * DAY_MS
        site.connection(chief).strong_until_s = float("inf")
        organisation = site.relay.organisations[of.id]
        again = await site.client(ann.person)
        await again.greet()
        async with organisation.changes:
            # The command is first in the queue, the visit's note of the day behind it.
            body = Suspension(devices=(ann.person.name,), lifted=False).encode()
            signatory = chief.person.signatory(Purpose.ADMINISTRATOR)
            statement = signed(site, StatementType.SUSPENSION, body, signatory)
            await chief.send(frames.Command(ref=77, statement=statement))
            await comes_true(lambda: queued(organisation.changes) == 1)
            proving = asyncio.create_task(again.prove())
            await comes_true(lambda: queued(organisation.changes) == 2)
        answer = await proving
        await chief.expect(frames.Done, lambda done: done.ref == 77)
        assert organisation.devices[ann.person.name].suspended
        assert not isinstance(answer, frames.Opened | frames.Locked)
    async with harness.running(tmp_path, of) as site:
        third = await site.client(of.people["ann/phone"])
        await third.greet()
        assert isinstance(await third.prove(), frames.Ordered)


async def test_a_connection_that_ended_during_its_proof_takes_nobodys_place(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        ann = await site.open(site.hospital.enrol("ann/phone"))
        tokens = len(site.relay.tokens._holders)
        hasty = await site.client(ann.person)
        await hasty.greet()
        site_end = next(s for s in site.relay.keeper.streams if not s.proved)
        connection = site_end._connection
        assert connection is not None
        assert hasty.hello is not None
        assert hasty.challenge is not None
        proof = connection_proof(hasty.hello, hasty.challenge)
        prove = frames.Prove(
            connection_signature=ann.person.keys.connection_key.sign(proof),
            device_signature=hasty.device_signature(),
        )
        # Both frames in one turn of the relay's loop, as one segment brings them.
        connection.receive(frames.encode(prove))
        connection.receive(b"\xff")
        await site.relay.settled()
        assert site.connection(ann) is not connection
        assert len(site.relay.tokens._holders) == tokens
        await ann.answer(lambda ref: frames.Lookup(ref=ref, users=()))


async def test_a_suspended_device_cannot_renew_and_sees_no_inbox(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        person = site.hospital.enrol("ann/phone")
        statement, seed = site.hospital.invitation("ann", Role.CLINICIAN)
        ann = await site.open(person)
        chief = await administrator(site)
        await suspend(site, chief, person.name)
        request = site.hospital.request(person.keys, statement, seed)
        again = await site.client(person)
        await again.greet(certificate=b"", request=request)
        assert closing(await again.prove(unlocked=False)) is Code.NOT_PROVED
        assert (await ann.closed()).code == Code.REVOKED


async def test_no_token_outlives_its_connection(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        ann = await site.open(site.hospital.enrol("ann/phone"))
        assert site.relay.tokens.holder(ann.token) is not None
        await ann.socket.close()
        await comes_true(lambda: not site.relay.tokens._holders)
        assert site.relay.tokens.holder(ann.token) is None


@pytest.mark.parametrize("lifting", [False, True])
async def test_what_waits_behind_a_suspension_has_no_effect(tmp_path: Path, lifting: bool) -> None:
    """A stolen administrator's device that goes on lifting its own suspension stays suspended."""
    async with harness.running(tmp_path, harness.hospital()) as site:
        chief, stolen = await administrator(site), await administrator(site, "deputy/desk")
        organisation = site.relay.organisations[site.hospital.id]
        own = Suspension(devices=(stolen.person.name,), lifted=False).encode()
        statement = signed(
            site, StatementType.SUSPENSION, own, chief.person.signatory(Purpose.ADMINISTRATOR)
        )
        if lifting:
            kind = StatementType.SUSPENSION
            body = Suspension(devices=(stolen.person.name,), lifted=True).encode()
        else:
            kind = StatementType.COMMAND
            body = SetHolders(role=RoleName("icu"), users=(UserName("deputy"),)).encode()
        hasty = signed(site, kind, body, stolen.person.signatory(Purpose.ADMINISTRATOR))
        async with organisation.changes:
            await chief.send(frames.Command(ref=77, statement=statement))
            await comes_true(lambda: queued(organisation.changes) == 1)
            await stolen.send(frames.Command(ref=78, statement=hasty))
            await comes_true(lambda: queued(organisation.changes) == 2)
        await chief.expect(frames.Done, lambda done: done.ref == 77)
        await site.relay.settled()
        assert organisation.devices[stolen.person.name].suspended
        assert not organisation.holders
        assert (await stolen.closed()).code == Code.REVOKED


async def test_a_session_ends_with_its_certificate_by_two_clocks_and_not_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "OUTDATED_LOOK_S", 0.01)
    async with harness.running(tmp_path, harness.hospital()) as site:
        ann = await site.open(site.hospital.enrol("ann/phone"))
        bob = await site.open(site.hospital.enrol("bob/phone"))
        locked = await site.client(site.hospital.enrol("cat/phone"))
        await locked.greet()
        assert isinstance(await locked.prove(unlocked=False), frames.Locked)
        relay, awake = site.relay, site.relay.awake_ms
        looks = program.loop_tasks(relay)
        # A wall clock that is set ahead sends nobody away, and neither does one that is set back.
        for jump_ms in (400 * DAY_MS, -800 * DAY_MS, 491 * DAY_MS):
            site.later_ms += jump_ms
            relay.end_outdated()
            await ann.answer(lambda ref: frames.Lookup(ref=ref, users=()))
        # Bob's was renewed meanwhile.
        organisation = relay.organisations[site.hospital.id]
        known = organisation.devices[bob.person.name]
        later = replace(known.identity, not_after_ms=known.identity.not_after_ms + 90 * DAY_MS)
        organisation.keep(replace(known, identity=later))
        monkeypatch.setattr(relay, "awake_ms", lambda: awake() + 91 * DAY_MS)
        assert (await ann.closed()).code == Code.OUTDATED
        assert (await locked.closed()).code == Code.OUTDATED
        assert relay.tokens.holder(ann.token) is None
        await bob.answer(lambda ref: frames.Lookup(ref=ref, users=()))
        for look in looks:
            look.cancel()


async def test_who_proves_their_person_after_the_end_of_their_certificate_does_not_open(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        person, secret = await enrolled(site)
        await site.open(person)
        site.later_ms += 31 * DAY_MS
        ann = await site.client(person)
        await ann.greet()
        assert isinstance(await ann.prove(), frames.Absent)
        waited = site.relay.awake_ms() + 60 * DAY_MS
        site.later_ms += 60 * DAY_MS
        site.relay.awake_ms = lambda: waited  # type: ignore[method-assign]
        await ann.send(frames.Authenticate(ref=1, password=PASSWORD, code=code(site, secret)))
        assert closing(await ann.receive()) is Code.OUTDATED


async def test_the_order_of_a_wiped_device_waits_for_it_beyond_its_certificate(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        person = site.hospital.enrol("ann/phone")
        await site.open(person)
        chief = await administrator(site)
        await destroy(site, chief, person)
        ended = await site.client(person)
        await ended.greet()
        assert isinstance(await ended.prove(), frames.Ordered)
        awake = site.relay.awake_ms() + 91 * DAY_MS
        site.later_ms += 91 * DAY_MS
        site.relay.awake_ms = lambda: awake  # type: ignore[method-assign]
        site.relay.end_outdated()
        assert (await ended.expect(frames.Deliver)).body
        await ended.send(frames.Acknowledge(log=inbox_log(person.name), through=0))
        assert not site.connection(ended).closed


async def test_a_piece_that_arrives_after_its_device_was_suspended_is_not_taken(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        (ann, _, _), conversation = await site.meeting("ann/phone", "bob/phone")
        chief = await administrator(site)
        bearer = {"Authorization": f"Bearer {ann.token.hex()}"}
        begun = {"Upload-Length": str(STREAM_SIZES[0]), "Wardline-Conversation": conversation.hex()}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{site.port}") as web:
            place = (await web.post(PATH, headers=bearer | begun)).headers["location"]
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        head = f"PATCH {place} HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer['Authorization']}\r\n"
        writer.write(f"{head}Upload-Offset: 0\r\nContent-Length: 1000\r\n\r\n".encode())
        writer.write(bytes(999))
        await comes_true(lambda: site.relay.pieces.total() == 1)
        await suspend(site, chief, ann.person.name)
        writer.write(bytes(1))
        assert (await asyncio.wait_for(reader.readline(), WITHIN_S)).split()[1] == b"401"
        blob = place.removeprefix(PATH + "/")
        stands = await site.relay.blobs.progress(site.hospital.id, blob, ann.person.name)
        assert stands.offset == 0
        writer.close()
