"""X.509 certificates of an organisation: its root, and the devices that the root certifies.

One profile, and nothing beside it: version 3, Ed25519, five extensions in one order. A leaf is
parsed only after the root's signature over it has verified, so that whoever lacks the root's key
never reaches the X.509 parser; and what is accepted is, byte for byte, what this module would have
encoded itself.

Source: RFC 5280 (profile), RFC 8410 (Ed25519 in X.509).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import ExtensionOID, NameOID

from crypto import codec, ed25519, names
from crypto.codec import Reader
from crypto.ed25519 import SigningKey
from crypto.errors import CryptoError, DecodeError, InvalidError, UsageError, VerificationError
from crypto.names import Role

T = TypeVar("T")

FINGERPRINT_BYTES = 32

DAY_MS = 24 * 60 * 60 * 1000

LIFETIME_MS = 90 * DAY_MS
"""Longest life of a device's certificate: an authority that is down for weeks stops nobody, and a
lost device that nobody reported ends by itself."""

RENEWAL_MS = 45 * DAY_MS
"""Age from which a device asks for its next certificate: half the life is left for an outage."""

CERTIFICATE_BYTES = 4096
"""Largest certificate in bytes: the longest names with a proof by two administrators take half."""

ORGANISATION_NAME_CHARACTERS = 64
"""Longest name of an organisation (RFC 5280, appendix A.1, ub-organization-name)."""

# A UUID's arc needs no registration (ITU-T X.667); this one was drawn for Wardline.
ARC: Final = "2.25.79689349282104350691878375769266695294"
DEVICE_OID: Final = f"{ARC}.1"
"""Extension with the device's roles, connection key and end date."""
PROOF_OID: Final = f"{ARC}.2"
"""Extension with the proof by which the device was allowed."""

_ED25519 = bytes.fromhex("300506032b6570")  # AlgorithmIdentifier without parameters, RFC 8410 §3
_SIGNATURE_HEADER = _ED25519 + b"\x03\x41\x00"  # and a BIT STRING of 64 bytes, no unused bits
_VERSION_3 = bytes.fromhex("a003020102")
_NO_END = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
# Builders want a key of their own library; what it signs is thrown away, libsodium signs for real.
_DISCARDED = Ed25519PrivateKey.from_private_bytes(bytes(ed25519.SEED_BYTES))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Root:
    """An organisation's root, checked against the fingerprint by which it is pinned.

    Attributes:
        der: The certificate.
        organisation: Its SHA-256: the organisation's id.
        public_key: The authority's Ed25519 key.
        subject: The root's name, which every leaf names as its issuer.
    """

    der: bytes
    organisation: bytes
    public_key: bytes
    subject: x509.Name


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DeviceClaim:
    """A device as it is to be certified: its names and its two public keys.

    Attributes:
        user: The person.
        device: The device's name within its person.
        signature_key: MLS signature key.
        connection_key: Key that the device keeps outside its locked store; another one.
    """

    user: str
    device: str
    signature_key: bytes
    connection_key: bytes

    def __post_init__(self) -> None:
        names.check_device_name(self.user, self.device)
        ed25519.check_public_key(self.signature_key)
        ed25519.check_public_key(self.connection_key)
        if self.signature_key == self.connection_key:
            raise InvalidError("a connection key, kept outside the locked store, is no other key")

    def encode(self) -> bytes:
        """Return the struct's encoding."""
        return b"".join(
            (
                names.write_text(self.user),
                names.write_text(self.device),
                self.signature_key,
                self.connection_key,
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Proof:
    """Why a device may exist: the signed statement that allowed it.

    Attributes:
        statement: An invitation, a vouching or an approval (``crypto.statement``).
        binding: The invitation key's signature over the device; empty for the other two.
        proved_at_ms: When the authority accepted it; the signers are judged as of then.
    """

    statement: bytes
    binding: bytes
    proved_at_ms: int

    def encode(self) -> bytes:
        """Return the extension's value."""
        return (
            codec.opaque(self.statement) + codec.opaque(self.binding) + codec.u64(self.proved_at_ms)
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Certificate:
    """What a certificate of the root's says; its proof, dates and revocation are not yet judged.

    Attributes:
        organisation: Fingerprint of the root.
        claim: The device.
        roles: At least one.
        serial: Positive, at most 159 bits.
        not_before_ms: First instant of validity, a whole second.
        not_after_ms: Last second of validity.
        ends_ms: Date after which no certificate is issued, where the person's work here ends.
        proof: Why the device may exist.
    """

    organisation: bytes
    claim: DeviceClaim
    roles: frozenset[Role]
    serial: int
    not_before_ms: int
    not_after_ms: int
    ends_ms: int | None
    proof: Proof


def fingerprint(der: bytes) -> bytes:
    """Return the SHA-256 by which a certificate is named everywhere."""
    return hashlib.sha256(der).digest()


def create_root(name: str, *, at_ms: int) -> tuple[bytes, SigningKey]:
    """Return a new organisation's root certificate (DER) and the authority's private key.

    The root has no end (RFC 5280, section 4.1.2.5): it is pinned by fingerprint, and a pinned
    trust anchor's dates are not part of path validation (section 6.1.1).

    Args:
        name: What people call the organisation, 1 to ``ORGANISATION_NAME_CHARACTERS`` characters.
        at_ms: Now.

    Raises:
        UsageError: The name or the time is out of range.
    """
    if not 0 < len(name) <= ORGANISATION_NAME_CHARACTERS or not name.isprintable():
        raise UsageError("an organisation's name has 1 to 64 printable characters")
    if not 0 <= at_ms <= names.TIME_MAX_MS:
        raise UsageError("a root begins between 1970 and 9999")
    key = SigningKey.generate()
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])
    tbs = _root_tbs(
        subject,
        key=key.public_key,
        serial=x509.random_serial_number(),
        begins=_datetime(at_ms),
    )
    return _assemble(tbs, key), key


def pin_root(der: bytes, *, organisation: bytes) -> Root:
    """Return the root, after checking it against its pin.

    Args:
        der: The root's certificate, from anywhere.
        organisation: The SHA-256 that an invitation or the installation has pinned.

    Raises:
        VerificationError: It is another certificate, or its own signature does not verify.
        DecodeError: It is no certificate.
        InvalidError: It breaks a rule of the profile, which is named.
    """
    if fingerprint(der) != organisation:
        raise VerificationError
    tbs, signature = _split(der)
    return guarded(lambda: _read_root(der, tbs, signature))


def encode_certificate(certificate: Certificate, *, root: Root, authority: SigningKey) -> bytes:
    """Return the DER of ``certificate``, signed by the authority.

    Raises:
        UsageError: The key is not the root's, or the certificate is of another organisation.
    """
    if authority.public_key != root.public_key or certificate.organisation != root.organisation:
        raise UsageError("a certificate is signed by its own organisation's root")
    return _assemble(_leaf_tbs(certificate, root), authority)


def decode_certificate(der: bytes, *, root: Root) -> Certificate:
    """Return what a certificate says, after checking that the pinned root signed it.

    Raises:
        DecodeError: The bytes are no certificate.
        VerificationError: The root did not sign it.
        InvalidError: It breaks a rule of the profile, which is named.
    """
    tbs, signature = _split(der)
    ed25519.verify(public_key=root.public_key, message=tbs, signature=signature)
    return guarded(lambda: _read_leaf(der, tbs, root))


def read_claim(reader: Reader) -> DeviceClaim:
    """Read a ``DeviceClaim``.

    Raises:
        DecodeError: The bytes are no encoding of it.
        InvalidError: A name or key breaks its rule.
    """
    return DeviceClaim(
        user=names.read_text(reader),
        device=names.read_text(reader),
        signature_key=reader.take(ed25519.PUBLIC_KEY_BYTES),
        connection_key=reader.take(ed25519.PUBLIC_KEY_BYTES),
    )


def guarded(read: Callable[[], T]) -> T:
    """Map whatever the X.509 library raises on hostile DER, in this one place.

    It raises ValueError, TypeError, UnsupportedAlgorithm and its own classes, and a panic of its
    native code is a BaseException whose class cannot be imported.
    """
    try:
        return read()
    except CryptoError:
        raise
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise DecodeError("Certificate", 0) from None
        raise


def _sequence(content: bytes) -> bytes:
    """Encode a DER SEQUENCE (X.690, sections 8.1.3 and 10.1: lengths are minimal)."""
    size = len(content)
    if size < 0x80:
        return bytes((0x30, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((0x30, 0x80 | len(octets))) + octets + content


def _content(sequence: bytes) -> bytes:
    """Return the content of a DER SEQUENCE that must fill ``sequence`` exactly."""
    if len(sequence) < 2 or sequence[0] != 0x30:
        raise DecodeError("Certificate", 0)
    long = sequence[1] - 0x80 if sequence[1] > 0x80 else 0
    content = sequence[2 + long :]
    if _sequence(content) != sequence:
        raise InvalidError("a certificate is DER and nothing trails (RFC 5280, section 4.1)")
    return content


def _split(der: bytes) -> tuple[bytes, bytes]:
    """Return the signed part and the signature, without an X.509 parser.

    Version, serial and both algorithms stand at fixed places and are checked here, because the
    parser answers some of their faults with a warning.
    """
    if len(der) > CERTIFICATE_BYTES:
        raise InvalidError("a certificate has at most CERTIFICATE_BYTES")
    outer = _content(der)
    tail = len(_SIGNATURE_HEADER) + ed25519.SIGNATURE_BYTES
    if outer[-tail : -ed25519.SIGNATURE_BYTES] != _SIGNATURE_HEADER:
        raise InvalidError("the signature is Ed25519's (RFC 5280, section 4.1.1.2; RFC 8410)")
    tbs, signature = outer[:-tail], outer[-ed25519.SIGNATURE_BYTES :]
    _check_head(_content(tbs))
    return tbs, signature


def _check_head(fields: bytes) -> None:
    """Check version, serial and the inner algorithm of a TBSCertificate's content."""
    if not fields.startswith(_VERSION_3 + b"\x02"):
        raise InvalidError("a certificate is of version 3 (RFC 5280, section 4.1.2.1)")
    start = len(_VERSION_3) + 2
    size = fields[start - 1] if len(fields) >= start else 0
    serial = fields[start : start + size]
    if size > 20 or int.from_bytes(serial, "big", signed=True) <= 0:
        raise InvalidError("a serial is positive, at most 20 octets (RFC 5280, section 4.1.2.2)")
    if not fields[start + size :].startswith(_ED25519):
        raise InvalidError("both algorithm fields are Ed25519 (RFC 5280, section 4.1.2.3)")


def _assemble(tbs: bytes, key: SigningKey) -> bytes:
    return _sequence(tbs + _SIGNATURE_HEADER + key.sign(tbs))


def _datetime(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms // 1000, tz=UTC)


def _milliseconds(time: datetime) -> int:
    return int(time.timestamp()) * 1000


def _key_identifier(public_key: bytes) -> bytes:
    """Return the key identifier (RFC 7093, section 2, method 1: no SHA-1)."""
    return hashlib.sha256(public_key).digest()[:20]


def _key_usage(*, certificate_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificate_sign,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


_EXTENSIONS = {
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER.dotted_string,
    ExtensionOID.BASIC_CONSTRAINTS.dotted_string,
    ExtensionOID.KEY_USAGE.dotted_string,
    DEVICE_OID,
    PROOF_OID,
}
_ROOT_USAGE = _key_usage(certificate_sign=True)
_LEAF_USAGE = _key_usage(certificate_sign=False)
_ROOT_CONSTRAINTS = x509.BasicConstraints(ca=True, path_length=0)
_LEAF_CONSTRAINTS = x509.BasicConstraints(ca=False, path_length=None)


def _root_tbs(subject: x509.Name, *, key: bytes, serial: int, begins: datetime) -> bytes:
    builder = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=subject)
        .public_key(Ed25519PublicKey.from_public_bytes(key))
        .serial_number(serial)
        .not_valid_before(begins)
        .not_valid_after(_NO_END)
        .add_extension(x509.SubjectKeyIdentifier(_key_identifier(key)), critical=False)
        .add_extension(_ROOT_CONSTRAINTS, critical=True)
        .add_extension(_ROOT_USAGE, critical=True)
    )
    return builder.sign(_DISCARDED, None).tbs_certificate_bytes


def _read_root(der: bytes, tbs: bytes, signature: bytes) -> Root:
    parsed = x509.load_der_x509_certificate(der)
    key = _public_key(parsed)
    ed25519.check_public_key(key)
    ed25519.verify(public_key=key, message=tbs, signature=signature)
    rebuilt = _root_tbs(
        parsed.subject, key=key, serial=parsed.serial_number, begins=parsed.not_valid_before_utc
    )
    if rebuilt != tbs:
        raise InvalidError("a root is a CA of depth 0 without an end (RFC 5280, section 4.2.1.9)")
    return Root(der=der, organisation=fingerprint(der), public_key=key, subject=parsed.subject)


def _subject(organisation: bytes, user: str, device: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation.hex()),
            x509.NameAttribute(NameOID.USER_ID, user),
            x509.NameAttribute(NameOID.COMMON_NAME, device),
        ]
    )


def _device_value(certificate: Certificate) -> bytes:
    ends = None if certificate.ends_ms is None else codec.u64(certificate.ends_ms)
    return b"".join(
        (
            names.write_roles(certificate.roles),
            certificate.claim.connection_key,
            codec.optional(ends),
        )
    )


def _unrecognised(oid: str, value: bytes) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)


def _leaf_tbs(certificate: Certificate, root: Root) -> bytes:
    subject = _subject(certificate.organisation, certificate.claim.user, certificate.claim.device)
    issuer_key = x509.AuthorityKeyIdentifier(_key_identifier(root.public_key), None, None)
    builder = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=root.subject)
        .public_key(Ed25519PublicKey.from_public_bytes(certificate.claim.signature_key))
        .serial_number(certificate.serial)
        .not_valid_before(_datetime(certificate.not_before_ms))
        .not_valid_after(_datetime(certificate.not_after_ms))
        .add_extension(issuer_key, critical=False)
        .add_extension(_LEAF_CONSTRAINTS, critical=True)
        .add_extension(_LEAF_USAGE, critical=True)
        .add_extension(_unrecognised(DEVICE_OID, _device_value(certificate)), critical=True)
        .add_extension(_unrecognised(PROOF_OID, certificate.proof.encode()), critical=True)
    )
    return builder.sign(_DISCARDED, None).tbs_certificate_bytes


def _public_key(parsed: x509.Certificate) -> bytes:
    key = parsed.public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidError("a subject's key is Ed25519 (RFC 8410, section 4)")
    return key.public_bytes_raw()


def _read_leaf(der: bytes, tbs: bytes, root: Root) -> Certificate:
    parsed = x509.load_der_x509_certificate(der)
    if parsed.issuer != root.subject:
        raise InvalidError("the issuer is the root's subject (RFC 5280, section 6.1.3 (a)(4))")
    certificate = _read_fields(parsed, root)
    _check_validity(certificate)
    if _leaf_tbs(certificate, root) != tbs:
        raise InvalidError("a certificate re-encodes to the same bytes (RFC 5280, section 4.1)")
    return certificate


def _read_fields(parsed: x509.Certificate, root: Root) -> Certificate:
    user, device = _read_subject(parsed.subject, root)
    extensions = _read_extensions(parsed)
    roles, connection_key, ends_ms = codec.decode(
        _value(extensions, DEVICE_OID), "DeviceExtension", _read_device
    )
    return Certificate(
        organisation=root.organisation,
        claim=DeviceClaim(
            user=user,
            device=device,
            signature_key=_public_key(parsed),
            connection_key=connection_key,
        ),
        roles=roles,
        serial=parsed.serial_number,
        not_before_ms=_milliseconds(parsed.not_valid_before_utc),
        not_after_ms=_milliseconds(parsed.not_valid_after_utc),
        ends_ms=ends_ms,
        proof=codec.decode(_value(extensions, PROOF_OID), "ProofExtension", _read_proof),
    )


def _read_subject(subject: x509.Name, root: Root) -> tuple[str, str]:
    values = [attribute.value for attribute in subject]
    if len(values) != 3:
        raise InvalidError("a subject is organisation, user, device (RFC 5280, section 4.1.2.6)")
    _, user, device = map(str, values)
    if subject != _subject(root.organisation, user, device):
        raise InvalidError("a subject names its organisation (RFC 5280, section 4.1.2.6)")
    return user, device


def _read_extensions(parsed: x509.Certificate) -> x509.Extensions:
    """Check the standard extensions; ours are read by the caller."""
    extensions = parsed.extensions
    if {extension.oid.dotted_string for extension in extensions} != _EXTENSIONS:
        raise InvalidError("a leaf has its five extensions and no other (RFC 5280, section 4.2)")
    if extensions.get_extension_for_class(x509.BasicConstraints).value != _LEAF_CONSTRAINTS:
        raise InvalidError("a leaf is no CA (RFC 5280, section 4.2.1.9)")
    if extensions.get_extension_for_class(x509.KeyUsage).value != _LEAF_USAGE:
        raise InvalidError("a leaf's key only signs (RFC 5280, section 4.2.1.3)")
    return extensions


def _value(extensions: x509.Extensions, oid: str) -> bytes:
    extension = extensions.get_extension_for_oid(x509.ObjectIdentifier(oid))
    return extension.value.public_bytes()


def _read_device(reader: Reader) -> tuple[frozenset[Role], bytes, int | None]:
    return (
        names.read_roles(reader),
        reader.take(ed25519.PUBLIC_KEY_BYTES),
        reader.optional(Reader.u64),
    )


def _read_proof(reader: Reader) -> Proof:
    return Proof(statement=reader.opaque(), binding=reader.opaque(), proved_at_ms=reader.u64())


def _check_validity(certificate: Certificate) -> None:
    life = certificate.not_after_ms - certificate.not_before_ms
    if not 0 <= life <= LIFETIME_MS:
        raise InvalidError("a certificate lives 0 to 90 days (RFC 5280, section 4.1.2.5)")
    if certificate.ends_ms is not None and certificate.not_after_ms > certificate.ends_ms:
        raise InvalidError("a certificate ends with its holder's work (RFC 5280, section 4.1.2.5)")
    if certificate.proof.proved_at_ms // 1000 * 1000 > certificate.not_before_ms:
        raise InvalidError("a proof precedes its certificate (RFC 5280, section 4.1.2.5)")
