"""Where the shared data is: vectors and dialogues that are never part of the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def shared(name: str) -> Path:
    """Return a folder or file of the shared data.

    Where it is missing the test fails under continuous integration and is skipped, saying so,
    elsewhere.
    """
    path = Path(os.environ.get("WARDLINE_SHARED", ROOT.parent / "shared")) / "data" / name
    if not path.exists():
        if os.environ.get("CI"):
            pytest.fail(f"shared data is missing: {name}")
        pytest.skip(f"shared data is missing: {name} (set WARDLINE_SHARED)")
    return path
