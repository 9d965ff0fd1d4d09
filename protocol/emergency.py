"""Emergency access: two members of a conversation let a colleague in for a limited time.

A *guest* stands in the conversation's context with the statement that both have signed, so that
every member, also one that comes later, knows who is there on whose word and until when. The entry
stays for the whole time, also where access ended before: so one statement lets in once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from crypto.codec import U64, Reader, Struct, Wire
from crypto.errors import DecodeError, InvalidError
from crypto.names import Role, check_time
from crypto.statement import VerifiedStatement, claimed_statement, statement_signers
from crypto.statement_types import StatementType
from protocol.identifiers import (
    CONVERSATION_ID_BYTES,
    ConversationId,
    UserName,
    conversation_id,
    user_name,
)
from protocol.oncall.wire import User

EMERGENCY_MS = 12 * 60 * 60 * 1000
"""Longest stay of a guest, in ms: a shift; whoever is needed longer is let in by an owner."""


def _read_conversation(reader: Reader) -> ConversationId:
    return ConversationId(reader.take(CONVERSATION_ID_BYTES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Emergency(Struct):
    """The body of an ``EMERGENCY`` statement.

    Attributes:
        conversation: Where.
        user: Who comes in.
        until_ms: Until when, milliseconds since the epoch.
    """

    conversation: Annotated[ConversationId, Wire(_read_conversation, bytes)]
    user: User
    until_ms: U64

    def __post_init__(self) -> None:
        conversation_id(self.conversation)
        user_name(self.user)
        check_time(self.until_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """Somebody who is in a conversation, or was, on the word of two members.

    Attributes:
        until_ms: When it ends, milliseconds since the epoch.
        conversation: The one that the statement names.
        signers: Fingerprints of the vouchers' certificates.
        statement: What they have signed; verified when the guest is let in.
    """

    user: UserName
    until_ms: int
    conversation: ConversationId
    signers: tuple[bytes, ...] = field(repr=False)
    statement: bytes = field(repr=False)


def guest_of(statement: bytes) -> Guest:
    """Return the guest whom a statement lets in; nobody's signature is verified.

    Raises:
        DecodeError: It is no ``EMERGENCY`` statement.
        InvalidError: A name or an instant is malformed.
    """
    claimed = claimed_statement(statement)
    if claimed.type is not StatementType.EMERGENCY:
        raise DecodeError("Emergency", 0)
    body = Emergency.decode(claimed.body)
    return Guest(
        user=body.user,
        until_ms=body.until_ms,
        conversation=body.conversation,
        signers=statement_signers(statement),
        statement=statement,
    )


def let_in(guests: Collection[Guest], guest: Guest) -> tuple[Guest, ...]:
    """Return the guests with one more, in the place of an earlier entry of the same person."""
    others = [one for one in guests if one.user != guest.user]
    return tuple(sorted((*others, guest), key=lambda one: one.user))


def still_to_come(guests: Collection[Guest], *, at_ms: int) -> tuple[Guest, ...]:
    """Return the guests whose time is not over."""
    return tuple(one for one in guests if at_ms < one.until_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Granting:
    """What a change of guests is judged by.

    Attributes:
        conversation: Where.
        people: Who is in it before the change, guests among them, the recorder not.
        devices: Which devices are in it before the change, by name.
        staying: Who is in it after the change.
        verified: Statements that verified, by their bytes.
        at_ms: When the change came into the log.
    """

    conversation: ConversationId
    people: Collection[str]
    devices: Collection[str]
    staying: Collection[str]
    verified: Mapping[bytes, VerifiedStatement]
    at_ms: int


def check_guests(before: Collection[Guest], after: Collection[Guest], granting: Granting) -> None:
    """Refuse a change of guests that two members have not signed, or that is none of its time.

    Raises:
        InvalidError: A rule is broken, which is named.
    """
    kept = {one.user: one for one in after}
    for guest in before:
        if guest.user in kept:
            continue
        if granting.at_ms < guest.until_ms or guest.user in granting.staying:
            # Without it the same statement would let in again, or a guest would be a member.
            raise InvalidError("a guest's entry stays until the time is over and the guest gone")
    known = {one.user: one for one in before}
    for guest in after:
        if known.get(guest.user) != guest:
            _check_grant(guest, known, granting)


def _check_grant(guest: Guest, known: Mapping[UserName, Guest], granting: Granting) -> None:
    statement = granting.verified.get(guest.statement)
    if statement is None:
        raise InvalidError("a guest is let in by a statement that verifies")
    if guest.conversation != granting.conversation:
        raise InvalidError("a guest is let into the conversation that the statement names")
    if not granting.at_ms < guest.until_ms <= statement.issued_ms + EMERGENCY_MS:
        raise InvalidError("a guest's time has not passed, and is a shift at most")
    if guest.user not in granting.staying:
        raise InvalidError("a statement is used by letting somebody in")
    earlier = known.get(guest.user)
    if earlier is not None and guest.until_ms <= earlier.until_ms:
        raise InvalidError("a statement lets in once")
    if earlier is None and guest.user in granting.people:
        raise InvalidError("a member needs nobody's word")
    for signer in statement.signers:
        identity = signer.identity
        # By its name: whoever was in before a renewal signs with a certificate of after it.
        if identity is None or identity.name not in granting.devices:
            raise InvalidError("members of the conversation vouch, by a device that is in it")
        if identity.user == guest.user or identity.user in known:
            raise InvalidError("nobody vouches for themself, and no guest for another")
        if Role.CLINICIAN not in identity.roles:
            raise InvalidError("clinicians vouch")
