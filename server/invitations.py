"""Invitations, for those whom they invite: the signed statement for a proof of its key.

The link that a person scans holds the key's seed and not the statement, which names it. So the
relay keeps each statement by the invitation's public key, until it is used, withdrawn or ended, and
gives it to who signs with that key; whoever cannot is told nothing. One that it does not keep lets
nobody begin to enrol, who may have fetched it before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from crypto import ed25519
from crypto.errors import CryptoError
from crypto.invitation import decode_invitation
from crypto.statement import StatementType, VerifiedStatement, claimed_statement, statement_type
from protocol.identifiers import OrganisationId, UserName
from protocol.limits import CLOCK_SKEW_MS
from protocol.proof import invitation_proof
from server.directory import INVITATION, Organisation
from server.store import Fact

if TYPE_CHECKING:
    from server.relay import Relay

PATH = "/v1/invitations/{organisation}/{key}"
PROOF = "wardline-proof"
"""Header: the time in ms since the epoch, a colon, the signature in hexadecimal."""

_TIME_BYTES = 8
_TIME_DIGITS = 15


def facts(
    organisation: Organisation, verified: VerifiedStatement, statement: bytes, *, now_ms: int
) -> tuple[Fact, ...]:
    """Return what keeps an invitation, and lets go of those that have ended.

    Raises:
        DecodeError: The body is no invitation.
        InvalidError: A field breaks its rule.
    """
    key = decode_invitation(verified.body).invitation_key
    until = verified.replay_until_ms.to_bytes(_TIME_BYTES, "big")
    ended = [old for old, kept in organisation.invitations.items() if _until_ms(kept) < now_ms]
    gone = tuple(Fact(key=INVITATION + old, value=None) for old in ended)
    return (*gone, Fact(key=INVITATION + key, value=until + statement))


def withdrawing(organisation: Organisation, user: UserName) -> tuple[Fact, ...]:
    """Return what lets go of every invitation of a person that was not used yet."""
    statements = {old: kept[_TIME_BYTES:] for old, kept in organisation.invitations.items()}
    return tuple(
        Fact(key=INVITATION + old, value=None)
        for old, statement in statements.items()
        if decode_invitation(claimed_statement(statement).body).user == user
    )


def stands(organisation: Organisation, statement: bytes) -> bool:
    """Tell whether an invitation is kept: neither used, nor withdrawn, nor ended."""
    key = decode_invitation(claimed_statement(statement).body).invitation_key
    return organisation.invitations.get(key, b"")[_TIME_BYTES:] == statement


def used(organisation: Organisation, statement: bytes) -> tuple[Fact, ...]:
    """Return what lets go of the invitation that has let a device in, if one has."""
    if statement_type(statement) is not StatementType.INVITATION:
        return ()
    key = decode_invitation(claimed_statement(statement).body).invitation_key
    return (Fact(key=INVITATION + key, value=None),) if key in organisation.invitations else ()


def apply(organisation: Organisation, changed: tuple[Fact, ...]) -> None:
    """Make in memory what the facts say."""
    for fact in changed:
        key = fact.key[len(INVITATION) :]
        if fact.value is None:
            organisation.invitations.pop(key, None)
        else:
            organisation.invitations[key] = fact.value


def endpoint(relay: Relay) -> Callable[[Request], Awaitable[Response]]:
    """Return what answers a request for an invitation."""

    async def give(request: Request) -> Response:
        peer = request.client.host if request.client else ""
        address = relay.address_of(peer, ",".join(request.headers.getlist("X-Forwarded-For")))
        if relay.connection_wait_ms(address):
            return Response(status_code=429)
        try:
            return Response(_proved(relay, request), media_type="application/octet-stream")
        except (CryptoError, ValueError, KeyError):
            relay.unproved(address, None)
            return Response(status_code=404)

    return give


def _proved(relay: Relay, request: Request) -> bytes:
    """Return the statement that a request proves to be for.

    Raises:
        CryptoError: It proves nothing.
        ValueError: It is malformed, or too old.
        KeyError: There is no such organisation or invitation.
    """
    organisation = relay.organisations[OrganisationId(_hexadecimal(request, "organisation"))]
    key = _hexadecimal(request, "key")
    time, _, signature = request.headers.get(PROOF, "").partition(":")
    at_ms = _number(time)
    now_ms = relay.now_ms()
    if abs(now_ms - at_ms) > CLOCK_SKEW_MS:
        raise ValueError("an old proof")
    message = invitation_proof(organisation=organisation.id, pin=relay.pin, at_ms=at_ms)
    ed25519.verify(public_key=key, message=message, signature=bytes.fromhex(signature))
    kept = organisation.invitations[key]
    if _until_ms(kept) < now_ms or organisation.owed is not None:
        raise KeyError(key)
    return kept[_TIME_BYTES:]


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > _TIME_DIGITS:
        raise ValueError("no time")
    return int(text)


def _hexadecimal(request: Request, name: str) -> bytes:
    return bytes.fromhex(request.path_params[name])


def _until_ms(kept: bytes) -> int:
    return int.from_bytes(kept[:_TIME_BYTES], "big")
