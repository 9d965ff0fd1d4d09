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
from client import unlocking
from client.profile import create_profile
from client_cli.terminal import TOUR
from crypto.pin import PinParameters, stretch
from crypto.pin_proof import new_share
from tests.client.openable import PIN, record_of
from tests.client.relay import link_of, serving
from tests.scenarios.workstation import Took, program, switch, unlock
from tests.server.harness import Person, Site, hospital

PEOPLE = ("ann/desk", "ben/desk")
RUNS = 5


async def enrolled(home: Path, site: Site, person: Person) -> None:
    """Make a person's profile at the default cost of a PIN."""
    parameters, share = PinParameters.fresh(), new_share()
    key = stretch(PIN, parameters)
    profile = create_profile(
        home,
        parameters=parameters,
        key=key,
        share=share,
        connection=record_of(site, person).encode(),
    )
    store = profile.open(key, share)
    store.keys.put(unlocking.SIGNATURE, person.keys.signature_key.seed)
    store.settings.put(unlocking.ROOT, site.hospital.root.der)
    store.close()
    link = await link_of(site, person)
    await unlocking.store_share(link, key, share)
    await link.close()


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
            await enrolled(home, site, site.hospital.enrol(name))
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
