"""Random runs: what devices showed and what the archive holds are the same, or told apart."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.archive.walk import clinic, walked
from tests.depth import DEPTH

WALKS = 200 * DEPTH
"""Runs of this module; ``python -m tests.archive.walk`` takes as many as are asked for."""

AT_ONCE = 25
"""Runs in one archive."""


@pytest.mark.parametrize("first", range(0, WALKS, AT_ONCE))
def test_what_devices_showed_is_what_the_archive_holds_and_all_that_is_missing_was_reported(
    memory: Path, first: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    with clinic(memory) as made:
        assert walked(made, range(first, first + AT_ONCE)) == {}
