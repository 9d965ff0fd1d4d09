"""The lock file as data: every package with its version, marker and hashes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNNING = ROOT / "packaging" / "requirements.lock"
"""What the programs run with."""
DEVELOPING = ROOT / "requirements.lock"
"""The same, and what `make test` needs."""

_HEAD = re.compile(r"([A-Za-z0-9._-]+)(\[[a-z,-]+\])?==([^\s;]+)(?:\s*;\s*(.*?))?\s*\\?$")
_HASH = re.compile(r"\s+--hash=sha256:([0-9a-f]{64})\s*\\?$")


class LockError(Exception):
    """A line of the lock file is no pinned package and no hash of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """One package of the lock file.

    Attributes:
        name: Normalised (PEP 503).
        version: The only one.
        marker: On which machines it is installed; empty for all.
        hashes: SHA-256 of every file that may be installed for it, hexadecimal.
    """

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]


def normalised(name: str) -> str:
    """Return a package's name as registries compare it.

    Source: PEP 503, normalized names.
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def read(path: Path) -> list[Locked]:
    """Return what a lock file pins.

    Raises:
        LockError: A line is neither, or a package has no hash.
    """
    found: list[tuple[re.Match[str], list[str]]] = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if head := _HEAD.match(line):
            found.append((head, []))
        elif (hash_ := _HASH.match(line)) and found:
            found[-1][1].append(hash_[1])
        elif line.strip() and not line.startswith("#"):
            raise LockError(f"{path.name}:{number}: neither a pinned package nor a hash")
    without = [head[1] for head, hashes in found if not hashes]
    if without:
        raise LockError(f"{path.name}: no hash for {', '.join(without)}")
    return [
        Locked(
            name=normalised(head[1]),
            version=head[3],
            marker=(head[4] or "").rstrip("\\ "),
            hashes=tuple(hashes),
        )
        for head, hashes in found
    ]
