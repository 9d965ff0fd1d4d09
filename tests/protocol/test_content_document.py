"""docs/protocol-content.md says what the code does, both ways."""

from __future__ import annotations

import dataclasses

import pytest

import protocol.content
from protocol.content import Kind, decode, encode
from protocol.content.kinds import CLASSES
from tests.protocol import document
from tests.protocol.content_examples import EXAMPLES

TEXT = (document.DOCUMENT.parent / "protocol-content.md").read_text()
PRINTED = document.examples(TEXT)


def kind_rows() -> list[document.Row]:
    """Return the table of kinds as the code has it."""
    return [
        (
            str(int(kind)),
            f"`{struct.__name__}`",
            ", ".join(f"`{field.name}`" for field in dataclasses.fields(struct)),  # type: ignore[arg-type]
            (struct.__doc__ or "").splitlines()[0],
        )
        for kind, struct in CLASSES.items()
    ]


def test_the_kinds_are_those_of_the_code() -> None:
    assert document.table(TEXT, "Kinds") == kind_rows()
    assert set(CLASSES) == set(Kind)


def test_the_limits_are_those_of_the_code() -> None:
    assert document.table(TEXT, "Limits") == list(document.limits(protocol.content))


@pytest.mark.parametrize("example", PRINTED, ids=lambda example: example[0])
def test_an_example_decodes_to_the_fields_printed_beside_it(
    example: tuple[str, bytes, dict[str, str]],
) -> None:
    name, data, fields = example
    value = decode(data)
    assert type(value).__name__ == name
    assert encode(value) == data
    assert document.fields_of(value) == fields


def test_every_kind_has_an_example() -> None:
    assert [name for name, _, _ in PRINTED] == [kind.__name__ for kind in CLASSES.values()]
    assert [type(content) for content in EXAMPLES] == list(CLASSES.values())
