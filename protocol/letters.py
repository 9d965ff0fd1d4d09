"""What officers and the archive write to each other, inside their conversation's official content.

A letter is a kind octet and one struct. What is too large for a message travels in parts, each a
letter itself. Nothing in a letter is believed because of who sent it: statements carry their own
signatures, proofs their own roots, shares are bound to what they are for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Annotated

from crypto import codec
from crypto.codec import U16, Opaque, Reader, Struct
from crypto.errors import InvalidError, UsageError
from protocol.opening import (
    Challenge,
    Draft,
    Hash,
    Offer,
    RecordProof,
    Shares,
    Words,
)

LETTER_BYTES = 14_000
"""Longest letter in one message: official content has 16 KiB less its framing."""

MAX_PARTS = 4096
"""Parts of one letter at most: 57 MB, twenty thousand sealed shares with room to spare."""

_PART_OVERHEAD = 1 + 32 + 2 + 2 + 4
_PART_BYTES = LETTER_BYTES - _PART_OVERHEAD


class LetterKind(IntEnum):
    """What a letter is."""

    STATEMENT = 1
    """A signed statement: keys, request, approval, release, hold, liveness."""
    DRAFT = 2
    """An officer asks what a scope would hit."""
    OFFER = 3
    """The archive answers."""
    PROOF = 4
    """The archive shows that a statement is in its log."""
    SHARES = 5
    """The archive hands an officer the sealed shares that it is to release."""
    RELEASED = 6
    """An officer's device hands them back, sealed to the review session, with its statement."""
    CHALLENGE = 7
    """The archive asks an officer's device whether it still holds its keys."""
    NOTICE = 8
    """The archive tells officers something."""
    PART = 9
    """A part of a letter that is larger than a message."""
    RECORDED = 10
    """The archive shows a hold that is in force to an officer's device that came after it."""


class Topic(IntEnum):
    """What a notice is about."""

    EMERGENCY = 1
    """Somebody asks for an emergency opening."""
    NO_SESSION = 2
    """No review session waits at the archive."""
    REFUSED = 3
    """A statement or draft breaks a rule."""
    OPENED = 4
    """Record keys were handed out for a request."""
    FEW_OFFICERS = 5
    """So few officers have proved their keys that one more loss could end every opening."""
    CLOSED = 6
    """A review session has ended, its key is destroyed."""
    OPENING_DUE = 7
    """Nothing was opened for a quarter: whether anything can be is not known."""
    CANARY = 8
    """Words that the archive knows by their hash, to be found when it is opened."""


def _read_topic(reader: Reader) -> Topic:
    try:
        return Topic(reader.u16())
    except ValueError:
        raise reader.fail() from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed(Struct):
    """A signed statement, to be verified by whoever acts on it."""

    statement: Opaque = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded(Struct):
    """A statement with its place in the log: its day is over, and what is in the log still holds.

    Attributes:
        statement: As it was signed.
        proof: Where it stands.
    """

    statement: Opaque = field(repr=False)
    proof: RecordProof


@dataclass(frozen=True, slots=True, kw_only=True)
class Released(Struct):
    """Shares that an officer's device re-encrypted, with the statement that names their hash."""

    statement: Opaque = field(repr=False)
    shares: Shares


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice(Struct):
    """Something that officers are told.

    Attributes:
        topic: What about.
        about: Hash of the statement or draft in question; zeroes for none.
        words: For people.
    """

    topic: Annotated[Topic, codec.Wire(_read_topic, codec.u16)]
    about: Hash
    words: Words = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part(Struct):
    """A part of a letter.

    Attributes:
        whole: SHA-256 of the whole letter.
        number: From 0.
        count: Of parts.
        data: Bytes of the letter.
    """

    whole: Hash
    number: U16
    count: U16
    data: Opaque = field(repr=False)

    def __post_init__(self) -> None:
        if not (self.number < self.count <= MAX_PARTS and 0 < len(self.data) <= _PART_BYTES):
            raise InvalidError("a part is one of at most MAX_PARTS, and not empty")


Letter = (
    Signed | Draft | Offer | RecordProof | Shares | Released | Challenge | Notice | Part | Recorded
)

_CLASSES: dict[LetterKind, type[Letter]] = {
    LetterKind.STATEMENT: Signed,
    LetterKind.DRAFT: Draft,
    LetterKind.OFFER: Offer,
    LetterKind.PROOF: RecordProof,
    LetterKind.SHARES: Shares,
    LetterKind.RELEASED: Released,
    LetterKind.CHALLENGE: Challenge,
    LetterKind.NOTICE: Notice,
    LetterKind.PART: Part,
    LetterKind.RECORDED: Recorded,
}
_KINDS = {struct: kind for kind, struct in _CLASSES.items()}


def encode_letter(letter: Letter) -> tuple[bytes, ...]:
    """Return the letter as what goes into one message each: itself, or its parts.

    Raises:
        UsageError: It is larger than ``MAX_PARTS`` parts.
    """
    whole = _encode(letter)
    if len(whole) <= LETTER_BYTES:
        return (whole,)
    name = hashlib.sha256(whole).digest()
    pieces = [whole[at : at + _PART_BYTES] for at in range(0, len(whole), _PART_BYTES)]
    if len(pieces) > MAX_PARTS:
        raise UsageError("a letter has at most MAX_PARTS parts")
    return tuple(
        _encode(Part(whole=name, number=number, count=len(pieces), data=piece))
        for number, piece in enumerate(pieces)
    )


def decode_letter(data: bytes) -> Letter:
    """Return the letter in ``data``.

    Raises:
        DecodeError: The bytes are none.
        InvalidError: It breaks a rule of its kind.
    """
    return codec.decode(data, "Letter", _read)


def join_parts(parts: Iterable[Part]) -> Letter | None:
    """Return the letter of parts that belong together, or None while some are missing.

    Args:
        parts: All of one ``whole``, in any order.

    Raises:
        DecodeError: What they make is no letter.
        InvalidError: They do not belong together, or make another letter than they say.
    """
    found = {part.number: part for part in parts}
    if len({(part.whole, part.count) for part in found.values()}) != 1:
        raise InvalidError("parts of one letter")
    first = next(iter(found.values()))
    if len(found) < first.count:
        return None
    whole = b"".join(found[number].data for number in range(first.count))
    if hashlib.sha256(whole).digest() != first.whole:
        raise InvalidError("parts make the letter that they name")
    letter = decode_letter(whole)
    if isinstance(letter, Part):
        raise InvalidError("a letter in parts is no part itself")
    return letter


def statement_of(data: bytes) -> bytes | None:
    """Return the statement that a letter is, unverified, or None where it is something else."""
    letter = decode_letter(data)
    return letter.statement if isinstance(letter, Signed | Recorded) else None


def _encode(letter: Letter) -> bytes:
    return codec.u8(_KINDS[type(letter)]) + letter.encode()


def _read(reader: Reader) -> Letter:
    try:
        struct = _CLASSES[LetterKind(reader.u8())]
    except ValueError:
        raise reader.fail() from None
    return struct.read(reader)
