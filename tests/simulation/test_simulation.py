"""A few runs of the simulation; `make sim` plays thousands."""

from __future__ import annotations

import os
import subprocess
import sys

from release.lock import ROOT
from tests.depth import DEPTH
from tests.simulation.network import Trace

PLAY = """
from tests.simulation.restoring import Restoring
from tests.simulation.run import Run, simulate
for seed in {seeds}:
    print(simulate(seed, {kind}))
"""


def played(*seeds: int, kind: str = "Run") -> list[str]:
    """Return what runs came to, played by a process of their own."""
    ended = subprocess.run(
        [sys.executable, "-c", PLAY.format(seeds=seeds, kind=kind)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    return ended.stdout.splitlines()


def test_nothing_is_lost_or_stuck_and_the_same_seed_is_the_same_run() -> None:
    first = played(*range(1, 2 * DEPTH + 1))
    assert [run for run in first if "failures=[]," not in run] == []
    assert played(1) == first[:1]


def test_everybody_goes_on_after_relay_and_archive_were_restored_in_whatever_order() -> None:
    runs = played(*range(1, DEPTH + 1), kind="Restoring")
    assert [run for run in runs if "failures=[]," not in run] == []


def test_a_trace_tells_runs_apart() -> None:
    one, other = Trace(), Trace()
    one.note(1.0, "anna/phone", True)
    other.note(1.0, "anna/phone", False)
    assert one.digest() != other.digest()
