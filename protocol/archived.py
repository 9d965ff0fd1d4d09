"""What the recorder tells a sender: that its messages are in the archive's log, with the proof.

Body of an ``ARCHIVED`` statement. The sender believes neither the relay nor the recorder: it has
the log's key and the witnesses' from the organisation's log policy, checks the checkpoint and each
proof, and compares what the leaf commits to with the message that it sent itself.

A proof is told once, under the log of then. A device that was away while an archive was restored
into a new log asks anew, and so does whoever spoke while the recorder could not read who spoke:
body of a ``DEVICE_REQUEST`` statement in the recorder's inbox.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from crypto.checkpoint import Checkpoint, verify_checkpoint, verify_cosignature
from crypto.codec import U8, U64, Reader, Struct, Wire, opaque, vector_of
from crypto.errors import InvalidError, UsageError, VerificationError
from crypto.log_proof import LogProof
from crypto.merkle import HASH_BYTES, leaf_hash, verify_inclusion
from crypto.note import Note, VerifierKey
from protocol.identifiers import CONVERSATION_ID_BYTES, ConversationId
from protocol.recorded import RECORD_BYTES, check_commitment

MESSAGES = 24
"""Messages in one statement at most: with proofs of thirty hashes it stays a statement in size."""

_INDEX = slice(3, 11)
"""Where a record has its index (``docs/protocol-archive.md``, *Record*)."""


def _fixed(size: int) -> Wire[bytes]:
    def write(value: bytes) -> bytes:
        if len(value) != size:
            raise UsageError("a field of a fixed length")
        return value

    return Wire(lambda reader: reader.take(size), write)


def _read_hash(reader: Reader) -> bytes:
    return reader.take(HASH_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedMessage(Struct):
    """One message in the log.

    Attributes:
        conversation: Where it was said.
        sequence: Its number in the conversation's log at the relay.
        record: The leaf.
        salt: Of the leaf's commitment.
        proof: Inclusion of the leaf in the statement's checkpoint.
    """

    conversation: Annotated[bytes, _fixed(CONVERSATION_ID_BYTES)]
    sequence: U64
    record: Annotated[bytes, _fixed(RECORD_BYTES)]
    salt: Annotated[bytes, _fixed(HASH_BYTES)] = field(repr=False)
    proof: Annotated[tuple[bytes, ...], vector_of(_read_hash, bytes)]

    @property
    def index(self) -> int:
        """The record's place in the log."""
        return int.from_bytes(self.record[_INDEX], "big")

    @property
    def place(self) -> tuple[ConversationId, int]:
        """Conversation and number."""
        return ConversationId(self.conversation), self.sequence

    def verify(self, *, message_hash: bytes) -> None:
        """Check that the leaf stands for a message.

        Args:
            message_hash: SHA-256 of the MLSMessage that was sent.

        Raises:
            VerificationError: It stands for another.
        """
        check_commitment(self.record, salt=self.salt, body_hash=message_hash)


def _read_message(reader: Reader) -> ArchivedMessage:
    return ArchivedMessage.read(reader)


def _read_note(reader: Reader) -> Note:
    return Note.decode(reader.opaque())


def _write_note(note: Note) -> bytes:
    return opaque(note.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived(Struct):
    """Some of a device's messages, under one checkpoint.

    Attributes:
        note: The checkpoint, with the log's signature and those of its witnesses.
        messages: At most ``MESSAGES``.
    """

    note: Annotated[Note, Wire(_read_note, _write_note)]
    messages: Annotated[
        tuple[ArchivedMessage, ...], vector_of(_read_message, ArchivedMessage.encode)
    ]

    def __post_init__(self) -> None:
        if not 0 < len(self.messages) <= MESSAGES:
            raise InvalidError("one statement is of one to MESSAGES messages")

    def verify(self, *, log: VerifierKey, witnesses: Sequence[VerifierKey]) -> Checkpoint:
        """Return the checkpoint, after checking that every record is in its tree.

        That a record stands for one's own message is then asked by ``ArchivedMessage.verify``.

        Args:
            log: The log's key, from the organisation's log policy.
            witnesses: The witnesses' keys from there; one of them at least has cosigned.

        Raises:
            DecodeError: The log signed what is no checkpoint.
            VerificationError: A signature or a proof does not verify.
        """
        checkpoint = verify_checkpoint(self.note, log)
        if not any(_is_cosigned(self.note, witness) for witness in witnesses):
            raise VerificationError
        for message in self.messages:
            verify_inclusion(
                message.proof,
                leaf=leaf_hash(message.record),
                index=message.index,
                size=checkpoint.size,
                root=checkpoint.root,
            )
        return checkpoint


PROVE = 3
"""First octet of a ``ProofRequest``; what a conversation's steward is asked has another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unproved(Struct):
    """A message that its sender has no proof of.

    Attributes:
        conversation: Where it was said.
        sequence: Its number in the conversation's log at the relay.
        message_hash: SHA-256 of the MLSMessage.
    """

    conversation: Annotated[bytes, _fixed(CONVERSATION_ID_BYTES)]
    sequence: U64
    message_hash: Annotated[bytes, _fixed(HASH_BYTES)]


def _read_unproved(reader: Reader) -> Unproved:
    return Unproved.read(reader)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofRequest(Struct):
    """Messages of which their sender wants a proof under the present log.

    Attributes:
        kind: ``PROVE``.
        messages: At most ``MESSAGES``.
    """

    kind: U8 = PROVE
    messages: Annotated[tuple[Unproved, ...], vector_of(_read_unproved, Unproved.encode)]

    def __post_init__(self) -> None:
        if self.kind != PROVE or not 0 < len(self.messages) <= MESSAGES:
            raise InvalidError("one request is for the proofs of one to MESSAGES messages")


def _is_cosigned(note: Note, witness: VerifierKey) -> bool:
    try:
        verify_cosignature(note, witness)
    except VerificationError:
        return False
    return True


def archived_message(
    proof: LogProof, *, conversation: ConversationId, sequence: int, record: bytes, salt: bytes
) -> ArchivedMessage:
    """Return a message as it is told to its sender, from its receipt."""
    return ArchivedMessage(
        conversation=conversation, sequence=sequence, record=record, salt=salt, proof=proof.proof
    )
