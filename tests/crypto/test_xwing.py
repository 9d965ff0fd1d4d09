"""X-Wing keys against the draft's vectors, and the keys that are refused."""

from __future__ import annotations

from hashlib import sha256

import pytest

from crypto.errors import InvalidError, UsageError
from crypto.xwing import PUBLIC_KEY_BYTES, XWingKey, hpke_public_key

# Seed and SHA-256 of the public key, from spec/test-vectors.json of
# github.com/dconnolly/draft-connolly-cfrg-xwing-kem.
VECTORS = [
    (
        "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26",
        "2e816deebcd76c5c80d0cd2d174478871658e8e2ff42bc9d4a6e486372e856bb",
    ),
    (
        "badfd6dfaac359a5efbb7bcc4b59d538df9a04302e10c8bc1cbf1a0b3a5120ea",
        "c42ba5f8430d7d2c83739338203819f090e8303ce9c8b02107c272bfa5376916",
    ),
    (
        "ef58538b8d23f87732ea63b02b4fa0f4873360e2841928cd60dd4cee8cc0d4c9",
        "6b080d6b84f095342092fa7a22423e58bd681397ad0ef00eac92bd254db4fa95",
    ),
]

# Points of low order on Curve25519 and its twist, and the encodings that are not reduced
# (RFC 7748, section 6.1; the list is that of cr.yp.to/ecdh.html).
PRIME = 2**255 - 19
LOW_ORDER = [
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    PRIME - 1,
]
NOT_CANONICAL = [PRIME, PRIME + 1, PRIME + 9, 2**255 - 1, 2**255 + 9]


@pytest.mark.parametrize(("seed", "public_key_hash"), VECTORS)
def test_a_seed_gives_the_drafts_public_key(seed: str, public_key_hash: str) -> None:
    key = XWingKey.from_seed(bytes.fromhex(seed))
    assert sha256(key.public_key).hexdigest() == public_key_hash
    assert key.seed == bytes.fromhex(seed)


def test_two_keys_differ_and_print_no_seed() -> None:
    one, other = XWingKey.generate(), XWingKey.generate()
    assert one.public_key != other.public_key
    assert one.seed.hex() not in repr(one)
    assert repr(one.seed) not in repr(one)


@pytest.mark.parametrize("point", LOW_ORDER + NOT_CANONICAL)
def test_a_public_key_whose_point_is_of_low_order_or_not_reduced_is_refused(point: int) -> None:
    good = XWingKey.generate().public_key
    hpke_public_key(good)
    with pytest.raises(InvalidError):
        hpke_public_key(good[:-32] + point.to_bytes(32, "little"))


def test_a_public_key_whose_mlkem_half_is_not_reduced_is_refused() -> None:
    good = XWingKey.generate().public_key
    # The first coefficient becomes 4095, above the modulus 3329 (FIPS 203, section 7.2).
    with pytest.raises(InvalidError):
        hpke_public_key(b"\xff" + bytes([good[1] | 0x0F]) + good[2:])


@pytest.mark.parametrize("length", [0, 32, PUBLIC_KEY_BYTES - 1, PUBLIC_KEY_BYTES + 1])
def test_a_public_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(InvalidError):
        hpke_public_key((XWingKey.generate().public_key + b"\0")[:length])


def test_a_seed_of_another_length_is_a_bug_of_the_caller() -> None:
    with pytest.raises(UsageError):
        XWingKey.from_seed(bytes(31))
