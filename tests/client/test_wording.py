"""What a screen reader reads out, and what a search finds."""

from __future__ import annotations

import pytest

from client import wording
from protocol.content import Kind, Known, TaskChange, TaskState, Text, Unknown, kind_of
from protocol.identifiers import UserName
from tests.protocol.content_examples import EXAMPLES, REFERENCE


@pytest.mark.parametrize("content", EXAMPLES, ids=lambda content: type(content).__name__)
def test_every_kind_has_words_of_its_own(content: Known) -> None:
    assert wording.say(content).strip()
    assert wording.say(content) != wording.NEWER


def test_what_is_said_is_found_and_what_only_acts_is_not() -> None:
    found = {Kind(kind_of(content)) for content in EXAMPLES if wording.searchable(content)}
    assert Kind.TEXT in found
    assert Kind.HAND_OFF in found
    assert not found & {Kind.READ, Kind.REACTION, Kind.CARD, Kind.OFFICIAL, Kind.READ_BACK}


def test_a_newer_programs_content_is_said_to_be_so() -> None:
    assert wording.say(Unknown(kind=200, body=b"x")) == wording.NEWER
    assert wording.say(Text(text=wording.NEWER + "!")) != wording.NEWER


def test_a_task_that_is_given_away_names_to_whom() -> None:
    change = TaskChange(target=REFERENCE, state=TaskState.TAKEN, assignee=UserName("bob"))
    assert "bob" in wording.say(change)
