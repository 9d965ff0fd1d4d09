"""What a person asks for themself: quiet, a shift handed on or taken, a lost device suspended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crypto.statement import Purpose, StatementType, statement_type, verify_statement
from protocol.errors import Code
from server import control, posts
from server.answers import Refusal

if TYPE_CHECKING:
    from server.connection import Connection
    from server.relay import Relay


async def take_request(relay: Relay, connection: Connection, statement: bytes) -> None:
    """Take a device's request as a command is taken: once, in the log exactly if it is in force.

    Raises:
        Refusal: It is none, somebody was first, or it was taken before.
        CryptoError: It is not what it should be, or another device's.
        StoreError: The store refuses it or failed.
    """
    kind = statement_type(statement)
    if kind not in (StatementType.DEVICE_REQUEST, StatementType.SUSPENSION):
        raise Refusal(Code.INVALID)
    wait_ms = relay.personal_wait_ms(connection, kind)
    if wait_ms:
        raise Refusal(Code.RATE_LIMITED, wait_ms)
    organisation, at_ms = connection.organisation, relay.now_ms()
    verified = verify_statement(statement, expected=kind, trust=organisation.trust, at_ms=at_ms)
    posts.check_signer(connection, verified)
    if verified.signers[0].purpose is not Purpose.DEVICE:
        # What somebody signs as an administrator is handed in as a command, proved anew.
        raise Refusal(Code.FORBIDDEN)
    by = connection.device_id
    await control.take_in(relay, organisation, statement, at_ms=at_ms, by=by)
