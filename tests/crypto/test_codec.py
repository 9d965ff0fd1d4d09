"""The TLS presentation language: what decodes re-encodes, and nothing else decodes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import codec
from crypto.codec import VARINT_MAX, Reader
from crypto.errors import DecodeError, UsageError


@given(st.integers(0, VARINT_MAX))
def test_a_length_decodes_to_what_was_encoded(value: int) -> None:
    assert codec.decode(codec.varint(value), "length", Reader.varint) == value


@given(st.binary(max_size=6))
def test_a_length_decodes_only_from_its_one_encoding(data: bytes) -> None:
    reader = Reader(data, "length")
    try:
        value = reader.varint()
    except DecodeError:
        return
    assert codec.varint(value) == data[: reader.pos]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x40\x3f",  # 63 in two bytes
        b"\x80\x00\x3f\xff",  # 16,383 in four
        b"\xc0",  # prefix 3 is reserved
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x40",
        b"\x80\x00\x40",
    ],
)
def test_a_length_that_is_cut_reserved_or_longer_than_need_be_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError) as refused:
        codec.decode(data, "length", Reader.varint)
    assert refused.value.struct == "length"
    assert refused.value.offset == 0


@pytest.mark.parametrize(
    ("value", "size"), [(0, 1), (63, 1), (64, 2), (16383, 2), (16384, 4), (VARINT_MAX, 4)]
)
def test_a_length_takes_as_few_bytes_as_it_can(value: int, size: int) -> None:
    assert len(codec.varint(value)) == size


def test_a_vector_that_no_length_can_announce_is_its_writers_mistake() -> None:
    with pytest.raises(UsageError):
        codec.varint(VARINT_MAX + 1)


@given(
    st.integers(0, 2**8 - 1),
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1),
)
def test_numbers_are_big_endian_and_of_fixed_width(a: int, b: int, c: int, d: int) -> None:
    data = codec.u8(a) + codec.u16(b) + codec.u32(c) + codec.u64(d)
    assert len(data) == 15
    reader = Reader(data, "numbers")
    assert (reader.u8(), reader.u16(), reader.u32(), reader.u64()) == (a, b, c, d)
    reader.finish()


@given(st.lists(st.binary(max_size=80), max_size=8))
def test_a_vector_of_vectors_decodes_to_what_was_encoded(items: list[bytes]) -> None:
    data = codec.vector(codec.opaque(item) for item in items)
    assert codec.decode(data, "items", lambda r: r.vector(Reader.opaque)) == tuple(items)


@given(st.none() | st.binary(max_size=8))
def test_an_optional_decodes_to_what_was_encoded(value: bytes | None) -> None:
    data = codec.optional(None if value is None else codec.opaque(value))
    assert codec.decode(data, "maybe", lambda r: r.optional(Reader.opaque)) == value


def test_a_presence_octet_is_nought_or_one() -> None:
    with pytest.raises(DecodeError) as refused:
        codec.decode(b"\x02\x00", "maybe", lambda r: r.optional(Reader.opaque))
    assert refused.value.offset == 0


@pytest.mark.parametrize("read", [Reader.u8, Reader.u16, Reader.u32, Reader.u64])
def test_a_number_that_is_cut_short_is_refused(read: object) -> None:
    with pytest.raises(DecodeError):
        codec.decode(b"", "number", read)  # type: ignore[arg-type]  # one of four readers


def test_a_string_longer_than_what_holds_it_is_refused() -> None:
    with pytest.raises(DecodeError):
        codec.decode(b"\x03ab", "string", Reader.opaque)
    with pytest.raises(DecodeError):
        codec.decode(b"\x03ab", "list", lambda r: r.vector(Reader.u8))


def test_an_item_cannot_reach_beyond_its_vector() -> None:
    # The inner string announces two bytes where its vector has one left; a third lies beyond.
    with pytest.raises(DecodeError):
        codec.decode(b"\x02\x02ab", "list", lambda r: (r.vector(Reader.opaque), r.u8()))


def test_what_trails_is_refused() -> None:
    with pytest.raises(DecodeError) as refused:
        codec.decode(b"\x01\x02", "octet", Reader.u8)
    assert refused.value.offset == 1


@given(st.binary(max_size=40))
def test_any_bytes_are_a_list_of_optional_strings_or_refused(data: bytes) -> None:
    try:
        found = codec.decode(data, "list", lambda r: r.vector(lambda q: q.optional(Reader.opaque)))
    except DecodeError:
        return
    items = (codec.optional(None if v is None else codec.opaque(v)) for v in found)
    assert codec.vector(items) == data
