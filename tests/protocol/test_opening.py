"""Bodies that officers sign, and the letters that carry them: one encoding, and named rules."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.errors import DecodeError, InvalidError, UsageError, VerificationError
from protocol.identifiers import UserName
from protocol.letters import (
    LETTER_BYTES,
    MAX_PARTS,
    LetterKind,
    Part,
    Recorded,
    Signed,
    decode_letter,
    encode_letter,
    join_parts,
    statement_of,
)
from protocol.opening import KEYS_PER_STATEMENT, BucketKey, OfficerKeys, Scope, decode_officer_keys
from protocol.recorded import RECORD_BYTES, check_recorded, commitment
from tests.protocol.opening_examples import (
    APPROVAL,
    BODIES,
    CHALLENGE,
    DRAFT,
    HIT,
    HITS,
    HOLD,
    KEY,
    KEYS,
    LETTERS,
    LIVENESS,
    OFFER,
    RELEASE,
    REQUEST,
    SCOPE,
    SHARES,
    WARD,
)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_a_body_has_one_encoding(body: Any) -> None:
    assert type(body).decode(body.encode()) == body
    with pytest.raises(DecodeError):
        type(body).decode(body.encode() + b"\0")


@pytest.mark.parametrize("letter", LETTERS, ids=lambda letter: type(letter).__name__)
def test_a_letter_has_one_encoding_behind_its_kind(letter: Any) -> None:
    (data,) = encode_letter(letter)
    assert decode_letter(data) == letter
    assert encode_letter(decode_letter(data)) == (data,)
    is_statement = isinstance(letter, Signed | Recorded)
    assert statement_of(data) == (letter.statement if is_statement else None)


def test_there_is_an_example_of_each_kind_of_letter() -> None:
    assert {encode_letter(letter)[0][0] for letter in LETTERS} == set(LetterKind)


@given(st.sampled_from([*BODIES, *LETTERS]), st.integers(0, 10**6), st.integers(1, 255))
def test_a_changed_byte_is_a_value_or_a_documented_error(body: Any, at: int, mask: int) -> None:
    data = bytearray(body.encode())
    data[at % len(data)] ^= mask
    try:
        value = type(body).decode(bytes(data))
    except (DecodeError, InvalidError):
        return
    assert value.encode() == bytes(data)
    assert value != body


@given(st.binary(max_size=200))
def test_any_bytes_are_a_letter_or_a_documented_error(data: bytes) -> None:
    try:
        letter = decode_letter(data)
    except (DecodeError, InvalidError):
        return
    assert encode_letter(letter) == (data,)


@pytest.mark.parametrize(
    ("value", "change"),
    [
        (SCOPE, {"conversations": (), "people": (), "patient": ""}),
        (SCOPE, {"conversations": (WARD, WARD)}),
        (SCOPE, {"conversations": (b"short",)}),
        (SCOPE, {"conversations": tuple(bytes([n]) * 32 for n in range(65))}),
        (SCOPE, {"people": (UserName("bob"), UserName("ann"))}),
        (SCOPE, {"people": (UserName("B"),)}),
        (SCOPE, {"patient": "x" * 201}),
        (SCOPE, {"patient": "bell\x07"}),
        (SCOPE, {"from_ms": SCOPE.until_ms}),
        (SCOPE, {"until_ms": 1 << 63}),
        (REQUEST, {"version": 2}),
        (REQUEST, {"case": ""}),
        (REQUEST, {"case": "x" * 65}),
        (REQUEST, {"reason": ""}),
        (REQUEST, {"reason": "x" * 1001}),
        (REQUEST, {"most_records": 0}),
        (REQUEST, {"most_records": 1_000_001}),
        (REQUEST, {"session_key": b"short"}),
        (REQUEST, {"hits": b"short"}),
        (APPROVAL, {"version": 2}),
        (APPROVAL, {"granted": False}),
        (APPROVAL, {"tree_size": 0}),
        (APPROVAL, {"root": b""}),
        (RELEASE, {"version": 0}),
        (RELEASE, {"tree_size": 0}),
        (RELEASE, {"shares": b""}),
        (HOLD, {"version": 2}),
        (HOLD, {"released": b"short"}),
        (HOLD, {"case": ""}),
        (HOLD, {"reason": ""}),
        (KEYS, {"keys": ()}),
        (KEYS, {"keys": KEYS.keys[::-1]}),
        (KEYS, {"version": 2}),
        (LIVENESS, {"opened": ()}),
        (LIVENESS, {"opened": LIVENESS.opened * 2}),
        (LIVENESS, {"version": 2}),
        (HIT, {"bucket": b""}),
        (HIT, {"k": 1}),
        (HIT, {"k": 6}),
        (HIT, {"last_ms": HIT.first_ms - 1}),
        (HIT, {"group_id": b"short"}),
        (HITS, {"segments": HITS.segments[::-1]}),
        (HITS, {"version": 2}),
        (SHARES, {"officer": "O"}),
        (SHARES, {"request": b""}),
        (CHALLENGE, {"officer": "O"}),
        (DRAFT, {"nonce": b""}),
        (OFFER, {"session_key": b""}),
        (KEYS.keys[0], {"public_key": b""}),
    ],
)
def test_what_breaks_a_rule_is_no_value(value: Any, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidError):
        replace(value, **change)


@pytest.mark.parametrize("bucket", [b"clinical", b"clinical 2026Q5", b"Clinical 2026Q1", b""])
def test_a_key_is_a_real_buckets(bucket: bytes) -> None:
    with pytest.raises(DecodeError):
        BucketKey(bucket=bucket, public_key=KEY)


def test_a_statement_of_keys_fits_one_message() -> None:
    names = sorted(f"{'c' * 31}{n} 2026Q4".encode() for n in range(KEYS_PER_STATEMENT))
    keys = OfficerKeys(keys=tuple(BucketKey(bucket=name, public_key=KEY) for name in names))
    assert decode_officer_keys(keys.encode()) == keys
    assert len(encode_letter(Signed(statement=keys.encode() + bytes(300)))) == 1
    more = sorted([*names, b"clinical 2026Q4"])
    with pytest.raises(InvalidError):
        OfficerKeys(keys=tuple(BucketKey(bucket=name, public_key=KEY) for name in more))


def test_a_scope_may_name_a_period_of_one_instant() -> None:
    scope = Scope(conversations=(WARD,), from_ms=5, until_ms=6)
    assert Scope.decode(scope.encode()) == scope


def parts_of(size: int) -> list[Part]:
    parts = [decode_letter(part) for part in encode_letter(Signed(statement=b"x" * size))]
    assert all(isinstance(part, Part) for part in parts)
    return [part for part in parts if isinstance(part, Part)]


def test_a_large_letter_travels_in_parts_that_come_in_any_order() -> None:
    encoded = encode_letter(Signed(statement=b"x" * 50_000))
    assert all(len(part) <= LETTER_BYTES for part in encoded)
    parts = parts_of(50_000)
    assert len(parts) == 4
    assert join_parts(parts[1:]) is None
    assert join_parts(parts[::-1] + parts[:1]) == Signed(statement=b"x" * 50_000)


def test_parts_that_do_not_belong_together_make_no_letter() -> None:
    parts = parts_of(50_000)
    for wrong in (
        [*parts[1:], parts_of(50_001)[0]],
        [replace(parts[0], data=parts[0].data[:-1] + b"y"), *parts[1:]],
    ):
        with pytest.raises(InvalidError):
            join_parts(wrong)
    (inner,) = encode_letter(parts[0])
    nested = Part(whole=sha256(inner).digest(), number=0, count=2, data=inner[:5])
    with pytest.raises(InvalidError):
        join_parts([nested, replace(nested, number=1, data=inner[5:])])
    with pytest.raises(InvalidError):
        replace(parts[0], number=4)
    with pytest.raises(UsageError):
        encode_letter(Signed(statement=bytes(LETTER_BYTES * MAX_PARTS)))


def test_a_device_checks_by_itself_that_a_record_commits_to_a_body() -> None:
    salt, body = b"s" * 32, b"a statement"
    record = bytearray(RECORD_BYTES)
    record[1] = 11
    record[131:163] = commitment(salt, body)
    record[163:167] = len(body).to_bytes(4, "big")
    check_recorded(bytes(record), kind=11, salt=salt, body=body)
    for kind, some_salt, some_body in (
        (12, salt, body),
        (11, b"t" * 32, body),
        (11, salt, b"A statement"),
    ):
        with pytest.raises(VerificationError):
            check_recorded(bytes(record), kind=kind, salt=some_salt, body=some_body)
    with pytest.raises(DecodeError):
        check_recorded(bytes(record[:-1]), kind=11, salt=salt, body=body)
