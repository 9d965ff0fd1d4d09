"""docs/decisions.md speaks of every dependency, and of no other."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROW = re.compile(r"\| (?!name |---)(\S+) \|([^|]*)\|([^|]*)\|$")


def decided() -> dict[str, tuple[str, str]]:
    """Return licence and reason of each row of the tables of dependencies, by name."""
    text = (ROOT / "docs/decisions.md").read_text()
    section = text.split("## Dependencies", 1)[1].split("\n## ", 1)[0]
    rows = [match.groups() for line in section.splitlines() if (match := ROW.match(line))]
    assert len(rows) == len({name for name, _, _ in rows}), "a dependency has two rows"
    return {name: (licence.strip(), reason.strip()) for name, licence, reason in rows}


def depended_on() -> set[str]:
    """Return the names of everything that is installed because somebody here asked for it."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = list(settings["project"]["dependencies"])
    for group in settings["dependency-groups"].values():
        asked += group
    for further in ("bench/peers.in", "tests/fuzzing/requirements.in"):
        asked += (ROOT / further).read_text().splitlines()
    names = {re.split(r"[\s<>=!~;\[]", one, maxsplit=1)[0].lower() for one in asked}
    return names | set(
        json.loads((ROOT / "tests/interop/package.json").read_text())["dependencies"]
    )


def test_each_dependency_has_its_entry_and_each_entry_its_dependency() -> None:
    assert set(decided()) == depended_on()


def test_each_entry_names_a_licence_and_a_reason() -> None:
    assert all(licence and reason for licence, reason in decided().values())


def test_what_npm_installs_is_pinned_to_one_version() -> None:
    wanted = json.loads((ROOT / "tests/interop/package.json").read_text())["dependencies"]
    locked = json.loads((ROOT / "tests/interop/package-lock.json").read_text())["packages"]
    assert {name: locked[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert all("integrity" in entry for place, entry in locked.items() if place)
