"""docs/protocol-oncall.md says what the code does, both ways."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import protocol.oncall
from protocol.oncall import coverage
from protocol.oncall.delivery import Situation, delivery
from protocol.oncall.page_state import TRANSITIONS
from protocol.oncall.priority import MEANINGS
from tests.protocol import document
from tests.protocol.oncall.test_wall_clock import RULES

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "protocol-oncall.md").read_text()


def test_the_limits_are_those_of_the_code() -> None:
    assert document.table(PAGE, "Limits") == list(document.limits(protocol.oncall))


def test_the_transitions_are_those_of_the_code() -> None:
    in_code = [
        (f"`{state.name}`", f"`{event.name}`", f"`{then.name}`")
        for state, row in TRANSITIONS.items()
        for event, then in row.items()
    ]
    assert document.table(PAGE, "Transitions") == in_code


def test_the_priorities_are_those_of_the_code() -> None:
    in_code = [
        (
            f"`{priority.name}`",
            ", ".join(meaning.fhir) or "-",
            meaning.alarm,
            f"{meaning.repeat_ms // 1000} s" if meaning.repeat_ms else "never",
            *(f"`{delivery(priority, situation).name}`" for situation in Situation),
            f"{meaning.lives_ms // 3_600_000} h",
        )
        for priority, meaning in MEANINGS.items()
    ]
    assert document.table(PAGE, "Priorities") == in_code


def test_the_findings_are_those_of_the_code() -> None:
    written = [name for name, _ in document.table(PAGE, "Lint")]
    assert written == [f"`{finding.__name__}`" for finding in get_args(coverage.Finding)]


def test_the_examples_of_clocks_are_among_those_that_are_tested() -> None:
    section = PAGE.split("\n## Where clocks change\n")[1].split("\n## ")[0]
    rows = [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in section.splitlines()
        if line.startswith("| ") and "/" in line
    ]
    assert len(rows) == 8
    assert set(rows) <= set(RULES)
