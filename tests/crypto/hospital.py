"""A hospital for the tests of identity: its root, and people who enrol as they do in life."""

from __future__ import annotations

from dataclasses import dataclass

from crypto import certificate, enrolment, identity, proof, statement
from crypto.certificate import Root
from crypto.ed25519 import SigningKey
from crypto.enrolment import DeviceKeys
from crypto.invitation import Invitation, InvitationLink, create_link
from crypto.names import Role
from crypto.proof import DeviceGrant
from crypto.statement import Purpose, Signatory, StatementType
from crypto.trust import DeviceIdentity, Trust

NOW_MS = 1_800_000_000_123
CLINICIAN = frozenset({Role.CLINICIAN})
ADMINISTRATOR = frozenset({Role.CLINICIAN, Role.ADMINISTRATOR})


@dataclass(frozen=True, kw_only=True)
class Device:
    """A certified device with everything that its owner holds."""

    keys: DeviceKeys
    der: bytes
    identity: DeviceIdentity

    def signs_as(self, purpose: Purpose) -> Signatory:
        key = self.keys.connection_key if purpose is Purpose.CONNECTION else self.keys.signature_key
        return Signatory(purpose=purpose, fingerprint=self.identity.fingerprint, key=key)


def new_keys(user: str, device: str) -> DeviceKeys:
    return DeviceKeys(
        user=user,
        device=device,
        signature_key=SigningKey.generate(),
        connection_key=SigningKey.generate(),
    )


class Hospital:
    """An organisation and its authority, which knows every device that it certified."""

    def __init__(self) -> None:
        der, self.authority_key = certificate.create_root("St. Elsewhere", at_ms=NOW_MS)
        self.root: Root = certificate.pin_root(der, organisation=certificate.fingerprint(der))
        self.trust = Trust(root=self.root)

    @property
    def organisation(self) -> bytes:
        return self.root.organisation

    @property
    def authority(self) -> Signatory:
        return Signatory(
            purpose=Purpose.AUTHORITY, fingerprint=self.organisation, key=self.authority_key
        )

    def state(
        self,
        kind: StatementType,
        body: bytes,
        *signatories: Signatory,
        at_ms: int = NOW_MS,
        lifetime_ms: int | None = None,
    ) -> bytes:
        """Return a statement with the signatures of all, in order."""
        data = statement.sign_statement(
            kind,
            body,
            organisation=self.organisation,
            issued_ms=at_ms,
            lifetime_ms=lifetime_ms or statement.RULES[kind].lifetime_ms,
            signatory=signatories[0],
        )
        for signatory in signatories[1:]:
            data = statement.countersign_statement(
                data, trust=self.trust, at_ms=at_ms, signatory=signatory
            )
        return data

    def link(self) -> InvitationLink:
        return create_link(
            host="relay.example.org", port=443, tls_pin=bytes(32), organisation=self.organisation
        )

    def invite(
        self,
        user: str,
        *signatories: Signatory,
        link: InvitationLink,
        roles: frozenset[Role] = CLINICIAN,
        ends_ms: int | None = None,
        at_ms: int = NOW_MS,
    ) -> bytes:
        invitation = Invitation(
            invitation_key=link.key.public_key, user=user, roles=roles, ends_ms=ends_ms
        )
        return self.state(StatementType.INVITATION, invitation.encode(), *signatories, at_ms=at_ms)

    def request(
        self,
        keys: DeviceKeys,
        allowing: bytes,
        *,
        link: InvitationLink | None = None,
        at_ms: int = NOW_MS,
    ) -> bytes:
        binding = (
            b"" if link is None else proof.bind_invitation(allowing, claim=keys.claim, key=link.key)
        )
        return enrolment.create_request(
            keys,
            organisation=self.organisation,
            statement=allowing,
            binding=binding,
            at_ms=at_ms,
        )

    def issue(self, keys: DeviceKeys, request: bytes, *, at_ms: int = NOW_MS) -> Device:
        der = enrolment.issue_certificate(
            request, trust=self.trust, authority=self.authority_key, at_ms=at_ms
        )
        return self.know(keys, der, at_ms=at_ms)

    def know(self, keys: DeviceKeys, der: bytes, *, at_ms: int = NOW_MS) -> Device:
        found = identity.verify_entering_leaf(
            [der], signature_key=keys.signature_key.public_key, trust=self.trust, at_ms=at_ms
        )
        self.trust = self.trust.knowing([found])
        return Device(keys=keys, der=der, identity=found)

    def enrol(
        self,
        name: str,
        *signatories: Signatory,
        roles: frozenset[Role] = CLINICIAN,
        ends_ms: int | None = None,
        at_ms: int = NOW_MS,
    ) -> Device:
        """Invite a person and enrol the first device; by the authority where nobody signs."""
        user, _, device = name.partition("/")
        keys, link = new_keys(user, device), self.link()
        invitation = self.invite(
            user,
            *(signatories or (self.authority,)),
            link=link,
            roles=roles,
            ends_ms=ends_ms,
            at_ms=at_ms,
        )
        return self.issue(keys, self.request(keys, invitation, link=link, at_ms=at_ms), at_ms=at_ms)

    def grant(
        self,
        keys: DeviceKeys,
        kind: StatementType,
        *signatories: Signatory,
        origin: bytes,
        roles: frozenset[Role] = CLINICIAN,
        ends_ms: int | None = None,
        at_ms: int = NOW_MS,
    ) -> bytes:
        body = DeviceGrant(claim=keys.claim, roles=roles, ends_ms=ends_ms, origin=origin).encode()
        return self.state(kind, body, *signatories, at_ms=at_ms)

    def vouch(self, voucher: Device, keys: DeviceKeys, *, at_ms: int = NOW_MS) -> bytes:
        return self.grant(
            keys,
            StatementType.DEVICE_VOUCHING,
            voucher.signs_as(Purpose.DEVICE),
            origin=voucher.identity.origin,
            ends_ms=voucher.identity.ends_ms,
            at_ms=at_ms,
        )


class Staff(Hospital):
    """A hospital with two administrators and a clinician who has one device."""

    def __init__(self) -> None:
        super().__init__()
        self.ada = self.enrol("ada/desk", roles=ADMINISTRATOR)
        self.bob = self.enrol("bob/desk", roles=ADMINISTRATOR)
        self.alice = self.enrol("alice/phone", self.ada.signs_as(Purpose.ADMINISTRATOR))

    @property
    def administrators(self) -> tuple[Signatory, Signatory]:
        return (
            self.ada.signs_as(Purpose.ADMINISTRATOR),
            self.bob.signs_as(Purpose.ADMINISTRATOR),
        )
