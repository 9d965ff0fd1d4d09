"""What an officer's device answers to the archive that asks it, as a witness, to cosign.

The question is the body of a ``CHECKPOINT`` statement: an add-checkpoint request as the relay gets
it. The answer is the body of a ``COSIGNATURE`` statement. It always shows what the device holds,
so that an archive which was set back learns it from any answer, and can show it to others: the
note in it is signed by the archive's own key.

Source: C2SP tlog-witness and tlog-cosignature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from crypto.checkpoint import Checkpoint, verify_checkpoint, verify_cosignature
from crypto.codec import U16, Opaque, Struct, Wire
from crypto.errors import InvalidError
from crypto.names import read_text, write_text
from crypto.note import Note, SignatureType, VerifierKey
from protocol import limits
from protocol.identifiers import DeviceId

COSIGNED = 200
"""The checkpoint was consistent with what the device held: it holds and cosigns this one now."""


def witness_name(device: DeviceId) -> str:
    """Return the name of a device's key as a witness: it says whose it is."""
    return f"wardline-officer/{device}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosignature(Struct):
    """What an officer's device holds of the archive's log.

    Attributes:
        status: ``COSIGNED``, or why it was refused (``crypto.witness``).
        key: The device's verifier key as a witness, a C2SP vkey.
        note: The newest checkpoint that it holds of the log it was asked about, with the
            signatures of the log and of the device; empty where it holds none.
    """

    status: U16
    key: Annotated[str, Wire(read_text, write_text)]
    note: Opaque

    def verify(self, *, device: DeviceId, log: VerifierKey) -> Cosigned | None:
        """Return what the device holds of a log, or ``None`` where it holds nothing of it.

        Args:
            device: Whose answer it is, as its statement's signature shows.
            log: The log's key.

        Raises:
            DecodeError: The key or the note is none.
            InvalidError: The key is not a witness's of that device.
            VerificationError: The log or the device did not sign the note.
        """
        key = VerifierKey.decode(self.key)
        if (key.name, key.kind) != (witness_name(device), SignatureType.COSIGNATURE):
            raise InvalidError("a witness's key is named after its device")
        if len(self.key) > limits.VERIFIER_KEY_CHARACTERS:
            raise InvalidError("a verifier key is of VERIFIER_KEY_CHARACTERS at most")
        if not self.note:
            return None
        note = Note.decode(self.note)
        if Checkpoint.decode(note.text).origin != log.name:
            return None
        checkpoint = verify_checkpoint(note, log)
        return Cosigned(checkpoint=checkpoint, at_ms=verify_cosignature(note, key) * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosigned:
    """A checkpoint that a device vouches for.

    Attributes:
        checkpoint: The largest tree of the log that it has seen.
        at_ms: When it said so, by its own clock.
    """

    checkpoint: Checkpoint
    at_ms: int
