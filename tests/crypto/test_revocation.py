"""Revocations: lists that only grow newer, and orders that revoke by themselves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.codec import opaque, u64, vector
from crypto.errors import DecodeError, InvalidError
from crypto.revocation import decode_revocations, encode_revocations, verify_revocation_list
from crypto.statement import Purpose, StatementType
from crypto.trust import Revocations, Trust

from .hospital import NOW_MS, Staff

PRINT = bytes(range(32))


def revocations(number: int = 1, since_ms: int = NOW_MS) -> Revocations:
    found = Revocations(number=number)
    for name in ("bob/phone", "alice/phone"):
        found = found.with_device(name, at_ms=since_ms)
    return found.with_certificate(PRINT, at_ms=since_ms)


def listed(staff: Staff, found: Revocations) -> bytes:
    return staff.state(StatementType.REVOCATION_LIST, encode_revocations(found), staff.authority)


def test_a_list_is_taken_in() -> None:
    staff = Staff()
    trust = verify_revocation_list(listed(staff, revocations()), trust=staff.trust, at_ms=NOW_MS)
    assert trust.revocations == revocations()
    assert trust.revocations.since_ms(staff.alice.identity) == NOW_MS
    assert trust.revocations.since_ms(staff.ada.identity) is None


def test_an_older_list_is_refused_and_the_same_one_changes_nothing() -> None:
    staff = Staff()
    trust = staff.trust.revoking(revocations(number=5))
    with pytest.raises(InvalidError):
        verify_revocation_list(listed(staff, revocations(number=4)), trust=trust, at_ms=NOW_MS)
    same = verify_revocation_list(listed(staff, revocations(number=5)), trust=trust, at_ms=NOW_MS)
    assert same == trust


def test_a_newer_list_takes_nobody_off_and_puts_nothing_off() -> None:
    staff = Staff()
    trust = staff.trust.revoking(revocations(number=1, since_ms=NOW_MS))
    for newer in (Revocations(number=2), revocations(number=2, since_ms=NOW_MS + 1000)):
        found = verify_revocation_list(listed(staff, newer), trust=trust, at_ms=NOW_MS)
        assert found.revocations == revocations(number=2, since_ms=NOW_MS)
    earlier = revocations(number=2, since_ms=NOW_MS - 1000)
    found = verify_revocation_list(listed(staff, earlier), trust=trust, at_ms=NOW_MS)
    assert found.revocations == earlier


def test_only_the_authority_signs_a_list() -> None:
    staff = Staff()
    body = encode_revocations(revocations())
    data = staff.state(StatementType.SUSPENSION, body, staff.ada.signs_as(Purpose.ADMINISTRATOR))
    with pytest.raises(InvalidError):
        verify_revocation_list(data, trust=staff.trust, at_ms=NOW_MS)


def test_a_signed_list_with_a_malformed_body_is_refused() -> None:
    staff = Staff()
    data = staff.state(StatementType.REVOCATION_LIST, b"\x00", staff.authority)
    with pytest.raises(DecodeError):
        verify_revocation_list(data, trust=staff.trust, at_ms=NOW_MS)


def test_the_earlier_of_a_devices_and_its_certificates_revocation_counts() -> None:
    alice = Staff().alice.identity
    found = (
        Revocations()
        .with_device(alice.name, at_ms=20)
        .with_certificate(alice.fingerprint, at_ms=10)
    )
    assert found.since_ms(alice) == 10


def test_a_list_re_encodes_and_every_truncation_is_refused() -> None:
    body = encode_revocations(revocations())
    assert encode_revocations(decode_revocations(body)) == body
    assert decode_revocations(body) == revocations()
    for end in range(len(body)):
        with pytest.raises(DecodeError):
            decode_revocations(body[:end])


def device(name: str) -> bytes:
    return opaque(name.encode()) + u64(1)


@pytest.mark.parametrize(
    ("devices", "certificates"),
    [
        (["bob/phone", "alice/phone"], []),
        (["alice/phone", "alice/phone"], []),
        (["alice"], []),
        (["alice/phone/2"], []),
        ([], [PRINT, PRINT]),
        ([], [PRINT, bytes(32)]),
    ],
)
def test_a_list_has_one_order_and_wellformed_names(
    devices: list[str], certificates: list[bytes]
) -> None:
    body = u64(1) + vector(map(device, devices)) + vector(c + u64(1) for c in certificates)
    with pytest.raises(InvalidError):
        decode_revocations(body)


@given(
    st.binary(max_size=120)
    | st.binary(max_size=60).map(lambda b: u64(1) + vector([device("a/b")]) + b)
)
def test_any_bytes_are_a_documented_error_or_a_list_that_re_encodes(data: bytes) -> None:
    try:
        value = decode_revocations(data)
    except (DecodeError, InvalidError):
        return
    assert encode_revocations(value) == data


@pytest.mark.parametrize("name", ["alice", "/phone", "alice/", "Alice/phone", "a/b/c", ""])
def test_a_device_is_revoked_by_its_full_name(name: str) -> None:
    with pytest.raises(InvalidError):
        Revocations().with_device(name, at_ms=NOW_MS)


def test_a_certificate_is_revoked_by_its_whole_fingerprint() -> None:
    with pytest.raises(InvalidError):
        Revocations().with_certificate(PRINT[:-1], at_ms=NOW_MS)


def test_values_never_change_in_place() -> None:
    staff = Staff()
    before = staff.trust
    trust = before.revoking(before.revocations.with_device("alice/phone", at_ms=NOW_MS))
    assert trust is not before
    assert before.revocations.since_ms(staff.alice.identity) is None
    empty = Trust(root=staff.root)
    assert empty.knowing([staff.alice.identity]).devices
    assert not empty.devices
    with pytest.raises(TypeError):
        trust.revocations.devices["bob/desk"] = 1  # type: ignore[index]
