"""Stories in which a recorder's silence is noticed sooner: ten seconds of it take most of a story.

What happens after the silence is the same; that it lasts ten seconds, others test by their clocks.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from client import steward
from protocol import limits

SILENCE_MS = 2_000
RANK_MS = 300


def notice_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process, and every program that it starts, notice the silence sooner."""
    monkeypatch.setattr(limits, "RECEIPT_SILENCE_MS", SILENCE_MS)
    monkeypatch.setattr(steward, "RANK_MS", RANK_MS)
    monkeypatch.setenv("WARDLINE_SILENCE_MS", str(SILENCE_MS))
    monkeypatch.setenv("WARDLINE_RANK_MS", str(RANK_MS))
    path = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
