"""docs/protocol.md says what the code does, table by table and byte by byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest

from protocol import audit, commands, frames, requests
from protocol.authenticated_data import AuthenticatedData
from protocol.emergency import Emergency
from protocol.group_context import WardlineContext
from protocol.inbox import decode_item
from tests.protocol import document
from tests.protocol.command_examples import EXAMPLES as BODIES

TEXT = document.DOCUMENT.read_text()
EXAMPLES = document.examples(TEXT)
STRUCTS: dict[str, Callable[[bytes], Any]] = {
    "AuthenticatedData": AuthenticatedData.decode,
    "WardlineContext": WardlineContext.decode,
    "Suspension": commands.decode_suspension,
    "WipeOrder": commands.decode_wipe_order,
    "WipeReceipt": commands.decode_wipe_receipt,
    "CommitVerdict": commands.decode_verdict,
    "AuditEvent": audit.decode_event,
    "DeviceRequest": requests.decode_request,
    "Emergency": Emergency.decode,
    "Item": decode_item,
    **{kind.__name__: commands.decode_command for kind in get_args(commands.Command)},
}


@pytest.mark.parametrize(
    ("heading", "rows"),
    [
        ("Frames", document.frame_rows()),
        ("Error codes", document.code_rows()),
        ("Limits", document.limit_rows()),
        ("Transitions", document.transition_rows()),
    ],
)
def test_a_table_of_the_document_equals_the_registry(
    heading: str, rows: list[document.Row]
) -> None:
    assert document.table(TEXT, heading) == rows


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example[0])
def test_an_example_decodes_to_the_fields_printed_beside_it(
    example: tuple[str, bytes, dict[str, str]],
) -> None:
    name, data, fields = example
    if name in STRUCTS:
        value = STRUCTS[name](data)
        assert type(value).__name__ == name
        assert value.encode() == data
        assert document.fields_of(value) == fields
        return
    kind = getattr(frames, name)
    frame = frames.decode(data, sender=kind.sender)
    assert type(frame) is kind
    assert document.fields_of(frame) == fields


def test_every_frame_and_every_struct_has_an_example() -> None:
    names = {kind.__name__ for kind in frames.FRAMES} | set(STRUCTS)
    assert {name for name, _, _ in EXAMPLES} == names
    assert {type(body).__name__ for body in BODIES} <= names
