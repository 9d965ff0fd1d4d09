"""The one Ed25519 verifier: what it accepts, and everything that other verifiers disagree about."""

from __future__ import annotations

import hashlib
from itertools import product

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import (
    crypto_core_ed25519_add,
    crypto_core_ed25519_scalar_mul,
    crypto_core_ed25519_scalar_reduce,
    crypto_scalarmult_ed25519_base_noclamp,
    crypto_scalarmult_ed25519_noclamp,
)

from crypto import ed25519
from crypto.ed25519 import SigningKey
from crypto.errors import InvalidError, UsageError, VerificationError
from tests.crypto.low_order import LOW_ORDER_ED25519, ORDER

IDENTITY = (1).to_bytes(32, "little")


def refused(*, public_key: bytes, message: bytes, signature: bytes) -> None:
    with pytest.raises(VerificationError):
        ed25519.verify(public_key=public_key, message=message, signature=signature)


def test_no_pair_of_small_order_points_is_a_signature() -> None:
    # With S = 0 the equation holds for one message in eight or less under a lax verifier.
    for key, commitment in product(LOW_ORDER_ED25519, repeat=2):
        for number in range(16):
            message = bytes([number])
            refused(public_key=key, message=message, signature=commitment + bytes(32))


def test_a_signature_whose_r_is_of_small_order_is_refused_though_its_equation_holds() -> None:
    key = SigningKey.generate()
    scalar = bytearray(hashlib.sha512(key.seed).digest()[:32])
    scalar[0] &= 248
    scalar[31] = scalar[31] & 127 | 64
    challenge = crypto_core_ed25519_scalar_reduce(
        hashlib.sha512(IDENTITY + key.public_key + b"note").digest()
    )
    reduced = crypto_core_ed25519_scalar_reduce(bytes(scalar) + bytes(32))
    response = crypto_core_ed25519_scalar_mul(challenge, reduced)
    # S B = k A, so that R is the identity: both sides of the equation, computed apart.
    assert crypto_scalarmult_ed25519_base_noclamp(response) == crypto_scalarmult_ed25519_noclamp(
        challenge, key.public_key
    )
    refused(public_key=key.public_key, message=b"note", signature=IDENTITY + response)


def test_no_key_with_a_small_order_component_passes_the_check() -> None:
    torsion = [point for point in LOW_ORDER_ED25519 if _is_canonical(point) and point != IDENTITY]
    assert len(torsion) == 7
    for point in torsion:
        mixed = crypto_core_ed25519_add(SigningKey.generate().public_key, point)
        with pytest.raises(InvalidError):
            ed25519.check_public_key(mixed)


def _is_canonical(point: bytes) -> bool:
    y = int.from_bytes(point, "little") & (1 << 255) - 1
    return y < 2**255 - 19 and not (y in (1, 2**255 - 20) and point[31] & 128)


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
