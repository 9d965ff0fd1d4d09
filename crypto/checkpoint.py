"""Checkpoints of a log, and the cosignatures by which witnesses vouch for them.

A log's identity is one configured verifier key, whose name is the log's origin: neither is ever
taken from what a server sends.

Source: C2SP tlog-checkpoint and tlog-cosignature (version 1, Ed25519).
"""

from __future__ import annotations

from dataclasses import dataclass

from crypto import codec, ed25519
from crypto.errors import DecodeError, UsageError, VerificationError
from crypto.merkle import HASH_BYTES, MAX_TREE_SIZE
from crypto.note import (
    Note,
    NoteSignature,
    SignatureType,
    SignerKey,
    VerifierKey,
    decode_base64,
    decode_decimal,
    encode_base64,
    is_note_text,
    sign_note,
    signatures_of,
    verify_note,
)

MAX_TIMESTAMP_S = (1 << 63) - 1
"""Latest time of a cosignature (tlog-cosignature, "Format")."""

_TIMESTAMP_BYTES = 8
_LEAST_LINES = 3
_MS_PER_S = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A log's tree at one size.

    Attributes:
        origin: Unique name of the log.
        size: Leaves.
        root: Root of the tree of that size, ``HASH_BYTES`` bytes.
        extensions: Further lines, kept so that a note re-encodes; Wardline's logs write none.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """Return the text that is signed.

        Raises:
            UsageError: A line is empty or holds a control character, or a number is out of range.

        Source: tlog-checkpoint, "Note text".
        """
        lines = (self.origin, str(self.size), encode_base64(self.root), *self.extensions)
        if not 0 <= self.size <= MAX_TREE_SIZE or len(self.root) != HASH_BYTES:
            raise UsageError("a checkpoint has a size below 2^63 and a root of 32 bytes")
        text = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")
        if not all(lines) or text.count(b"\n") != len(lines) or not is_note_text(text):
            raise UsageError("a checkpoint's lines are text, one line each, and not empty")
        return text

    @classmethod
    def decode(cls, text: bytes) -> Checkpoint:
        """Return the checkpoint of a note's text.

        Raises:
            DecodeError: The text is none.

        Source: tlog-checkpoint, "Note text".
        """
        lines = text.decode("utf-8").split("\n")[:-1] if is_note_text(text) else []
        if len(lines) < _LEAST_LINES or not all(lines):
            raise DecodeError("Checkpoint", 0)
        origin, size, root, *extensions = lines
        at = len(origin.encode()) + 1
        checkpoint = cls(
            origin=origin,
            size=decode_decimal(size, struct="Checkpoint", offset=at),
            root=decode_base64(root, struct="Checkpoint", offset=at + len(size) + 1),
            extensions=tuple(extensions),
        )
        if len(checkpoint.root) != HASH_BYTES:
            raise DecodeError("Checkpoint", 0)
        return checkpoint


def sign_checkpoint(checkpoint: Checkpoint, key: SignerKey) -> Note:
    """Return the checkpoint as a note signed by the log.

    Before this the caller has made sure, by compare-and-swap in a store apart from the log, that
    every checkpoint it ever signed is consistent with this one.

    Raises:
        UsageError: The checkpoint's origin is not the key's name, or it cannot be encoded.

    Source: tlog-checkpoint, "Signatures".
    """
    if checkpoint.origin != key.name:
        raise UsageError("a log's key is named as its origin")
    return sign_note(checkpoint.encode(), key)


def verify_checkpoint(note: Note, key: VerifierKey) -> Checkpoint:
    """Return the checkpoint that the log with ``key`` signed.

    Args:
        note: As it came.
        key: The log's *configured* key.

    Raises:
        DecodeError: The log signed what is no checkpoint.
        VerificationError: The log did not sign it, or it is another log's.
    """
    verify_note(note, key)
    checkpoint = Checkpoint.decode(note.text)
    if checkpoint.origin != key.name:
        raise VerificationError
    return checkpoint


def _cosigned(text: bytes, time_s: int) -> bytes:
    """Return the bytes that a cosigner signs (tlog-cosignature, "Ed25519 signed message")."""
    return b"cosignature/v1\ntime %d\n" % time_s + text


def cosign(note: Note, key: SignerKey, *, at_ms: int) -> NoteSignature:
    """Return the cosignature of a checkpoint that the caller has verified and stored.

    Args:
        note: The checkpoint's note.
        key: The witness's key, of type ``COSIGNATURE``.
        at_ms: Now, in ms since the epoch; the cosignature holds whole seconds.

    Raises:
        DecodeError: The note is no checkpoint.
        UsageError: The key is of another type, or the time before its first second.

    Source: tlog-cosignature, "Format"; a witness's timestamp is not 0 (tlog-witness).
    """
    time_s = at_ms // _MS_PER_S
    if key.kind is not SignatureType.COSIGNATURE or not 0 < time_s <= MAX_TIMESTAMP_S:
        raise UsageError("a cosignature has a key of its own type and a time")
    Checkpoint.decode(note.text)
    signature = codec.u64(time_s) + key.key.sign(_cosigned(note.text, time_s))
    return NoteSignature(name=key.name, key_id=key.verifier.key_id, signature=signature)


def verify_cosignature(note: Note, key: VerifierKey) -> int:
    """Return when the witness with ``key`` last cosigned the note, in seconds since the epoch.

    The caller has verified the log's own signature by ``verify_checkpoint``.

    Raises:
        UsageError: The key is not of type ``COSIGNATURE``.
        VerificationError: It did not cosign, or a cosignature in its name is wrong.

    Source: tlog-cosignature, "Format".
    """
    if key.kind is not SignatureType.COSIGNATURE:
        raise UsageError("a cosignature is verified by a key of its own type")
    times = [_verify_one(note.text, signature, key) for signature in signatures_of(note, key)]
    if not times:
        raise VerificationError
    return max(times)


def _verify_one(text: bytes, signature: bytes, key: VerifierKey) -> int:
    time_s = int.from_bytes(signature[:_TIMESTAMP_BYTES], "big")
    if time_s > MAX_TIMESTAMP_S:
        raise VerificationError
    ed25519.verify(
        public_key=key.public_key,
        message=_cosigned(text, time_s),
        signature=signature[_TIMESTAMP_BYTES:],
    )
    return time_s
