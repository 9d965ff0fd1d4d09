"""The official RFC 9420 vectors, in all seven suites."""

from __future__ import annotations

import pytest

from tests.shared import shared
from tests.vectors.__main__ import run_file

FILES = {
    "crypto-basics": 7,
    "deserialization": 14,
    "key-schedule": 7,
    "message-protection": 7,
    "messages": 300,
    "passive-client-handling-commit": 91,
    "passive-client-welcome": 56,
    "psk_secret": 77,
    "secret-tree": 21,
    "transcript-hashes": 7,
    "tree-math": 10,
    "tree-operations": 5,
    "tree-validation": 98,
    "treekem": 77,
    "welcome": 7,
}


@pytest.mark.parametrize("name", FILES)
def test_every_official_vector_passes(name: str) -> None:
    tally = run_file(shared("mls-vectors") / f"{name}.json")
    assert tally.failures == []
    assert not tally.refused
    assert tally.passed == FILES[name]


def test_the_list_of_vector_files_is_complete() -> None:
    found = {path.stem for path in shared("mls-vectors").glob("*.json")}
    assert found == set(FILES)
