"""Whether a leaf may stand in a group: the one check of certificate, proof, dates and revocation.

``verify_entering_leaf`` is for a leaf that is added or updated, ``verify_standing_leaf`` for one
that is there already: dates count on entering, later only revocation does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from crypto import certificate as x509
from crypto.certificate import Certificate
from crypto.errors import InvalidError
from crypto.proof import check_allowed, verify_proof
from crypto.statement import statement_signers
from crypto.trust import DeviceIdentity, Trust


def verify_entering_leaf(
    certificates: Sequence[bytes], *, signature_key: bytes, trust: Trust, at_ms: int
) -> DeviceIdentity:
    """Return the device of a leaf that enters a group or is updated.

    The caller then keeps the device by ``Trust.knowing``, all of a Commit's at once and before it
    accepts any: that is what refuses a second first device of a person.

    Args:
        certificates: The leaf's x509 credential: exactly one, the root is pinned.
        signature_key: The leaf node's ``signature_key``.
        trust: The pinned root, known devices (the proof's signers among them) and revocations.
        at_ms: Now.

    Raises:
        DecodeError: The bytes are no certificate.
        InvalidError: A rule is broken, which is named: chain, key usage, proof, dates, revocation.
        VerificationError: A signature does not verify.

    Source: RFC 9420, sections 5.3 and 5.3.1.
    """
    identity = _verify_leaf(certificates, signature_key, trust)
    if not identity.is_valid_at(at_ms):
        raise InvalidError("a leaf enters within its certificate's dates (RFC 5280, 6.1.3 (a)(2))")
    return identity


def verify_standing_leaf(
    certificates: Sequence[bytes], *, signature_key: bytes, trust: Trust
) -> DeviceIdentity:
    """Return the device of a leaf that stands in a group: as on entering, but at any date.

    Args and errors are those of ``verify_entering_leaf``.

    Raises:
        DecodeError: The bytes are no certificate.
        InvalidError: A rule is broken, which is named: chain, key usage, proof, revocation.
        VerificationError: A signature does not verify.
    """
    return _verify_leaf(certificates, signature_key, trust)


def admit(trust: Trust, certificates: Iterable[bytes]) -> Trust:
    """Return ``trust`` with more devices known, whatever their dates and revocation.

    For signers of statements and proofs, in an order in which signers come before what they
    signed (``wanted_certificates`` names them). When they sign, dates and revocation count. Who
    restores a ``Trust`` admits in the order in which its devices came, and then revokes.

    Raises:
        DecodeError: The bytes are no certificate.
        InvalidError: A rule is broken, which is named.
        VerificationError: A signature does not verify.
    """
    for der in certificates:
        trust = trust.knowing([_genuine(der, trust)])
    return trust


def wanted_certificates(der: bytes, *, trust: Trust) -> tuple[bytes, ...]:
    """Return the fingerprints of a certificate's proof's signers that ``trust`` does not know.

    Raises:
        DecodeError: The bytes are no certificate, or hold no statement.
        InvalidError: A rule of the profile is broken, which is named.
        VerificationError: The root did not sign it.
    """
    statement = x509.decode_certificate(der, root=trust.root).proof.statement
    known = {trust.root.organisation, *trust.devices}
    return tuple(signer for signer in statement_signers(statement) if signer not in known)


def _verify_leaf(
    certificates: Sequence[bytes], signature_key: bytes, trust: Trust
) -> DeviceIdentity:
    if len(certificates) != 1:
        raise InvalidError("a credential holds the leaf alone, the root is pinned (RFC 9420, 5.3)")
    identity = _genuine(certificates[0], trust)
    if identity.signature_key != signature_key:
        raise InvalidError("the certificate's key is the leaf's signature_key (RFC 9420, 5.3)")
    if trust.revocations.since_ms(identity) is not None:
        raise InvalidError("the device or its certificate is revoked (RFC 5280, 6.1.3 (a)(3))")
    return identity


def _genuine(der: bytes, trust: Trust) -> DeviceIdentity:
    """Return the device of a certificate of the root's whose proof is right."""
    fingerprint = x509.fingerprint(der)
    known = trust.devices.get(fingerprint)
    if known is not None:
        return known
    certificate = x509.decode_certificate(der, root=trust.root)
    identity = _identity(certificate, fingerprint, trust)
    trust.check_origin(identity)
    return identity


def _identity(certificate: Certificate, fingerprint: bytes, trust: Trust) -> DeviceIdentity:
    proof = certificate.proof
    allowed = verify_proof(
        certificate.claim,
        statement=proof.statement,
        binding=proof.binding,
        trust=trust,
        at_ms=proof.proved_at_ms,
    )
    check_allowed(allowed, roles=certificate.roles, ends_ms=certificate.ends_ms)
    return DeviceIdentity(
        organisation=certificate.organisation,
        user=certificate.claim.user,
        device=certificate.claim.device,
        roles=certificate.roles,
        serial=certificate.serial,
        fingerprint=fingerprint,
        signature_key=certificate.claim.signature_key,
        connection_key=certificate.claim.connection_key,
        not_before_ms=certificate.not_before_ms,
        not_after_ms=certificate.not_after_ms,
        ends_ms=certificate.ends_ms,
        origin=allowed.origin,
    )
