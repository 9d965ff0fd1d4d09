"""Sealed shares: opened by one key for one purpose, and written as the standards say."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha3_256, shake_256
from itertools import combinations
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from crypto import sealing
from crypto.errors import DecodeError, InvalidError, UsageError, VerificationError
from crypto.hpke import CHACHA20_POLY1305, HKDF_SHA256, LabeledKdf
from crypto.sealing import (
    CIPHERTEXT_BYTES,
    MAX_NAME_BYTES,
    SealedShare,
    ShareContext,
    open_share,
    seal_share,
)
from crypto.shares import Share, combine, split
from crypto.xwing import ENC_BYTES, XWingKey, hpke_public_key

SEGMENT_KEY = bytes(range(32))
OFFICERS = [XWingKey.generate() for _ in range(5)]
SHARES = split(SEGMENT_KEY, k=3, n=5)


def context(index: int = 1, **changes: Any) -> ShareContext:
    return replace(
        ShareContext(
            organisation=b"hospital",
            group_id=b"\x07" * 16,
            epoch=12,
            bucket=b"clinical 2027Q1",
            officer=b"officer %d" % index,
            index=index,
            k=3,
            n=5,
        ),
        **changes,
    )


def sealed(index: int = 1) -> SealedShare:
    officer = OFFICERS[index - 1]
    share = SHARES[index - 1]
    return seal_share(share, public_key=officer.public_key, context=context(index))


def test_k_officers_open_what_was_sealed_to_all() -> None:
    stored = [sealed(index).encode() for index in range(1, 6)]
    for chosen in combinations(range(1, 6), 3):
        opened = [
            open_share(
                SealedShare.decode(stored[index - 1]),
                key=OFFICERS[index - 1],
                expected=context(index),
            )
            for index in chosen
        ]
        assert combine(opened) == SEGMENT_KEY


def test_an_officer_does_not_open_anothers_share() -> None:
    with pytest.raises(VerificationError):
        open_share(sealed(1), key=OFFICERS[1], expected=context(1))


CHANGES: list[dict[str, Any]] = [
    {"organisation": b"other"},
    {"group_id": b"\x08" * 16},
    {"epoch": 13},
    {"bucket": b"clinical 2027Q2"},
    {"officer": b"officer 2"},
    {"index": 2},
    {"k": 2},
    {"n": 6},
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_share_opens_for_nothing_that_differs_in_one_field(change: dict[str, Any]) -> None:
    good = sealed()
    other = context(**change)
    with pytest.raises(VerificationError):
        open_share(good, key=OFFICERS[0], expected=other)
    # Nor where the record itself was relabelled to what is asked for.
    relabelled = SealedShare(context=other, ciphertext=good.ciphertext)
    with pytest.raises(VerificationError):
        open_share(relabelled, key=OFFICERS[0], expected=other)


def test_every_field_of_the_context_has_its_change() -> None:
    assert {name for change in CHANGES for name in change} == set(ShareContext.__slots__)


def test_every_flipped_bit_of_a_sealed_share_is_refused() -> None:
    data = sealed().encode()
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((DecodeError, InvalidError, VerificationError)):
            open_share(SealedShare.decode(bytes(changed)), key=OFFICERS[0], expected=context())


def test_every_truncation_of_a_sealed_share_is_none() -> None:
    data = sealed().encode()
    assert SealedShare.decode(data).encode() == data
    for cut in range(len(data)):
        with pytest.raises(DecodeError):
            SealedShare.decode(data[:cut])


@pytest.mark.parametrize("point", [bytes(32), b"\x01" + bytes(31), b"\xff" * 32])
def test_an_encapsulated_point_of_low_order_opens_nothing(point: bytes) -> None:
    good = sealed()
    at = ENC_BYTES - 32
    spoiled = good.ciphertext[:at] + point + good.ciphertext[ENC_BYTES:]
    with pytest.raises(VerificationError):
        open_share(replace(good, ciphertext=spoiled), key=OFFICERS[0], expected=context())


def test_a_share_is_not_sealed_for_another_shares_context_or_to_a_bad_key() -> None:
    for wrong in (context(2), context(k=2), context(n=6)):
        with pytest.raises(UsageError):
            seal_share(SHARES[0], public_key=OFFICERS[0].public_key, context=wrong)
    with pytest.raises(InvalidError):
        seal_share(SHARES[0], public_key=bytes(1216), context=context())


@pytest.mark.parametrize(
    "inside", [b"", b"x" * 99, SHARES[1].encode()], ids=["nothing", "noise", "another share"]
)
def test_a_sealer_who_put_something_else_inside_is_refused(inside: bytes) -> None:
    recipient = hpke_public_key(OFFICERS[0].public_key)
    ciphertext = sealing._SUITE.encrypt(inside, recipient, info=sealing._info(context()))
    forged = SealedShare(context=context(), ciphertext=ciphertext)
    with pytest.raises(VerificationError):
        open_share(forged, key=OFFICERS[0], expected=context())


def test_a_released_share_goes_to_the_sessions_one_time_key() -> None:
    session = XWingKey.generate()
    share = open_share(sealed(2), key=OFFICERS[1], expected=context(2))
    released = seal_share(share, public_key=session.public_key, context=context(2))
    assert open_share(released, key=session, expected=context(2)) == share
    with pytest.raises(VerificationError):
        open_share(released, key=OFFICERS[1], expected=context(2))


def by_the_standards(key: XWingKey, sealed_share: SealedShare) -> bytes:
    """Open a sealed share step by step: X-Wing's decapsulation, then RFC 9180's key schedule."""
    expanded = shake_256(key.seed).digest(96)
    mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
    x25519 = X25519PrivateKey.from_private_bytes(expanded[64:])
    enc, ciphertext = sealed_share.ciphertext[:1120], sealed_share.ciphertext[1120:]
    point = X25519PublicKey.from_public_bytes(enc[1088:])
    secrets = mlkem.decapsulate(enc[:1088]) + x25519.exchange(point)
    shared = sha3_256(secrets + enc[1088:] + key.public_key[1184:] + b"\\.//^\\").digest()
    kdf = LabeledKdf(HKDF_SHA256, b"HPKE" + bytes.fromhex("647a00010003"))
    info = b"\x17Wardline 1 sealed share" + sealed_share.context.encode()
    hashes = kdf.extract(b"", b"psk_id_hash", b"") + kdf.extract(b"", b"info_hash", info)
    secret = kdf.extract(shared, b"secret", b"")
    aead_key = kdf.expand(secret, b"key", b"\0" + hashes, 32)
    nonce = kdf.expand(secret, b"base_nonce", b"\0" + hashes, 12)
    return CHACHA20_POLY1305.open(aead_key, nonce, b"", ciphertext)


def test_a_sealed_share_is_hpke_with_xwing_step_by_step() -> None:
    assert Share.decode(by_the_standards(OFFICERS[0], sealed())) == SHARES[0]


@pytest.mark.parametrize(
    "change",
    [
        {"organisation": b""},
        {"officer": b"x" * (MAX_NAME_BYTES + 1)},
        {"bucket": b""},
        {"group_id": b""},
        {"epoch": -1},
        {"epoch": 1 << 64},
        {"index": 0},
        {"index": 6},
        {"k": 1},
        {"n": 4},
    ],
)
def test_a_context_out_of_range_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidError):
        context(**change)


def test_a_sealed_share_of_another_version_is_refused() -> None:
    with pytest.raises(InvalidError):
        SealedShare.decode(b"\x02" + sealed().encode()[1:])


names = st.binary(min_size=1, max_size=MAX_NAME_BYTES)
contexts = st.builds(
    ShareContext,
    organisation=names,
    group_id=names,
    epoch=st.integers(0, (1 << 64) - 1),
    bucket=names,
    officer=names,
    index=st.integers(1, 5),
    k=st.just(3),
    n=st.integers(5, 255),
)


@given(contexts, st.binary(min_size=CIPHERTEXT_BYTES, max_size=CIPHERTEXT_BYTES))
def test_what_encodes_decodes_to_the_same(value: ShareContext, ciphertext: bytes) -> None:
    share = SealedShare(context=value, ciphertext=ciphertext)
    assert SealedShare.decode(share.encode()) == share


@given(contexts, contexts)
def test_two_contexts_never_have_one_encoding(one: ShareContext, other: ShareContext) -> None:
    assert (one == other) == (one.encode() == other.encode())


@given(st.binary(max_size=100))
def test_any_bytes_are_a_sealed_share_that_encodes_back_or_none(start: bytes) -> None:
    for data in (start, b"\x01" + start + bytes(CIPHERTEXT_BYTES)):
        try:
            share = SealedShare.decode(data)
        except (DecodeError, InvalidError):
            continue
        assert share.encode() == data


def test_neither_names_nor_ciphertext_are_printed() -> None:
    text = repr(sealed())
    assert "hospital" not in text
    assert "officer 1" not in text
