"""Whom a message is meant for, as people write it: ``ann``, ``icu``, ``icu:next``, ``icu:backup``.

Pure. Everybody in the conversation reads it all the same; it alerts those for whom it is meant.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType

from protocol.authenticated_data import EVERYBODY, Target, TargetKind
from protocol.identifiers import RoleName, UserName

TURNS: Mapping[str, TargetKind] = MappingProxyType(
    {"now": TargetKind.ROLE, "next": TargetKind.NEXT, "backup": TargetKind.BACKUP}
)
"""Which of a role's people are meant, by the word for it."""

_WORDS = MappingProxyType({TargetKind.NEXT: "next on ", TargetKind.BACKUP: "backup of "})
_ADDRESSED = re.compile(r"@([a-z0-9._-]{1,64}(?::[a-z]+)?)(?=[\s,]|$)")


def target(
    typed: str, *, roles: Collection[RoleName], users: Collection[UserName]
) -> Target | None:
    """Return whom a name means, a role's before a person's; None where it is neither's.

    Args:
        typed: A role, with ``:next`` or ``:backup`` behind it where not who is on call now is
            meant; or a user.
        roles: The roles that there are.
        users: The people who can be meant.
    """
    name, _, turn = typed.partition(":")
    if name in roles and (kind := TURNS.get(turn or "now")) is not None:
        return Target(kind=kind, name=name)
    if typed in users:
        return Target(kind=TargetKind.USER, name=typed)
    return None


def addressed(text: str, *, roles: Collection[RoleName], users: Collection[UserName]) -> Target:
    """Return whom a text is meant for by its first word, ``@icu:next``; else everybody."""
    found = _ADDRESSED.match(text)
    if found is None:
        return EVERYBODY
    return target(found[1], roles=roles, users=users) or EVERYBODY


def words(target: Target, names: Mapping[UserName, str]) -> str:
    """Return whom a message is for, as it stands beside it; empty for everybody."""
    if target.kind is TargetKind.USER:
        return names.get(UserName(target.name), target.name)
    return f"{_WORDS.get(target.kind, '')}{target.name}"
