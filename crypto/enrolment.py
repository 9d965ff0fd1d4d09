"""Certificate requests, and how the authority answers them.

A request is signed by both of the device's keys, so that nobody certifies a key that it does not
hold; with an invitation, by the invitation's key too (``crypto.proof.bind_invitation``). The
authority issues nothing that a client would refuse: it verifies its own certificate as one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.x509 import random_serial_number

from crypto import certificate as x509
from crypto import codec, ed25519, names
from crypto.certificate import (
    DAY_MS,
    FINGERPRINT_BYTES,
    LIFETIME_MS,
    Certificate,
    DeviceClaim,
    Proof,
    read_claim,
)
from crypto.codec import Reader
from crypto.ed25519 import SigningKey
from crypto.errors import InvalidError
from crypto.identity import verify_entering_leaf
from crypto.names import Role
from crypto.proof import verify_proof
from crypto.statement import labelled
from crypto.trust import CLOCK_SKEW_MS, Trust

REQUEST_LABEL = b"Wardline 1.0 CertificateRequest"

REQUEST_LIFETIME_MS = 7 * DAY_MS
"""How long a request waits for an authority that is down, in ms; an older one is a replay."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DeviceKeys:
    """A device's side of enrolment: its names and its two private keys.

    Attributes:
        user: The person.
        device: The device's name within its person.
        signature_key: MLS signature key.
        connection_key: Key outside the locked store.
    """

    user: str
    device: str
    signature_key: SigningKey = field(repr=False)
    connection_key: SigningKey = field(repr=False)

    @property
    def claim(self) -> DeviceClaim:
        """What is to be certified.

        Raises:
            InvalidError: A name is malformed, or both keys are one.
        """
        return DeviceClaim(
            user=self.user,
            device=self.device,
            signature_key=self.signature_key.public_key,
            connection_key=self.connection_key.public_key,
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CertificateRequest:
    """A request whose two signatures have verified; its proof is not yet judged.

    Attributes:
        organisation: Fingerprint of the root that is asked.
        claim: The device.
        requested_ms: When it asked.
        statement: The statement that allows the device.
        binding: The invitation key's signature over the device; empty for other statements.
    """

    organisation: bytes
    claim: DeviceClaim
    requested_ms: int
    statement: bytes
    binding: bytes

    def encode(self) -> bytes:
        """Return what both keys sign."""
        return b"".join(
            (
                self.organisation,
                self.claim.encode(),
                codec.u64(self.requested_ms),
                codec.opaque(self.statement),
                codec.opaque(self.binding),
            )
        )


def create_request(
    keys: DeviceKeys, *, organisation: bytes, statement: bytes, binding: bytes, at_ms: int
) -> bytes:
    """Return a signed request, for a first certificate as for the next of the same keys.

    Args:
        keys: The device.
        organisation: Fingerprint of the root.
        statement: Invitation, vouching or approval; for the next certificate, the first one's.
        binding: From ``bind_invitation`` for an invitation, else empty.
        at_ms: Now.

    Raises:
        InvalidError: A name is malformed, or both keys are one.
    """
    request = CertificateRequest(
        organisation=organisation,
        claim=keys.claim,
        requested_ms=at_ms,
        statement=statement,
        binding=binding,
    )
    message = _signed_bytes(request)
    return request.encode() + keys.signature_key.sign(message) + keys.connection_key.sign(message)


def verify_request(data: bytes, *, trust: Trust, at_ms: int) -> CertificateRequest:
    """Return a request after checking organisation, age and the possession of both keys.

    Raises:
        DecodeError: The bytes are no request.
        InvalidError: A name, key, the organisation or the age breaks its rule.
        VerificationError: A signature does not verify.
    """
    request, by_signature_key, by_connection_key = codec.decode(
        data, "CertificateRequest", _read_signed_request
    )
    if request.organisation != trust.root.organisation:
        raise InvalidError("a request to another organisation")
    age = at_ms - request.requested_ms
    if not -CLOCK_SKEW_MS <= age <= REQUEST_LIFETIME_MS + CLOCK_SKEW_MS:
        raise InvalidError("a request is answered within REQUEST_LIFETIME_MS")
    message = _signed_bytes(request)
    for key, signature in (
        (request.claim.signature_key, by_signature_key),
        (request.claim.connection_key, by_connection_key),
    ):
        ed25519.verify(public_key=key, message=message, signature=signature)
    return request


def issue_certificate(request: bytes, *, trust: Trust, authority: SigningKey, at_ms: int) -> bytes:
    """Return the first certificate of a device, with the roles of its proof.

    The authority's ``trust`` knows every device that it ever certified: that is how it refuses a
    second first device and an invitation's second use. The caller adds the new one to it.

    Args:
        request: The signed request.
        trust: The authority's own, complete.
        authority: The root's private key.
        at_ms: Now.

    Raises:
        DecodeError: The bytes are no request, or hold no statement.
        InvalidError: A rule is broken, which is named.
        VerificationError: A signature does not verify.
        UsageError: The key is not the root's.
    """
    asked = verify_request(request, trust=trust, at_ms=at_ms)
    allowed = verify_proof(
        asked.claim, statement=asked.statement, binding=asked.binding, trust=trust, at_ms=at_ms
    )
    proof = Proof(statement=asked.statement, binding=asked.binding, proved_at_ms=at_ms)
    leaf = _certificate(asked, proof, roles=allowed.roles, ends_ms=allowed.ends_ms, at_ms=at_ms)
    return _issued(leaf, trust, authority=authority, at_ms=at_ms)


def renew_certificate(
    request: bytes,
    *,
    current: bytes,
    roles: frozenset[Role],
    trust: Trust,
    authority: SigningKey,
    at_ms: int,
) -> bytes:
    """Return the next certificate of a device that keeps its keys and its proof.

    Args:
        request: The signed request.
        current: The device's certificate, neither expired nor revoked.
        roles: Some or all of the current ones; more roles want a new proof.
        trust: The authority's own, complete.
        authority: The root's private key.
        at_ms: Now.

    Raises:
        DecodeError: The bytes are no request or no certificate.
        InvalidError: A rule is broken, which is named.
        VerificationError: A signature does not verify.
        UsageError: The key is not the root's.
    """
    asked = verify_request(request, trust=trust, at_ms=at_ms)
    key = asked.claim.signature_key
    verify_entering_leaf([current], signature_key=key, trust=trust, at_ms=at_ms)
    old = x509.decode_certificate(current, root=trust.root)
    if (asked.claim, asked.statement, asked.binding) != (
        old.claim,
        old.proof.statement,
        old.proof.binding,
    ):
        raise InvalidError("a renewal keeps the device's names, keys and proof")
    if not roles or not roles <= old.roles:
        raise InvalidError("a renewal adds no role")
    leaf = _certificate(asked, old.proof, roles=roles, ends_ms=old.ends_ms, at_ms=at_ms)
    return _issued(leaf, trust, authority=authority, at_ms=at_ms)


def _certificate(
    asked: CertificateRequest,
    proof: Proof,
    *,
    roles: frozenset[Role],
    ends_ms: int | None,
    at_ms: int,
) -> Certificate:
    names.check_time(at_ms + LIFETIME_MS)
    not_after_ms = at_ms + LIFETIME_MS if ends_ms is None else min(at_ms + LIFETIME_MS, ends_ms)
    if not_after_ms <= at_ms:
        raise InvalidError("no certificate is issued after its holder's work has ended")
    return Certificate(
        organisation=asked.organisation,
        claim=asked.claim,
        roles=roles,
        serial=random_serial_number(),
        not_before_ms=_whole_second(at_ms),
        not_after_ms=_whole_second(not_after_ms),
        ends_ms=ends_ms,
        proof=proof,
    )


def _issued(certificate: Certificate, trust: Trust, *, authority: SigningKey, at_ms: int) -> bytes:
    der = x509.encode_certificate(certificate, root=trust.root, authority=authority)
    key = certificate.claim.signature_key
    verify_entering_leaf([der], signature_key=key, trust=trust, at_ms=at_ms)
    return der


def _whole_second(time_ms: int) -> int:
    return time_ms // 1000 * 1000


def _signed_bytes(request: CertificateRequest) -> bytes:
    return labelled(REQUEST_LABEL, request.encode())


def _read_signed_request(reader: Reader) -> tuple[CertificateRequest, bytes, bytes]:
    request = CertificateRequest(
        organisation=reader.take(FINGERPRINT_BYTES),
        claim=read_claim(reader),
        requested_ms=reader.u64(),
        statement=reader.opaque(),
        binding=reader.opaque(),
    )
    return request, reader.take(ed25519.SIGNATURE_BYTES), reader.take(ed25519.SIGNATURE_BYTES)
