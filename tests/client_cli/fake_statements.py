"""Statements of a device without relay: signed by staff, and kept in lists where handed in."""

from __future__ import annotations

from dataclasses import dataclass, field

from client.errors import RefusedError
from client.words import Purpose
from crypto.statement import countersign_statement
from crypto.statement_types import StatementType
from tests.crypto.hospital import NOW_MS, Staff

STAFF = Staff()


@dataclass
class FakeStatements:
    """What ``ada`` signs, and ``bob`` after her.

    Attributes:
        refusals: What the relay answers to the next submissions, in order.
        submitted: Statements that were handed in.
        authenticated: Passwords and codes that were proved.
    """

    refusals: list[RefusedError] = field(default_factory=list)
    submitted: list[bytes] = field(default_factory=list)
    authenticated: list[tuple[str, str]] = field(default_factory=list)

    def sign(
        self, kind: StatementType, body: bytes, purpose: Purpose, *, lifetime_ms: int | None = None
    ) -> bytes:
        signatory = STAFF.ada.signs_as(purpose)
        return STAFF.state(kind, body, signatory, lifetime_ms=lifetime_ms)

    async def countersign(self, statement: bytes, purpose: Purpose) -> bytes:
        return countersign_statement(
            statement, trust=STAFF.trust, at_ms=NOW_MS, signatory=STAFF.bob.signs_as(purpose)
        )

    async def authenticate(self, password: str, code: str) -> None:
        self.authenticated.append((password, code))

    async def submit(self, statement: bytes) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.submitted.append(statement)

    async def request(
        self, body: bytes, *, kind: StatementType = StatementType.DEVICE_REQUEST
    ) -> None:
        await self.submit(self.sign(kind, body, Purpose.DEVICE))
