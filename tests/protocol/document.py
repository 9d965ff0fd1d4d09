"""Reads docs/protocol.md: its tables by heading, and its examples."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from protocol import frames
from protocol.errors import MEANINGS
from protocol.frames import Sender
from protocol.limits import LIMITS
from protocol.session import TABLE

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
Row = tuple[str, ...]


def table(text: str, heading: str) -> list[Row]:
    """Return the body rows of the first table below ``heading``."""
    section = re.split(r"\n#{2,} ", text.split(f"## {heading}\n", 1)[1])[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    cells = [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows]
    return cells[2:]


def limits(package: ModuleType) -> Iterator[Row]:
    """Yield the public numbers that a package's modules themselves assign, by module and name."""
    for found in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{found.name}")
        assert module.__file__ is not None
        for statement in ast.parse(Path(module.__file__).read_text()).body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                name = statement.targets[0].id
                value = getattr(module, name)
                if isinstance(value, int) and name.isupper() and not name.startswith("_"):
                    yield f"`{found.name}.{name}`", f"{value:,}"


def examples(text: str) -> list[tuple[str, bytes, dict[str, str]]]:
    """Return name, bytes and printed fields of each example."""
    found = re.findall(r"#### ([A-Za-z]+)[^\n]*\n+```hex\n(.*?)```\n\n(\|.*?)\n\n", text, re.DOTALL)
    out = []
    for name, hexadecimal, rows in found:
        cells = [row.strip("|").split("|", 1) for row in rows.splitlines()[2:]]
        fields = {key.strip(): value.strip().strip("`") for key, value in cells}
        out.append((name, bytes.fromhex(hexadecimal), fields))
    return out


def show(value: Any) -> str:
    """Return a value as the document prints it."""
    if isinstance(value, bytes):
        return value.hex() or "(empty)"
    if isinstance(value, Enum):
        return value.name
    if value is None or value in ((), ""):
        return "(none)"
    if isinstance(value, Mapping):
        return ", ".join(f"{show(key)}: {show(item)}" for key, item in value.items()) or "(none)"
    if isinstance(value, tuple | frozenset):
        return ", ".join(show(item) for item in value)
    if dataclasses.is_dataclass(value):
        named = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return "; ".join(f"{name}: {show(item)}" for name, item in named)
    return str(value)


def fields_of(value: Any) -> dict[str, str]:
    """Return a struct's or dataclass's fields as the document prints them."""
    if isinstance(value, msgspec.Struct):
        names = [field.name for field in msgspec.structs.fields(value)]
    else:
        names = [field.name for field in dataclasses.fields(value)]
    return {name: show(getattr(value, name)) for name in names}


def frame_rows() -> list[Row]:
    """Return the table of frames as the code has it."""
    return [
        (
            str(kind.__struct_config__.tag),
            f"`{kind.__name__}`",
            "client" if kind.sender is Sender.CLIENT else "relay",
            ", ".join(f"`{field.name}`" for field in msgspec.structs.fields(kind)) or "-",
            (kind.__doc__ or "").splitlines()[0],
        )
        for kind in frames.FRAMES
    ]


def code_rows() -> list[Row]:
    """Return the table of error codes as the code has it."""
    return [
        (
            str(int(code)),
            f"`{code.name}`",
            "yes" if meaning.closes else "no",
            meaning.detail or "-",
            meaning.then,
        )
        for code, meaning in MEANINGS.items()
    ]


def limit_rows() -> list[Row]:
    """Return the table of limits as the code has it."""
    return [
        (f"`{limit.name}`", f"{limit.value:,}", limit.unit, limit.reason)
        for limit in LIMITS.values()
    ]


def transition_rows() -> list[Row]:
    """Return the table of transitions as the code has it."""
    return [
        (
            state.value,
            f"`{kind.__name__}`",
            "client" if kind.sender is Sender.CLIENT else "relay",
            following.value,
        )
        for state, row in TABLE.items()
        for kind, following in row.items()
    ]
