"""The house's own rules, where no tool checks them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIMIT_LINES = 700
LIMIT_BODY_LINES = 50

# Written by tools, read by tools.
LOCK_FILES = {"package-lock.json"}
SOURCES = {".css", ".html", ".js", ".mjs", ".py", ".sh", ".tcss", ".toml"}

# What decrypts. Each, once it is there, stands in the contract that keeps the relay from it.
# The wire structs are all that a relay may know of MLS; whatever joins crypto/mls is kept from it.
WIRE = {"framing", "group_info", "key_package", "leaf_node", "proposal", "tree_math"}
DECRYPTS = {
    "crypto.attachment",
    "crypto.hpke",
    "crypto.pin",
    "crypto.sealing",
    "crypto.shares",
    "crypto.at_rest",
    "crypto.single_use",
    "crypto.xwing",
} | {
    f"crypto.mls.{path.stem}"
    for path in (ROOT / "crypto" / "mls").glob("*.py")
    if path.stem not in WIRE | {"__init__"}
}

MACHINE_PATH = re.compile(r"(?<![\w.:/-])/(?:home|root|Users|work)/")
DOWNLOAD = re.compile(
    r"registry\.npmjs|registry\.yarnpkg|files\.pythonhosted|pypi\.org/simple"
    r"|--(?:extra-)?index-url|\"resolved\":|https?://[^\"\s]+\.(?:whl|tgz|tar\.gz|deb)\b"
)


def tracked() -> list[Path]:
    """Return the tracked files."""
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    files = [ROOT / name for name in names if name and (ROOT / name).is_file()]
    assert files
    return files


def texts() -> dict[str, str]:
    """Return the text of every tracked file that is text, by its name in the checkout."""
    found = {}
    for path in tracked():
        content = path.read_bytes()
        if b"\0" not in content:
            found[str(path.relative_to(ROOT))] = content.decode("utf-8")
    return found


def contracts() -> list[dict[str, Any]]:
    """Return the import contracts."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found: list[dict[str, Any]] = settings["tool"]["importlinter"]["contracts"]
    return found


def exists(module: str) -> bool:
    """Return whether a module or package of that dotted name is in the tree."""
    path = ROOT.joinpath(*module.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def test_no_source_file_is_longer_than_a_reader_can_hold() -> None:
    long = {
        path.name: count
        for path in tracked()
        if path.suffix in SOURCES and path.name not in LOCK_FILES
        if (count := len(path.read_text().splitlines())) > LIMIT_LINES
    }
    assert long == {}


def test_no_function_body_is_longer_than_fifty_lines() -> None:
    long = set()
    for path in tracked():
        if path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node, clean=False) else node.body
                if body and (body[-1].end_lineno or 0) - body[0].lineno >= LIMIT_BODY_LINES:
                    long.add(f"{path.relative_to(ROOT)}:{node.name}")
    assert long == set()


def test_no_file_names_a_path_of_the_machine_that_it_was_written_on() -> None:
    here = str(ROOT.parent) + "/"
    named = {
        f"{name}: {line.strip()[:80]}"
        for name, text in texts().items()
        for line in text.splitlines()
        if MACHINE_PATH.search(line) or (len(here) > 1 and here in line)
    }
    assert named == set()


def test_no_file_names_an_address_that_packages_come_from() -> None:
    named = {
        f"{name}: {match.group()}"
        for name, text in texts().items()
        if name != "tests/test_layout.py" and (match := DOWNLOAD.search(text))
    }
    assert named == set()


@pytest.mark.parametrize(
    "lock",
    [
        "requirements.lock",
        "packaging/requirements.lock",
        "bench/peers.lock",
        "tests/fuzzing/requirements.lock",
    ],
)
def test_a_lock_file_pins_every_package_by_hash_and_names_no_address(lock: str) -> None:
    entries = re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip())
    assert entries
    assert [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []
    assert not [entry for entry in entries if "://" in entry]


def test_the_contract_about_what_decrypts_names_all_that_is_there() -> None:
    kept_from = {
        module
        for contract in contracts()
        if contract["type"] == "forbidden" and not contract.get("allow_indirect_imports")
        if {"server", "protocol"} <= set(contract["source_modules"])
        for module in contract["forbidden_modules"]
    }
    assert all(exists(module) for module in DECRYPTS)
    assert kept_from == DECRYPTS


def test_the_recorder_has_a_contract_that_keeps_it_from_opening_once_both_exist() -> None:
    if not (exists("archive.recorder") and exists("archive.opening")):
        pytest.skip("archive.recorder and archive.opening are not both there yet")
    assert any(
        "archive.recorder" in contract.get("source_modules", ())
        and "archive.opening" in contract.get("forbidden_modules", ())
        and not contract.get("allow_indirect_imports")
        for contract in contracts()
    )


def test_every_module_of_the_archive_but_the_opening_is_kept_from_it() -> None:
    kept_from = {
        module
        for contract in contracts()
        if contract["type"] == "forbidden" and not contract.get("allow_indirect_imports")
        if "archive.opening" in contract["forbidden_modules"]
        for module in contract["source_modules"]
    }
    modules = {f"archive.{path.stem}" for path in (ROOT / "archive").glob("*.py")}
    # The program's first module starts the recorder or the review, never both in one process.
    apart = {"archive.__init__", "archive.__main__", "archive.errors", "archive.opening"}
    # What opens, reviews and exports runs in processes of its own.
    opens = {
        name for name in modules if name.split(".")[1].startswith(("opening", "review", "export"))
    }
    assert modules - kept_from == apart | opens


@pytest.mark.parametrize("package", ["protocol", "storage", "server"])
def test_the_relays_process_loads_nothing_that_decrypts(package: str) -> None:
    # A contract sees import statements; this sees what a package's own __init__ pulls in as well.
    program = (
        "import importlib, pkgutil, sys\n"
        f"package = importlib.import_module({package!r})\n"
        "found = pkgutil.walk_packages(package.__path__, package.__name__ + '.')\n"
        "[importlib.import_module(m.name) for m in found if not m.name.endswith('__main__')]\n"
        "print('\\n'.join(sys.modules))\n"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert package in loaded
    assert DECRYPTS.isdisjoint(loaded)
