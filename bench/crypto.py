"""``make bench-crypto``: Wardline's MLS beside ts-mls and PyPI's rfc9420, in one run.

Times are CPU milliseconds of one process (all its threads), the best of the repeats, in cipher
suite 0x0003 and groups of 1,000. A group is *warm* when every parent node is filled, *cold* when
none is. ``QUICK=1`` repeats less and gives the peers smaller groups: what depends on the group's
size then has no ratio.
"""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.crypto_wardline import measure, measure_vectors
from bench.report import UNMEASURED, Figure, Value, report
from tests.interop.ts_mls import HERE as INTEROP
from tests.interop.ts_mls import missing, node

BENCH = Path(__file__).resolve().parent
MEMBERS = 1000
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
QUICK_PEER_MEMBERS = 100


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what is measured and what is wanted of it, at most unless said."""

    name: str
    unit: str
    wanted: float | None
    sized: bool = False
    at_least: bool = False


ROWS = (
    Row("create_and_add", "ms", 400, sized=True),
    Row("join_cold", "ms", 110, sized=True),
    Row("join_warm", "ms", 110, sized=True),
    Row("commit_cold", "ms", 120, sized=True),
    Row("commit_warm", "ms", 2.5, sized=True),
    Row("process_warm", "ms", 1.5, sized=True),
    Row("encrypt_1kib", "ms", 0.08),
    Row("decrypt_1kib", "ms", 0.12),
    Row("official_vectors", "cases passed", None, at_least=True),
    Row("stolen_state", "of 9 read messages opened again", 0),
    Row("public_names", "names", 12),
    # The bound on size is held in statements, for the house's formatter gives each argument and
    # each imported name a line of its own; lines are told beside it, also of the peers.
    Row("statements", "statements, without docstrings", 2500),
    Row("lines", "lines of code, without blank ones, comments and docstrings", None),
)


def ts_mls(members: int, repeats: int) -> dict[str, Value]:
    """Return the figures of ts-mls, by name; none where it is missing."""
    executable = node()
    if missing() is not None or executable is None:
        return {}
    module = INTEROP / "node_modules/ts-mls/dist/src/index.js"
    arguments = {"members": members, "repeats": repeats, "module": str(module)}
    found = _run([executable, str(BENCH / "crypto_ts_mls.mjs"), json.dumps(arguments)])
    return found | {"lines": code_lines(module.parent.rglob("*.js"))}


def rfc9420(members: int, repeats: int) -> dict[str, Value]:
    """Return the figures of the package rfc9420, by name."""
    python = Path(sys.prefix) / "peers/bin/python"
    arguments = {"members": members, "repeats": repeats}
    found = _run([str(python), str(BENCH / "crypto_rfc9420.py"), json.dumps(arguments)])
    (package,) = python.parents[1].glob("lib/python3*/site-packages/rfc9420")
    sizes = {
        "lines": code_lines(package.rglob("*.py")),
        "statements": statements(package.rglob("*.py")),
    }
    return found | sizes


def statements(paths: Iterable[Path]) -> int:
    """Return the number of Python statements, docstrings left out."""
    nodes = (node for path in paths for node in ast.walk(ast.parse(path.read_text("utf-8"))))
    return sum(isinstance(node, ast.stmt) and not _is_prose(node) for node in nodes)


def _is_prose(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def code_lines(paths: Iterable[Path]) -> int:
    """Return the lines that hold code: no blank line, comment or docstring."""
    return sum(len(_python(path) if path.suffix == ".py" else _javascript(path)) for path in paths)


def _python(path: Path) -> set[int]:
    source = path.read_text("utf-8")
    prose = {
        number
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and _is_prose(node)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        number
        for token in tokens
        if token.type not in NO_CODE
        for number in range(token.start[0], token.end[0] + 1)
    } - prose


def _javascript(path: Path) -> set[int]:
    lines = path.read_text("utf-8").splitlines()
    prose = ("//", "/*", "*")
    return {
        n for n, line in enumerate(lines) if line.strip() and not line.strip().startswith(prose)
    }


def _run(command: list[str]) -> dict[str, Value]:
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    figures: dict[str, Value] = json.loads(answer)
    return figures


def figures(*, quick: bool) -> Iterator[Figure]:
    """Measure everything; give the table's rows in their order."""
    repeats = 3 if quick else 5
    peer_members = QUICK_PEER_MEMBERS if quick else MEMBERS
    peers = {
        "ts-mls": ts_mls(peer_members, repeats),
        "rfc9420": rfc9420(peer_members, repeats),
    }
    own = measure(members=MEMBERS, repeats=repeats)
    cases = measure_vectors(own)
    package = BENCH.parent / "crypto/mls"
    own["lines"] = code_lines(package.glob("*.py"))
    own["statements"] = statements(package.glob("*.py"))
    for row in ROWS:
        alike = {name: found.get(row.name, UNMEASURED) for name, found in peers.items()}
        if row.sized and peer_members != MEMBERS:
            alike = {
                name: f"{value:.4g} at {peer_members} members"
                if isinstance(value, float)
                else value
                for name, value in alike.items()
            }
        yield Figure(
            name=row.name,
            value=own.get(row.name, UNMEASURED),
            unit=f"{row.unit} CPU, best of {repeats}" if row.unit == "ms" else row.unit,
            wanted=cases if row.name == "official_vectors" else row.wanted,
            at_least=row.at_least,
            peers=alike,
        )


if __name__ == "__main__":
    sys.exit(report(figures(quick=bool(os.environ.get("QUICK")))))
