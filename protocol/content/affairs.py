"""A conversation's own affairs: its card, moderators, what newcomers get, what officers do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from crypto.codec import U64, Opaque, Struct, vector_of
from crypto.errors import InvalidError
from protocol.authenticated_data import HASH_BYTES
from protocol.content.wire import (
    FIELD_BYTES,
    Line,
    Parts,
    People,
    Person,
    Prose,
    Reference,
    check_instant,
    check_line,
    check_people,
    check_prose,
    take_of,
)
from protocol.identifiers import user_name

ORIGINALS = 64
"""Messages in one hand-over of history: its limit in bytes is reached earlier, unless they are
short."""

STATEMENTS = 64
"""Statements or blobs in one official message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card(Struct):
    """What a conversation is called, and which patient it is about; the relay sees neither.

    Attributes:
        title: Empty where people's names are title enough.
        patient: As the house refers to patients; empty for none.
    """

    title: Line = field(default="", repr=False)
    patient: Line = field(default="", repr=False)

    def __post_init__(self) -> None:
        check_line(self.title, empty=True)
        check_line(self.patient, empty=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moderators(Struct):
    """Who may mute in a group beside its owners, from now on; from an owner."""

    users: People

    def __post_init__(self) -> None:
        check_people(self.users)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mute(Struct):
    """Somebody's messages below urgent are folded away for a time; from an owner or a moderator.

    Attributes:
        user: Whose.
        until_ms: Until when, milliseconds since the epoch; 0 ends it now.
    """

    user: Person
    until_ms: U64 = 0

    def __post_init__(self) -> None:
        user_name(self.user)
        check_instant(self.until_ms, none=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Original(Struct):
    """A message from before the reader's time, as the device that hands it over has it.

    Attributes:
        message: Whose and which.
        at_ms: When it was sent.
        message_hash: SHA-256 of the MLSMessage, by which the archive finds it.
        content: Its encoded content; never a hand-over again.
    """

    message: Reference
    at_ms: U64
    message_hash: Annotated[bytes, take_of(HASH_BYTES)]
    content: Opaque = field(repr=False)

    def __post_init__(self) -> None:
        check_instant(self.at_ms)
        if len(self.message_hash) != HASH_BYTES:
            raise InvalidError("a hash has 32 bytes")
        if not self.content:
            raise InvalidError("an original has content")


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryHandOver(Struct):
    """Earlier messages for people who joined since, from whoever hands them over; all see it."""

    originals: Annotated[tuple[Original, ...], vector_of(Original.read, Original.encode)]

    def __post_init__(self) -> None:
        if not 1 <= len(self.originals) <= ORIGINALS:
            raise InvalidError("a hand-over has 1 to ORIGINALS messages")


@dataclass(frozen=True, slots=True, kw_only=True)
class EmergencyRequest(Struct):
    """Somebody needs to read a conversation that they are not in, and asks colleagues to vouch.

    Attributes:
        about: Which one: a patient, a ward, as colleagues would know it.
        reason: Why now.
    """

    about: Line = field(repr=False)
    reason: Prose = field(repr=False)

    def __post_init__(self) -> None:
        check_line(self.about)
        check_prose(self.reason, at_most=FIELD_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmergencyVouch(Struct):
    """A member vouches for somebody's emergency access here; all see it, a second one must too.

    Attributes:
        user: Who is to come in.
        until_ms: Until when, milliseconds since the epoch.
        reason: Why.
        statement: The ``EMERGENCY`` statement with the sender's signature.
    """

    user: Person
    until_ms: U64
    reason: Prose = field(repr=False)
    statement: Opaque = field(repr=False)

    def __post_init__(self) -> None:
        user_name(self.user)
        check_instant(self.until_ms)
        check_prose(self.reason, at_most=FIELD_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Official(Struct):
    """Signed statements among officers and the archive, and what belongs to them; never shown.

    Attributes:
        statements: Encoded, verified by whoever acts on them; at least one.
        blobs: What they name by hash: sealed shares, proofs.
    """

    statements: Parts = field(repr=False)
    blobs: Parts = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.statements) <= STATEMENTS or len(self.blobs) > STATEMENTS:
            raise InvalidError("an official message has 1 to STATEMENTS statements")
