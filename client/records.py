"""What the store keeps of a conversation beside its group, as bytes of this program's own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeVar

import msgspec

from client.errors import DamagedError
from client.followed import Cause, Chain, StagedCommit
from client.messages import Message
from client.mls_records import Staged
from client.rules import Demand
from client.views import Roster
from protocol.authenticated_data import EVERYBODY, Priority, Target
from protocol.identifiers import DeviceId

T = TypeVar("T")


class _About(msgspec.Struct, frozen=True, array_like=True):
    """A staged Commit without its group."""

    welcome: bool
    sequence: int
    epoch: int
    committer: str
    at_ms: int
    message_id: int
    roster: Roster
    refused: Cause | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a conversation, beside group and staged Commits.

    Attributes:
        chains: For each sending device, what came of it.
        demands: Requests in its log that a Commit may cite, by hash.
        context: What the conversation is, encoded; empty before this device came in.
        confirmed: Whether its first epoch has a receipt.
        ended: Whether this device is no longer a member.
        away: Whether it has asked to be added again, and sends nothing until it is.
        lapsed: The same, on the relay's word alone: that it was away for too long.
        held: Messages that wait for this person's shift: number in the log, and until when.
        read_through: The place up to which this person has read.
        muted: Whether this person wants no sound from it.
        since_ms: When each device came in, for who could read what.
        until_ms: When each device went.
        company: The epoch in which somebody came in last, of those that this device has been in.
        withheld: How many messages of the present epoch the policy kept from this device.
    """

    chains: dict[DeviceId, Chain] = field(default_factory=dict)
    demands: dict[bytes, Demand] = field(default_factory=dict)
    context: bytes = b""
    confirmed: bool = False
    ended: bool = False
    away: bool = False
    held: dict[int, int] = field(default_factory=dict)
    read_through: int = 0
    muted: bool = False
    since_ms: dict[DeviceId, int] = field(default_factory=dict)
    until_ms: dict[DeviceId, int] = field(default_factory=dict)
    company: int = 0
    lapsed: bool = False
    withheld: int = 0

    @property
    def returning(self) -> bool:
        """Whether this device is to be added again."""
        return self.away or self.lapsed


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a message in the outbox is sealed from.

    Attributes:
        plaintext: The content's encoding, padded when it is sealed.
        said_in: The epoch that it went out in, where it is to go out once more: for nobody who came
            in after that.
    """

    plaintext: bytes = field(repr=False)
    priority: Priority = Priority.ROUTINE
    acknowledgement_asked: bool = False
    target: Target = EVERYBODY
    said_in: int | None = None


def encode_known(known: Known) -> bytes:
    """Return what the store keeps."""
    return _encode(known)


def decode_known(data: bytes | None) -> Known:
    """Return what the store kept; nothing is known of a conversation without it.

    Raises:
        DamagedError: It does not decode.
    """
    return Known() if data is None else _decoded(data, Known)


def source_of(message: Message, *, said_in: int | None = None) -> bytes:
    """Return what the outbox keeps of a message as it stands."""
    standing = message.standing
    return encode_source(
        Source(
            plaintext=message.content.data,
            priority=standing.priority,
            acknowledgement_asked=standing.acknowledgement_asked,
            target=standing.target,
            said_in=said_in,
        )
    )


def encode_source(source: Source) -> bytes:
    """Return what the outbox keeps."""
    return _encode(source)


def decode_source(data: bytes) -> Source:
    """Return what the outbox kept.

    Raises:
        DamagedError: It does not decode.
    """
    return _decoded(data, Source)


def staged_record(staged: StagedCommit) -> Staged:
    """Return a staged Commit as the store keeps it."""
    about = _About(
        welcome=staged.welcome,
        sequence=staged.sequence,
        epoch=staged.epoch,
        committer=staged.committer,
        at_ms=staged.at_ms,
        message_id=staged.message_id,
        roster=staged.roster,
        refused=staged.refused,
    )
    return Staged(reference=staged.reference, about=_encode(about), group=staged.group)


def staged_commit(record: Staged) -> StagedCommit:
    """Return a staged Commit as it is followed.

    Raises:
        DamagedError: What the store kept does not decode.
    """
    about = _decoded(record.about, _About)
    return StagedCommit(
        reference=record.reference,
        welcome=about.welcome,
        sequence=about.sequence,
        epoch=about.epoch,
        committer=DeviceId(about.committer),
        at_ms=about.at_ms,
        message_id=about.message_id,
        roster=about.roster,
        refused=about.refused,
        group=record.group,
    )


def with_roster(known: Known, roster: Roster, *, at_ms: int) -> Known:
    """Return what is known after devices came and went."""
    since = {**known.since_ms, **dict.fromkeys((*roster.added, *roster.renewed), at_ms)}
    until = {**known.until_ms, **dict.fromkeys(roster.removed, at_ms)}
    until = {device: time for device, time in until.items() if device not in roster.added}
    return replace(known, since_ms=since, until_ms=until)


def with_read(known: Known, place: int) -> Known:
    """Return what is known once a person has read up to a place; what was held is read with it."""
    held = {number: until_ms for number, until_ms in known.held.items() if number > place}
    return replace(known, read_through=place, held=held)


def encode_roster(roster: Roster) -> bytes:
    """Return a change of members as its row in a thread keeps it."""
    return _encode(roster)


def decode_roster(data: bytes) -> Roster:
    """Return the change of members of a row in a thread.

    Raises:
        DamagedError: It does not decode.
    """
    return _decoded(data, Roster)


def _decoded(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except msgspec.MsgspecError:
        raise DamagedError("database") from None


_encode = msgspec.msgpack.encode
