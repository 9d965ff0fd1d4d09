"""The recipient check: what a sender is told before a message goes to the wrong person, or to none.

Pure. The screens only print what is found here and ask once more.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from rapidfuzz import fuzz

from client.duty import Reach
from client.views import PersonView
from protocol.identifiers import UserName

SIMILAR = 82.0
"""Likeness of two names, of 100, from which they are mistaken for each other: ``Anna Weber`` and
``Anne Weber`` have 90, ``Anna Weber`` and ``Anna Huber`` 80 and still differ at a glance."""

NAMED = 3
"""Similar people who are named: a longer list is not read."""

ASKED_ABOUT = 50
"""In a larger conversation nobody is named as off duty: somebody always is."""

_ADDRESSED = re.compile(r"(?<![\w@])@([a-z0-9._-]{1,64})")


class Risk(Enum):
    """What may go wrong."""

    SIMILAR_NAME = 1
    OUTSIDE = 2
    OFF_DUTY = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Caution:
    """One thing that a sender should know first.

    Attributes:
        user: Whom it is about.
        name: As displayed.
        others: People whose names are much like it; or who covers.
        covers: Who covers, by user name.
        held: For ``OFF_DUTY``: whether the message waits.
        until_ms: For ``OFF_DUTY``: until when; None where no schedule says.
    """

    risk: Risk
    user: UserName
    name: str
    others: tuple[str, ...] = field(default=())
    covers: tuple[UserName, ...] = ()
    held: bool = False
    until_ms: int | None = None


def similar(chosen: Iterable[PersonView], everybody: Sequence[PersonView]) -> list[Caution]:
    """Return who was chosen although others are called nearly the same, each with those others."""
    people = list(chosen)
    users = {person.user for person in people}
    found = []
    for person in people:
        others = [
            f"{other.name} ({other.ward or other.user})"
            for other in everybody
            if other.user not in users and _alike(person, other)
        ]
        if others:
            found.append(
                Caution(
                    risk=Risk.SIMILAR_NAME,
                    user=person.user,
                    name=_placed(person),
                    others=tuple(others[:NAMED]),
                )
            )
    return found


def outside(
    text: str, *, members: Collection[UserName], everybody: Sequence[PersonView]
) -> list[Caution]:
    """Return whom a text addresses by ``@user`` although they will not see it."""
    addressed = set(_ADDRESSED.findall(text))
    return [
        Caution(risk=Risk.OUTSIDE, user=person.user, name=person.name)
        for person in everybody
        if person.user in addressed and person.user not in members
    ]


def absent(
    meant: Collection[UserName], *, members: Collection[UserName], everybody: Sequence[PersonView]
) -> list[Caution]:
    """Return for whom a message is meant although they will not see it."""
    names = {person.user: person.name for person in everybody}
    return [
        Caution(risk=Risk.OUTSIDE, user=user, name=names.get(user, user))
        for user in meant
        if user not in members
    ]


def off_duty(reach: Iterable[Reach], names: Mapping[UserName, str]) -> list[Caution]:
    """Return who is off duty, until when, and who covers; ``names`` as they are displayed."""
    return [
        Caution(
            risk=Risk.OFF_DUTY,
            user=one.user,
            name=names.get(one.user, one.user),
            others=tuple(names.get(user, user) for user in one.covers),
            covers=tuple(one.covers),
            held=one.held,
            until_ms=one.until_ms,
        )
        for one in reach
        if one.off_duty
    ]


def _alike(person: PersonView, other: PersonView) -> bool:
    likeness = fuzz.ratio(person.name.casefold(), other.name.casefold())
    return person.user != other.user and likeness >= SIMILAR


def _placed(person: PersonView) -> str:
    return f"{person.name} ({person.ward or person.user})"
