"""docs/protocol-archive.md says what the code does, both ways."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from archive.database import connect_plain
from archive.record import RECORD_BYTES, Record, RecordFlags, RecordType
from archive.roster import Roster
from archive.segment import SealedSegment
from archive.shredding import ARCHIVE_BUCKET, Hold, Release, Shredding
from storage import encrypted
from tests.archive.logs import Site

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "protocol-archive.md").read_text()
MODULES = [
    *(f"archive.{path.stem}" for path in sorted((ROOT / "archive").glob("[a-z]*.py"))),
    "crypto.single_use",
    "protocol.recorded",
    "storage.encrypted",
]


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    """Return the cells of the table below ``title``, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("| ")]
    return [
        [cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in lines[2:]
    ]


def constants() -> Iterator[tuple[str, object]]:
    """Yield the constants that the modules themselves assign, with their values."""
    for name in MODULES:
        module = importlib.import_module(name)
        assert module.__file__ is not None
        for statement in ast.parse(Path(module.__file__).read_text()).body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                constant = statement.targets[0].id
                if constant.isupper():
                    yield f"{name.split('.')[1]}.{constant}", getattr(module, constant)


def test_the_record_is_the_codes_field_by_field() -> None:
    (text,) = re.findall(r"```\n(.*?)```", section("Record"), re.DOTALL)
    data = bytes.fromhex(text)
    record = Record.decode(data)
    at = 0
    for name, size, _ in rows("Record"):
        value = getattr(record, name)
        encoded = data[at : at + int(size)]
        assert encoded == (value if isinstance(value, bytes) else value.to_bytes(int(size), "big"))
        at += int(size)
    assert at == len(data) == RECORD_BYTES
    assert [name for name, _, _ in rows("Record")] == list(Record.__dataclass_fields__)
    assert (record.type, record.flags) == (RecordType.MESSAGE, RecordFlags.SIGNATURE_CHECKED)
    assert (record.index, record.epoch, record.conv_seq) == (7, 12, 3)
    assert (record.at_ms, record.body_length) == (1_800_000_000_000, 300)
    parts = (record.log_id, record.conv_tag, record.conv_prev, record.commit)
    assert parts == tuple(bytes([n]) * 32 for n in (1, 2, 3, 4))
    assert (record.bucket, record.record_key_id) == (b"\x05" * 16, b"\x06" * 16)


def test_types_and_flags_are_the_codes_both_ways() -> None:
    assert [(int(n), name) for n, name in rows("Types")] == [(t.value, t.name) for t in RecordType]
    assert [(int(n), name) for n, name in rows("Flags")] == [(f.value, f.name) for f in RecordFlags]


def test_the_segment_and_the_bodies_of_holds_and_shreddings_have_the_codes_fields() -> None:
    assert [name for name, _ in rows("Segment")] == list(SealedSegment.__dataclass_fields__)
    assert [name for name, _ in rows("Roster")] == list(Roster.__dataclass_fields__)
    structs: dict[str, type[Hold | Release | Shredding]] = {
        "HOLD_SET": Hold,
        "HOLD_RELEASED": Release,
        "SHRED": Shredding,
    }
    written = dict(rows("Holds and shredding"))
    assert written.keys() == structs.keys()
    for name, struct in structs.items():
        at = [
            written[name].find(field) for field in struct.__dataclass_fields__ if field != "ranges"
        ]
        assert at == sorted(at)
        assert min(at) > 0
    assert f"bucket `{ARCHIVE_BUCKET.decode()}`" in section("Holds and shredding")


def test_the_tables_of_the_files_are_those_that_are_made(site: Site) -> None:
    site.create().close()
    made: dict[str, list[str]] = {}
    log = encrypted.connect(site.files.log, site.database_key)
    for db in (log, connect_plain(site.files.head)):
        with closing(db):
            names = db.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall()
            for (name,) in names:
                columns = db.execute(f"PRAGMA table_info({name})").fetchall()
                made[name] = [column[1] for column in columns]
    written = {name: re.findall(r"\w+", columns) for name, columns in rows("Files")}
    assert written == made


def test_the_limits_are_those_of_the_code_both_ways() -> None:
    written = {name: int(value.replace(",", "")) for name, value in rows("Limits")}
    in_code = {
        name: value
        for name, value in constants()
        if type(value) is int and not name.split(".")[1].startswith("_")
    }
    assert written == in_code


def test_the_labels_are_those_of_the_code_both_ways_and_no_two_alike() -> None:
    written = {name: value.encode() for name, value in rows("Labels")}
    in_code = {name: value for name, value in constants() if name.endswith("_LABEL")}
    assert written == in_code
    assert len(set(written.values())) == len(written)
