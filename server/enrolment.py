"""Enrolment: a new device proves its request, its person sets or proves a password.

The request names both keys of the device and carries the statement that allows it; the relay
checks them as the authority will, so that nobody without an invitation reaches the authority, and
hands the request on. The certificate comes back through the device's inbox.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from msgspec.structs import replace

from crypto import ed25519
from crypto.enrolment import CertificateRequest, verify_request
from crypto.errors import VerificationError
from crypto.proof import verify_proof
from crypto.statement import StatementType, statement_type
from protocol.audit import EventKind
from protocol.errors import Code
from protocol.frames import (
    Challenge,
    ConfirmEnrolment,
    Enrol,
    Enrolling,
    Frame,
    Hello,
    Prove,
    Provisioned,
)
from protocol.identifiers import DeviceId, UserName, inbox_log
from protocol.inbox import Item, ItemKind
from protocol.proof import connection_proof
from server import accounts, invitations, passwords, posts
from server.answers import Refusal, answer, answered
from server.directory import Organisation
from server.secrets import Account
from server.store import (
    CreateLog,
    LogKey,
    Reader,
)

if TYPE_CHECKING:
    from server.connection import Connection
    from server.relay import Relay


@dataclass(slots=True, kw_only=True, repr=False)
class Enrolment:
    """How far a device has come.

    Attributes:
        user: The person.
        asked: What the device asks.
        request: The same, to be handed on.
        account: What is to be kept once a one-time code has shown that it works.
        proved: Whether the password of an existing account was right.
    """

    user: UserName
    asked: CertificateRequest
    request: bytes = field(repr=False)
    account: Account | None = None
    proved: bool = False


async def begin(
    relay: Relay, connection: Connection, organisation: Organisation, proof: Prove
) -> None:
    """Let a device begin to enrol, or wait for its certificate.

    Raises:
        CryptoError: The request or the proof is not what it should be.
    """
    opening = cast("Hello", connection.hello)
    now_ms = relay.now_ms()
    asked = verify_request(opening.request, trust=organisation.trust, at_ms=now_ms)
    device = DeviceId(f"{asked.claim.user}/{asked.claim.device}")
    if device != opening.device:
        raise VerificationError
    ed25519.verify(
        public_key=asked.claim.connection_key,
        message=connection_proof(opening, cast("Challenge", connection.challenge)),
        signature=proof.connection_signature,
    )
    _check_allowed(organisation, device, asked, now_ms=now_ms)
    connection.organisation, connection.device_id = organisation, device
    connection.enrolment = Enrolment(
        user=UserName(asked.claim.user), asked=asked, request=opening.request
    )
    connection.send(Enrolling(root=organisation.trust.root.der))
    relay.delivery.join(connection)
    connection.begin()


def _check_allowed(
    organisation: Organisation, device: DeviceId, asked: CertificateRequest, *, now_ms: int
) -> None:
    """Check that a statement allows a new device, or that a known one renews its certificate.

    An invitation that was used, or withdrawn with its person, allows none whoever has its link.

    Raises:
        CryptoError: Neither is so.
    """
    known = organisation.devices.get(device)
    if known is None:
        verify_proof(
            asked.claim,
            statement=asked.statement,
            binding=asked.binding,
            trust=organisation.trust,
            at_ms=now_ms,
        )
        invited = statement_type(asked.statement) is StatementType.INVITATION
        if invited and not invitations.stands(organisation, asked.statement):
            raise VerificationError
        return
    keys = (known.identity.signature_key, known.identity.connection_key)
    ended = known.suspended or organisation.is_revoked(known)
    if ended or keys != (asked.claim.signature_key, asked.claim.connection_key):
        raise VerificationError


def enrol(relay: Relay, connection: Connection, frame: Frame) -> None:
    """Take a password: a new account's first, or proof of an old one's."""
    asked = cast("Enrol", frame)
    work = _enrol(relay, connection, asked)
    connection.spawn(answered(relay, connection, asked.ref, work), ref=asked.ref)


async def _enrol(relay: Relay, connection: Connection, asked: Enrol) -> Provisioned:
    secret = await _password(relay, connection, asked.password)
    return Provisioned(ref=asked.ref, totp_secret=secret)


async def _password(relay: Relay, connection: Connection, password: str) -> bytes:
    organisation, state = connection.organisation, cast("Enrolment", connection.enrolment)
    _check_allowed(organisation, connection.device_id, state.asked, now_ms=relay.now_ms())
    account = await accounts.counted(relay, organisation, state.user)
    if account is not None:
        if not await accounts.check_password(password, account.password_hash):
            relay.audit(organisation, EventKind.PASSWORD_WRONG)
            raise Refusal(Code.WRONG_SECRET, accounts.wait_after_ms(account.failures))
        state.proved = True
        return b""
    if not passwords.is_acceptable(password, user=state.user):
        raise Refusal(Code.INVALID)
    state.account = Account(
        password_hash=await accounts.hash_password(password),
        totp_secret=passwords.new_totp_secret(),
    )
    return state.account.totp_secret


def confirm(relay: Relay, connection: Connection, frame: Frame) -> None:
    """Take a one-time code, keep the account, and hand the request on to the authority."""
    asked = cast("ConfirmEnrolment", frame)
    work = _confirm(relay, connection, asked.code)
    connection.spawn(answer(relay, connection, asked.ref, work), ref=asked.ref)


async def _confirm(relay: Relay, connection: Connection, code: str) -> None:
    organisation, state = connection.organisation, cast("Enrolment", connection.enrolment)
    device = connection.device_id
    async with organisation.changes:
        _check_allowed(organisation, device, state.asked, now_ms=relay.now_ms())
        kept = await relay.secrets.account(organisation.id, state.user)
        account = kept if state.proved else state.account
        if account is None or (kept is not None and not state.proved):
            raise Refusal(Code.INVALID)
        step = passwords.match_totp(
            account.totp_secret,
            code,
            last_step=account.totp_last_step,
            now_ms=relay.now_ms(),
        )
        if step is None:
            # A further guess at an existing account's code costs a counted try of its password.
            state.proved = False
            relay.audit(organisation, EventKind.PASSWORD_WRONG)
            raise Refusal(Code.WRONG_SECRET, accounts.wait_after_ms(account.failures))
        proved = replace(account, failures=0, retry_at_ms=0, totp_last_step=step)
        await relay.secrets.put_account(organisation.id, state.user, proved, was=kept)
        inbox = LogKey(organisation.id, inbox_log(device))
        await relay.store.change(CreateLog(inbox, readers=[Reader(device=device)]))
    for recorder in organisation.recorders():
        key = LogKey(organisation.id, inbox_log(recorder))
        item = Item(kind=ItemKind.REQUEST, body=state.request)
        await posts.append_own(relay, key, item.encode())
    relay.audit(organisation, EventKind.ENROLLED, device=device)
    connection.begin()
