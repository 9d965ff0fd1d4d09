"""The installation under test: every program a real process, on hosts that can be cut off."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

from archive.forgetting import FORGETTING as ARCHIVE_FORGETS
from demo.hospital import Hospital, Site
from demo.night import ADMINISTRATORS, OFFICERS, STAFF
from demo.programs import DemoError, Device, Host
from release.lock import ROOT
from server.__main__ import FORGETTING as RELAY_FORGETS
from soak.clocked import set_clock
from soak.disk import Disk
from soak.network import ADDRESS, PORT, RELAY, Network

ARCHIVE = "archive"
OFFICE = "office"
"""Where administrators and officers are."""

DEVICES = "devices"
PLACES = ("north", "south", "visits")
"""Where the clinicians are."""

HOSTS = (ARCHIVE, OFFICE, *PLACES)

CLINICIANS = tuple(row[0] for row in STAFF)
TRIES = 5
"""How often a program is started before it counts as one that does not come back."""


def place_of(user: str) -> str:
    """Return the host of a clinician's device."""
    return PLACES[CLINICIANS.index(user) * len(PLACES) // len(CLINICIANS)]


class Handset(Device):
    """A device of which only what a soak asks for is kept, for hours.

    Attributes:
        pages: The newest view of each page, by conversation.
        shown: How many messages it was shown.
        wanted: Whether it is meant to run.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # Its last words count most when its disk is full, so they lie on another.
        self.log = self.log.parents[2] / f"{self.user}.log"
        self.pages: dict[str, dict[str, Any]] = {}
        self.shown: set[str] = set()
        self.wanted = True

    def _take(self, heard: dict[str, Any]) -> None:
        if heard.get("event") == "message":
            self.shown.add(heard["message"]["key"])
        elif heard.get("event") == "page":
            page = heard["page"]
            self.pages[page["conversation"]] = page

    @property
    def runs(self) -> bool:
        """Whether its program runs."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """Its process id."""
        if self._process is None:
            raise DemoError(f"{self.user}: the program does not run")
        return self._process.pid

    async def kill(self) -> None:
        """End it as an empty battery would."""
        self.wanted = False
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGKILL)
            await process.wait()
        if self._reader is not None:
            await self._reader

    def last_words(self) -> str:
        """Return the end of what it wrote to its log."""
        return self._last_words()


class Ward:
    """Everything that runs.

    Attributes:
        hospital: Programs and people.
        network: Cables.
        disks: Disks that can be filled, by what they belong to.
        filled: Which of them were, since the last check.
    """

    def __init__(self, folder: Path) -> None:
        self.network = Network(HOSTS)
        self.disks = {
            RELAY: Disk(folder / "relay"),
            ARCHIVE: Disk(folder / "archive"),
            DEVICES: Disk(folder / "people"),
        }
        self.filled: set[str] = set()
        self._clocks = folder / "clocks"
        self._clocks.mkdir()
        hosts = {name: self._host(name) for name in (RELAY, *HOSTS)}
        people = {user: hosts[place_of(user)] for user in CLINICIANS}
        self.hospital = Hospital(folder, self._site(hosts, people))
        self.hospital.device_type = Handset

    @staticmethod
    def _site(hosts: dict[str, Host], people: dict[str, Host]) -> Site:
        office = dict.fromkeys((*ADMINISTRATORS, *OFFICERS), hosts[OFFICE])
        return Site(
            relay=hosts[RELAY],
            archive=hosts[ARCHIVE],
            people={**office, **people},
            listen="0.0.0.0",  # noqa: S104 - of a namespace of its own
            address=ADDRESS,
            port=PORT,
        )

    def _host(self, name: str) -> Host:
        clock = self._clocks / name
        set_clock(clock, 0)
        clocked = (sys.executable, "-m", "soak.clocked", str(clock))
        forgets = {RELAY: RELAY_FORGETS, ARCHIVE: ARCHIVE_FORGETS}.get(name, {})
        settings = {"PYTHONPATH": str(ROOT), **forgets}
        return Host(prefix=(*self.network.enter(name), *clocked), settings=settings)

    def build(self) -> None:
        """Lay the cables and mount the disks."""
        self.network.build()
        for disk in self.disks.values():
            disk.mount()

    @property
    def handsets(self) -> dict[str, Handset]:
        """Every clinician's device."""
        return cast("dict[str, Handset]", self.hospital.devices)

    def at(self, place: str) -> list[Handset]:
        """Return the devices on a host."""
        return [self.handsets[user] for user in CLINICIANS if place_of(user) == place]

    def set_clock(self, host: str, offset_s: float) -> None:
        """Set a host's clock to what it should be, and so many seconds more."""
        set_clock(self._clocks / host, offset_s)

    async def start_relay(self) -> None:
        """Start the relay, also where it takes long."""
        await _persist(self._relay_once)

    async def start_archive(self) -> None:
        """Start the archive; it connects when it can."""
        await _persist(self._archive_once)

    async def _relay_once(self) -> None:
        await self.hospital.relay.stop()
        await self.hospital.relay.start(lambda said: '"listening"' in said)

    async def _archive_once(self) -> None:
        await self.hospital.archive.stop()
        await self.hospital.archive.start(lambda _: True)

    async def start_handset(self, handset: Handset) -> None:
        """Start a device's program again."""

        async def once() -> None:
            await handset.stop()
            await handset.start()

        handset.wanted = True
        await _persist(once)

    def signal(self, what: str, number: signal.Signals) -> None:
        """Send a signal to the relay or the archive."""
        service = self.hospital.relay if what == RELAY else self.hospital.archive
        os.kill(service.pid, number)


async def _persist(once: Callable[[], Awaitable[None]]) -> None:
    """Try until it is done.

    Raises:
        DemoError: It was not, the last time.
    """
    for number in range(1, TRIES + 1):
        try:
            await once()
        except DemoError:
            if number == TRIES:
                raise
            await asyncio.sleep(1)
        else:
            return
