"""Why a device may exist: the proof in its certificate, and the check that every client makes.

A person's first device is allowed by an invitation, bound to the device by the invitation's own
key; a further one by one of the person's devices; where all are lost, by two administrators. Each
proof names the person's *origin*, the first device: a person has one, and an administrator who
invites somebody a second time, or uses an invitation twice, makes a second origin, which no client
that knows the person accepts.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from crypto import codec, ed25519, names
from crypto.certificate import FINGERPRINT_BYTES, DeviceClaim, read_claim
from crypto.codec import Reader
from crypto.ed25519 import SigningKey
from crypto.errors import InvalidError
from crypto.invitation import decode_invitation
from crypto.names import AUTHORITY_ROLES, QUORUM_ROLES, Role
from crypto.statement import (
    Purpose,
    StatementType,
    VerifiedStatement,
    labelled,
    statement_id,
    statement_type,
    verify_statement,
)
from crypto.trust import Trust

BINDING_LABEL = b"Wardline 1.0 InvitationUse"
_ORIGIN_LABEL = b"Wardline 1.0 Origin"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DeviceGrant:
    """Body of a ``DEVICE_VOUCHING`` or ``DEVICE_APPROVAL`` statement: one device, let in.

    Attributes:
        claim: The device; a statement lets in these keys and no others.
        roles: What its certificate may carry.
        ends_ms: Date after which no certificate is issued, where the person's work here ends.
        origin: The person's origin, which the device continues.
    """

    claim: DeviceClaim
    roles: frozenset[Role]
    ends_ms: int | None
    origin: bytes

    def __post_init__(self) -> None:
        if self.ends_ms is not None:
            names.check_time(self.ends_ms)
        if len(self.origin) != FINGERPRINT_BYTES:
            raise InvalidError("an origin has 32 bytes")

    def encode(self) -> bytes:
        """Return the statement's body."""
        return b"".join(
            (
                self.claim.encode(),
                names.write_roles(self.roles),
                codec.optional(None if self.ends_ms is None else codec.u64(self.ends_ms)),
                self.origin,
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Allowed:
    """What a verified proof allows.

    Attributes:
        roles: At most these.
        ends_ms: Exactly this end.
        origin: The person's origin.
    """

    roles: frozenset[Role]
    ends_ms: int | None
    origin: bytes


def decode_grant(body: bytes) -> DeviceGrant:
    """Decode the body of a ``DEVICE_VOUCHING`` or ``DEVICE_APPROVAL`` statement.

    Raises:
        DecodeError: The bytes are no encoding of it.
        InvalidError: A field breaks its rule.
    """
    return codec.decode(body, "DeviceGrant", _read_grant)


def bind_invitation(invitation: bytes, *, claim: DeviceClaim, key: SigningKey) -> bytes:
    """Return the invitation key's signature by which this device, and no other, uses it.

    Args:
        invitation: The signed ``INVITATION`` statement.
        claim: The device.
        key: ``InvitationLink.key``.

    Raises:
        DecodeError: The first argument is no statement.
    """
    return key.sign(_binding_bytes(statement_id(invitation), claim))


def verify_proof(
    claim: DeviceClaim, *, statement: bytes, binding: bytes, trust: Trust, at_ms: int
) -> Allowed:
    """Return what the proof of a device allows.

    Args:
        claim: The device.
        statement: The signed statement that allows it.
        binding: The invitation key's signature over the device; empty for other statements.
        trust: Knows the statement's signers.
        at_ms: When the authority accepted the proof.

    Raises:
        DecodeError: The statement is none, or its body is none of its type.
        InvalidError: The statement allows no such device; the rule is named.
        VerificationError: A signature does not verify.
    """
    kind = statement_type(statement)
    if kind not in (
        StatementType.INVITATION,
        StatementType.DEVICE_VOUCHING,
        StatementType.DEVICE_APPROVAL,
    ):
        raise InvalidError("a device is allowed by an invitation, a vouching or an approval")
    verified = verify_statement(statement, expected=kind, trust=trust, at_ms=at_ms)
    if kind is StatementType.INVITATION:
        return _by_invitation(verified, claim, binding)
    if binding:
        raise InvalidError("only an invitation is bound to its device by a key of its own")
    return _by_grant(verified, claim)


def check_allowed(allowed: Allowed, *, roles: frozenset[Role], ends_ms: int | None) -> None:
    """Refuse a certificate that carries more than its proof allows.

    Raises:
        InvalidError: It has a role, or an end date, that the proof does not give.
    """
    if not roles <= allowed.roles:
        raise InvalidError("a certificate carries no role that its proof does not")
    if ends_ms != allowed.ends_ms:
        raise InvalidError("a certificate carries its proof's end date")


def _binding_bytes(invitation_id: bytes, claim: DeviceClaim) -> bytes:
    # The invitation's id is a hash of a content that names the organisation.
    return labelled(BINDING_LABEL, invitation_id + claim.encode())


def _by_invitation(statement: VerifiedStatement, claim: DeviceClaim, binding: bytes) -> Allowed:
    invitation = decode_invitation(statement.body)
    if invitation.user != claim.user:
        raise InvalidError("an invitation admits the person whom it names")
    ed25519.verify(
        public_key=invitation.invitation_key,
        message=_binding_bytes(statement.id, claim),
        signature=binding,
    )
    _check_granters(statement, invitation.roles)
    # The device is part of the origin: one invitation used for two devices makes two.
    origin = hashlib.sha256(labelled(_ORIGIN_LABEL, statement.id + claim.encode())).digest()
    return Allowed(roles=invitation.roles, ends_ms=invitation.ends_ms, origin=origin)


def _by_grant(statement: VerifiedStatement, claim: DeviceClaim) -> Allowed:
    grant = decode_grant(statement.body)
    if grant.claim != claim:
        raise InvalidError("a device's proof names this device and these keys")
    if statement.type is StatementType.DEVICE_VOUCHING:
        _check_voucher(statement, grant)
    else:
        _check_granters(statement, grant.roles)
    return Allowed(roles=grant.roles, ends_ms=grant.ends_ms, origin=grant.origin)


def _check_granters(statement: VerifiedStatement, roles: frozenset[Role]) -> None:
    """Check that those who signed may grant ``roles``."""
    if statement.signers[0].purpose is Purpose.AUTHORITY:
        return
    if roles & AUTHORITY_ROLES:
        raise InvalidError("only the authority makes a recorder or a witness")
    if roles & QUORUM_ROLES and len(statement.signers) < 2:
        raise InvalidError("two administrators make an administrator or an officer")


def _check_voucher(statement: VerifiedStatement, grant: DeviceGrant) -> None:
    """Check that the person's own device vouches, and passes on no more than it has."""
    voucher = statement.signers[0].identity
    if voucher is None or voucher.user != grant.claim.user:
        raise InvalidError("a person's further device is vouched for by that person's device")
    if voucher.origin != grant.origin:
        raise InvalidError("a further device continues its voucher's origin")
    if not grant.roles <= voucher.roles or grant.roles & AUTHORITY_ROLES:
        raise InvalidError("a further device gets no role that its voucher cannot pass on")
    if grant.ends_ms != voucher.ends_ms:
        raise InvalidError("a further device ends when its voucher does")


def _read_grant(reader: Reader) -> DeviceGrant:
    return DeviceGrant(
        claim=read_claim(reader),
        roles=names.read_roles(reader),
        ends_ms=reader.optional(Reader.u64),
        origin=reader.take(FINGERPRINT_BYTES),
    )
