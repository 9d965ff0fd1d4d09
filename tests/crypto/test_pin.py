"""PIN keys: what opens a store, what only proves a PIN, and what is refused."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import replace
from hashlib import sha256

import pytest
from argon2.low_level import Type, hash_secret_raw
from hypothesis import given
from hypothesis import strategies as st
from nacl.exceptions import RuntimeError as NaClRuntimeError

from crypto import pin, pin_proof
from crypto.errors import DecodeError, InvalidError, VerificationError
from crypto.pin import (
    MAX_MEMORY_KIB,
    MAX_PASSES,
    MAX_PIN_CHARACTERS,
    MAX_PIN_INPUT,
    MIN_MEMORY_KIB,
    MIN_PASSES,
    PinKey,
    PinParameters,
    normalise_pin,
    stretch,
)

CHEAP = PinParameters.minimum_for_tests()
SHARE = pin_proof.new_share()
PIN = "481516"


def test_the_same_pin_and_share_open_and_any_other_does_not() -> None:
    key = stretch(PIN, CHEAP).store_key(SHARE)
    assert key == stretch(PIN, CHEAP).store_key(SHARE)
    others = {
        stretch("481517", CHEAP).store_key(SHARE),
        stretch(PIN, CHEAP).store_key(pin_proof.new_share()),
        stretch(PIN, PinParameters.minimum_for_tests()).store_key(SHARE),
        stretch(PIN, CHEAP).proof(),
    }
    assert key not in others
    assert len(others) == 4


def test_the_check_of_a_key_is_its_own_and_is_no_key() -> None:
    key = stretch(PIN, CHEAP).store_key(SHARE)
    check = pin.key_check(key)
    assert check == hmac.digest(key, b"Wardline 1 store key check\x01", "sha256")
    assert check not in (key, stretch(PIN, CHEAP).proof())
    assert pin.key_check(stretch("481517", CHEAP).store_key(SHARE)) != check


def test_a_former_key_is_found_under_the_one_that_follows_and_under_no_other() -> None:
    former = stretch(PIN, CHEAP).store_key(SHARE)
    following = stretch("481517", CHEAP).store_key(pin_proof.new_share())
    masked = pin.mask_former_key(former, key=following)
    assert pin.mask_former_key(masked, key=following) == former
    assert former not in (masked, pin.mask_former_key(masked, key=former))
    for size in (0, 31, 33):
        with pytest.raises(InvalidError):
            pin.mask_former_key(bytes(size), key=following)


def test_argon2id_is_the_standards() -> None:
    parameters = PinParameters(passes=2, memory_kib=MIN_MEMORY_KIB, salt=b"s" * 16)
    expected = hash_secret_raw(
        PIN.encode(),
        parameters.salt,
        time_cost=2,
        memory_cost=MIN_MEMORY_KIB,
        parallelism=1,
        hash_len=32,
        type=Type.ID,
    )
    assert stretch(PIN, parameters) == PinKey(expected)


def hkdf(salt: bytes, ikm: bytes, info: bytes) -> bytes:
    """Return 32 bytes of HKDF as RFC 5869 writes it."""
    prk = hmac.digest(salt, ikm, "sha256")
    return hmac.digest(prk, info + b"\x01", "sha256")


def test_proof_and_store_key_are_hkdf_under_two_labels() -> None:
    stretched = secrets.token_bytes(32)
    key = PinKey(stretched)
    assert key.proof() == hkdf(b"", stretched, b"Wardline 1 pin proof")
    assert key.store_key(SHARE) == hkdf(SHARE, stretched, b"Wardline 1 store key")


def test_the_disk_alone_cannot_tell_the_right_pin() -> None:
    # Whoever tries every PIN on a stolen disk gets one candidate key for each share that may be:
    # the right PIN under a guessed share is as wrong as any other.
    key = stretch(PIN, CHEAP).store_key(SHARE)
    guessed_share = bytes(32)
    guesses = {stretch(f"4815{n:02d}", CHEAP).store_key(guessed_share) for n in range(100)}
    assert key not in guesses


def test_the_relay_alone_cannot_tell_the_right_pin() -> None:
    # It has verifier and share, and not the salt: the right PIN under another salt proves nothing.
    stored = pin_proof.verifier(stretch(PIN, CHEAP).proof())
    for _ in range(50):
        guess = stretch(PIN, PinParameters.minimum_for_tests()).proof()
        with pytest.raises(VerificationError):
            pin_proof.verify_proof(guess, expected=stored)


def test_relay_and_disk_together_find_the_pin_by_trying() -> None:
    # As the documentation says: this is what a long PIN and the wipe are for.
    stored = pin_proof.verifier(stretch("000042", CHEAP).proof())
    found = [
        f"{n:06d}"
        for n in range(100)
        if pin_proof.verifier(stretch(f"{n:06d}", CHEAP).proof()) == stored
    ]
    assert found == ["000042"]


def test_the_relay_accepts_the_right_proof_alone() -> None:
    proof = stretch(PIN, CHEAP).proof()
    stored = pin_proof.verifier(proof)
    pin_proof.verify_proof(proof, expected=stored)
    for bit in range(256):
        changed = (int.from_bytes(proof, "big") ^ (1 << bit)).to_bytes(32, "big")
        with pytest.raises(VerificationError):
            pin_proof.verify_proof(changed, expected=stored)
    for wrong in (b"", proof[:-1], proof + b"\0", stored):
        with pytest.raises(VerificationError):
            pin_proof.verify_proof(wrong, expected=stored)


def test_what_the_relay_stores_is_no_proof() -> None:
    proof = stretch(PIN, CHEAP).proof()
    stored = pin_proof.verifier(proof)
    assert stored not in (proof, sha256(proof).digest())
    with pytest.raises(InvalidError):
        pin_proof.verifier(proof[:-1])


def test_shares_and_salts_are_fresh() -> None:
    assert pin_proof.new_share() != pin_proof.new_share()
    assert PinParameters.fresh().salt != PinParameters.fresh().salt
    assert len(PinParameters.fresh().salt) == 16


def test_a_share_of_another_length_is_refused() -> None:
    for share in (b"", SHARE[:-1], SHARE + b"\0"):
        with pytest.raises(InvalidError):
            stretch(PIN, CHEAP).store_key(share)


def test_parameters_survive_the_devices_header() -> None:
    parameters = PinParameters.fresh()
    data = parameters.encode()
    assert PinParameters.decode(data) == parameters
    for cut in range(len(data)):
        with pytest.raises(DecodeError):
            PinParameters.decode(data[:cut])
    with pytest.raises(InvalidError):
        PinParameters.decode(b"\x02" + data[1:])


@pytest.mark.parametrize(
    ("passes", "memory_kib"),
    [
        (MIN_PASSES - 1, MIN_MEMORY_KIB),
        (MIN_PASSES, MIN_MEMORY_KIB - 1),
        (MAX_PASSES + 1, MIN_MEMORY_KIB),
        (MIN_PASSES, MAX_MEMORY_KIB + 1),
        (1, 8),
        (0, 0),
    ],
)
def test_a_cost_outside_the_limits_is_neither_made_nor_read(passes: int, memory_kib: int) -> None:
    with pytest.raises(InvalidError):
        PinParameters(passes=passes, memory_kib=memory_kib, salt=bytes(16))
    data = b"\x01" + bytes([passes]) + memory_kib.to_bytes(4, "big") + bytes(16)
    with pytest.raises(InvalidError):
        PinParameters.decode(data)


def test_the_limits_themselves_are_allowed() -> None:
    for passes, memory_kib in ((MIN_PASSES, MIN_MEMORY_KIB), (MAX_PASSES, MAX_MEMORY_KIB)):
        parameters = PinParameters(passes=passes, memory_kib=memory_kib, salt=bytes(16))
        assert PinParameters.decode(parameters.encode()) == parameters


def test_the_cost_of_tests_is_never_read_from_a_header() -> None:
    with pytest.raises(InvalidError):
        PinParameters.decode(CHEAP.encode())
    with pytest.raises(InvalidError):
        replace(CHEAP)


def test_a_salt_of_another_length_is_refused() -> None:
    with pytest.raises(InvalidError):
        PinParameters(passes=MIN_PASSES, memory_kib=MIN_MEMORY_KIB, salt=bytes(15))


@given(st.binary(max_size=30) | st.binary(min_size=22, max_size=22))
def test_any_bytes_are_parameters_that_encode_back_or_none(start: bytes) -> None:
    for data in (start, b"\x01\x03\x00\x02" + start[4:]):
        try:
            parameters = PinParameters.decode(data)
        except (DecodeError, InvalidError):
            continue
        assert parameters.encode() == data


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12345",
        "1" * (MAX_PIN_CHARACTERS + 1),
        "1" * (MAX_PIN_INPUT + 1),
        "123\n456",
        "123\x00456",
        "123456\u200b",
        "12345\ud800",
        "\ufdfa",
        "12345\U000e0fff",
    ],
)
def test_what_cannot_be_a_pin_is_refused_without_being_named(text: str) -> None:
    with pytest.raises(InvalidError) as caught:
        stretch(text, CHEAP)
    assert not text or text not in str(caught.value)


def test_a_pin_is_the_same_however_it_was_typed() -> None:
    assert normalise_pin("１２３４５６") == b"123456"
    assert normalise_pin("u\u0308berall") == normalise_pin("überall")
    assert normalise_pin("ABCDEF") != normalise_pin("abcdef")
    assert normalise_pin(" 12345") != normalise_pin("12345 ")


@given(st.text(max_size=300))
def test_any_text_is_a_pin_in_normal_form_or_none(text: str) -> None:
    try:
        normal = normalise_pin(text)
    except InvalidError:
        return
    assert normalise_pin(normal.decode()) == normal


def test_a_device_without_the_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise NaClRuntimeError

    monkeypatch.setattr(pin, "crypto_pwhash_alg", fail)
    with pytest.raises(MemoryError):
        stretch(PIN, CHEAP)


def test_neither_key_nor_salt_is_printed() -> None:
    key = stretch(PIN, CHEAP)
    assert repr(key) == "PinKey()"
    assert repr(CHEAP.salt) not in repr(CHEAP)
