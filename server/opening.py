"""How a connection is opened: hello, challenge, proof, and what the device may then do."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, cast

from crypto import ed25519
from crypto.certificate import decode_certificate
from crypto.ed25519 import SigningKey
from crypto.errors import CryptoError, VerificationError
from protocol import session
from protocol.audit import EventKind
from protocol.errors import Code, RemoteProtocolError
from protocol.frames import (
    NONCE_BYTES,
    Absent,
    Challenge,
    Frame,
    Hello,
    Locked,
    Opened,
    Ordered,
    Prove,
    Reconciling,
    Unlock,
)
from protocol.identifiers import CONTROL_LOG, DeviceId, OrganisationId, inbox_log
from protocol.proof import connection_proof, device_proof
from server import access, enrolment, invitations
from server.access import Standing
from server.directory import Admission, Device, Organisation
from server.store import (
    ChangeReaders,
    CreateLog,
    LogKey,
    PutFacts,
    Reader,
    StoreError,
)
from server.telling import Telling

if TYPE_CHECKING:
    from server.connection import Connection
    from server.relay import Relay

SEEN_MS = 24 * 3600 * 1000
"""Resolution, in ms, at which the relay keeps when a device was last there: to the day, as it is
asked for absences of weeks, and finer would be a trace of people."""

_NOBODY = SigningKey.generate().public_key
"""Connection key of who is not here: a proof takes as long as a wrong one of who is, so that the
time of a refusal tells no stranger a name."""


def hello(relay: Relay, connection: Connection, frame: Frame) -> None:
    """Answer an opening with a challenge; whether the organisation exists is not told yet."""
    opening = cast("Hello", frame)
    try:
        version = session.negotiate(opening.versions)
    except RemoteProtocolError as error:
        connection.close(error.code)
        return
    nonce = secrets.token_bytes(NONCE_BYTES)
    connection.hello = opening
    connection.challenge = Challenge(version=version, nonce=nonce, pin=relay.pin)
    connection.send(connection.challenge)


def prove(relay: Relay, connection: Connection, frame: Frame) -> None:
    """Check a proof, and let the device in as what it is."""
    connection.spawn(_prove(relay, connection, cast("Prove", frame)))


async def _prove(relay: Relay, connection: Connection, proof: Prove) -> None:
    await relay.turnstile.passed()
    if connection.closed:
        return
    opening = cast("Hello", connection.hello)
    organisation = relay.organisations.get(OrganisationId(opening.organisation))
    try:
        if organisation is None:
            raise VerificationError
        if organisation.owed is not None:
            await _reconcile(relay, connection, organisation, proof)
        elif opening.request:
            await enrolment.begin(relay, connection, organisation, proof)
        else:
            await _admit(relay, connection, organisation, proof)
    except CryptoError:
        relay.unproved(connection.stream.address, organisation)
        connection.close(Code.NOT_PROVED)
    except StoreError:
        connection.close(Code.OVERLOADED, detail=relay.pause_ms())


async def _reconcile(
    relay: Relay, connection: Connection, organisation: Organisation, proof: Prove
) -> None:
    """Hear the archive's recorder, and put everybody else off, while the relay is restored.

    Also whom the backup does not know, and without a proof, as there is nothing to check one by:
    told that it is unknown, a device would tell its person to enrol it anew.
    """
    opening = cast("Hello", connection.hello)
    known = organisation.devices.get(DeviceId(opening.device))
    if opening.certificate:
        known = organisation.admitted(opening.certificate, now_ms=relay.now_ms()).device
    if known is None:
        connection.close(Code.RECONCILING, detail=relay.pause_ms())
        return
    if known.id != opening.device:
        raise VerificationError
    check_proof(connection, proof, known)
    tells = access.may_reconcile(known.identity.roles, revoked=organisation.is_revoked(known))
    if not (tells and proof.device_signature):
        connection.close(Code.RECONCILING, detail=relay.pause_ms())
        return
    connection.organisation, connection.device_id = organisation, known.id
    connection.send(Reconciling())
    relay.tellings[organisation.id] = Telling(teller=known.id)
    relay.delivery.join(connection)


async def _admit(
    relay: Relay, connection: Connection, organisation: Organisation, proof: Prove
) -> None:
    """Let in a device that has a certificate."""
    opening = cast("Hello", connection.hello)
    known = organisation.devices.get(DeviceId(opening.device))
    if opening.certificate and (known is None or known.certificate != opening.certificate):
        known = await _take_in(relay, connection, organisation, proof)
    elif known is None:
        _check_connection(connection, proof, _NOBODY)
        raise VerificationError
    else:
        check_proof(connection, proof, known)
    connection.organisation, connection.device_id = organisation, known.id
    connection.unlocked = bool(proof.device_signature)
    now_ms = relay.now_ms()
    connection.proved_at = (now_ms, relay.awake_ms())
    stands = access.standing(
        revoked=organisation.is_revoked(known),
        suspended=known.suspended,
        valid=known.identity.is_valid_at(now_ms),
        away_ms=now_ms - known.seen_ms,
        person=access.is_person(known.identity.roles),
    )
    await _let_in(relay, connection, stands)


def check_proof(connection: Connection, proof: Prove, device: Device) -> None:
    """Check the signatures of a proof.

    Raises:
        VerificationError: One does not verify.
    """
    opening, challenge = cast("Hello", connection.hello), cast("Challenge", connection.challenge)
    _check_connection(connection, proof, device.identity.connection_key)
    if proof.device_signature:
        ed25519.verify(
            public_key=device.identity.signature_key,
            message=device_proof(opening, challenge),
            signature=proof.device_signature,
        )


def _check_connection(connection: Connection, proof: Prove, key: bytes) -> None:
    opening, challenge = cast("Hello", connection.hello), cast("Challenge", connection.challenge)
    ed25519.verify(
        public_key=key,
        message=connection_proof(opening, challenge),
        signature=proof.connection_signature,
    )


async def _take_in(
    relay: Relay, connection: Connection, organisation: Organisation, proof: Prove
) -> Device:
    """Take a device into the directory by the certificate that it shows."""
    opening = cast("Hello", connection.hello)
    async with organisation.changes:
        admission = organisation.admitted(opening.certificate, now_ms=relay.now_ms())
        device = admission.device
        if device.id != opening.device:
            raise VerificationError
        # The certificate is public: only who holds its keys brings it into the directory.
        check_proof(connection, proof, device)
        await register(relay, organisation, admission)
    return device


async def register(relay: Relay, organisation: Organisation, admission: Admission) -> None:
    """Give a device its inbox and its place in the control log, and keep its certificates."""
    device = admission.device
    inbox = LogKey(organisation.id, inbox_log(device.id))
    await relay.store.change(CreateLog(inbox, readers=[Reader(device=device.id)]))
    control = LogKey(organisation.id, CONTROL_LOG)
    roles = device.identity.roles
    if access.reads_control(roles) and device.id not in relay.store.readers(control):
        # From its beginning: a new device verifies every command there ever was.
        reader = Reader(device=device.id, expires=access.is_person(roles), after=0)
        await relay.store.change(ChangeReaders(control, add=[reader]))
    older = admission.superseded
    certificate = decode_certificate(device.certificate, root=organisation.trust.root)
    used = invitations.used(organisation, certificate.proof.statement)
    facts = [device.fact()] if older is None else [device.fact(), older.superseded_fact()]
    await relay.store.change(PutFacts(organisation.id, [*facts, *used]))
    invitations.apply(organisation, used)
    if older is not None:
        organisation.superseded[older.identity.fingerprint] = older
    organisation.trust = admission.trust
    organisation.keep(device)
    await relay.join_audit(organisation, device)


async def _let_in(relay: Relay, connection: Connection, stands: Standing) -> None:
    if connection.closed:
        return
    if stands is Standing.EXPIRED:
        connection.close(Code.OUTDATED)
    elif stands is Standing.ENDED:
        connection.send(Ordered())
        relay.delivery.join(connection)
        connection.begin()
    elif stands is Standing.ABSENT:
        connection.send(Absent())
    else:
        await seen(relay, connection)
        enter(relay, connection)


def enter(relay: Relay, connection: Connection) -> None:
    """Begin to serve a device, with content if its own key is proved.

    Time has passed since its standing was judged: a connection that waited for its person or for
    the disk is not known to ``delivery`` yet, so whoever revoked the device could not close it.
    """
    if connection.closed:
        return
    if connection.organisation.has_ended(connection.device):
        connection.close(Code.REVOKED)
        return
    if relay.is_outdated(connection):
        connection.close(Code.OUTDATED)
        return
    organisation, device = connection.organisation, connection.device_id
    older = relay.delivery.connection(organisation.id, device)
    elsewhere = older is not None and older.stream.address != connection.stream.address
    kind = EventKind.CONCURRENT_USE if elsewhere else EventKind.OPENED
    relay.opened(connection, kind)
    if connection.unlocked:
        _open(relay, connection)
    else:
        connection.send(Locked())
    relay.delivery.join(connection)
    connection.begin()
    relay.pages.greet(connection)


def _open(relay: Relay, connection: Connection) -> None:
    token = relay.tokens.issue(connection)
    last_id = relay.store.last_id(connection.organisation.id, connection.device_id)
    connection.send(Opened(token=token, now_ms=relay.now_ms(), last_id=last_id))


async def seen(relay: Relay, connection: Connection) -> None:
    """Keep that a device was here, to the day."""
    organisation, now_ms = connection.organisation, relay.now_ms()
    if abs(now_ms - connection.device.seen_ms) < SEEN_MS:
        return
    async with organisation.changes:
        # Read behind the lock: a suspension that held it is in the record that is kept.
        changed = relay.changed(connection.device, seen_ms=now_ms)
        await relay.store.change(PutFacts(organisation.id, [changed.fact()]))
        organisation.keep(changed)


def unlock(relay: Relay, connection: Connection, frame: Frame) -> None:
    """Give content to a device that has opened its store on this connection."""
    opening, challenge = cast("Hello", connection.hello), cast("Challenge", connection.challenge)
    try:
        ed25519.verify(
            public_key=connection.device.identity.signature_key,
            message=device_proof(opening, challenge),
            signature=cast("Unlock", frame).signature,
        )
    except VerificationError:
        relay.unproved(connection.stream.address, connection.organisation)
        connection.close(Code.NOT_PROVED)
        return
    _open(relay, connection)
    connection.begin()
