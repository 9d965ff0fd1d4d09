"""The program ``wardline`` itself: from its start to a screen that can be used, and searching.

Run: ``make bench-client``; prints one JSON object a line (see ``bench.report``). A device with
5,000 conversations and 100,000 messages, a relay on this machine that keeps its share, the program
under a terminal of its own. Typing the PIN is not counted; stretching it by Argon2id is.
"""

from __future__ import annotations

import asyncio
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from bench.full_device import CONVERSATIONS, ME, OTHER, Full, fill
from bench.report import Figure, report
from client import unlocking
from client.device import Device
from client.profile import Profile, create_profile
from client.store import Store
from client_cli.terminal import TOUR
from crypto.pin import PinParameters, stretch
from crypto.pin_proof import new_share
from tests.client.openable import PIN, record_of
from tests.client.relay import address_of, credentials_of, link_of, serving
from tests.client.talk import assembled
from tests.server.harness import Hospital, Person, Site, hospital, now_ms

RUNS = 3
WITHIN_S = 60.0
ROWS, COLUMNS = 40, 120
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


class Window:
    """The program under a terminal."""

    def __init__(self, home: Path) -> None:
        self._main, other = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "client_cli", "--home", str(home)],
            stdin=other,
            stdout=other,
            stderr=other,
            env={
                **os.environ,
                "TERM": "xterm-256color",
                "LINES": str(ROWS),
                "COLUMNS": str(COLUMNS),
            },
            start_new_session=True,
        )
        os.close(other)
        self._shown = b""

    def until(self, text: str) -> None:
        """Return once a text has been drawn."""
        end_s = time.monotonic() + WITHIN_S
        while text.encode() not in self._shown:
            if time.monotonic() > end_s or self.process.poll() is not None:
                raise AssertionError(self._shown[-2000:])
            if select.select([self._main], [], [], 0.02)[0]:
                self._shown += os.read(self._main, 1 << 16)

    def type(self, keys: str) -> None:
        os.write(self._main, keys.encode())

    def cpu_s(self) -> float:
        """Return what the program's processes have used so far."""
        top = psutil.Process(self.process.pid)
        times = [one.cpu_times() for one in (top, *top.children(recursive=True))]
        return sum(one.user + one.system for one in times)

    def end(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._main)


def started(home: Path, newest: str) -> Started:
    """Start the program, unlock it, and return how long that took."""
    began_s = time.monotonic()
    window = Window(home)
    try:
        window.until("Enter: unlock")
        locked_s = time.monotonic() - began_s
        window.type(PIN)
        time.sleep(0.5)
        typed_s = time.monotonic()
        window.type("\r")
        window.until(newest)
        window.type("?")
        window.until("Help")
        return Started(wall_s=locked_s + time.monotonic() - typed_s, cpu_s=window.cpu_s())
    finally:
        window.end()


async def profile_of(home: Path, site: Site, person: Person) -> tuple[Profile, Full]:
    """Make a profile at the default cost of a PIN, with a full store."""
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
    store.settings.put(unlocking.CERTIFICATE, person.certificate)
    full = fill(store, site.hospital)
    store.close()
    link = await link_of(site, person)
    await unlocking.store_share(link, key, share)
    await link.close()
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
        profile, full = await profile_of(home, site, person)
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
