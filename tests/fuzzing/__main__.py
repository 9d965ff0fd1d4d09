"""``make fuzz``: every group of parsers in a process of its own; appends a line to the evidence.

``python -m tests.fuzzing [--runs COUNT] [--seed SEED] [--only GROUP]``. An input that breaks a
parser is kept in the folder that the end names; ``--only GROUP`` with the same seed finds it again.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from release.evidence import Evidence, append
from release.lock import ROOT
from tests.fuzzing.targets import targets

RUNS = 50_000
"""Inputs for each group."""

INPUT_BYTES = 4096
HANG_S = 5
"""Seconds after which an input counts as one that hangs; the wanted second, on a busy machine."""

MEMORY_MB = 1024
WORKERS = 2
DONE = re.compile(r"Done (\d+) runs|stat::number_of_executed_units:\s*(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a group ended.

    Attributes:
        inputs: How many were tried.
        wrong: The last words of what broke; empty where nothing did.
    """

    name: str
    inputs: int
    wrong: str


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 1 << 31))
    parser.add_argument("--only")
    return parser.parse_args()


def _fuzz(name: str, place: Path, *, runs: int, seed: int) -> Ended:
    folder = place / name.replace(" ", "-")
    folder.mkdir()
    options = {
        "runs": runs,
        "seed": seed,
        "max_len": INPUT_BYTES,
        "timeout": HANG_S,
        "rss_limit_mb": MEMORY_MB,
        "artifact_prefix": f"{folder}/",
        "print_final_stats": 1,
        "verbosity": 0,
    }
    given = [f"-{key}={value}" for key, value in options.items()]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.fuzzing.group", name, *given],
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    said = ended.stdout + ended.stderr
    counts = [int(one or other) for one, other in DONE.findall(said)]
    wrong = said[-1500:] if ended.returncode else ""
    return Ended(name=name, inputs=max(counts, default=0), wrong=wrong)


def main() -> int:
    """Fuzz; return 1 where a parser gave a third thing."""
    arguments = _arguments()
    began_s = time.monotonic()
    names = [name for name in targets() if arguments.only in (None, name)]
    place = Path(tempfile.mkdtemp(prefix="wardline-fuzz-"))
    with ThreadPoolExecutor(WORKERS) as workers:
        ended = workers.map(
            lambda name: _fuzz(name, place, runs=arguments.runs, seed=arguments.seed), names
        )
        found = []
        for one in ended:
            found.append(one)
            sys.stdout.write(f"{one.inputs:>9,} {one.name}{'  BROKEN' if one.wrong else ''}\n")
            sys.stdout.write(one.wrong)
            sys.stdout.flush()
    broken = [one.name for one in found if one.wrong]
    line = append(
        Evidence(
            run="fuzz",
            seed=arguments.seed,
            count=sum(one.inputs for one in found),
            failures=len(broken),
            duration_s=time.monotonic() - began_s,
            more={"groups": len(found), "failed": broken},
        )
    )
    sys.stdout.write(f"{line}\nwhat broke something is in {place}\n" if broken else f"{line}\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
