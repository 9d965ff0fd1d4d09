"""Whom a message is meant for, as people write it."""

from __future__ import annotations

import pytest

from client.targets import TURNS, addressed, target, words
from protocol.authenticated_data import EVERYBODY, Target, TargetKind
from protocol.identifiers import RoleName, UserName

ROLES = (RoleName("icu"), RoleName("ann"))
USERS = (UserName("ann"), UserName("ben"))


@pytest.mark.parametrize(
    ("typed", "kind", "name"),
    [
        ("icu", TargetKind.ROLE, "icu"),
        ("icu:now", TargetKind.ROLE, "icu"),
        ("icu:next", TargetKind.NEXT, "icu"),
        ("icu:backup", TargetKind.BACKUP, "icu"),
        ("ben", TargetKind.USER, "ben"),
        ("ann", TargetKind.ROLE, "ann"),
    ],
)
def test_a_role_is_meant_with_its_turn_and_a_person_by_name(
    typed: str, kind: TargetKind, name: str
) -> None:
    meant = Target(kind=kind, name=name)
    assert target(typed, roles=ROLES, users=USERS) == meant
    assert addressed(f"@{typed} come, please", roles=ROLES, users=USERS) == meant
    assert addressed(f"@{typed}", roles=ROLES, users=USERS) == meant


@pytest.mark.parametrize("typed", ["plumber", "icu:last", "ben:next", "", ":next"])
def test_what_names_nobody_is_for_nobody_in_particular(typed: str) -> None:
    assert target(typed, roles=ROLES, users=USERS) is None
    assert addressed(f"@{typed} come", roles=ROLES, users=USERS) == EVERYBODY


@pytest.mark.parametrize("text", ["icu come", "come @icu", "a@icu", "@icu/x", ""])
def test_only_the_first_word_says_for_whom_a_text_is(text: str) -> None:
    assert addressed(text, roles=ROLES, users=USERS) == EVERYBODY


def test_beside_a_message_stands_for_whom_it_is() -> None:
    names = {UserName("ben"): "Ben Adler"}
    said = [words(Target(kind=kind, name="icu"), names) for kind in TURNS.values()]
    assert said == ["icu", "next on icu", "backup of icu"]
    assert words(Target(kind=TargetKind.USER, name="ben"), names) == "Ben Adler"
    assert words(Target(kind=TargetKind.USER, name="cat"), names) == "cat"
