"""A relay's own TLS certificate, and the pin by which clients know it."""

from __future__ import annotations

import hashlib
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from crypto.errors import DecodeError, UsageError
from crypto.tls_certificate import VALIDITY_DAYS, create_tls_identity, tls_ends_ms, tls_pin

AT_MS = 1_790_000_000_000


def test_the_certificate_is_of_the_key_beside_it_and_valid_from_now() -> None:
    identity = create_tls_identity("relay.example", at_ms=AT_MS)
    certificate = x509.load_pem_x509_certificate(identity.certificate)
    key = load_pem_private_key(identity.key, password=None)
    assert certificate.public_key() == key.public_key()
    assert certificate.not_valid_before_utc.timestamp() * 1000 == AT_MS
    validity = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert validity.days == VALIDITY_DAYS


def test_the_pin_is_the_hash_of_the_subject_public_key_info() -> None:
    identity = create_tls_identity("relay", at_ms=AT_MS)
    key = load_pem_private_key(identity.key, password=None).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert tls_pin(identity.certificate) == hashlib.sha256(spki).digest()


def test_two_identities_have_two_pins_and_neither_shows_its_key() -> None:
    first = create_tls_identity("relay", at_ms=0)
    second = create_tls_identity("relay", at_ms=0)
    assert tls_pin(first.certificate) != tls_pin(second.certificate)
    assert "PRIVATE" not in repr(first)


@pytest.mark.parametrize("data", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_what_is_no_certificate_has_neither_pin_nor_end(data: bytes) -> None:
    for look in (tls_pin, tls_ends_ms):
        with pytest.raises(DecodeError):
            look(data)


@pytest.mark.parametrize("version", [1, 5], ids=["X.509v2", "unheard of"])
def test_a_certificate_of_another_version_has_neither_pin_nor_end(version: int) -> None:
    # TLS libraries show such certificates, and the X.509 parser has an error of its own for them.
    pem = create_tls_identity("relay", at_ms=0).certificate.decode()
    der = ssl.PEM_cert_to_DER_cert(pem)
    v3 = b"\xa0\x03\x02\x01\x02"
    assert v3 in der
    other = ssl.DER_cert_to_PEM_cert(der.replace(v3, v3[:-1] + bytes([version]), 1)).encode()
    for look in (tls_pin, tls_ends_ms):
        with pytest.raises(DecodeError):
            look(other)


def test_a_certificate_ends_after_its_days() -> None:
    identity = create_tls_identity("relay", at_ms=5000)
    assert tls_ends_ms(identity.certificate) == 5000 + VALIDITY_DAYS * 24 * 3600 * 1000


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_a_relays_name_has_1_to_64_characters(name: str) -> None:
    with pytest.raises(UsageError):
        create_tls_identity(name, at_ms=0)
