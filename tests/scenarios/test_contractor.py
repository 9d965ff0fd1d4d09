"""A contractor's time ends by itself, and comes back by two administrators' word."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from archive import configuration
from archive.running import serve
from client import administration
from crypto.certificate import DAY_MS, fingerprint
from crypto.ed25519 import SigningKey
from crypto.enrolment import DeviceKeys, create_request
from crypto.names import Role
from crypto.proof import bind_invitation
from crypto.statement import Purpose, countersign_statement
from crypto.trust import CLOCK_SKEW_MS
from protocol.identifiers import DeviceId
from tests.scenarios.blackbox import Organisation, hospital_without_archive, published
from tests.scenarios.test_archive import Device, gathered
from tests.server.harness import Person, now_ms

CONTRACT_MS = 200_000
"""How long, in ms, the contractor still counts: long enough to come in on any machine, and less
than a relay takes an archive's clock to be ahead."""


def contractor(of: Organisation, *, left_ms: int) -> Person:
    """Return a contractor's phone that was certified a while ago and counts ``left_ms`` more."""
    at_ms = now_ms() - 2 * CLOCK_SKEW_MS
    keys = DeviceKeys(
        user="cy",
        device="phone",
        signature_key=SigningKey.generate(),
        connection_key=SigningKey.generate(),
    )
    authority = of.archive.authority
    made = authority.invite(
        "cy",
        [Role.CLINICIAN],
        at=configuration.address(of.archive.settings.relay),
        now_ms=at_ms,
        ends_ms=now_ms() - CLOCK_SKEW_MS + left_ms,
    )
    request = create_request(
        keys,
        organisation=of.id,
        statement=made.statement,
        binding=bind_invitation(made.statement, claim=keys.claim, key=made.link.key),
        at_ms=at_ms,
    )
    authority.certify(request, now_ms=at_ms)
    return of.certify(keys, request)  # A repeat gets the same certificate.


def back_at_work(of: Organisation, *, ends_ms: int) -> Person:
    """Return the contractor's new device, which two administrators let in until a new date."""
    keys = DeviceKeys(
        user="cy",
        device="back",
        signature_key=SigningKey.generate(),
        connection_key=SigningKey.generate(),
    )
    former = of.trust.devices[fingerprint(of.people[DeviceId("cy/phone")].certificate)]
    act = administration.approve_device(keys.claim, of=former, ends_ms=ends_ms)
    ada, bo = (of.people[DeviceId(f"{user}/desk")] for user in ("ada", "bo"))
    first = of.signed(
        act.kind, act.body, by=ada.signatory(Purpose.ADMINISTRATOR), lifetime_ms=DAY_MS
    )
    both = countersign_statement(
        first, trust=of.trust, at_ms=now_ms(), signatory=bo.signatory(Purpose.ADMINISTRATOR)
    )
    request = create_request(keys, organisation=of.id, statement=both, binding=b"", at_ms=now_ms())
    return of.certify(keys, request)


async def test_a_contractors_leaf_goes_at_the_end_date_and_comes_back_with_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archive.steward.SCAN_MS", 500)
    ahead_ms = 0
    names = ["ann/phone", "ben/phone"]
    async with hospital_without_archive(tmp_path, names) as (organisation, at, archive):
        phone = contractor(organisation, left_ms=CONTRACT_MS)
        task = asyncio.create_task(serve(archive, clock=lambda: now_ms() + ahead_ms))
        await published(organisation, at, archive)
        (ann, ben, _), conversation = await gathered(at, *names, phone.name)
        await ann.told(conversation, b"all three")
        assert len(ann.talks[conversation].mls.members) == 4
        assert ann.talks[conversation].mls.epoch == 1
        # Nobody revokes anything: the date alone is what comes, by the archive's clock.
        ahead_ms = CONTRACT_MS
        await ann.reaches(conversation, 2)
        assert not archive.authority.trust.revocations.devices
        assert len(ann.talks[conversation].mls.members) == 3
        back = Device(back_at_work(organisation, ends_ms=now_ms() + DAY_MS), at)
        await back.connect()
        await back.publish(5)
        await ben.reaches(conversation, 3)
        await back.joins(conversation)
        await back.reaches(conversation, 3)
        await ben.told(conversation, b"welcome back")
        await back.sees(conversation, b"welcome back")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
