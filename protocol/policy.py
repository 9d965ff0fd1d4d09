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


class Action(IntEnum):
    """What a policy allows or denies."""

    SEND = 1
    RECEIVE = 2
    LOOK_UP = 3
    ATTACH = 4
    COMMAND = 5


_PEOPLE = frozenset({Role.CLINICIAN, Role.AFFILIATE, Role.ADMINISTRATOR, Role.OFFICER})
_MEMBERS = _PEOPLE | {Role.RECORDER}

ALLOWED: Mapping[Action, frozenset[Role]] = MappingProxyType(
    {
        Action.SEND: _MEMBERS,
        Action.RECEIVE: _MEMBERS,
        Action.LOOK_UP: _MEMBERS,
        Action.ATTACH: _MEMBERS,
        Action.COMMAND: frozenset({Role.ADMINISTRATOR, Role.RECORDER}),
    }
)
"""The most that a policy can grant, and what holds before there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Which roles may do what.

    Attributes:
        version: Counts up with every change, from 1; 0 is what holds before the first.
        rights: Roles for each action; an action that is left out keeps ``ALLOWED``.
    """

    version: int = 0
    rights: Mapping[Action, frozenset[Role]] = field(default_factory=dict)

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
        """Return the struct's encoding: version, then actions ascending with their roles."""
        rights = (
            codec.u8(action) + write_roles(roles) for action, roles in sorted(self.rights.items())
        )
        return codec.u64(self.version) + codec.vector(rights)


def read_policy(reader: Reader) -> Policy:
    """Read a policy.

    Raises:
        DecodeError: The bytes are no encoding of it.
        InvalidError: Actions are unknown or unordered, or a right is beyond what is allowed.
    """
    version = reader.u64()
    rights = reader.vector(_read_right)
    actions = [action for action, _ in rights]
    if actions != sorted(set(actions)):
        raise InvalidError("a policy's actions are ascending and without repeats")
    return Policy(version=version, rights=dict(rights))


def _read_right(reader: Reader) -> tuple[Action, frozenset[Role]]:
    try:
        action = Action(reader.u8())
    except ValueError:
        raise reader.fail() from None
    return action, read_roles(reader)
