"""Two people at one workstation: from the key that locks to the other one's desk.

Run: ``make bench-client``; prints one JSON object a line (see ``bench.report``). The program itself
under a terminal, a relay on this machine that keeps both shares, a PIN at its default cost. What
typing takes a person is not counted.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench.report import Figure, report
from client_cli.terminal import TOUR
from crypto.pin import PinParameters
from tests.client.openable import PIN, profile_of
from tests.client.relay import serving
from tests.scenarios.workstation import Took, program, switch, unlock
from tests.server.harness import hospital

PEOPLE = ("ann/desk", "ben/desk")
RUNS = 5


def switches(home: Path) -> list[Took]:
    """Let two people take turns."""
    with program(home) as window:
        unlock(window, "ann", place=0, pin=PIN)
        turns = [("ben", 1), ("ann", 0)] * RUNS
        return [switch(window, user, place=place, pin=PIN) for user, place in turns[:RUNS]]


async def measured(folder: Path) -> list[Took]:
    home = folder / "home"
    async with serving(folder, hospital()) as site:
        for name in PEOPLE:
            person = site.hospital.enrol(name)
            await profile_of(home, site, person, parameters=PinParameters.fresh())
        (home / TOUR).touch()
        # In a thread: the relay is in this process.
        return await asyncio.to_thread(switches, home)


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        runs = asyncio.run(measured(Path(folder)))
    yield Figure(
        name="two people switch at a workstation",
        value=1000 * median(one.wall_s for one in runs),
        unit=f"ms by the clock, median of {RUNS}, on a quiet machine",
        wanted=5_000,
    )
    yield Figure(
        name="the same",
        value=1000 * median(one.cpu_s for one in runs),
        unit=f"ms CPU of all its processes, median of {RUNS}",
    )


if __name__ == "__main__":
    sys.exit(report(figures()))
