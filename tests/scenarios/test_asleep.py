"""A laptop that slept while the others talked, on the relay's real process.

Three hundred messages in the suite; with ``WARDLINE_DEPTH`` above 1 they are ten thousand. How fast
it catches up is measured by ``bench/asleep.py``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.asleep import slept
from client import delivering
from tests.depth import DEPTH

MESSAGES = 10_000 if DEPTH > 1 else 300


async def test_a_laptop_that_slept_has_all_messages_in_order_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "PEOPLE_MOST", 0)
    night = await slept(tmp_path, MESSAGES)
    assert night.texts == [f"message {number}" for number in range(MESSAGES)]
    assert night.faults == 0
    assert night.unread == MESSAGES
