"""The archive's authority as an enrolling device meets it: a recorder that answers requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from crypto.ed25519 import SigningKey
from crypto.enrolment import issue_certificate, verify_request
from crypto.identity import admit
from crypto.invitation import Invitation, InvitationLink, create_link
from crypto.names import Role
from crypto.statement import StatementType
from protocol import frames
from protocol.identifiers import DeviceId, inbox_log
from protocol.inbox import ItemKind, decode_item
from server import control
from tests.client.relay import PIN
from tests.server import harness
from tests.server.harness import Client, Hospital, Site, now_ms


def invitation(
    site: Site, user: str, *roles: Role, lifetime_ms: int = 3600_000
) -> tuple[InvitationLink, bytes]:
    """Return a link, and the statement that its administrator signs for it."""
    link = create_link(host="127.0.0.1", port=site.port, tls_pin=PIN, organisation=site.hospital.id)
    body = Invitation(
        invitation_key=link.key.public_key,
        user=user,
        roles=frozenset(roles or (Role.CLINICIAN,)),
        ends_ms=None,
    ).encode()
    statement = site.hospital.signed(
        StatementType.INVITATION, body, by=site.hospital.signatory(), lifetime_ms=lifetime_ms
    )
    return link, statement


async def invite(site: Site, user: str, *roles: Role, lifetime_ms: int = 3600_000) -> str:
    """Invite somebody, and return the link's text."""
    link, statement = invitation(site, user, *roles, lifetime_ms=lifetime_ms)
    await submit(site, statement)
    return link.encode()


async def submit(site: Site, statement: bytes) -> None:
    """Have a signed command take effect."""
    organisation = site.relay.organisations[site.hospital.id]
    await control.take_in(site.relay, organisation, statement, at_ms=site.relay.now_ms())


class Authority:
    """Issues a certificate once for each claim, and sends it again to who asks again.

    Attributes:
        asked: How many requests came.
    """

    def __init__(self, of: Hospital) -> None:
        self._of = of
        self._issued: dict[bytes, bytes] = {}
        self.asked = 0

    async def serve(self, recorder: Client) -> None:
        while True:
            entry = await recorder.expect(frames.Deliver, lambda e: e.log[:1] == b"i")
            item = decode_item(entry.body)
            if item.kind is not ItemKind.REQUEST:
                continue
            self.asked += 1
            claim = verify_request(item.body, trust=self._of.trust, at_ms=now_ms()).claim
            certificate = self._issued.get(claim.encode()) or self._issue(item.body)
            self._issued[claim.encode()] = certificate
            log = inbox_log(DeviceId(f"{claim.user}/{claim.device}"))
            await recorder.send(
                frames.Post(ref=self.asked, log=log, statement=harness.certified(certificate))
            )
            acknowledged = frames.Acknowledge(
                log=inbox_log(recorder.person.name), through=entry.sequence
            )
            await recorder.send(acknowledged)

    def _issue(self, request: bytes) -> bytes:
        key: SigningKey = self._of.authority
        der = issue_certificate(request, trust=self._of.trust, authority=key, at_ms=now_ms())
        self._of.trust = admit(self._of.trust, [der])
        return der


@asynccontextmanager
async def certifying(site: Site) -> AsyncIterator[Authority]:
    """Have requests answered while this lasts."""
    recorder = await site.open(site.hospital.people[harness.RECORDER])
    authority = Authority(site.hospital)

    async def patient() -> None:
        while True:
            with suppress(TimeoutError):
                await authority.serve(recorder)

    serving = asyncio.create_task(patient())
    try:
        yield authority
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving
