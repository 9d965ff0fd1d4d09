"""docs/protocol-sealing.md says what the code does, both ways."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

from crypto.attachment import AttachmentRef
from crypto.attachment_layout import SIZE_CLASSES, chunk_offset
from crypto.pin import PinParameters
from crypto.sealing import ShareContext

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "protocol-sealing.md").read_text()
MODULES = [
    "attachment",
    "attachment_layout",
    "checkpoint",
    "log_proof",
    "merkle",
    "note",
    "pin",
    "pin_proof",
    "sealing",
    "shares",
    "tiles",
    "witness",
    "xwing",
]


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def table(title: str) -> dict[str, str]:
    """Return the table below ``title``, whose first column names things in the code."""
    rows = re.findall(r"^\| `([a-z_]+\.[A-Z_]+)` \| `?(.*?)`? \|$", section(title), re.MULTILINE)
    assert len(dict(rows)) == len(rows) == section(title).count("\n| `")
    return dict(rows)


def constants() -> Iterator[tuple[str, object]]:
    """Yield the constants that the modules themselves assign, with their values."""
    for name in MODULES:
        module = importlib.import_module(f"crypto.{name}")
        assert module.__file__ is not None
        for statement in ast.parse(Path(module.__file__).read_text()).body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                constant = statement.targets[0].id
                if constant.isupper():
                    yield f"{name}.{constant}", getattr(module, constant)


def hex_examples(title: str) -> list[bytes]:
    return [bytes.fromhex(text) for text in re.findall(r"```\n(.*?)```", section(title), re.DOTALL)]


def test_the_limits_are_those_of_the_code_both_ways() -> None:
    written = {name: int(value.replace(",", "")) for name, value in table("Limits").items()}
    in_code = {
        name: value
        for name, value in constants()
        if isinstance(value, int) and not name.split(".")[1].startswith("_")
    }
    assert written == in_code


def test_the_labels_are_those_of_the_code_both_ways_and_no_two_alike() -> None:
    written = {name: value.encode() for name, value in table("Labels").items()}
    in_code = {name: value for name, value in constants() if name.endswith("_LABEL")}
    assert written == in_code
    assert len(set(written.values())) == len(written)


def test_the_size_classes_and_offsets_are_those_of_the_code() -> None:
    sizes = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
    sentence = re.findall(r"size class: (.*?)\.", section("Attachment"), re.DOTALL)[0]
    written = [int(n) * sizes[unit] for n, unit in re.findall(r"(\d+)\s([KMG]iB)", sentence)]
    assert written == list(SIZE_CLASSES)
    assert "56 + 65,553 `i`" in section("Attachment")
    assert [chunk_offset(i) for i in range(3)] == [56 + 65_553 * i for i in range(3)]


def test_the_examples_decode_to_what_is_written_beside_them() -> None:
    (data,) = hex_examples("Attachment")
    ref = AttachmentRef.decode(data)
    assert (ref.key, ref.size) == (bytes(range(32)), 300_000)
    assert (ref.plaintext_hash, ref.ciphertext_hash) == (b"\xaa" * 32, b"\xbb" * 32)
    (data,) = hex_examples("PIN")
    parameters = PinParameters.decode(data)
    assert (parameters.passes, parameters.memory_kib) == (3, 131_072)
    assert parameters.salt == bytes(range(16))
    (data,) = hex_examples("Sealed share")
    context = ShareContext(
        organisation=b"hospital",
        group_id=b"\x07" * 16,
        epoch=12,
        bucket=b"clinical 2027Q1",
        officer=b"officer 1",
        index=1,
        k=3,
        n=5,
    )
    assert context.encode() == data
