"""What reaches the disk, and when."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bytes | None]]:
    """Name and content of each file or directory (no content) at the moment it is synced."""
    found: list[tuple[str, bytes | None]] = []
    sync = os.fsync

    def note(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        found.append((path.name, None if path.is_dir() else path.read_bytes()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    return found
