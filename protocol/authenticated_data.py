"""The ``authenticated_data`` of a PrivateMessage: what the relay routes on, signed by the sender.

The relay reads it and cannot alter it unnoticed: MLS puts it under the sender's signature and the
message's AEAD. A recipient ignores whatever else the relay says about a message.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

import msgspec

from crypto import codec
from crypto.codec import Reader
from crypto.errors import DecodeError, InvalidError
from crypto.names import read_text, write_text
from protocol import limits
from protocol.group_context import WardlineContext
from protocol.identifiers import (
    DeviceId,
    device_id,
    role_name,
    user_name,
)

VERSION = 1
HASH_BYTES = 32
COUNTER_MAX = (1 << 64) - 1

_ACKNOWLEDGE, _AGAIN = 0x01, 0x02
_HEAD = struct.Struct("!BBBBQQ")
_NOTHING_MORE = bytes(3)
_PLAIN_BYTES = _HEAD.size + len(_NOTHING_MORE)


class Priority(IntEnum):
    """How urgently people are told; FHIR's words where it has them."""

    INFO = 1
    ROUTINE = 2
    URGENT = 3
    STAT = 4


class TargetKind(IntEnum):
    """Whom a message is meant to reach."""

    CONVERSATION = 0
    ROLE = 1
    """Whoever is on call for a role now."""
    USER = 2
    NEXT = 3
    """Whoever comes on call for a role next."""
    BACKUP = 4
    """Whoever is a role's backup now."""


_OF_ROLES = frozenset({TargetKind.ROLE, TargetKind.NEXT, TargetKind.BACKUP})
_PRIORITIES = {int(value): value for value in Priority}
_TARGET_KINDS = {int(value): value for value in TargetKind}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Whom a message is meant to reach.

    Attributes:
        kind: Everybody in the conversation, whoever has a turn of a role, or one user.
        name: The role or user; empty for the conversation.
    """

    kind: TargetKind
    name: str = ""

    def __post_init__(self) -> None:
        if self.kind is TargetKind.CONVERSATION:
            if self.name:
                raise InvalidError("the conversation as target has no name")
        elif self.is_role:
            role_name(self.name)
        else:
            user_name(self.name)

    @property
    def is_role(self) -> bool:
        """Whether people are meant by a role of theirs, whoever has it."""
        return self.kind in _OF_ROLES


EVERYBODY = Target(kind=TargetKind.CONVERSATION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The newest checkpoint of the archive's log that the sender has verified.

    Attributes:
        tree_size: Number of leaves.
        root_hash: ``HASH_BYTES`` bytes.
    """

    tree_size: int
    root_hash: bytes

    def __post_init__(self) -> None:
        if not 1 <= self.tree_size <= COUNTER_MAX or len(self.root_hash) != HASH_BYTES:
            raise InvalidError("a checkpoint has a tree size of at least one and a 32-byte root")

    def encode(self) -> bytes:
        """Return the struct's encoding."""
        return codec.u64(self.tree_size) + self.root_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitData:
    """What only a Commit carries; members check it against the Commit's real effect.

    Attributes:
        added: Devices whose cursors begin with the new epoch, ascending.
        removed: Devices whose cursors end at this Commit, ascending.
        statement_hash: SHA-256 of the signed statement that demands the change, where one does.
        context: The conversation's context after this Commit, where it is created or changed.
    """

    added: tuple[DeviceId, ...] = ()
    removed: tuple[DeviceId, ...] = ()
    statement_hash: bytes | None = None
    context: WardlineContext | None = None

    def __post_init__(self) -> None:
        for devices in (self.added, self.removed):
            for device in devices:
                device_id(device)
            if list(devices) != sorted(set(devices)) or len(devices) > limits.MEMBERS:
                raise InvalidError(
                    "a change of cursors is ascending, without repeats, at most MEMBERS"
                )
        if self.statement_hash is not None and len(self.statement_hash) != HASH_BYTES:
            raise InvalidError("a statement hash has 32 bytes")

    def encode(self) -> bytes:
        """Return the struct's encoding."""
        context = None if self.context is None else self.context.encode()
        return b"".join(
            (
                codec.vector(map(write_text, self.added)),
                codec.vector(map(write_text, self.removed)),
                codec.optional(self.statement_hash),
                codec.optional(context),
            )
        )


class AuthenticatedData(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a message says of itself in the open.

    Attributes:
        message_id: The sending device's counter over all it sends, from 1. The relay knows a
            repeat by it; a message refused as stale is encrypted again under the same number.
        previous_id: The device's preceding message in this conversation, 0 for none, so that
            every recipient notices a hole without trusting the relay.
        priority: How urgently people are told.
        acknowledgement_asked: Whether the sender wants a person's acknowledgement.
        target: Whom the message is meant to reach.
        checkpoint: Newest archive checkpoint the sender has verified, once there is one.
        commit: Present for a Commit and for nothing else.
        first_id: The number under which it was said first, where it goes out once more under
            another, 0 elsewhere: whoever has it under that shows it once.
    """

    message_id: int
    previous_id: int = 0
    priority: Priority = Priority.ROUTINE
    acknowledgement_asked: bool = False
    target: Target = EVERYBODY
    checkpoint: Checkpoint | None = None
    commit: CommitData | None = None
    first_id: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.previous_id < self.message_id <= COUNTER_MAX:
            raise InvalidError("message ids count up from 1, and the previous one is smaller")
        if not 0 <= self.first_id < self.message_id:
            raise InvalidError("what is said again was said under a smaller id first")

    @property
    def named(self) -> int:
        """The id by which its conversation knows it, and others name it."""
        return self.first_id or self.message_id

    def encode(self) -> bytes:
        """Return the bytes for MLS's ``authenticated_data``."""
        checkpoint = None if self.checkpoint is None else self.checkpoint.encode()
        commit = None if self.commit is None else self.commit.encode()
        flags = _ACKNOWLEDGE * self.acknowledgement_asked | _AGAIN * bool(self.first_id)
        return b"".join(
            (
                _HEAD.pack(
                    VERSION,
                    self.priority,
                    flags,
                    self.target.kind,
                    self.message_id,
                    self.previous_id,
                ),
                write_text(self.target.name),
                codec.optional(checkpoint),
                codec.optional(commit),
                codec.u64(self.first_id) if self.first_id else b"",
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> AuthenticatedData:
        """Return what ``authenticated_data`` says.

        Raises:
            DecodeError: The bytes are no encoding of it.
            InvalidError: A number, name or order breaks a rule stated in the classes here.
        """
        if len(data) == _PLAIN_BYTES and data.endswith(_NOTHING_MORE):
            return _plain(data)
        reader = Reader(data, "AuthenticatedData")
        value = _read(reader)
        reader.finish()
        return value


def _head(data: bytes) -> tuple[int, int, int, int, int, int]:
    """Read and check the part of fixed size, with which ``data`` begins."""
    head: tuple[int, int, int, int, int, int] = _HEAD.unpack_from(data)
    version, priority, flags, kind, _, _ = head
    if version != VERSION or flags > _ACKNOWLEDGE | _AGAIN:
        raise DecodeError("AuthenticatedData", 0)
    if priority not in _PRIORITIES or kind not in _TARGET_KINDS:
        raise DecodeError("AuthenticatedData", 0)
    return head


def _plain(data: bytes) -> AuthenticatedData:
    """Read what has no target, checkpoint or Commit: most of what the relay reads, in a third."""
    _, priority, flags, kind, message_id, previous_id = _head(data)
    if flags & _AGAIN:
        raise DecodeError("AuthenticatedData", _PLAIN_BYTES)
    return AuthenticatedData(
        message_id=message_id,
        previous_id=previous_id,
        priority=_PRIORITIES[priority],
        acknowledgement_asked=flags == _ACKNOWLEDGE,
        target=EVERYBODY if kind == 0 else Target(kind=_TARGET_KINDS[kind]),
    )


def _read(reader: Reader) -> AuthenticatedData:
    _, priority, flags, kind, message_id, previous_id = _head(reader.take(_HEAD.size))
    name = read_text(reader)
    whole_conversation = kind == 0 and not name
    return AuthenticatedData(
        message_id=message_id,
        previous_id=previous_id,
        priority=_PRIORITIES[priority],
        acknowledgement_asked=bool(flags & _ACKNOWLEDGE),
        target=EVERYBODY if whole_conversation else Target(kind=_TARGET_KINDS[kind], name=name),
        checkpoint=reader.optional(_read_checkpoint),
        commit=reader.optional(_read_commit),
        first_id=_read_first(reader) if flags & _AGAIN else 0,
    )


def _read_first(reader: Reader) -> int:
    first_id = reader.u64()
    if not first_id:
        raise InvalidError("what is said again was said under an id first")
    return first_id


def _read_checkpoint(reader: Reader) -> Checkpoint:
    return Checkpoint(tree_size=reader.u64(), root_hash=reader.take(HASH_BYTES))


def _read_device(reader: Reader) -> DeviceId:
    return DeviceId(read_text(reader))


def _read_hash(reader: Reader) -> bytes:
    return reader.take(HASH_BYTES)


def _read_commit(reader: Reader) -> CommitData:
    return CommitData(
        added=reader.vector(_read_device),
        removed=reader.vector(_read_device),
        statement_hash=reader.optional(_read_hash),
        context=reader.optional(WardlineContext.read),
    )
