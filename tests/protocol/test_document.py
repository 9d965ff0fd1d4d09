"""docs/protocol.md says what the code does, table by table and byte by byte."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, get_args

import pytest
from starlette.routing import Route

from protocol import audit, commands, frames, requests
from protocol.authenticated_data import AuthenticatedData
from protocol.emergency import Emergency
from protocol.frames import EntryKind
from protocol.group_context import WardlineContext
from protocol.inbox import decode_item
from protocol.oncall.commands import PERSONAL_REQUESTS, ROLE_COMMANDS
from protocol.policy import Action
from server import attachments, http
from server.attachments import PATH
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


def test_the_table_of_rights_has_every_right_and_the_list_of_entries_every_kind() -> None:
    rows = [(code, right) for code, right, *_ in document.table(TEXT, "Rights")]
    assert rows == [(str(int(action)), f"`{action.name}`") for action in Action]
    section = TEXT.split("The `kind` of an entry in `Deliver`: ", 1)[1].split("\n\n")[0]
    assert {int(number) for number in re.findall(r"(?:^|, )(\d+) ", section)} == set(EntryKind)


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


def test_the_requests_for_attachments_are_the_routes_of_the_relay() -> None:
    told = {re.match(r"`([A-Z]+) ([^`?]+)", row[0]) for row in document.table(TEXT, "Attachments")}
    named = {(one[1], one[2].replace("{location}", PATH + "/{blob}")) for one in told if one}
    served = attachments.routes(None)  # type: ignore[arg-type]
    assert named == {
        (method, route.path)
        for route in served
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD" or "GET" not in (route.methods or ())
    }


def test_every_other_route_stands_in_a_document() -> None:
    folder = document.DOCUMENT.parent
    said = "".join(file.read_text() for file in sorted(folder.glob("*.md")))
    served = http.application(None).routes  # type: ignore[arg-type]
    paths = {route.path for route in served if isinstance(route, Route)}
    assert paths >= {"/healthz", "/readyz", "/metrics"}
    assert {path for path in paths if not path.startswith(PATH)} == {
        path for path in paths if f"`{path}`" in said or f"GET {path}" in said
    }


def test_the_kinds_of_commands_and_requests_are_those_of_the_code() -> None:
    rows = {row[0]: row[1] for row in document.table(TEXT, "Signed statements and their bodies")}

    def told(row: str) -> dict[str, int]:
        return {name: int(kind) for kind, name in re.findall(r"(\d+) `([A-Z]\w+)`", rows[row])}

    roles = {kind.__name__: kind.KIND for kind in ROLE_COMMANDS}
    every = {kind.__name__: kind.KIND for kind in get_args(commands.Command)}
    assert told("command") == {name: kind for name, kind in every.items() if name not in roles}
    low, high = map(int, re.findall(r"(\d+) to (\d+) of who is on call", rows["command"])[0])
    assert sorted(roles.values()) == list(range(low, high + 1))
    personal = {kind.__name__: kind.KIND for kind in PERSONAL_REQUESTS}
    assert told("device request, in the control log") == personal
