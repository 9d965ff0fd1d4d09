"""Attachments: what goes in comes out whole, or not at all."""

from __future__ import annotations

import secrets
import tracemalloc
from collections.abc import Iterator
from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl import bindings

from crypto.attachment import AttachmentRef, AttachmentSealer, open_attachment
from crypto.attachment_layout import (
    CHUNK_BYTES,
    CHUNK_CIPHERTEXT_BYTES,
    HEADER_BYTES,
    MAX_SIZE,
    SECRETSTREAM_HEADER_BYTES,
    SECRETSTREAM_TAG_BYTES,
    SIZE_CLASSES,
    STREAM_SIZES,
    chunk_offset,
    size_class,
)
from crypto.errors import DecodeError, InvalidError, UsageError, VerificationError
from tests.depth import DEPTH

SMALL = b"12-lead ECG"


def sealed(plaintext: bytes) -> tuple[AttachmentRef, bytes]:
    sealer = AttachmentSealer()
    stream = b"".join(sealer.seal([plaintext]))
    return sealer.ref, stream


def opened(ref: AttachmentRef, stream: bytes) -> bytes:
    return b"".join(open_attachment(ref, [stream]))


@pytest.mark.parametrize(
    "size",
    [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 4 * CHUNK_BYTES, 4 * CHUNK_BYTES + 1],
)
def test_what_was_sealed_is_opened(size: int) -> None:
    plaintext = secrets.token_bytes(size)
    ref, stream = sealed(plaintext)
    assert opened(ref, stream) == plaintext
    assert ref.size == size
    assert ref.plaintext_hash == sha256(plaintext).digest()
    assert ref.ciphertext_hash == sha256(stream).digest()
    assert len(stream) == ref.stream_bytes
    assert len(stream) in STREAM_SIZES


@settings(max_examples=30 * DEPTH)
@given(st.data())
def test_pieces_of_any_size_give_the_same(data: st.DataObject) -> None:
    plaintext = bytes(range(256)) * 600
    cuts = sorted(data.draw(st.lists(st.integers(0, len(plaintext)), max_size=8)))
    edges = [0, *cuts, len(plaintext)]
    pieces = [plaintext[a:b] for a, b in pairwise(edges)]
    sealer = AttachmentSealer()
    blocks = list(sealer.seal(pieces))
    assert [len(b) for b in blocks] == [HEADER_BYTES] + [CHUNK_CIPHERTEXT_BYTES] * 4
    stream = b"".join(blocks)
    cut = data.draw(st.integers(0, len(stream)))
    assert b"".join(open_attachment(sealer.ref, [stream[:cut], stream[cut:]])) == plaintext


def test_the_layouts_numbers_are_libsodiums() -> None:
    assert bindings.crypto_secretstream_xchacha20poly1305_HEADERBYTES == SECRETSTREAM_HEADER_BYTES
    assert bindings.crypto_secretstream_xchacha20poly1305_ABYTES == SECRETSTREAM_TAG_BYTES


def test_each_chunk_lies_at_its_offset_so_that_a_transfer_is_resumed() -> None:
    sealer = AttachmentSealer()
    blocks = list(sealer.seal([bytes(200_000)]))
    stream = b"".join(blocks)
    for index, block in enumerate(blocks[1:]):
        assert stream[chunk_offset(index) : chunk_offset(index + 1)] == block
    assert chunk_offset(sealer.ref.chunks) == len(stream)


def test_a_relay_sees_one_of_eight_sizes() -> None:
    assert len(SIZE_CLASSES) == 8
    assert {size_class(size) for size in range(0, MAX_SIZE + 1, 65_537)} == set(SIZE_CLASSES)
    lengths = {len(sealed(secrets.token_bytes(n))[1]) for n in (0, 1, 999, CHUNK_BYTES)}
    assert len(lengths) == 1
    for smaller, larger in pairwise(SIZE_CLASSES):
        assert size_class(smaller) == smaller
        assert size_class(smaller + 1) == larger
    with pytest.raises(UsageError):
        size_class(MAX_SIZE + 1)


def test_two_seals_of_one_file_share_nothing() -> None:
    sealer = AttachmentSealer()
    first, ref = b"".join(sealer.seal([SMALL])), sealer.ref
    second = b"".join(sealer.seal([SMALL]))
    assert ref.key != sealer.ref.key
    assert first[:HEADER_BYTES] != second[:HEADER_BYTES]
    assert opened(sealer.ref, second) == SMALL
    with pytest.raises(VerificationError):
        opened(ref, second)


def pieces_of(mebibytes: int) -> Iterator[bytes]:
    for _ in range(mebibytes * 16):
        yield bytes(CHUNK_BYTES)


def test_sealing_holds_a_few_chunks_whatever_the_size() -> None:
    sealer = AttachmentSealer()
    tracemalloc.start()
    try:
        length = sum(map(len, sealer.seal(pieces_of(17))))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert length == sealer.ref.stream_bytes > 64 << 20
    assert peak < 16 * CHUNK_BYTES


def test_opening_holds_a_few_chunks_whatever_the_size() -> None:
    sealer = AttachmentSealer()
    blocks = list(sealer.seal(pieces_of(3)))
    tracemalloc.start()
    try:
        assert sum(map(len, open_attachment(sealer.ref, blocks))) == 3 << 20
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * CHUNK_BYTES


def test_what_is_larger_than_the_largest_class_is_not_sealed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("crypto.attachment_layout.SIZE_CLASSES", SIZE_CLASSES[:1])
    sealer = AttachmentSealer()
    with pytest.raises(UsageError):
        list(sealer.seal([bytes(CHUNK_BYTES), b"\0"]))
    with pytest.raises(UsageError):
        _ = sealer.ref


def test_there_is_no_reference_before_the_whole_stream() -> None:
    sealer = AttachmentSealer()
    with pytest.raises(UsageError):
        _ = sealer.ref
    stream = sealer.seal([SMALL])
    next(stream)
    with pytest.raises(UsageError):
        _ = sealer.ref
    list(stream)
    assert sealer.ref.size == len(SMALL)


def test_every_truncation_of_a_stream_is_refused() -> None:
    ref, stream = sealed(SMALL)
    # Every length around the header and the chunk's ends; in between the chunk is all or nothing.
    lengths = [*range(HEADER_BYTES + 40), *range(100, len(stream), 4999), len(stream) - 1]
    for length in lengths:
        with pytest.raises(VerificationError):
            opened(ref, stream[:length])


def test_a_flipped_bit_anywhere_is_refused() -> None:
    ref, stream = sealed(SMALL)
    # Every bit of commitment, header, tag byte and the chunk's MAC; a sample of the rest.
    places = [*range(HEADER_BYTES + 17), *range(100, len(stream), 1999)]
    places += range(len(stream) - 16, len(stream))
    for place in places:
        for bit in range(8):
            changed = bytearray(stream)
            changed[place] ^= 1 << bit
            with pytest.raises(VerificationError):
                opened(ref, bytes(changed))


def chunks_of(stream: bytes) -> tuple[bytes, list[bytes]]:
    count = (len(stream) - HEADER_BYTES) // CHUNK_CIPHERTEXT_BYTES
    body = [stream[chunk_offset(i) : chunk_offset(i + 1)] for i in range(count)]
    return stream[:HEADER_BYTES], body


def test_chunks_dropped_swapped_repeated_or_added_are_refused() -> None:
    plaintext = secrets.token_bytes(3 * CHUNK_BYTES)
    ref, stream = sealed(plaintext)
    other_ref, other_stream = sealed(plaintext)
    header, (a, b, c, d) = chunks_of(stream)
    other_header, (other_a, *_) = chunks_of(other_stream)
    for spoiled in (
        [a, b, c],
        [b, c, d],
        [a, c, b, d],
        [a, a, b, c, d],
        [a, b, c, d, d],
        [a, b, c, d, b"\0"],
        [a, b, d, c],
        [other_a, b, c, d],
        [d],
        [],
    ):
        with pytest.raises(VerificationError):
            opened(ref, b"".join([header, *spoiled]))
    with pytest.raises(VerificationError):
        opened(ref, b"".join([other_header, a, b, c, d]))
    with pytest.raises(VerificationError):
        opened(ref, other_stream)
    assert opened(other_ref, other_stream) == plaintext


def test_what_a_broken_stream_gave_is_never_the_whole() -> None:
    plaintext = secrets.token_bytes(3 * CHUNK_BYTES)
    ref, stream = sealed(plaintext)
    for spoiled in (stream[:-1], stream + b"\0", stream[: chunk_offset(3)]):
        got: list[bytes] = []
        with pytest.raises(VerificationError):
            got.extend(open_attachment(ref, [spoiled]))
        assert b"".join(got) != plaintext


def test_nothing_of_a_small_attachment_is_released_before_all_is_verified() -> None:
    ref, stream = sealed(SMALL)
    wrong = AttachmentRef(
        key=ref.key,
        size=ref.size,
        plaintext_hash=bytes(32),
        ciphertext_hash=ref.ciphertext_hash,
    )
    with pytest.raises(VerificationError):
        next(open_attachment(wrong, [stream]))


def test_every_flipped_bit_of_a_reference_is_refused() -> None:
    ref, stream = sealed(SMALL)
    data = ref.encode()
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((InvalidError, VerificationError)):
            opened(AttachmentRef.decode(bytes(changed)), stream)


def test_every_truncation_of_a_reference_is_none() -> None:
    data = sealed(SMALL)[0].encode()
    for cut in range(len(data)):
        with pytest.raises(DecodeError):
            AttachmentRef.decode(data[:cut])
    with pytest.raises(DecodeError):
        AttachmentRef.decode(data + b"\0")


@given(st.binary(max_size=120) | st.binary(min_size=104, max_size=104).map(lambda b: b"\x01" + b))
def test_any_bytes_are_a_reference_that_encodes_back_or_none(data: bytes) -> None:
    try:
        ref = AttachmentRef.decode(data)
    except (DecodeError, InvalidError):
        return
    assert ref.encode() == data


def test_a_reference_shows_neither_key_nor_content_hash() -> None:
    ref, _ = sealed(SMALL)
    assert AttachmentRef.decode(ref.encode()) == ref
    for hidden in (ref.key, ref.plaintext_hash):
        assert repr(hidden) not in repr(ref)
        assert hidden.hex() not in repr(ref)
