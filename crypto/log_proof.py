"""A receipt that a record is in a log: index, inclusion proof and checkpoint in one text.

It is verified offline with the log's configured key and those of its witnesses.

Source: C2SP tlog-proof.
"""

from __future__ import annotations

from dataclasses import dataclass

from crypto.checkpoint import Checkpoint, verify_checkpoint
from crypto.errors import DecodeError
from crypto.merkle import verify_inclusion
from crypto.note import (
    Note,
    VerifierKey,
    decode_base64,
    decode_decimal,
    encode_base64,
    split_note,
)
from crypto.witness import decode_proof

_FIRST_LINE = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogProof:
    """That the entry at ``index`` is in the tree of a checkpoint, to be verified.

    Attributes:
        index: Zero-based.
        proof: Inclusion proof, from the leaf's sibling upwards.
        note: The checkpoint with the log's signature and its cosignatures.
        extra: Bytes of the application's that nothing authenticates; ``None`` without that line.
    """

    index: int
    proof: tuple[bytes, ...]
    note: Note
    extra: bytes | None = None

    def encode(self) -> bytes:
        """Return the text of the proof."""
        extra = () if self.extra is None else (f"extra {encode_base64(self.extra)}",)
        hashes = map(encode_base64, self.proof)
        lines = (_FIRST_LINE, *extra, f"index {self.index}", *hashes, "", "")
        return "\n".join(lines).encode() + self.note.encode()

    @classmethod
    def decode(cls, data: bytes) -> LogProof:
        """Return the proof in ``data``, not yet verified.

        Raises:
            DecodeError: It is none.

        Source: tlog-proof, "Format".
        """
        (first, *lines), note = split_note(data, struct="LogProof")
        extra = None
        if lines and lines[0].startswith("extra "):
            extra = decode_base64(lines.pop(0)[6:], struct="LogProof", offset=0)
        if first != _FIRST_LINE or not lines or not lines[0].startswith("index "):
            raise DecodeError("LogProof", 0)
        return cls(
            index=decode_decimal(lines[0][6:], struct="LogProof", offset=0),
            proof=decode_proof(lines[1:], struct="LogProof"),
            note=note,
            extra=extra,
        )

    def verify(self, *, leaf: bytes, key: VerifierKey) -> Checkpoint:
        """Return the log's checkpoint under which the leaf hash ``leaf`` stands at ``index``.

        Which witnesses must have cosigned ``note`` is the caller's policy, by
        ``verify_cosignature``.

        Args:
            leaf: ``merkle.leaf_hash`` of the entry, computed by the caller from the entry itself.
            key: The log's *configured* key.

        Raises:
            DecodeError: The log signed what is no checkpoint.
            VerificationError: It does not stand there, or the log did not sign the checkpoint.

        Source: tlog-proof, "Verifying a tlog proof".
        """
        checkpoint = verify_checkpoint(self.note, key)
        verify_inclusion(
            self.proof,
            leaf=leaf,
            index=self.index,
            size=checkpoint.size,
            root=checkpoint.root,
        )
        return checkpoint
