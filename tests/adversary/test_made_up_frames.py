"""What a relay makes up costs a device its connection: once it is honest, all is said and heard.

Sockets and the clock are real, so a seed's frames are the same each time, and where among the
others they come may differ. ``make fuzz`` plays more seeds.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adversary.made_up import astray
from tests.depth import DEPTH

SEEDS = 3 * DEPTH


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_after_whatever_a_relay_made_up_all_that_is_honest_is_shown_once_in_order(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome, between = await astray(tmp_path, seed, monkeypatch)
    assert outcome.wrong == []
    assert between.made.total() > 80
