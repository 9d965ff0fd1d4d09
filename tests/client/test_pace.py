"""What is done each so often goes on where the clock was ahead and is set right."""

from __future__ import annotations

import pytest

from client.pace import is_due, is_over


@pytest.mark.parametrize(
    ("done_ms", "due"), [(1_000, False), (941, False), (940, True), (0, True), (1_001, True)]
)
def test_what_was_done_in_the_future_is_due(done_ms: int, due: bool) -> None:
    assert is_due(done_ms, now_ms=1_000, each_ms=60) is due


@pytest.mark.parametrize(
    ("until_ms", "over"),
    [(1_000, True), (999, True), (1_001, False), (1_060, False), (1_061, True)],
)
def test_no_pause_is_longer_than_the_longest(until_ms: int, over: bool) -> None:
    assert is_over(until_ms, now_ms=1_000, longest_ms=60) is over
