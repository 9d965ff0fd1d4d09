"""How an attachment's stream is laid out: what the relay, which opens none, must know of it.

The relay imports this and not ``crypto.attachment``, which decrypts.
"""

from __future__ import annotations

from crypto.errors import UsageError

COMMITMENT_BYTES = 32

SECRETSTREAM_HEADER_BYTES = 24
"""libsodium's header of a stream."""

SECRETSTREAM_TAG_BYTES = 17
"""What libsodium adds to a chunk: a tag byte and the authenticator."""

CHUNK_BYTES = 65_536
"""Plaintext in a chunk: what is held in memory, and what a broken transfer repeats."""

CHUNK_CIPHERTEXT_BYTES = CHUNK_BYTES + SECRETSTREAM_TAG_BYTES

HEADER_BYTES = COMMITMENT_BYTES + SECRETSTREAM_HEADER_BYTES
"""Bytes before the first chunk."""

SIZE_CLASSES = tuple(CHUNK_BYTES << (2 * step) for step in range(8))
"""Padded sizes, 64 KiB to 1 GiB in steps of four: eight classes are all that a relay ever sees.

Steps of four can cost three times a file's size again in transfer and storage; Padmé would cost
an eighth at most, but tells sizes apart so finely that a known document is recognised by its
length. A photograph of 1 to 4 MiB, the usual attachment, is one class.
"""

MAX_SIZE = SIZE_CLASSES[-1]
"""Plaintext at most, in bytes: the largest class; what is larger belongs into the image archive."""


def chunk_offset(index: int) -> int:
    """Return where chunk ``index`` begins in the stream, for whoever resumes a transfer."""
    return HEADER_BYTES + index * CHUNK_CIPHERTEXT_BYTES


STREAM_SIZES = tuple(chunk_offset(padded // CHUNK_BYTES) for padded in SIZE_CLASSES)
"""Lengths that a whole stream may have; a relay takes no other."""


def size_class(size: int) -> int:
    """Return the padded size of ``size`` bytes of plaintext.

    Raises:
        UsageError: It is above ``MAX_SIZE``.
    """
    for padded in SIZE_CLASSES:
        if size <= padded:
            return padded
    raise UsageError("an attachment above the largest size class")
