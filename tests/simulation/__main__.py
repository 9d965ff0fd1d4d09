"""``make sim``: runs by seed, each played once; appends a line to the evidence.

``python -m tests.simulation [--first SEED] [--seeds COUNT]``; one seed alone plays its run again
and says what failed. A run is the same each time where PYTHONHASHSEED is the same.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter

from release.evidence import Evidence, append
from tests.simulation.restoring import Restoring
from tests.simulation.run import Run, simulate

TOLD = 20
"""Failed seeds that the evidence names."""

EACH = 100


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make sim", description=__doc__)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=2_000)
    parser.add_argument("--restores", action="store_true", help="disks are lost, and restored")
    return parser.parse_args()


def main() -> int:
    """Simulate; return 1 where something did not hold."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])
    arguments = _arguments()
    began_s = time.perf_counter()
    failed: dict[int, list[str]] = {}
    played: Counter[str] = Counter()
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        outcome = simulate(seed, Restoring if arguments.restores else Run)
        played.update(outcome.played)
        played.update(
            messages=outcome.sent,
            frames=outcome.frames,
            records=outcome.records,
            simulated_s=round(outcome.lasted_s),
        )
        if outcome.failures:
            failed[seed] = outcome.failures
            sys.stdout.write(f"seed {seed}: {'; '.join(outcome.failures)}\n")
        elif (seed - arguments.first + 1) % EACH == 0:
            sys.stdout.write(f"{seed - arguments.first + 1} seeds, {len(failed)} failed\n")
        sys.stdout.flush()
    line = append(
        Evidence(
            run="sim-restores" if arguments.restores else "sim",
            seed=arguments.first,
            count=arguments.seeds,
            failures=len(failed),
            duration_s=time.perf_counter() - began_s,
            more={"played": dict(sorted(played.items())), "failed": sorted(failed)[:TOLD]},
        )
    )
    sys.stdout.write(f"{line}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
