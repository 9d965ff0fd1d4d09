"""The program ``wardline`` itself: from its start to a screen that can be used, and searching.

Run: ``make bench-client``; prints one JSON object a line (see ``bench.report``). A device with
5,000 conversations and 100,000 messages, a relay on this machine that keeps its share, the program
under a terminal of its own. Typing the PIN is not counted; stretching it by Argon2id is.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.full_device import CONVERSATIONS, ME, OTHER, Full, fill
from bench.report import Figure, report
from client import unlocking
from client.device import Device
from client.profile import Profile
from client.store import Store
from client_cli.terminal import TOUR
from crypto.pin import PinParameters
from tests.client.openable import PIN, profile_of
from tests.client.relay import address_of, credentials_of, serving
from tests.client.talk import assembled
from tests.client_cli.window import Window
from tests.server.harness import Hospital, Person, Site, hospital, now_ms

RUNS = 3
COLUMNS, LINES = 120, 40
SEARCHED = ("dose", "bed scan", "fever pain sepsis", "renal17", "be", "nowhere")


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """How long one start took.

    Attributes:
        wall_s: From the start to the lock screen, and from the PIN's Enter to a desk with its
            list that has answered a key.
        cpu_s: Of the program's processes until then.
    """

    wall_s: float
    cpu_s: float


def started(home: Path, newest: str) -> Started:
    """Start the program, unlock it, and return how long that took."""
    began_s = time.monotonic()
    command = (sys.executable, "-m", "client_cli", "--home", str(home))
    window = Window(*command, columns=COLUMNS, lines=LINES)
    try:
        window.until(b"Enter: unlock")
        locked_s = time.monotonic() - began_s
        window.press(PIN.encode())
        time.sleep(0.5)
        typed_s = time.monotonic()
        window.press(b"\r")
        window.until(newest.encode())
        window.press(b"?")
        window.until(b"Help")
        return Started(wall_s=locked_s + time.monotonic() - typed_s, cpu_s=window.cpu_s())
    finally:
        window.kill()


async def full_profile(home: Path, site: Site, person: Person) -> tuple[Profile, Full]:
    """Make a profile at the default cost of a PIN, with a full store."""
    profile = await profile_of(home, site, person, parameters=PinParameters.fresh())
    opened = await unlocking.unlock(profile, PIN, now_ms=now_ms())
    full = fill(opened.store, site.hospital)
    opened.store.close()
    (home / TOUR).touch()
    return profile, full


def searches(site: Site, store: Store, person: Person) -> list[float]:
    """Return CPU ms of searches as a screen asks for them."""
    device = Device.over(
        store, credentials=credentials_of(person), address=address_of(site), clock=now_ms
    )
    times = []
    for text in SEARCHED * 3:
        began_s = time.process_time()
        device.search(text)
        times.append(1000 * (time.process_time() - began_s))
    assert device.search("dose")
    return times


async def measured(folder: Path, of: Hospital) -> list[Figure]:
    (folder / "relay").mkdir()
    async with serving(folder / "relay", of) as site:
        person = assembled(of, OTHER, ME)[ME].person
        home = folder / "home"
        profile, full = await full_profile(home, site, person)
        # In a thread: the relay is in this process.
        runs = [await asyncio.to_thread(started, home, full.newest) for _ in range(RUNS)]
        opened = await unlocking.unlock(profile, PIN, now_ms=now_ms())
        times = searches(site, opened.store, person)
        opened.store.close()
    size = f"{CONVERSATIONS} conversations, 100,000 messages"
    return [
        Figure(
            name=f"start of the program to a usable screen, {size}",
            value=1000 * median(one.wall_s for one in runs),
            unit=f"ms by the clock, median of {RUNS}, on a quiet machine",
            wanted=1_500,
        ),
        Figure(
            name="the same",
            value=1000 * median(one.cpu_s for one in runs),
            unit=f"ms CPU of all its processes, median of {RUNS}",
        ),
        Figure(
            name=f"search as a screen asks for it, {size}",
            value=max(times),
            unit=f"ms CPU, worst of {len(times)}",
            wanted=50,
        ),
    ]


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        yield from asyncio.run(measured(Path(folder), hospital()))


if __name__ == "__main__":
    sys.exit(report(figures()))
