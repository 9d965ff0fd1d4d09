"""The house's own rules, where no tool checks them."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT_LINES = 700


def tracked(pattern: str) -> list[Path]:
    """Return the tracked files that match ``pattern``."""
    names = subprocess.run(
        ["git", "ls-files", pattern], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [ROOT / name for name in names if (ROOT / name).exists()]


def test_no_python_file_is_longer_than_a_reader_can_hold() -> None:
    files = tracked("*.py")
    assert files
    long = {
        str(f.relative_to(ROOT)) for f in files if len(f.read_text().splitlines()) > LIMIT_LINES
    }
    assert long == set()


def test_the_lock_file_pins_by_hash_and_names_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "--hash=sha256:" in lock
    assert "://" not in lock
