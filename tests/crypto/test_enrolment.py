"""Enrolment: requests, and an authority that issues nothing that a client would refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import certificate, codec, enrolment, identity, invitation, statement
from crypto.certificate import DAY_MS, LIFETIME_MS, RENEWAL_MS, DeviceClaim
from crypto.ed25519 import SigningKey
from crypto.enrolment import REQUEST_LIFETIME_MS, renew_certificate, verify_request
from crypto.errors import CryptoError, DecodeError, InvalidError, UsageError, VerificationError
from crypto.names import TIME_MAX_MS, Role
from crypto.proof import decode_grant
from crypto.statement import Purpose, StatementType
from crypto.trust import CLOCK_SKEW_MS

from .hospital import ADMINISTRATOR, CLINICIAN, NOW_MS, Device, Hospital, Staff, new_keys

STAFF = Staff()
LINK = STAFF.link()
KEYS = new_keys("dora", "phone")
INVITATION = STAFF.invite("dora", STAFF.ada.signs_as(Purpose.ADMINISTRATOR), link=LINK)
REQUEST = STAFF.request(KEYS, INVITATION, link=LINK)


@pytest.fixture
def staff() -> Staff:
    return Staff()


def issued(staff: Hospital, request: bytes, *, at_ms: int = NOW_MS) -> bytes:
    return enrolment.issue_certificate(
        request, trust=staff.trust, authority=staff.authority_key, at_ms=at_ms
    )


def renewed(
    staff: Staff,
    device: Device,
    *,
    keys: enrolment.DeviceKeys | None = None,
    allowing: bytes | None = None,
    current: bytes | None = None,
    roles: frozenset[Role] | None = None,
    at_ms: int = NOW_MS + RENEWAL_MS,
) -> bytes:
    proof = certificate.decode_certificate(device.der, root=staff.root).proof
    request = enrolment.create_request(
        keys or device.keys,
        organisation=staff.organisation,
        statement=allowing or proof.statement,
        binding=proof.binding,
        at_ms=at_ms,
    )
    return renew_certificate(
        request,
        current=current or device.der,
        roles=device.identity.roles if roles is None else roles,
        trust=staff.trust,
        authority=staff.authority_key,
        at_ms=at_ms,
    )


# Requests


def test_a_request_says_what_the_device_is_to_be() -> None:
    found = verify_request(REQUEST, trust=STAFF.trust, at_ms=NOW_MS)
    assert found.claim == KEYS.claim
    assert found.statement == INVITATION
    assert found.requested_ms == NOW_MS


def test_every_flipped_bit_and_every_truncation_of_a_request_is_refused() -> None:
    for at in range(len(REQUEST) * 8):
        flipped = bytearray(REQUEST)
        flipped[at // 8] ^= 1 << at % 8
        with pytest.raises((DecodeError, InvalidError, VerificationError)):
            verify_request(bytes(flipped), trust=STAFF.trust, at_ms=NOW_MS)
    for end in range(len(REQUEST)):
        with pytest.raises(DecodeError):
            verify_request(REQUEST[:end], trust=STAFF.trust, at_ms=NOW_MS)
    with pytest.raises(DecodeError):
        verify_request(REQUEST + b"\x00", trust=STAFF.trust, at_ms=NOW_MS)


def test_a_request_proves_that_the_device_holds_both_keys() -> None:
    message = enrolment._signed_bytes(verify_request(REQUEST, trust=STAFF.trust, at_ms=NOW_MS))
    body = REQUEST[:-128]
    good = (KEYS.signature_key.sign(message), KEYS.connection_key.sign(message))
    stranger = SigningKey.generate().sign(message)
    assert body + b"".join(good) == REQUEST
    for signatures in ((stranger, good[1]), (good[0], stranger), (good[1], good[0])):
        with pytest.raises(VerificationError):
            verify_request(body + b"".join(signatures), trust=STAFF.trust, at_ms=NOW_MS)


@pytest.mark.parametrize(
    ("at_ms", "answered"),
    [
        (NOW_MS - CLOCK_SKEW_MS - 1, False),
        (NOW_MS - CLOCK_SKEW_MS, True),
        (NOW_MS + REQUEST_LIFETIME_MS + CLOCK_SKEW_MS, True),
        (NOW_MS + REQUEST_LIFETIME_MS + CLOCK_SKEW_MS + 1, False),
    ],
)
def test_a_request_waits_for_the_authority_for_a_bounded_time(at_ms: int, answered: bool) -> None:
    if answered:
        verify_request(REQUEST, trust=STAFF.trust, at_ms=at_ms)
    else:
        with pytest.raises(InvalidError):
            verify_request(REQUEST, trust=STAFF.trust, at_ms=at_ms)


def test_a_request_to_another_organisation_is_refused() -> None:
    with pytest.raises(InvalidError):
        verify_request(REQUEST, trust=Hospital().trust, at_ms=NOW_MS)


def test_a_devices_two_keys_differ() -> None:
    one = SigningKey.generate()
    keys = replace(KEYS, signature_key=one, connection_key=one)
    with pytest.raises(InvalidError):
        STAFF.request(keys, INVITATION)


@pytest.mark.parametrize("key", [bytes([1]) + bytes(31), b"\xff" * 32, bytes(31)])
@pytest.mark.parametrize("which", ["signature_key", "connection_key"])
def test_a_claim_with_a_malformed_key_is_refused(which: str, key: bytes) -> None:
    fields = {
        "signature_key": KEYS.signature_key.public_key,
        "connection_key": KEYS.connection_key.public_key,
        which: key,
    }
    with pytest.raises(InvalidError):
        DeviceClaim(user="dora", device="phone", **fields)


@pytest.mark.parametrize(("user", "device"), [("Dora", "phone"), ("dora", "ph.one"), ("", "a")])
def test_a_claim_with_a_malformed_name_is_refused(user: str, device: str) -> None:
    with pytest.raises(InvalidError):
        STAFF.request(replace(KEYS, user=user, device=device), INVITATION)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_as_a_request(data: bytes) -> None:
    with pytest.raises((DecodeError, InvalidError, VerificationError)):
        verify_request(data, trust=STAFF.trust, at_ms=NOW_MS)


@given(st.integers(0, len(REQUEST)), st.integers(0, 20), st.binary(max_size=20))
def test_any_changed_request_is_a_documented_error_or_re_encodes(
    at: int, cut: int, put: bytes
) -> None:
    data = REQUEST[:at] + put + REQUEST[at + cut :]
    try:
        value, *signatures = codec.decode(
            data, "CertificateRequest", enrolment._read_signed_request
        )
    except (DecodeError, InvalidError):
        return
    assert value.encode() + b"".join(signatures) == data


# Objects of one kind given as another


OBJECTS = {
    "request": REQUEST,
    "certificate": STAFF.alice.der,
    "root": STAFF.root.der,
    "INVITATION": INVITATION,
    "COMMAND": STAFF.state(StatementType.COMMAND, b"", STAFF.authority),
}


READERS: dict[str, Callable[[bytes], object]] = {
    "request": lambda data: verify_request(data, trust=STAFF.trust, at_ms=NOW_MS),
    "certificate": lambda data: certificate.decode_certificate(data, root=STAFF.root),
    "root": lambda data: certificate.pin_root(data, organisation=STAFF.organisation),
    "INVITATION": lambda data: statement.verify_statement(
        data, expected=StatementType.INVITATION, trust=STAFF.trust, at_ms=NOW_MS
    ),
    "invitation's body": invitation.decode_invitation,
    "grant's body": decode_grant,
    "link": lambda data: invitation.decode_link(data.decode("latin-1")),
}


def test_each_reader_reads_its_own_kind() -> None:
    for kind in READERS.keys() & OBJECTS.keys():
        READERS[kind](OBJECTS[kind])


@pytest.mark.parametrize(
    ("kind", "reader"),
    [(kind, reader) for kind in OBJECTS for reader in READERS if kind != reader],
)
def test_no_object_is_read_as_one_of_another_kind(kind: str, reader: str) -> None:
    with pytest.raises(CryptoError) as caught:
        READERS[reader](OBJECTS[kind])
    assert not isinstance(caught.value, UsageError)


# First certificates


def test_the_authority_issues_what_a_client_accepts(staff: Staff) -> None:
    device = staff.enrol("dora/phone", staff.ada.signs_as(Purpose.ADMINISTRATOR))
    found = device.identity
    assert found.roles == CLINICIAN
    assert found.not_before_ms == NOW_MS // 1000 * 1000
    assert found.not_after_ms == found.not_before_ms + LIFETIME_MS
    assert found.ends_ms is None


def test_a_contractors_certificate_ends_with_the_contract(staff: Staff) -> None:
    ends_ms = NOW_MS + 10 * DAY_MS
    device = staff.enrol("carl/phone", staff.ada.signs_as(Purpose.ADMINISTRATOR), ends_ms=ends_ms)
    assert device.identity.ends_ms == ends_ms
    assert device.identity.not_after_ms == ends_ms // 1000 * 1000
    again = renewed(staff, device, at_ms=NOW_MS + 5 * DAY_MS)
    assert (
        certificate.decode_certificate(again, root=staff.root).not_after_ms
        == device.identity.not_after_ms
    )
    with pytest.raises(InvalidError):
        renewed(staff, device, at_ms=ends_ms + CLOCK_SKEW_MS - 1000)


def test_nobody_is_certified_whose_work_here_has_ended(staff: Staff) -> None:
    ada = staff.ada.signs_as(Purpose.ADMINISTRATOR)
    assert staff.enrol("carl/phone", ada, ends_ms=NOW_MS + 1).identity.ends_ms == NOW_MS + 1
    for ends_ms in (NOW_MS, NOW_MS - DAY_MS):
        with pytest.raises(InvalidError):
            staff.enrol("cora/phone", ada, ends_ms=ends_ms)


def test_an_expired_invitation_is_refused(staff: Staff) -> None:
    link, keys = staff.link(), new_keys("dora", "phone")
    dora = staff.invite("dora", staff.ada.signs_as(Purpose.ADMINISTRATOR), link=link)
    late_ms = NOW_MS + 14 * DAY_MS + CLOCK_SKEW_MS + 1
    with pytest.raises(InvalidError):
        issued(staff, staff.request(keys, dora, link=link, at_ms=late_ms), at_ms=late_ms)


def test_a_revoked_devices_name_is_not_used_again(staff: Staff) -> None:
    staff.trust = staff.trust.revoking(
        staff.trust.revocations.with_device("alice/tablet", at_ms=NOW_MS)
    )
    keys = new_keys("alice", "tablet")
    with pytest.raises(InvalidError):
        issued(staff, staff.request(keys, staff.vouch(staff.alice, keys)))


def test_only_the_authority_issues(staff: Staff) -> None:
    keys = new_keys("alice", "tablet")
    request = staff.request(keys, staff.vouch(staff.alice, keys))
    with pytest.raises(UsageError):
        enrolment.issue_certificate(
            request, trust=staff.trust, authority=SigningKey.generate(), at_ms=NOW_MS
        )


def test_no_certificate_is_issued_past_what_a_certificate_can_say() -> None:
    with pytest.raises(InvalidError):
        Hospital().enrol("ada/desk", at_ms=TIME_MAX_MS)


# The next certificate


def test_a_renewal_keeps_keys_and_proof_after_the_proof_has_expired(staff: Staff) -> None:
    at_ms = NOW_MS + RENEWAL_MS
    der = renewed(staff, staff.alice, at_ms=at_ms)
    found = staff.know(staff.alice.keys, der, at_ms=at_ms).identity
    assert found.not_after_ms == at_ms // 1000 * 1000 + LIFETIME_MS
    assert found.origin == staff.alice.identity.origin
    assert found.fingerprint != staff.alice.identity.fingerprint
    old, new = (certificate.decode_certificate(d, root=staff.root) for d in (staff.alice.der, der))
    assert (new.proof, new.claim) == (old.proof, old.claim)
    again = renewed(staff, staff.alice, current=der, at_ms=at_ms + RENEWAL_MS)
    later_ms = at_ms + RENEWAL_MS
    key = found.signature_key
    identity.verify_entering_leaf([again], signature_key=key, trust=staff.trust, at_ms=later_ms)


def test_a_renewal_can_drop_a_role_and_add_none(staff: Staff) -> None:
    der = renewed(staff, staff.ada, roles=CLINICIAN)
    assert certificate.decode_certificate(der, root=staff.root).roles == CLINICIAN
    for roles in (frozenset[Role](), ADMINISTRATOR | {Role.OFFICER}):
        with pytest.raises(InvalidError):
            renewed(staff, staff.ada, roles=roles)
    with pytest.raises(InvalidError):
        renewed(staff, staff.ada, current=der, roles=ADMINISTRATOR)


def test_an_expired_or_revoked_certificate_is_not_renewed(staff: Staff) -> None:
    with pytest.raises(InvalidError):
        renewed(staff, staff.alice, at_ms=NOW_MS + LIFETIME_MS + 2 * CLOCK_SKEW_MS)
    staff.trust = staff.trust.revoking(
        staff.trust.revocations.with_device("alice/phone", at_ms=NOW_MS)
    )
    with pytest.raises(InvalidError):
        renewed(staff, staff.alice)


def test_a_renewal_changes_neither_names_nor_keys_nor_proof(staff: Staff) -> None:
    keys = staff.alice.keys
    for changed in (
        replace(keys, signature_key=SigningKey.generate()),
        replace(keys, connection_key=SigningKey.generate()),
        replace(keys, device="tablet"),
    ):
        with pytest.raises(InvalidError):
            renewed(staff, staff.alice, keys=changed)
    with pytest.raises(InvalidError):
        renewed(staff, staff.alice, allowing=staff.vouch(staff.alice, keys))


def test_no_device_is_renewed_into_another(staff: Staff) -> None:
    for one, other in permutations((staff.alice, staff.ada), 2):
        with pytest.raises(InvalidError):
            renewed(staff, one, current=other.der)


def test_a_wellformed_request_with_a_hostile_statement_is_refused(staff: Staff) -> None:
    keys = new_keys("alice", "tablet")
    with pytest.raises(DecodeError):
        issued(staff, staff.request(keys, b"no statement"))
    with pytest.raises(DecodeError):
        issued(
            staff,
            staff.request(
                keys,
                staff.state(
                    StatementType.DEVICE_VOUCHING, b"?", staff.alice.signs_as(Purpose.DEVICE)
                ),
            ),
        )
