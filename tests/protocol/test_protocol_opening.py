"""docs/protocol-opening.md says what the code does, both ways."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from types import ModuleType

from archive import opening_records
from protocol import letters, opening, quorum, retention
from protocol.letters import LetterKind, Topic

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "protocol-opening.md").read_text()


def tables(title: str) -> list[list[list[str]]]:
    """Return the cells of each table below ``title``, without their heads."""
    text = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    found = re.findall(r"((?:^\|.*\n)+)", text, re.MULTILINE)
    return [
        [
            [cell.strip().strip("`") for cell in line.strip("|").split(" | ")]
            for line in table.splitlines()[2:]
        ]
        for table in found
    ]


def test_letters_and_topics_are_the_codes_both_ways() -> None:
    kinds, topics = tables("Letters")
    assert [(int(n), name) for n, name in kinds] == [(k.value, k.name) for k in LetterKind]
    assert [(int(n), name) for n, name in topics] == [(t.value, t.name) for t in Topic]


def test_the_bodies_have_the_codes_fields() -> None:
    (rows,) = tables("Statements")
    for name, written in rows:
        struct = getattr(opening, name, None) or getattr(opening_records, name)
        assert written.split(", ") == [field.name for field in dataclasses.fields(struct)], name
    assert {"OpeningRequest", "HandOut", "LegalHold"} <= {name for name, _ in rows}


def test_the_classes_are_the_codes_both_ways() -> None:
    (rows,) = tables("Retention")
    assert {name: int(years) for name, years in rows} == dict(retention.CLASSES)


def constants(module: ModuleType) -> dict[str, int]:
    own = module.__name__.split(".")[1]
    source = Path(str(module.__file__)).read_text()
    names = re.findall(r"^([A-Z][A-Z_]+) = ", source, re.MULTILINE)
    return {f"{own}.{name}": value for name in names if type(value := getattr(module, name)) is int}


def test_the_limits_are_those_of_the_code_both_ways() -> None:
    (rows,) = tables("Limits")
    in_code: dict[str, int] = {}
    for module in (letters, opening, quorum, retention):
        in_code |= constants(module)
    assert {name: int(value.replace(",", "")) for name, value in rows} == in_code
