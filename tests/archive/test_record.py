"""The record: one fixed encoding, and what a leaf commits to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.body import open_body, seal_body
from archive.record import (
    NO_PREVIOUS,
    RECORD_BYTES,
    Record,
    RecordFlags,
    RecordType,
    RecordView,
    bucket_tag,
    conversation_tag,
    log_id,
    view,
)
from crypto.errors import DecodeError, InvalidError, UsageError, VerificationError
from crypto.note import SignatureType, SignerKey

U64 = st.integers(min_value=0, max_value=(1 << 64) - 1)
HASH = st.binary(min_size=32, max_size=32)
TAG = st.binary(min_size=16, max_size=16)


@st.composite
def records(draw: st.DrawFn) -> Record:
    first = draw(st.booleans())
    return Record(
        type=draw(st.sampled_from(RecordType)),
        flags=RecordFlags(draw(st.integers(0, 7))),
        index=draw(U64),
        at_ms=draw(U64),
        log_id=draw(HASH),
        conv_tag=draw(HASH),
        epoch=draw(U64),
        conv_seq=0 if first else draw(U64.filter(bool)),
        conv_prev=NO_PREVIOUS if first else draw(HASH.filter(any)),
        commit=draw(HASH),
        body_length=draw(st.integers(0, (1 << 32) - 1)),
        bucket=draw(TAG),
        record_key_id=draw(TAG),
    )


def fields(record: Record) -> tuple[object, ...]:
    return tuple(getattr(record, name) for name in record.__dataclass_fields__)


@given(records())
def test_a_record_has_one_encoding_of_one_length(record: Record) -> None:
    data = record.encode()
    assert len(data) == RECORD_BYTES
    assert Record.decode(data) == record
    found = view(data)
    assert found is not None
    assert tuple(found) == fields(record)


@given(records(), st.lists(st.tuples(st.integers(0, RECORD_BYTES - 1), st.integers(0, 255))))
def test_changed_bytes_are_a_record_that_re_encodes_or_a_documented_error(
    record: Record, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(record.encode())
    for at, value in changes:
        data[at] = value
    check(bytes(data))


@given(st.binary(max_size=250))
def test_any_bytes_are_a_record_that_re_encodes_or_a_documented_error(data: bytes) -> None:
    check(data)


def check(data: bytes) -> None:
    try:
        record = Record.decode(data)
    except (DecodeError, InvalidError):
        assert view(data) is None
    else:
        assert record.encode() == data
        assert view(data) == RecordView._make(fields(record))


def test_a_first_record_and_no_other_has_none_before_it() -> None:
    first = Record.decode(first_record())
    with pytest.raises(InvalidError):
        replace(first, conv_seq=1)
    with pytest.raises(InvalidError):
        replace(first, conv_prev=b"p" * 32)


def test_a_field_of_another_length_is_the_callers_bug() -> None:
    with pytest.raises(UsageError):
        replace(Record.decode(first_record()), commit=b"short").encode()


def first_record() -> bytes:
    sealed = seal_body(b"bp 90/60", log_id=b"l" * 32, index=7)
    return Record(
        type=RecordType.MESSAGE,
        flags=RecordFlags.SIGNATURE_CHECKED,
        index=7,
        at_ms=1,
        log_id=b"l" * 32,
        conv_tag=b"t" * 32,
        epoch=3,
        conv_seq=0,
        conv_prev=NO_PREVIOUS,
        commit=sealed.commit,
        body_length=8,
        bucket=bucket_tag(b"clinical 2027Q1"),
        record_key_id=sealed.record_key_id,
    ).encode()


def test_a_body_opens_for_its_own_leaf_alone() -> None:
    sealed = seal_body(b"bp 90/60", log_id=b"l" * 32, index=7)
    other = seal_body(b"bp 90/60", log_id=b"l" * 32, index=7)
    assert other.commit != sealed.commit  # the salt hides that two bodies are the same
    record = replace(
        Record.decode(first_record()), commit=sealed.commit, record_key_id=sealed.record_key_id
    )

    def opened(of: Record, key: bytes = sealed.record_key) -> bytes:
        return open_body(sealed.ciphertext, record_key=key, record=of)

    assert opened(record) == b"bp 90/60"
    for wrong in (
        replace(record, index=8),
        replace(record, log_id=b"m" * 32),
        replace(record, body_length=9),
        replace(record, commit=other.commit),
        replace(record, record_key_id=other.record_key_id),
    ):
        with pytest.raises(VerificationError):
            opened(wrong)
    for key in (b"", other.record_key):
        with pytest.raises(VerificationError):
            opened(record, key)


def test_names_in_a_record_are_told_apart() -> None:
    one, two = (SignerKey.generate("log", SignatureType.ED25519).verifier for _ in range(2))
    assert log_id(one) != log_id(two)
    assert bucket_tag(b"a") != bucket_tag(b"b")
    assert conversation_tag(b"k" * 32, b"a") != conversation_tag(b"k" * 32, b"b")
    assert conversation_tag(b"k" * 32, b"a") != conversation_tag(b"l" * 32, b"a")
