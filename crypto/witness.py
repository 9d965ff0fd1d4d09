"""What a witness answers to a new checkpoint: the request, and the decision as a pure function.

A witness vouches that a log only ever grew. Its decision holds for the tree head that it was given
as stored: reading that head, ``admit`` and storing the new one must be *one* transaction, or of two
requests that were both admitted the smaller could be stored last and roll the log back.

Source: C2SP tlog-witness, "add-checkpoint".
"""

from __future__ import annotations

from dataclasses import dataclass

from crypto.checkpoint import Checkpoint, verify_checkpoint
from crypto.errors import DecodeError, InvalidError, VerificationError
from crypto.merkle import EMPTY_ROOT, HASH_BYTES, MAX_PROOF_HASHES, verify_consistency
from crypto.note import (
    Note,
    VerifierKey,
    decode_base64,
    decode_decimal,
    encode_base64,
    split_note,
)

MALFORMED = 400
"""The old size is above the checkpoint's (also the answer to what does not decode)."""

NOT_SIGNED = 403
"""The log with the configured key did not sign the checkpoint."""

STALE = 409
"""The old size is not the stored one; the answer's body is ``RefusedError.stored_size``."""

NOT_CONSISTENT = 422
"""The proof does not hold: evidence against the log, to be kept."""


class RefusedError(InvalidError):
    """A checkpoint that a witness does not cosign.

    Attributes:
        status: The protocol's answer: ``MALFORMED``, ``NOT_SIGNED``, ``STALE``, ``NOT_CONSISTENT``.
        stored_size: Leaves of the checkpoint last cosigned.
    """

    def __init__(self, status: int, stored_size: int) -> None:
        super().__init__(f"add-checkpoint refused with {status} (tlog-witness)")
        self.status = status
        self.stored_size = stored_size


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeHead:
    """What a witness remembers of a log: the largest tree that it cosigned.

    Attributes:
        size: Leaves, 0 before the first.
        root: Root of that tree.
    """

    size: int = 0
    root: bytes = EMPTY_ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class AddCheckpoint:
    """A log's request for a cosignature.

    Attributes:
        old_size: Leaves of the checkpoint that the log believes to be stored.
        proof: Consistency proof from that tree to the new one.
        note: The new checkpoint, signed.
    """

    old_size: int
    proof: tuple[bytes, ...]
    note: Note

    def encode(self) -> bytes:
        """Return the body of the request."""
        lines = (f"old {self.old_size}", *map(encode_base64, self.proof), "", "")
        return "\n".join(lines).encode() + self.note.encode()

    @classmethod
    def decode(cls, data: bytes) -> AddCheckpoint:
        """Return the request in ``data``.

        Raises:
            DecodeError: It is none; answer ``MALFORMED``.
        """
        (old, *hashes), note = split_note(data, struct="AddCheckpoint")
        if not old.startswith("old "):
            raise DecodeError("AddCheckpoint", 0)
        return cls(
            old_size=decode_decimal(old[4:], struct="AddCheckpoint", offset=4),
            proof=decode_proof(hashes, struct="AddCheckpoint"),
            note=note,
        )


def decode_proof(lines: list[str], *, struct: str) -> tuple[bytes, ...]:
    """Return the hashes of a proof's lines.

    Raises:
        DecodeError: There are more than ``MAX_PROOF_HASHES``, or a line is no hash.
    """
    hashes = tuple(decode_base64(line, struct=struct, offset=0) for line in lines)
    if len(hashes) > MAX_PROOF_HASHES or any(len(value) != HASH_BYTES for value in hashes):
        raise DecodeError(struct, 0)
    return hashes


def admit(request: AddCheckpoint, *, key: VerifierKey, stored: TreeHead) -> TreeHead:
    """Return the head to store before the checkpoint is cosigned.

    Args:
        request: As it came.
        key: The *configured* key of the log, found by the origin that the request names (an
            unknown origin is answered 404 before this).
        stored: The head of that log, read in the transaction that will store the result.

    Raises:
        RefusedError: The checkpoint is not to be cosigned; nothing is to be stored.

    Source: tlog-witness, "add-checkpoint", its checks in its order.
    """
    try:
        new = verify_checkpoint(request.note, key)
    except (VerificationError, DecodeError):
        raise RefusedError(NOT_SIGNED, stored.size) from None
    if request.old_size > new.size:
        raise RefusedError(MALFORMED, stored.size)
    if request.old_size != stored.size:
        raise RefusedError(STALE, stored.size)
    try:
        _check_growth(new, stored, request.proof)
    except VerificationError:
        raise RefusedError(NOT_CONSISTENT, stored.size) from None
    return TreeHead(size=new.size, root=new.root)


def _check_growth(new: Checkpoint, stored: TreeHead, proof: tuple[bytes, ...]) -> None:
    if stored.size:
        verify_consistency(
            proof, old_size=stored.size, old_root=stored.root, size=new.size, root=new.root
        )
    elif proof or (new.size == 0 and new.root != EMPTY_ROOT):
        # Every tree begins with the empty one, so there is nothing that a proof could show.
        raise VerificationError
