"""Devices beyond a person's first: vouched for, and slipped in."""

from __future__ import annotations

from dataclasses import replace

from crypto.certificate import decode_certificate, fingerprint
from crypto.ed25519 import SigningKey
from crypto.enrolment import DeviceKeys, create_request, issue_certificate, renew_certificate
from crypto.identity import admit
from crypto.names import Role
from crypto.proof import DeviceGrant
from crypto.statement import Purpose, StatementType
from crypto.trust import Trust
from protocol.identifiers import DeviceId
from tests.server.harness import Hospital, Person, now_ms


def new_keys(name: str) -> DeviceKeys:
    user, _, device = name.partition("/")
    return DeviceKeys(
        user=user,
        device=device,
        signature_key=SigningKey.generate(),
        connection_key=SigningKey.generate(),
    )


def further(of: Hospital, voucher: Person, device: str) -> Person:
    """Return one more device of a person, whom one of that person's devices vouches for."""
    known = of.trust.devices[fingerprint(voucher.certificate)]
    keys = new_keys(f"{known.user}/{device}")
    body = DeviceGrant(
        claim=keys.claim, roles=known.roles, ends_ms=known.ends_ms, origin=known.origin
    ).encode()
    statement = of.signed(StatementType.DEVICE_VOUCHING, body, by=voucher.signatory(Purpose.DEVICE))
    request = create_request(
        keys, organisation=of.id, statement=statement, binding=b"", at_ms=now_ms()
    )
    return of.certify(keys, request)


def renewed(of: Hospital, person: Person) -> Person:
    """Return a device with its next certificate; the leaves that it has keep the first one."""
    old = decode_certificate(person.certificate, root=of.root)
    request = create_request(
        person.keys,
        organisation=of.id,
        statement=old.proof.statement,
        binding=old.proof.binding,
        at_ms=now_ms(),
    )
    certificate = renew_certificate(
        request,
        current=person.certificate,
        roles=old.roles,
        trust=of.trust,
        authority=of.authority,
        at_ms=now_ms(),
    )
    of.trust = admit(of.trust, [certificate])
    return replace(person, certificate=certificate)


def ghost(of: Hospital, name: str) -> Person:
    """Return a second first device of a person, as an authority that forgets would certify it."""
    keys = new_keys(name)
    statement, seed = of.invitation(keys.user, Role.CLINICIAN)
    certificate = issue_certificate(
        of.request(keys, statement, seed),
        trust=Trust(root=of.root),
        authority=of.authority,
        at_ms=now_ms(),
    )
    made = Person(name=DeviceId(name), keys=keys, certificate=certificate)
    of.people[made.name] = made
    return made


def knowing(of: Hospital, *people: Person) -> Trust:
    """Return the trust of somebody who knows these devices alone."""
    return admit(Trust(root=of.root), [one.certificate for one in people])
