"""The X.509 profile: what the root may sign, and what is refused although the root signed it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_core_ed25519_add

from crypto import certificate
from crypto.certificate import (
    CERTIFICATE_BYTES,
    DEVICE_OID,
    LIFETIME_MS,
    PROOF_OID,
    RENEWAL_MS,
    Certificate,
)
from crypto.ed25519 import SigningKey
from crypto.errors import DecodeError, InvalidError, UsageError, VerificationError
from crypto.names import Role

from .hospital import NOW_MS, Hospital, Staff

SMALL_ORDER = bytes([1]) + bytes(31)
NON_CANONICAL = b"\xee" + b"\xff" * 30 + b"\x7f"
ORDER_8 = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")
STAFF = Staff()
ROOT, ALICE = STAFF.root, STAFF.alice
LEAF = certificate.decode_certificate(ALICE.der, root=ROOT)
TBS = certificate._split(ALICE.der)[0]
FIELDS = certificate._content(TBS)


def signed(tbs: bytes) -> bytes:
    """Return a certificate of any signed part, with the root's true signature."""
    return certificate._assemble(tbs, STAFF.authority_key)


def forged(**changes: object) -> bytes:
    """Return what a root that ignores the profile's checks would sign."""
    return signed(certificate._leaf_tbs(replace(LEAF, **changes), ROOT))  # type: ignore[arg-type]


Extension = tuple[x509.ExtensionType, bool]


def standard_extensions(leaf: Certificate = LEAF) -> list[Extension]:
    parsed = x509.load_der_x509_certificate(ALICE.der)
    return [(extension.value, extension.critical) for extension in parsed.extensions]


def built(
    *,
    extensions: list[Extension] | None = None,
    subject: x509.Name | None = None,
    issuer: x509.Name | None = None,
    key: Any = None,
    begins: datetime | None = None,
    ends: datetime | None = None,
) -> bytes:
    """Return a certificate that deviates from alice's, signed by the true root."""
    parsed = x509.load_der_x509_certificate(ALICE.der)
    builder = (
        x509.CertificateBuilder(
            subject_name=subject or parsed.subject, issuer_name=issuer or parsed.issuer
        )
        .public_key(key or parsed.public_key())
        .serial_number(parsed.serial_number)
        .not_valid_before(begins or parsed.not_valid_before_utc)
        .not_valid_after(ends or parsed.not_valid_after_utc)
    )
    for value, critical in standard_extensions() if extensions is None else extensions:
        builder = builder.add_extension(value, critical=critical)
    return signed(builder.sign(certificate._DISCARDED, None).tbs_certificate_bytes)


def without(index: int) -> list[Extension]:
    return [item for at, item in enumerate(standard_extensions()) if at != index]


def replaced(index: int, value: x509.ExtensionType, *, critical: bool = True) -> list[Extension]:
    items = standard_extensions()
    items[index] = (value, critical)
    return items


def unknown(*, critical: bool) -> list[Extension]:
    oid = x509.ObjectIdentifier(certificate.ARC + ".99")
    return [*standard_extensions(), (x509.UnrecognizedExtension(oid, b"?"), critical)]


def device_extension(value: bytes) -> list[Extension]:
    return replaced(
        3, x509.UnrecognizedExtension(x509.ObjectIdentifier(DEVICE_OID), value), critical=True
    )


def with_connection_key(key: bytes) -> bytes:
    return built(extensions=device_extension(DEVICE_VALUE.replace(LEAF.claim.connection_key, key)))


def subject(*attributes: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


def raw(fields: bytes) -> bytes:
    return signed(certificate._sequence(fields))


ORGANISATION = (NameOID.ORGANIZATION_NAME, ROOT.organisation.hex())
USER = (NameOID.USER_ID, "alice")
DEVICE = (NameOID.COMMON_NAME, "phone")
SERIAL_AT = 5
AFTER_SERIAL = SERIAL_AT + 2 + FIELDS[SERIAL_AT + 1]
DEVICE_VALUE = certificate._device_value(LEAF)


def head(serial: bytes) -> bytes:
    return FIELDS[:SERIAL_AT] + b"\x02" + bytes([len(serial)]) + serial + FIELDS[AFTER_SERIAL:]


def duplicated() -> bytes:
    """Return a certificate in which the proof stands twice."""
    at = FIELDS.rindex(b"\xa3\x82")
    listed = certificate._content(FIELDS[at + 4 :])
    # SEQUENCE header (4), OID header (2) and content (20), BOOLEAN (3), OCTET STRING header (4)
    proof = listed[-len(LEAF.proof.encode()) - 33 :]
    content = certificate._sequence(listed + proof)
    return raw(FIELDS[:at] + b"\xa3\x82" + len(content).to_bytes(2, "big") + content)


REFUSED: dict[str, Callable[[], bytes]] = {
    "a version 1 certificate": lambda: raw(FIELDS[5:]),
    "an explicit version 1": lambda: raw(b"\xa0\x03\x02\x01\x00" + FIELDS[5:]),
    "a version 2 certificate": lambda: raw(b"\xa0\x03\x02\x01\x01" + FIELDS[5:]),
    "nothing after the version": lambda: raw(FIELDS[:6]),
    "a serial of zero": lambda: raw(head(b"\x00")),
    "a negative serial": lambda: raw(head(b"\x80" + bytes(18))),
    "a serial without octets": lambda: raw(head(b"")),
    "a serial of 21 octets": lambda: raw(head(b"\x01" + bytes(20))),
    "another inner algorithm": lambda: raw(FIELDS.replace(b"\x2b\x65\x70", b"\x2b\x65\x71", 1)),
    "a CA's flag on a leaf": lambda: built(
        extensions=replaced(1, x509.BasicConstraints(ca=True, path_length=None))
    ),
    "a leaf that may sign certificates": lambda: built(
        extensions=replaced(2, certificate._key_usage(certificate_sign=True))
    ),
    "a leaf without constraints": lambda: built(extensions=without(1)),
    "a leaf without key usage": lambda: built(extensions=without(2)),
    "a leaf without its issuer's key": lambda: built(extensions=without(0)),
    "a leaf without device extension": lambda: built(extensions=without(3)),
    "a leaf without proof": lambda: built(extensions=without(4)),
    "no extensions": lambda: built(extensions=[]),
    "an unknown critical extension": lambda: built(extensions=unknown(critical=True)),
    "an unknown extension": lambda: built(extensions=unknown(critical=False)),
    "extensions in another order": lambda: built(extensions=standard_extensions()[::-1]),
    "a critical flag left out": lambda: built(
        extensions=replaced(1, x509.BasicConstraints(ca=False, path_length=None), critical=False)
    ),
    "another issuer's key": lambda: built(
        extensions=replaced(0, x509.AuthorityKeyIdentifier(bytes(20), None, None), critical=False)
    ),
    "another issuer's name": lambda: built(issuer=subject((NameOID.ORGANIZATION_NAME, "Evil"))),
    "a subject without device": lambda: built(subject=subject(ORGANISATION, USER)),
    "a subject with more": lambda: built(subject=subject(ORGANISATION, USER, DEVICE, DEVICE)),
    "a subject in another order": lambda: built(subject=subject(USER, ORGANISATION, DEVICE)),
    "another organisation": lambda: built(
        subject=subject((NameOID.ORGANIZATION_NAME, "00" * 32), USER, DEVICE)
    ),
    "a user in capitals": lambda: built(
        subject=subject(ORGANISATION, (NameOID.USER_ID, "Alice"), DEVICE)
    ),
    "a user with a newline": lambda: built(
        subject=subject(ORGANISATION, (NameOID.USER_ID, "alice\n"), DEVICE)
    ),
    "a device with a dot": lambda: built(
        subject=subject(ORGANISATION, USER, (NameOID.COMMON_NAME, "ph.one"))
    ),
    "a key of another kind": lambda: built(key=generate_private_key(SECP256R1()).public_key()),
    "a key of small order": lambda: built(key=Ed25519PublicKey.from_public_bytes(SMALL_ORDER)),
    "a key that is not canonical": lambda: built(
        key=Ed25519PublicKey.from_public_bytes(NON_CANONICAL)
    ),
    "a connection key of small order": lambda: with_connection_key(SMALL_ORDER),
    "one key for both purposes": lambda: with_connection_key(LEAF.claim.signature_key),
    "a life of more than 90 days": lambda: forged(
        not_after_ms=LEAF.not_before_ms + LIFETIME_MS + 1000
    ),
    "an end after the person's": lambda: forged(ends_ms=LEAF.not_after_ms - 1),
    "a proof from after its certificate": lambda: forged(
        proof=replace(LEAF.proof, proved_at_ms=LEAF.not_before_ms + 1000)
    ),
    "no end": lambda: built(ends=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    "a beginning before 1970": lambda: built(
        begins=datetime(1960, 1, 1, tzinfo=UTC), ends=datetime(1960, 1, 2, tzinfo=UTC)
    ),
}

BROKEN_RULE: dict[str, tuple[str, ...]] = {
    "section 4.1.2.1)": (
        "a version 1 certificate",
        "an explicit version 1",
        "a version 2 certificate",
    ),
    "section 4.1.2.2)": (
        "nothing after the version",
        "a serial of zero",
        "a negative serial",
        "a serial without octets",
        "a serial of 21 octets",
    ),
    "section 4.1.2.3)": ("another inner algorithm",),
    "section 4.2.1.9)": ("a CA's flag on a leaf",),
    "section 4.2.1.3)": ("a leaf that may sign certificates",),
    "section 4.2)": (
        "a leaf without constraints",
        "a leaf without key usage",
        "a leaf without its issuer's key",
        "a leaf without device extension",
        "a leaf without proof",
        "no extensions",
        "an unknown critical extension",
        "an unknown extension",
    ),
    "section 4.1)": (
        "extensions in another order",
        "a critical flag left out",
        "another issuer's key",
    ),
    "section 6.1.3": ("another issuer's name",),
    "section 4.1.2.6)": (
        "a subject without device",
        "a subject with more",
        "a subject in another order",
        "another organisation",
    ),
    "a user is named": ("a user in capitals", "a user with a newline"),
    "a device is named": ("a device with a dot",),
    "RFC 8410": ("a key of another kind",),
    "main subgroup": (
        "a key of small order",
        "a key that is not canonical",
        "a connection key of small order",
    ),
    "connection key": ("one key for both purposes",),
    "section 4.1.2.5)": (
        "a life of more than 90 days",
        "an end after the person's",
        "a proof from after its certificate",
        "no end",
        "a beginning before 1970",
    ),
}
"""The rule, or the section, that each must be refused by."""

MALFORMED: dict[str, Callable[[], bytes]] = {
    "duplicate extensions": duplicated,
    "no role": lambda: built(extensions=device_extension(b"\x00" + DEVICE_VALUE[2:])),
    "an unknown role": lambda: built(extensions=device_extension(b"\x01\x63" + DEVICE_VALUE[2:])),
    "roles out of order": lambda: built(
        extensions=device_extension(b"\x02\x02\x01" + DEVICE_VALUE[2:])
    ),
    "a role twice": lambda: built(extensions=device_extension(b"\x02\x01\x01" + DEVICE_VALUE[2:])),
    "bytes after the device extension": lambda: built(
        extensions=device_extension(DEVICE_VALUE + b"\x00")
    ),
    "bytes missing from the device extension": lambda: built(
        extensions=device_extension(DEVICE_VALUE[:-1])
    ),
    "a signed part that ends early": lambda: raw(FIELDS[:60]),
    "a signed part with more at its end": lambda: raw(FIELDS + b"\x05\x00"),
}


@pytest.mark.parametrize(
    ("rule", "what"), [(rule, what) for rule, listed in BROKEN_RULE.items() for what in listed]
)
def test_the_root_signs_it_and_it_is_still_refused(rule: str, what: str) -> None:
    with pytest.raises(InvalidError) as caught:
        certificate.decode_certificate(REFUSED[what](), root=ROOT)
    assert rule in caught.value.rule


def test_every_refused_certificate_has_its_rule() -> None:
    assert sorted(sum(BROKEN_RULE.values(), ())) == sorted(REFUSED)


def test_an_extension_twice_is_refused_for_that() -> None:
    with pytest.raises(x509.DuplicateExtension):
        _ = x509.load_der_x509_certificate(duplicated()).extensions


@pytest.mark.parametrize("what", MALFORMED)
def test_the_root_signs_it_and_it_is_still_no_certificate(what: str) -> None:
    der = MALFORMED[what]()
    with pytest.raises(DecodeError):
        certificate.decode_certificate(der, root=ROOT)


def test_the_forger_of_these_tables_makes_good_certificates_too() -> None:
    assert built() == forged() == ALICE.der


def test_a_certificate_says_what_it_was_made_of() -> None:
    assert (LEAF.claim.user, LEAF.claim.device) == ("alice", "phone")
    assert LEAF.roles == frozenset({Role.CLINICIAN})
    assert LEAF.claim.signature_key == ALICE.keys.signature_key.public_key
    assert LEAF.claim.connection_key == ALICE.keys.connection_key.public_key
    assert LEAF.organisation == ROOT.organisation
    assert LEAF.not_after_ms - LEAF.not_before_ms == LIFETIME_MS == 2 * RENEWAL_MS


def test_a_certificate_re_encodes_to_the_same_bytes() -> None:
    again = certificate.encode_certificate(LEAF, root=ROOT, authority=STAFF.authority_key)
    assert again == ALICE.der


def test_an_independent_verifier_accepts_the_chain() -> None:
    leaf, root = map(x509.load_der_x509_certificate, (ALICE.der, ROOT.der))
    leaf.verify_directly_issued_by(root)
    root.verify_directly_issued_by(root)


def test_every_flipped_bit_of_a_certificate_is_refused() -> None:
    for at in range(len(ALICE.der) * 8):
        flipped = bytearray(ALICE.der)
        flipped[at // 8] ^= 1 << at % 8
        with pytest.raises((DecodeError, InvalidError, VerificationError)):
            certificate.decode_certificate(bytes(flipped), root=ROOT)


def test_every_truncation_of_a_certificate_is_refused() -> None:
    for end in range(len(ALICE.der)):
        with pytest.raises((DecodeError, InvalidError)):
            certificate.decode_certificate(ALICE.der[:end], root=ROOT)


def test_a_certificate_has_one_length_and_nothing_trails() -> None:
    octets = ALICE.der[2:4]
    for der in (
        ALICE.der + b"\x00",
        b"\x30\x83\x00" + octets + ALICE.der[4:],
        b"\x30\x80" + ALICE.der[4:] + b"\x00\x00",
    ):
        with pytest.raises(InvalidError) as caught:
            certificate.decode_certificate(der, root=ROOT)
        assert "nothing trails" in caught.value.rule


def test_every_flipped_bit_that_the_root_signs_gives_a_documented_end() -> None:
    accepted = 0
    statement = range(TBS.index(LEAF.proof.statement), len(TBS))
    for at in range(len(TBS) * 8):
        if at // 8 in statement and at % 8:
            continue  # what an extension only carries is as good with one bit an octet
        flipped = bytearray(TBS)
        flipped[at // 8] ^= 1 << at % 8
        der = signed(bytes(flipped))
        try:
            value = certificate.decode_certificate(der, root=ROOT)
        except (DecodeError, InvalidError):
            continue
        accepted += 1
        again = certificate.encode_certificate(value, root=ROOT, authority=STAFF.authority_key)
        assert again == der
    assert 0 < accepted < len(TBS) * 8


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_as_a_certificate(data: bytes) -> None:
    with pytest.raises((DecodeError, InvalidError, VerificationError)):
        certificate.decode_certificate(data, root=ROOT)


@given(st.integers(0, len(FIELDS)), st.integers(0, 20), st.binary(max_size=20))
def test_any_change_that_the_root_signs_gives_a_value_or_a_documented_error(
    at: int, cut: int, put: bytes
) -> None:
    der = raw(FIELDS[:at] + put + FIELDS[at + cut :])
    try:
        value = certificate.decode_certificate(der, root=ROOT)
    except (DecodeError, InvalidError):
        return
    again = certificate.encode_certificate(value, root=ROOT, authority=STAFF.authority_key)
    assert again == der


def test_another_outer_algorithm_is_refused() -> None:
    der = bytearray(ALICE.der)
    der[-65 - 4] ^= 1
    with pytest.raises(InvalidError):
        certificate.decode_certificate(bytes(der), root=ROOT)


def test_a_certificate_beyond_the_limit_is_refused_unread() -> None:
    with pytest.raises(InvalidError):
        certificate.decode_certificate(bytes(CERTIFICATE_BYTES + 1), root=ROOT)


@pytest.mark.parametrize("data", [b"", b"\x30", b"\x31\x00", b"\x30\x80", b"\x30\x00"])
def test_what_is_no_sequence_is_refused(data: bytes) -> None:
    with pytest.raises((DecodeError, InvalidError)):
        certificate.decode_certificate(data, root=ROOT)


def test_another_organisations_certificate_is_refused() -> None:
    with pytest.raises(VerificationError):
        certificate.decode_certificate(ALICE.der, root=Hospital().root)


def test_the_root_itself_is_no_leaf() -> None:
    with pytest.raises(InvalidError):
        certificate.decode_certificate(ROOT.der, root=ROOT)


def test_a_leaf_is_no_root() -> None:
    with pytest.raises(VerificationError):
        certificate.pin_root(ALICE.der, organisation=certificate.fingerprint(ALICE.der))


def test_a_root_is_pinned_by_its_fingerprint_alone() -> None:
    with pytest.raises(VerificationError):
        certificate.pin_root(ROOT.der, organisation=bytes(32))


def test_a_pinned_root_outside_the_profile_is_refused() -> None:
    key = SigningKey.generate()
    parsed = x509.load_der_x509_certificate(ROOT.der)
    builder = (
        x509.CertificateBuilder(subject_name=parsed.subject, issuer_name=parsed.subject)
        .public_key(Ed25519PublicKey.from_public_bytes(key.public_key))
        .serial_number(1)
        .not_valid_before(parsed.not_valid_before_utc)
        .not_valid_after(parsed.not_valid_before_utc + timedelta(days=1))
    )
    tbs = builder.sign(certificate._DISCARDED, None).tbs_certificate_bytes
    der = certificate._assemble(tbs, key)
    with pytest.raises(InvalidError):
        certificate.pin_root(der, organisation=certificate.fingerprint(der))


def test_a_root_whose_key_leaves_the_main_subgroup_is_refused_for_that() -> None:
    mixed = crypto_core_ed25519_add(ROOT.public_key, ORDER_8)
    tbs = certificate._root_tbs(
        ROOT.subject, key=mixed, serial=1, begins=datetime(2026, 1, 1, tzinfo=UTC)
    )
    der = certificate._assemble(tbs, STAFF.authority_key)
    with pytest.raises(InvalidError):
        certificate.pin_root(der, organisation=certificate.fingerprint(der))


def test_every_flipped_bit_of_a_root_is_refused_even_when_it_is_pinned() -> None:
    for at in range(len(ROOT.der) * 8):
        flipped = bytearray(ROOT.der)
        flipped[at // 8] ^= 1 << at % 8
        der = bytes(flipped)
        with pytest.raises((DecodeError, InvalidError, VerificationError)):
            certificate.pin_root(der, organisation=certificate.fingerprint(der))


@pytest.mark.parametrize("name", ["", "x" * 65, "two\nlines"])
def test_an_organisation_has_a_printable_name(name: str) -> None:
    with pytest.raises(UsageError):
        certificate.create_root(name, at_ms=NOW_MS)


def test_a_root_begins_at_a_time_that_a_certificate_can_say() -> None:
    with pytest.raises(UsageError):
        certificate.create_root("St. Elsewhere", at_ms=-1)


def test_a_certificate_is_signed_by_its_own_root_only() -> None:
    with pytest.raises(UsageError):
        certificate.encode_certificate(LEAF, root=ROOT, authority=SigningKey.generate())
    other = Hospital()
    with pytest.raises(UsageError):
        certificate.encode_certificate(LEAF, root=other.root, authority=other.authority_key)


def test_the_longest_names_with_the_longest_proof_fit_half_the_limit() -> None:
    staff = Staff()
    device = staff.enrol(
        "u" * 64 + "/" + "d" * 32,
        *staff.administrators,
        roles=frozenset({Role.CLINICIAN, Role.AFFILIATE, Role.ADMINISTRATOR, Role.OFFICER}),
        ends_ms=NOW_MS + LIFETIME_MS * 4,
    )
    assert len(device.der) <= CERTIFICATE_BYTES // 2


def test_a_panic_of_the_parsers_native_code_is_a_decode_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    panic = type("PanicException", (BaseException,), {})

    def fail(_: bytes) -> x509.Certificate:
        raise panic

    monkeypatch.setattr(x509, "load_der_x509_certificate", fail)
    with pytest.raises(DecodeError):
        certificate.decode_certificate(ALICE.der, root=ROOT)


def test_an_interrupt_during_parsing_stays_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: bytes) -> x509.Certificate:
        raise KeyboardInterrupt

    monkeypatch.setattr(x509, "load_der_x509_certificate", fail)
    with pytest.raises(KeyboardInterrupt):
        certificate.decode_certificate(ALICE.der, root=ROOT)


def test_no_repr_shows_a_name_or_a_key() -> None:
    shown = " ".join(map(repr, (LEAF, ALICE.identity, ROOT, STAFF.trust, LEAF.proof, ALICE.keys)))
    for secret in ("alice", "phone", "Elsewhere", LEAF.claim.signature_key.hex()):
        assert secret not in shown


def test_the_proof_extension_is_critical_so_that_other_software_refuses_a_leaf() -> None:
    parsed = x509.load_der_x509_certificate(ALICE.der)
    for oid in (DEVICE_OID, PROOF_OID):
        assert parsed.extensions.get_extension_for_oid(x509.ObjectIdentifier(oid)).critical
