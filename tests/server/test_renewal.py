"""Certificates that were renewed: what was signed under them goes on counting, as with clients."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from crypto.certificate import fingerprint
from crypto.names import Role
from crypto.revocation import encode_revocations
from crypto.statement import Purpose, StatementType
from crypto.trust import Revocations
from protocol import frames
from protocol.commands import SetPolicy
from protocol.policy import Policy
from tests.server import harness
from tests.server.test_accounts import new_keys
from tests.server.test_control import administrator, signed, submit


@pytest.mark.parametrize("revoked", [False, True])
async def test_what_was_signed_under_a_renewed_certificate_counts_over_a_restart_unless_revoked(
    tmp_path: Path, revoked: bool
) -> None:
    of = harness.hospital()
    keys = new_keys("chief", "desk")
    request = of.request(keys, *of.invitation("chief", Role.ADMINISTRATOR))
    before = of.certify(keys, request)
    async with harness.running(tmp_path, of) as site:
        await site.open(before)
    renewed = of.certify(keys, request)
    body = SetPolicy(policy=Policy(version=1)).encode()
    async with harness.running(tmp_path, of) as site:
        await site.open(renewed)
        old = fingerprint(before.certificate)
        if revoked:
            listed = encode_revocations(Revocations(number=1, certificates={old: 1}))
            revocations = signed(site, StatementType.REVOCATION_LIST, listed, of.signatory())
            recorder = await site.open(of.people[harness.RECORDER])
            assert isinstance(await submit(recorder, revocations), frames.Done)
        statement = signed(
            site, StatementType.COMMAND, body, before.signatory(Purpose.ADMINISTRATOR)
        )
    async with harness.running(tmp_path, of) as site:
        answer = await submit(await administrator(site, "chief/desk"), statement)
        assert isinstance(answer, frames.Refused if revoked else frames.Done)


async def test_an_older_certificate_that_comes_late_is_known_and_takes_no_ones_place(
    tmp_path: Path,
) -> None:
    of = harness.hospital()
    keys = new_keys("bob", "phone")
    request = of.request(keys, *of.invitation("bob", Role.CLINICIAN))
    older = of.certify(keys, request)
    await asyncio.sleep(1.1)  # Certificates have dates in whole seconds.
    newer = of.certify(keys, request)
    async with harness.running(tmp_path, of) as site:
        await site.open(newer)
        await site.open(older)
    async with harness.running(tmp_path, of) as site:
        organisation = site.relay.organisations[of.id]
        assert organisation.devices[older.name].certificate == newer.certificate
        assert fingerprint(older.certificate) in organisation.trust.devices
