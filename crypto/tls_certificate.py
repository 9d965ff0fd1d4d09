"""A relay's TLS certificate where no public authority is asked: self-signed, and pinned by its key.

Clients do not judge it by names or dates; they compare the key's pin with that of their invitation.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from crypto.certificate import guarded
from crypto.errors import UsageError

VALIDITY_DAYS = 3650
"""Days of validity: the pin is what counts, and a date would only stop a ward at night."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TlsIdentity:
    """A certificate and its key, in PEM.

    Attributes:
        certificate: The certificate.
        key: The private key, PKCS #8, not encrypted: for a file of the relay's alone.
    """

    certificate: bytes
    key: bytes = field(repr=False)


def create_tls_identity(name: str, *, at_ms: int) -> TlsIdentity:
    """Return a fresh self-signed certificate for a relay.

    ECDSA on P-256, because every TLS 1.3 program has it (RFC 8446, section 9.1).

    Args:
        name: What the certificate names, 1 to 64 characters.
        at_ms: Now.

    Raises:
        UsageError: The name is out of range.
    """
    if not 0 < len(name) <= 64:
        raise UsageError("a relay's name has 1 to 64 characters")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begins = datetime.fromtimestamp(at_ms // 1000, tz=UTC)
    certificate = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=VALIDITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return TlsIdentity(
        certificate=certificate.public_bytes(Encoding.PEM),
        key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


def tls_ends_ms(certificate: bytes) -> int:
    """Return the end of a PEM certificate's validity, in ms since the epoch.

    Raises:
        DecodeError: The bytes are no PEM certificate.
    """
    ends = guarded(lambda: x509.load_pem_x509_certificate(certificate).not_valid_after_utc)
    return int(ends.timestamp()) * 1000


def tls_pin(certificate: bytes) -> bytes:
    """Return the pin of a PEM certificate: SHA-256 of its SubjectPublicKeyInfo.

    Raises:
        DecodeError: The bytes are no PEM certificate.

    Source: RFC 7469, section 2.4.
    """

    def subject_public_key_info() -> bytes:
        parsed = x509.load_pem_x509_certificate(certificate)
        return parsed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    return hashlib.sha256(guarded(subject_public_key_info)).digest()
