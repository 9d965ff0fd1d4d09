"""What a device shows of itself: the values that faces draw and commands print.

Made from the store by ``client.device``; none of them reaches back into it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from client.courses import Course
from client.messages import MessageKey, PersonState, State
from crypto.statement_types import StatementType
from protocol.authenticated_data import EVERYBODY, Priority, Target
from protocol.group_context import ConversationType
from protocol.identifiers import ConversationId, DeviceId, RoleName, UserName


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """People and devices came or went; stands in a thread between messages.

    Attributes:
        by: Whose Commit it was.
        joined: People who had no device in the conversation before, ascending.
        left: People who have none any more, ascending.
        added: Devices that came, ascending.
        removed: Devices that went, ascending.
        renewed: Devices that went and came in again, as one that lost its state does, ascending.
        guests: Those who came by emergency access, or stay longer by it, and until when.
        vouchers: On whose word, ascending.
    """

    by: DeviceId
    joined: tuple[UserName, ...] = ()
    left: tuple[UserName, ...] = ()
    added: tuple[DeviceId, ...] = ()
    removed: tuple[DeviceId, ...] = ()
    renewed: tuple[DeviceId, ...] = ()
    guests: dict[UserName, int] = field(default_factory=dict)
    vouchers: tuple[UserName, ...] = ()


@dataclass(frozen=True, slots=True)
class Withheld:
    """Stands in the place of what a message says where the policy keeps that from this person."""


WITHHELD_TEXT = "(Your role may not read this. Ask your administrator.)"
"""What such a message says instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A message as a thread shows it.

    Attributes:
        key: The same on all devices.
        sender: Its device; ``key.sender``, for convenience.
        at_ms: When it was sent, milliseconds since the epoch.
        place: Orders the conversation; give the first one's as ``before`` for the page before.
        state: Waiting, stored, refused or retracted.
        content: What it says: a value of ``protocol.content``, a ``Roster`` or ``Withheld``.
        text: The plain words of it, for lists, the clipboard and screen readers.
        people: How far it got with each person, and since when; own messages only.
        archived: Whether the archive has proved that it has it; own messages only.
        edited: How often it was changed.
        until_ms: Until when it said so, of what it said before it was changed.
        reply_to: What it answers.
        course: What became of it, for a task, a result and the like.
        reactions: Who put which sign beside it.
        own: Whether one of this person's devices sent it.
    """

    key: MessageKey
    sender: DeviceId
    at_ms: int
    place: int
    state: State
    priority: Priority
    content: object = field(repr=False)
    text: str = field(repr=False)
    target: Target = EVERYBODY
    acknowledgement_asked: bool = False
    people: Mapping[UserName, tuple[PersonState, int]] = field(default_factory=dict, repr=False)
    archived: bool = False
    edited: int = 0
    until_ms: int | None = None
    reply_to: MessageKey | None = None
    course: Course | None = field(default=None, repr=False)
    reactions: Mapping[str, tuple[UserName, ...]] = field(default_factory=dict, repr=False)
    own: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A conversation as a list shows it.

    Attributes:
        title: As its card says; of a direct one, the other person's name.
        patient: The patient reference of its card, where it has one.
        unread: Messages of others that this person has not read.
        top_priority: The highest priority among the unread; ``None`` without any.
        last: The newest message.
        muted: Whether this person wants no sound from it.
        held: Messages that wait until this person is on duty.
        released: Unread messages that waited until this person was on duty, and do not any more.
        people: How many people are in it.
        ended: Whether this device is no longer a member.
        opening: Whether its first Commit waits for its receipt; messages wait with it.
        returning: Whether this device lost its keys and is being let in again: it sends nothing.
        peer: The other person of a direct one, also before they are in it; ``None`` where they are
            in it no more.
    """

    conversation: ConversationId
    kind: ConversationType
    title: str = field(repr=False)
    patient: str | None = field(repr=False)
    unread: int
    top_priority: Priority | None
    last: Shown | None
    muted: bool
    held: int
    people: int
    ended: bool
    opening: bool
    released: int = 0
    returning: bool = False
    peer: UserName | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberView:
    """A person in a conversation, or the archive.

    Attributes:
        name: As it is displayed.
        devices: Those with a leaf, ascending.
        is_recorder: Whether it is the archive's device.
        certified_until_ms: When the last of their certificates ends.
        guest_until_ms: When this person's emergency access ends; 0 for everybody else.
        vouchers: On whose word a guest is in.
        is_moderator: Whether this person may mute others, beside the owners.
        muted_until_ms: Until when a moderator has muted this person; 0 for not.
    """

    user: UserName
    name: str
    devices: tuple[DeviceId, ...]
    is_recorder: bool
    is_owner: bool
    certified_until_ms: int
    guest_until_ms: int = 0
    vouchers: tuple[UserName, ...] = ()
    is_moderator: bool = False
    muted_until_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonView:
    """A person of the directory.

    Attributes:
        name: As it is displayed; the user name where none was set.
        ward: Where the person works, as an administrator wrote it; empty for none.
        roles: On-call roles that the person may hold.
        on_call: Those of them that the person has now.
    """

    user: UserName
    name: str
    ward: str
    roles: tuple[RoleName, ...]
    on_call: tuple[RoleName, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceView:
    """One of this person's devices.

    Attributes:
        device: Its id.
        this: Whether it is the one that is asked.
        certified_until_ms: When its certificate ends.
        revoked: Whether it is revoked or suspended.
    """

    device: DeviceId
    this: bool
    certified_until_ms: int
    revoked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something that did not have its effect.

    Attributes:
        log: Where: a conversation's identifier, or of the device's own log.
        cause: Name of its ``client.followed.Cause``.
        at_ms: When it came to light.
    """

    log: bytes
    cause: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How the device stands.

    Attributes:
        online: Whether the relay serves this device now.
        catching_up: Entries taken in since the connection opened while more were waiting; 0 once
            it has caught up.
        unsent: Messages that wait to be sent.
        faults: Entries that could not be read or were not lawful, and holes; 0 in normal life.
        archived_lag_ms: Age of the oldest own message that the archive has not proved yet.
        disk_full: Whether the last thing that came found no room; it comes again by itself.
        troubles: The newest of the faults, the newest first.
        shut_out: Why the relay does not let this device in, which goes on asking; None where it
            does.
    """

    online: bool
    catching_up: int
    unsent: int
    faults: int
    archived_lag_ms: int
    disk_full: bool = False
    troubles: tuple[Trouble, ...] = ()
    shut_out: Exception | None = None


class ChangeKind(IntEnum):
    """What changed: enough to know what to read again."""

    MESSAGES = 1
    MEMBERS = 2
    CONVERSATIONS = 3
    STATUS = 4
    DIRECTORY = 5
    CONTROL = 6
    ALERT = 7
    OFFICIAL = 8
    PAGE = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something is other than it was.

    Attributes:
        kind: What.
        conversation: Where, if in one.
        messages: New or changed ones, in order.
        priority: Of an ``ALERT``: how urgently the person is told.
    """

    kind: ChangeKind
    conversation: ConversationId | None = None
    messages: tuple[MessageKey, ...] = ()
    priority: Priority | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """An entry of the control log, as this device read it.

    Attributes:
        type: What the statement claims to be.
        statement: Its encoding.
        verified: Whether everything about it was right when it came.
    """

    sequence: int
    at_ms: int
    type: StatementType
    statement: bytes = field(repr=False)
    verified: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """That a device was in a conversation, as far as this device knows.

    Attributes:
        from_ms: When it was added, or when this device first saw it there.
        until_ms: When it was removed; ``None`` while it is a member.
    """

    conversation: ConversationId
    device: DeviceId
    from_ms: int
    until_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """Official content that came: statements of officers and the archive.

    Attributes:
        number: Grows with each letter; the place of its row in the store.
        statements: As they were sent; none of them verified here.
    """

    number: int
    conversation: ConversationId
    sender: DeviceId
    at_ms: int
    statements: tuple[bytes, ...] = field(repr=False)
