"""The lock files held against the project's own list, and against advisories if they are at hand.

``python -m release.audit [ADVISORIES]`` needs no network. ``ADVISORIES`` is a folder or a zip of
advisories in OSV's format, as osv.dev publishes them for PyPI (all.zip): carry it in by hand.
Without it the advisories are not checked, which is said. Exit status 1: something was found.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from release.lock import DEVELOPING, ROOT, RUNNING, Locked, normalised, read

ECOSYSTEM = "PyPI"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is wrong with a locked package.

    Attributes:
        package: Which.
        what: In words.
    """

    package: str
    what: str


def asked() -> set[str]:
    """Return the packages that the programs ask for themselves."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = (re.split(r"[\s<>=!~;\[]", one, maxsplit=1)[0] for one in project["dependencies"])
    return {normalised(name) for name in names}


def lock_findings(running: list[Locked], developing: list[Locked]) -> Iterator[Finding]:
    """Yield what is asked for and not pinned, and what runs in another version than is tested."""
    pinned = {one.name: one.version for one in running}
    for name in sorted(asked() - set(pinned)):
        yield Finding(package=name, what="asked for in pyproject.toml, not in the lock file")
    tested = {one.name: one.version for one in developing}
    for name, version in pinned.items():
        if tested.get(name) != version:
            yield Finding(
                package=name, what=f"runs as {version}, is tested as {tested.get(name, 'nothing')}"
            )


def advisories(path: Path) -> Iterator[dict[str, Any]]:
    """Yield every advisory of a folder or a zip."""
    if path.is_dir():
        for file in sorted(path.rglob("*.json")):
            yield json.loads(file.read_text())
        return
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".json"):
                yield json.loads(archive.read(name))


def advisory_findings(locked: list[Locked], known: Iterator[dict[str, Any]]) -> Iterator[Finding]:
    """Yield the advisories that name a locked version.

    Source: OSV schema 1.6, ``affected[].versions``: PyPI's advisories list every version.
    """
    versions = {one.name: one.version for one in locked}
    for advisory in known:
        if "withdrawn" in advisory:
            continue
        for affected in advisory.get("affected", ()):
            package = affected.get("package", {})
            name = normalised(package.get("name", ""))
            if package.get("ecosystem") != ECOSYSTEM or name not in versions:
                continue
            if versions[name] in affected.get("versions", ()):
                yield Finding(package=name, what=f"{versions[name]}: {advisory['id']}")


def main(arguments: list[str]) -> int:
    """Print what was found; return 1 where anything was."""
    running, developing = read(RUNNING), read(DEVELOPING)
    found = list(lock_findings(running, developing))
    if arguments:
        found += advisory_findings(running, advisories(Path(arguments[0])))
    for finding in found:
        sys.stdout.write(f"{finding.package}: {finding.what}\n")
    checked = "advisories checked" if arguments else "advisories not checked: none at hand"
    hashes = sum(len(one.hashes) for one in running)
    sys.stdout.write(f"{len(running)} packages pinned by {hashes} hashes; {checked}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
