"""A session ends with the device's right to it, at whatever moment that ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from crypto.names import Role
from crypto.statement import Purpose, StatementType
from protocol import frames
from protocol.commands import Suspension
from protocol.errors import Code
from protocol.identifiers import DeviceId
from protocol.proof import connection_proof
from tests.adversary.witness import closing
from tests.server import harness
from tests.server.harness import Client, Person, Site
from tests.server.test_accounts import DAY_MS, PASSWORD, code, enrolled
from tests.server.test_control import administrator, signed, submit, wipe
from tests.waiting import comes_true


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
