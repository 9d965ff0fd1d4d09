"""An administrator's desk: password, authenticator, and what is ordered from it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from dataclasses import replace

from client.errors import ClosedError
from client.link import Address, Credentials, Link
from crypto.certificate import decode_certificate
from crypto.enrolment import create_request
from crypto.tls_certificate import tls_pin
from protocol import frames
from server import passwords
from tests.client.relay import credentials_of
from tests.scenarios.process import Installation
from tests.server.harness import Person, now_ms

PASSWORD = "the ward's old kettle whistles"


WITHIN_S, LOOK_S = 60.0, 0.5

AHEAD_MS = 15_000
"""How long a code must still be taken once it is shown: the relay's answers take a while."""


class Desk:
    """The administrator's password and authenticator."""

    def __init__(self) -> None:
        self.secret = b""
        self._step = 0

    async def code(self) -> str:
        """Return a code that was not used before."""
        while True:
            soon_ms = now_ms() + AHEAD_MS
            step = max(self._step + 1, soon_ms // passwords.TOTP_STEP_MS - 1)
            if step <= now_ms() // passwords.TOTP_STEP_MS + 1:
                self._step = step
                return passwords.totp(self.secret, step=step)
            await asyncio.sleep(1)

    def take(self, secret: str) -> None:
        """Take the authenticator's secret as a program shows it, base32."""
        self.secret = base64.b32decode(secret + "=" * (-len(secret) % 8))

    async def set_up(self, person: Person, at: Installation) -> None:
        """Set a password with the relay, as whoever renews a certificate can."""
        # The relay lets renew whose device it knows: one that has come once.
        await (await Link.open(address_of(at), credentials_of(person))).close()
        proof = decode_certificate(person.certificate, root=at.hospital.root).proof
        request = create_request(
            person.keys,
            organisation=at.hospital.id,
            statement=proof.statement,
            binding=proof.binding,
            at_ms=now_ms(),
        )
        credentials = replace(credentials_of(person, locked=True), request=request)
        link = await _known(address_of(at), credentials)
        provisioned = await link.ask(lambda ref: frames.Enrol(ref=ref, password=PASSWORD))
        assert isinstance(provisioned, frames.Provisioned)
        self.secret = provisioned.totp_secret
        code = await self.code()
        await link.ask(lambda ref: frames.ConfirmEnrolment(ref=ref, code=code))
        await link.close()


async def _known(address: Address, credentials: Credentials) -> Link:
    """Return a connection of somebody of whom the archive may yet have to tell the relay."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            with contextlib.suppress(ClosedError):
                return await Link.open(address, credentials)
            await asyncio.sleep(LOOK_S)


def address_of(at: Installation) -> Address:
    pin = tls_pin((at.data / "tls.pem").read_bytes())
    return Address(host="127.0.0.1", port=at.port, tls_pin=pin, organisation=at.hospital.id)
