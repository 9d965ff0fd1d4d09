"""The organisation's policy: which roles may do what, versioned, set by signed command alone.

Relay and clients read the same table. A policy can take rights away; it cannot turn encryption,
archive or audit off, because no such right exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType

from crypto import codec
from crypto.codec import Reader
from crypto.errors import InvalidError
from crypto.names import Role, read_roles, write_roles
from protocol.group_context import ConversationType


class Action(IntEnum):
    """What a policy allows or denies. Pages are outside of the three rights of conversations."""

    SEND = 1
    """Put something into conversations: messages, files, other members."""
    RECEIVE = 2
    """Be added to conversations, and be given anything of their logs."""
    LOOK_UP = 3
    """Ask for people of the directory."""
    ATTACH = 4
    """Send files and have those of others."""
    COMMAND = 5
    """Hand in administrators' commands."""
    VOUCH = 6
    """Let a colleague in by emergency access."""
    SAVE = 7
    """Write a file to where other programs have it."""
    VIEW = 8
    """Have what is said: the content of messages and files."""

    # An action is looked up for each message, and Enum's own hash is one of its name.
    __hash__ = int.__hash__


_PEOPLE = frozenset({Role.CLINICIAN, Role.AFFILIATE, Role.ADMINISTRATOR, Role.OFFICER})
_MEMBERS = _PEOPLE | {Role.RECORDER}

ALLOWED: Mapping[Action, frozenset[Role]] = MappingProxyType(
    {
        Action.SEND: _MEMBERS,
        Action.RECEIVE: _MEMBERS,
        Action.LOOK_UP: _MEMBERS,
        Action.ATTACH: _MEMBERS,
        Action.COMMAND: frozenset({Role.ADMINISTRATOR, Role.RECORDER}),
        # The recorder vouches for nobody, as it is no clinician; it stands here as everywhere,
        # so that a policy can take this right from all people.
        Action.VOUCH: frozenset({Role.CLINICIAN, Role.RECORDER}),
        # Attachments, to where other programs have them: the device sees to it.
        Action.SAVE: _MEMBERS,
        Action.VIEW: _MEMBERS,
    }
)
"""The most that a policy can grant, and what holds before there is one."""


def is_ruled(kind: ConversationType | None) -> bool:
    """Tell whether a policy decides who sends, receives and views in conversations of a kind.

    It does in all but pages: nobody's policy silences one, and whoever is asked by it answers.

    Args:
        kind: What the conversation is; ``None`` where that is not known.
    """
    return kind is not ConversationType.PAGE


LEASE_HOURS = 12
"""Longest lease of a device, in hours: no shift is longer."""

LOCK_MINUTES = 60
"""Longest time without use after which a device locks, in minutes."""

HAND_OVER_HOURS = 72
"""Most hours of a conversation that a member may hand over to who came in later: a weekend."""

KEEP_DAYS = 3650
"""Longest time that a device may be told to keep messages, in days; what it keeps is its own copy,
the archive's is another matter."""


class SignOut(IntEnum):
    """What becomes of a person's store on a shared workstation when they leave it."""

    LOCK = 0
    """It is locked, and stays for the next shift."""
    REMOVE = 1
    """Nothing of it stays; the next shift enrols a further device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRules:
    """How devices are to be kept.

    Attributes:
        lease_hours: How long a device on duty opens without the relay, 0 for not at all.
        lock_minutes: After how long without use it locks, at least 1.
        keep_days: How long it keeps messages, 0 for as long as it has room.
        hand_over_hours: How much of a conversation a member may hand over to who came in later, 0
            for nothing.
        sign_out: What becomes of a store on a shared workstation at sign-out or the shift's end.
    """

    lease_hours: int = LEASE_HOURS
    lock_minutes: int = 10
    keep_days: int = 0
    hand_over_hours: int = 0
    sign_out: SignOut = SignOut.LOCK

    def __post_init__(self) -> None:
        if not 0 <= self.lease_hours <= LEASE_HOURS:
            raise InvalidError("a lease runs twelve hours at most")
        if not 1 <= self.lock_minutes <= LOCK_MINUTES:
            raise InvalidError("a device locks after an hour without use at most")
        if not 0 <= self.keep_days <= KEEP_DAYS:
            raise InvalidError("messages are kept on a device for ten years at most")
        if not 0 <= self.hand_over_hours <= HAND_OVER_HOURS:
            raise InvalidError("three days of a conversation are handed over at most")

    def encode(self) -> bytes:
        """Return the struct's encoding, which ends before ``sign_out`` where that is ``LOCK``.

        So it was before there was another: what stands on disks is read as it was meant.
        """
        kept = codec.u16(self.keep_days) + codec.u8(self.hand_over_hours)
        left = b"" if self.sign_out is SignOut.LOCK else codec.u8(self.sign_out)
        return codec.u8(self.lease_hours) + codec.u8(self.lock_minutes) + kept + left


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Which roles may do what, and how devices are to be kept.

    Attributes:
        version: Counts up with every change, from 1; 0 is what holds before the first.
        rights: Roles for each action; an action that is left out keeps ``ALLOWED``.
        devices: How devices are to be kept.
    """

    version: int = 0
    rights: Mapping[Action, frozenset[Role]] = field(default_factory=dict)
    devices: DeviceRules = field(default_factory=DeviceRules)

    def __post_init__(self) -> None:
        for action, roles in self.rights.items():
            if not roles <= ALLOWED[action]:
                raise InvalidError("a policy grants nothing beyond what the program allows")
            if Role.RECORDER in ALLOWED[action] and Role.RECORDER not in roles:
                raise InvalidError("a policy takes nothing from the archive")
            if action is Action.COMMAND and Role.ADMINISTRATOR not in roles:
                raise InvalidError("a policy leaves administrators able to change it")

    def roles_for(self, action: Action) -> frozenset[Role]:
        """Return the roles that may do ``action``."""
        return self.rights.get(action, ALLOWED[action])

    def encode(self) -> bytes:
        """Return the encoding: version, actions ascending with their roles, rules for devices."""
        rights = (
            codec.u8(action) + write_roles(roles) for action, roles in sorted(self.rights.items())
        )
        return codec.u64(self.version) + codec.vector(rights) + self.devices.encode()


def read_policy(reader: Reader) -> Policy:
    """Read a policy.

    Raises:
        DecodeError: The bytes are no encoding of it.
        InvalidError: Actions are unknown or unordered, or something is beyond what is allowed.
    """
    version = reader.u64()
    rights = reader.vector(_read_right)
    actions = [action for action, _ in rights]
    if actions != sorted(set(actions)):
        raise InvalidError("a policy's actions are ascending and without repeats")
    return Policy(version=version, rights=dict(rights), devices=_read_devices(reader))


def _read_devices(reader: Reader) -> DeviceRules:
    return DeviceRules(
        lease_hours=reader.u8(),
        lock_minutes=reader.u8(),
        keep_days=reader.u16(),
        hand_over_hours=reader.u8(),
        sign_out=_read_sign_out(reader),
    )


def _read_sign_out(reader: Reader) -> SignOut:
    """Read the last field of a policy; ``LOCK`` has one encoding, which is none."""
    if reader.pos == reader.end:
        return SignOut.LOCK
    if reader.u8() != SignOut.REMOVE:
        raise reader.fail()
    return SignOut.REMOVE


def _read_right(reader: Reader) -> tuple[Action, frozenset[Role]]:
    try:
        action = Action(reader.u8())
    except ValueError:
        raise reader.fail() from None
    return action, read_roles(reader)
