"""Attachments: encrypted in chunks with bounded memory, committed to one key, padded to few sizes.

The stream that the relay holds and the value that goes into the signed message::

    struct {
        opaque key_commitment[32];
        opaque secretstream_header[24];
        opaque chunks[size_class / 65536][65553];   (the last one with secretstream's final tag)
    } AttachmentStream;

    struct {
        uint8 version = 1;
        opaque key[32];
        uint64 size;
        opaque plaintext_hash[32];
        opaque ciphertext_hash[32];
    } AttachmentRef;

XChaCha20-Poly1305 alone does not commit to its key: whoever knows two keys can build one
ciphertext that opens under both, to two texts. So the stream begins with a commitment to its key,
checked before anything is decrypted, and the message holds the hashes of stream and plaintext.

Source: libsodium, secretstream; Dodis, Grubbs, Ristenpart, Woodage 2018 (the attack); Albertini et
al., "How to Abuse and Fix Authenticated Encryption Without Key Commitment", 2022 (the commitment:
encryption key and commitment are two outputs of one hash of the key).
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256

from nacl import bindings
from nacl.exceptions import CryptoError as NaClError

from crypto import codec
from crypto.attachment_layout import (
    CHUNK_BYTES,
    CHUNK_CIPHERTEXT_BYTES,
    COMMITMENT_BYTES,
    HEADER_BYTES,
    MAX_SIZE,
    chunk_offset,
    size_class,
)
from crypto.errors import InvalidError, UsageError, VerificationError

_TAG_MESSAGE = bindings.crypto_secretstream_xchacha20poly1305_TAG_MESSAGE
_TAG_FINAL = bindings.crypto_secretstream_xchacha20poly1305_TAG_FINAL
_State = bindings.crypto_secretstream_xchacha20poly1305_state
_init_push = bindings.crypto_secretstream_xchacha20poly1305_init_push
_init_pull = bindings.crypto_secretstream_xchacha20poly1305_init_pull
_push = bindings.crypto_secretstream_xchacha20poly1305_push

VERSION = 1
KEY_BYTES = 32
HASH_BYTES = 32
_ENCRYPTION_LABEL = b"Wardline 1 attachment encryption"
_COMMITMENT_LABEL = b"Wardline 1 attachment commitment"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentRef:
    """What a message says of its attachment: how to open it, and what it must be.

    It belongs inside an encrypted and signed message, and nowhere else.

    Attributes:
        key: ``KEY_BYTES`` bytes, of this attachment alone.
        size: Bytes of plaintext, without padding.
        plaintext_hash: SHA-256 of the plaintext, without padding.
        ciphertext_hash: SHA-256 of the whole stream.
    """

    key: bytes = field(repr=False)
    size: int
    plaintext_hash: bytes = field(repr=False)
    ciphertext_hash: bytes

    @property
    def chunks(self) -> int:
        """Chunks in the stream."""
        return size_class(self.size) // CHUNK_BYTES

    @property
    def stream_bytes(self) -> int:
        """Bytes of the whole stream."""
        return chunk_offset(self.chunks)

    def encode(self) -> bytes:
        """Return the encoding for the message."""
        return (
            codec.u8(VERSION)
            + self.key
            + codec.u64(self.size)
            + self.plaintext_hash
            + self.ciphertext_hash
        )

    @classmethod
    def decode(cls, data: bytes) -> AttachmentRef:
        """Return the reference in ``data``.

        Raises:
            DecodeError: The bytes are none.
            InvalidError: It is of another version, or larger than ``MAX_SIZE``.
        """
        return codec.decode(data, "AttachmentRef", _read_ref)


def _read_ref(reader: codec.Reader) -> AttachmentRef:
    version = reader.u8()
    ref = AttachmentRef(
        key=reader.take(KEY_BYTES),
        size=reader.u64(),
        plaintext_hash=reader.take(HASH_BYTES),
        ciphertext_hash=reader.take(HASH_BYTES),
    )
    if version != VERSION or ref.size > MAX_SIZE:
        raise InvalidError("an attachment has a known version and size (AttachmentRef)")
    return ref


def _derive(key: bytes) -> tuple[bytes, bytes]:
    """Return the stream's key and the commitment to it, two outputs of HMAC under ``key``."""
    encryption = hmac.digest(key, _ENCRYPTION_LABEL, "sha256")
    return encryption, hmac.digest(key, _COMMITMENT_LABEL, "sha256")


def _regroup(pieces: Iterable[bytes], *sizes: int) -> Iterator[bytes]:
    """Yield the bytes of ``pieces`` in blocks of ``sizes``, the last size again and again.

    What is left at the end comes as a shorter block, also where it is empty.
    """
    buffer, blocks = bytearray(), iter(sizes)
    wanted = next(blocks)
    for piece in pieces:
        buffer += piece
        while len(buffer) >= wanted:
            yield bytes(buffer[:wanted])
            del buffer[:wanted]
            wanted = next(blocks, wanted)
    yield bytes(buffer)


class AttachmentSealer:
    """Encrypts one attachment under a fresh key.

    The stream goes to a file first: the message needs its hash, and only a stream that lies still
    can be uploaded again from where the transfer broke.
    """

    __slots__ = ("_ref",)

    def __init__(self) -> None:
        self._ref: AttachmentRef | None = None

    def seal(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the stream: its header, then chunk after chunk, each time under a new key.

        Args:
            pieces: The plaintext in pieces of any size; each is held once, beside one chunk.

        Raises:
            UsageError: The plaintext is above ``MAX_SIZE``.
        """
        self._ref = None
        key = secrets.token_bytes(KEY_BYTES)
        encryption_key, commitment = _derive(key)
        state = _State()
        header = commitment + _init_push(state, encryption_key)
        plaintext, ciphertext = _Measure(), _Measure()
        yield ciphertext.pass_on(header)
        chunks = _padded(map(plaintext.pass_on, pieces))
        chunk = next(chunks)
        for following in chunks:
            yield ciphertext.pass_on(_push(state, chunk, None, _TAG_MESSAGE))
            chunk = following
        yield ciphertext.pass_on(_push(state, chunk, None, _TAG_FINAL))
        self._ref = AttachmentRef(
            key=key,
            size=plaintext.size,
            plaintext_hash=plaintext.hash.digest(),
            ciphertext_hash=ciphertext.hash.digest(),
        )

    @property
    def ref(self) -> AttachmentRef:
        """What goes into the message.

        Raises:
            UsageError: The stream was not read to its end.
        """
        if self._ref is None:
            raise UsageError("an attachment's reference exists once its whole stream does")
        return self._ref


class _Measure:
    """Size and hash of the bytes that pass."""

    __slots__ = ("hash", "size")

    def __init__(self) -> None:
        self.hash = sha256()
        self.size = 0

    def pass_on(self, data: bytes) -> bytes:
        self.hash.update(data)
        self.size += len(data)
        return data


def _padded(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield ``pieces`` in whole chunks, at least one, and zeroes up to the size class."""
    size = 0
    for block in _regroup(pieces, CHUNK_BYTES):
        size += len(block)
        size_class(size)
        if block or not size:
            yield block.ljust(CHUNK_BYTES, b"\0")
    chunks = max(1, -(-size // CHUNK_BYTES))
    for _ in range(chunks, size_class(size) // CHUNK_BYTES):
        yield bytes(CHUNK_BYTES)


def open_attachment(ref: AttachmentRef, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the plaintext of a stream, chunk by chunk.

    Each chunk that is yielded is authentic, in its place, and under the only key that opens the
    stream. That the attachment is *whole* and is what the sender's message says holds only once the
    iterator has ended: write to a temporary file and give it its name after the loop. The last
    chunk is held back until both hashes are verified, so that what an iterator gave that raised, or
    was left early, is never complete.

    Args:
        ref: From a message whose signature was verified.
        pieces: The stream in pieces of any size.

    Raises:
        VerificationError: The stream is not the one that ``ref`` names; forget what was yielded.
    """
    blocks = _regroup(pieces, HEADER_BYTES, CHUNK_CIPHERTEXT_BYTES)
    header = next(blocks)
    state = _start(ref.key, header)
    plaintext, ciphertext = sha256(), sha256(header)
    held = b""
    for index in range(ref.chunks):
        sealed = next(blocks, b"")
        ciphertext.update(sealed)
        chunk = _pull(state, sealed, _TAG_FINAL if index == ref.chunks - 1 else _TAG_MESSAGE)
        data = _unpadded(chunk, ref.size - index * CHUNK_BYTES)
        plaintext.update(data)
        if held and data:
            yield held
        held = data or held
    if next(blocks, b""):
        raise VerificationError
    if (plaintext.digest(), ciphertext.digest()) != (ref.plaintext_hash, ref.ciphertext_hash):
        raise VerificationError
    if held:
        yield held


def _start(key: bytes, header: bytes) -> _State:
    """Return the state that decrypts the first chunk.

    The commitment is checked before the key is used: of two keys under which the chunks open, the
    header lets only one in.

    Raises:
        VerificationError: The header is cut short, or of a stream under another key.
    """
    encryption_key, commitment = _derive(key)
    found, stream_header = header[:COMMITMENT_BYTES], header[COMMITMENT_BYTES:]
    if len(header) != HEADER_BYTES or not hmac.compare_digest(found, commitment):
        raise VerificationError
    state = _State()
    _init_pull(state, stream_header, encryption_key)
    return state


def _pull(state: _State, sealed: bytes, expected_tag: int) -> bytes:
    if len(sealed) != CHUNK_CIPHERTEXT_BYTES:
        raise VerificationError
    try:
        chunk, tag = bindings.crypto_secretstream_xchacha20poly1305_pull(state, sealed)
    except NaClError:
        raise VerificationError from None
    if tag != expected_tag:
        raise VerificationError
    return chunk


def _unpadded(chunk: bytes, left: int) -> bytes:
    """Return the plaintext in ``chunk``, of which ``left`` bytes (or less than none) are left."""
    data, padding = chunk[: max(0, left)], chunk[max(0, left) :]
    if padding.strip(b"\0"):
        raise VerificationError
    return data
