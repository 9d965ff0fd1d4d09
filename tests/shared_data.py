"""Where the shared test data lie: vectors that come from outside and are never regenerated."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def shared_data(name: str) -> Path:
    """Return the folder ``data/name`` of the shared data; without it fail under CI, else skip."""
    folder = Path(os.environ.get("WARDLINE_SHARED", ROOT.parent / "shared")) / "data" / name
    if not folder.is_dir():
        message = f"no shared data {name}: set WARDLINE_SHARED"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder
