"""The one Ed25519 verifier: what it accepts, and everything that other verifiers disagree about."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from crypto import ed25519
from crypto.ed25519 import SigningKey
from crypto.errors import InvalidError, UsageError, VerificationError
from tests.crypto.low_order import LOW_ORDER_ED25519, ORDER

EDGE_CASES = Path(__file__).with_name("cctv_ed25519.csv")
NEVER = {"low_order_A", "low_order_R", "non_canonical_A", "non_canonical_R"}


def _edge_cases() -> list[dict[str, str]]:
    lines = EDGE_CASES.read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def _verifies(case: dict[str, str]) -> bool:
    try:
        ed25519.verify(
            public_key=bytes.fromhex(case["key"]),
            message=case["msg"].encode(),
            signature=bytes.fromhex(case["sig"]),
        )
    except VerificationError:
        return False
    return True


def _key_passes(case: dict[str, str]) -> bool:
    try:
        ed25519.check_public_key(bytes.fromhex(case["key"]))
    except InvalidError:
        return False
    return True


def test_no_edge_case_with_a_small_order_or_non_canonical_point_verifies() -> None:
    cases = [case for case in _edge_cases() if NEVER & set(case["flags"].split())]
    assert len(cases) == 808
    assert not any(map(_verifies, cases))


def test_of_all_edge_cases_only_the_ordinary_one_verifies_under_a_checked_key() -> None:
    cases = _edge_cases()
    assert len(cases) == 914
    accepted = [case for case in cases if _key_passes(case) and _verifies(case)]
    assert [case["flags"] for case in accepted] == [""]


def test_no_key_with_a_small_order_component_passes_the_check() -> None:
    cases = _edge_cases()
    mixed = [case for case in cases if "low_order_component_A" in case["flags"]]
    assert len(mixed) == 774
    assert not any(map(_key_passes, mixed))


@pytest.mark.parametrize("point", LOW_ORDER_ED25519, ids=bytes.hex)
def test_a_small_order_key_verifies_nothing_and_passes_no_check(point: bytes) -> None:
    with pytest.raises(InvalidError):
        ed25519.check_public_key(point)
    # R = A and S = 0 satisfies the equation for some message under a verifier without checks.
    for number in range(16):
        with pytest.raises(VerificationError):
            ed25519.verify(public_key=point, message=bytes([number]), signature=point + bytes(32))


@given(st.binary(max_size=64))
def test_a_signature_verifies_here_and_under_another_implementation(message: bytes) -> None:
    key = SigningKey.generate()
    signature = key.sign(message)
    ed25519.verify(public_key=key.public_key, message=message, signature=signature)
    Ed25519PublicKey.from_public_bytes(key.public_key).verify(signature, message)
    theirs = Ed25519PrivateKey.from_private_bytes(key.seed)
    assert theirs.sign(message) == signature


def test_a_key_is_that_of_its_seed() -> None:
    # RFC 8032, section 7.1, test 2.
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    key = SigningKey.from_seed(seed)
    assert key.seed == seed
    assert key.public_key.hex() == (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    )
    assert key.sign(b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_seed_of_another_length_is_its_callers_mistake(size: int) -> None:
    with pytest.raises(UsageError):
        SigningKey.from_seed(bytes(size))


def test_a_signature_with_a_second_encoding_of_s_is_refused() -> None:
    key = SigningKey.generate()
    signature = key.sign(b"note")
    number = int.from_bytes(signature[32:], "little")
    for multiple in range(1, 16):
        malleated = number + multiple * ORDER
        if malleated >= 1 << 256:
            break
        with pytest.raises(VerificationError):
            ed25519.verify(
                public_key=key.public_key,
                message=b"note",
                signature=signature[:32] + malleated.to_bytes(32, "little"),
            )


def test_every_flipped_bit_of_a_signature_and_every_other_length_is_refused() -> None:
    key = SigningKey.generate()
    signature = key.sign(b"note")
    for bit in range(8 * len(signature)):
        changed = bytearray(signature)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(VerificationError):
            ed25519.verify(public_key=key.public_key, message=b"note", signature=bytes(changed))
    for cut in (b"", signature[:-1], signature + b"\0"):
        with pytest.raises(VerificationError):
            ed25519.verify(public_key=key.public_key, message=b"note", signature=cut)
    for cut in (b"", key.public_key[:-1], key.public_key + b"\0"):
        with pytest.raises(VerificationError):
            ed25519.verify(public_key=cut, message=b"note", signature=signature)
        with pytest.raises(InvalidError):
            ed25519.check_public_key(cut)


def test_a_key_shows_no_secret_when_printed() -> None:
    key = SigningKey.generate()
    printed = repr(key)
    assert key.seed.hex() not in printed
    assert repr(key.seed)[2:-1] not in printed
    assert "_secret" not in printed
