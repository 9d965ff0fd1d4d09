"""Shamir's scheme against a naive field, and what fewer than k shares can say."""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import shares
from crypto.errors import DecodeError, InvalidError, UsageError, VerificationError
from crypto.shares import VALUE_BYTES, Share, combine, split

KEY = bytes(range(32))


def multiply(a: int, b: int) -> int:
    """Multiply in GF(2^8) as FIPS 197, section 4.2, writes it: bit by bit, then reduce."""
    product = 0
    for bit in range(8):
        if b >> bit & 1:
            product ^= a << bit
    for bit in range(14, 7, -1):
        if product >> bit & 1:
            product ^= 0x11B << (bit - 8)
    return product


def test_the_standards_own_products() -> None:
    assert shares._times(0x57, 0x83) == 0xC1
    assert shares._times(0x57, 0x13) == 0xFE


def test_every_product_and_inverse_is_the_fields() -> None:
    lanes = int.from_bytes(bytes(range(64)), "big")
    for factor in range(256):
        for start in range(0, 256, 64):
            block = bytes(range(start, start + 64))
            got = shares._times(int.from_bytes(block, "big"), factor).to_bytes(64, "big")
            assert got == bytes(multiply(value, factor) for value in block)
        if factor:
            assert multiply(factor, shares._inverse(factor)) == 1
    assert shares._times(lanes, 1) == lanes


@pytest.mark.parametrize(("k", "n"), [(2, 4), (3, 5), (4, 6), (3, 7)])
def test_every_set_of_k_or_more_gives_the_key_and_no_smaller_set_does(k: int, n: int) -> None:
    key = secrets.token_bytes(32)
    made = split(key, k=k, n=n)
    assert [share.index for share in made] == list(range(1, n + 1))
    for size in range(n + 1):
        for chosen in combinations(made, size):
            if size >= k:
                assert combine(chosen) == key
                assert combine(chosen[::-1]) == key
            else:
                with pytest.raises(InvalidError):
                    combine(chosen)


def test_the_largest_split_works() -> None:
    made = split(KEY, k=100, n=255)
    assert combine(made[155:]) == KEY


def test_fewer_shares_that_claim_a_lower_threshold_do_not_give_the_key() -> None:
    made = [replace(share, k=2) for share in split(KEY, k=3, n=5)]
    for chosen in combinations(made, 2):
        with pytest.raises(VerificationError):
            combine(chosen)


def test_shares_that_claim_another_split_of_the_same_threshold_do_not_give_the_key() -> None:
    made = [replace(share, n=6) for share in split(KEY, k=3, n=5)]
    with pytest.raises(VerificationError):
        combine(made[:3])


def test_one_share_of_two_says_nothing() -> None:
    # For each secret byte, the share takes every value for exactly one random coefficient.
    for secret in (0, 1, 0x53, 0xFF):
        for index in (1, 2, 255):
            seen = {shares._evaluate([random, secret], index) for random in range(256)}
            assert seen == set(range(256))


@pytest.mark.parametrize("secret", [0, 0xA7])
def test_two_shares_of_three_say_nothing(secret: int) -> None:
    # Over all pairs of random coefficients (64 pairs in the lanes of one integer), two shares
    # take each pair of values exactly once, whatever the secret.
    seen = Counter[tuple[int, int]]()
    fixed = int.from_bytes(bytes([secret] * 64), "big")
    for a in range(256):
        for start in range(0, 256, 64):
            high = int.from_bytes(bytes([a] * 64), "big")
            low = int.from_bytes(bytes(range(start, start + 64)), "big")
            one, four = (
                shares._evaluate([high, low, fixed], index).to_bytes(64, "big") for index in (1, 4)
            )
            seen.update(zip(one, four, strict=True))
    assert len(seen) == 256 * 256
    assert set(seen.values()) == {1}


def test_two_splits_of_one_key_share_neither_values_nor_commitment() -> None:
    one, other = split(KEY, k=2, n=4), split(KEY, k=2, n=4)
    assert one[0].commitment != other[0].commitment
    assert all(a.value != b.value for a, b in zip(one, other, strict=True))


def test_shares_of_different_splits_do_not_mix() -> None:
    one, other = split(KEY, k=2, n=4), split(KEY, k=2, n=4)
    with pytest.raises(InvalidError):
        combine([one[0], other[1]])
    with pytest.raises(VerificationError):
        combine([one[0], replace(other[1], commitment=one[0].commitment)])
    for changed in (replace(one[1], k=3), replace(one[1], n=5)):
        with pytest.raises(InvalidError):
            combine([one[0], changed])


def test_a_share_given_twice_is_refused() -> None:
    one = split(KEY, k=2, n=4)
    with pytest.raises(InvalidError):
        combine([one[0], one[0]])
    with pytest.raises(InvalidError):
        combine([one[0], one[1], one[1]])


def test_a_share_under_another_number_is_refused() -> None:
    one = split(KEY, k=2, n=4)
    with pytest.raises(VerificationError):
        combine([one[0], replace(one[1], index=3)])


def test_every_flipped_bit_of_a_share_is_refused() -> None:
    first, second, *_ = split(KEY, k=2, n=4)
    data = second.encode()
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((InvalidError, VerificationError)):
            combine([first, Share.decode(bytes(changed))])


def test_a_wrong_share_among_more_than_enough_is_noticed_and_another_set_opens() -> None:
    made = list(split(KEY, k=3, n=5))
    made[2] = replace(made[2], value=bytes(VALUE_BYTES))
    with pytest.raises(VerificationError):
        combine(made)
    sets = list(combinations(made, 3))
    good = [chosen for chosen in sets if made[2] not in chosen]
    assert {combine(chosen) for chosen in good} == {KEY}
    for chosen in sets:
        if chosen not in good:
            with pytest.raises(VerificationError):
                combine(chosen)


@pytest.mark.parametrize(("k", "n"), [(0, 5), (1, 5), (2, 3), (4, 5), (254, 256), (254, 255)])
def test_numbers_that_no_split_may_have_are_refused(k: int, n: int) -> None:
    with pytest.raises(InvalidError):
        split(KEY, k=k, n=n)
    data = split(KEY, k=2, n=4)[0].encode()
    with pytest.raises(InvalidError):
        Share.decode(data[:1] + bytes([k, n & 0xFF]) + data[3:])


def test_a_key_of_another_length_is_a_bug_of_the_caller() -> None:
    with pytest.raises(UsageError):
        split(KEY[1:], k=2, n=4)


@given(st.binary(max_size=110) | st.binary(min_size=99, max_size=99))
def test_any_bytes_are_a_share_that_encodes_back_or_none(data: bytes) -> None:
    for candidate in (data, b"\x01\x02\x04" + data[3:]):
        try:
            share = Share.decode(candidate)
        except (DecodeError, InvalidError):
            continue
        assert share.encode() == candidate


def test_every_truncation_of_a_share_is_none() -> None:
    data = split(KEY, k=2, n=4)[3].encode()
    assert Share.decode(data).encode() == data
    for cut in range(len(data)):
        with pytest.raises(DecodeError):
            Share.decode(data[:cut])


def test_a_share_does_not_print_its_value() -> None:
    share = split(KEY, k=2, n=4)[0]
    assert repr(share.value) not in repr(share)
    assert share.value.hex() not in repr(share)
