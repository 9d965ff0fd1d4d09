"""The terminal program's processes: one that never holds a key, and one for each unlocking.

Locking ends the process that held the keys, because Python cannot erase memory; the other one
then starts a new lock screen.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import cast

from client.connection import read
from client.device import Device
from client.lock import LOCKED_STATUS, lock
from client.profile import Profile, profiles
from client.ringing import Ringing
from client.unlocking import Opened, unlock
from client_cli.output import Exit, warn
from client_cli.seat import Seat

FORGETTING = {"MALLOC_PERTURB_": "165", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
"""glibc overwrites what is freed: measured at the relay, freed buffers are then gone."""

CLEAR = "\x1b[?1049h\x1b[2J\x1b[?1049l"
"""Enters the alternate screen once more, clears it and leaves it: nothing of it can be recalled."""

TOUR = "tour-seen"
"""A file that says no more than that somebody has seen the tour here."""


def main(home: Path, who: str | None) -> int:
    """Show lock screens and desks until somebody quits; return the exit status."""
    command = [sys.executable, "-m", "client_cli.terminal", str(home), who or ""]
    while True:
        ended = subprocess.run(  # noqa: S603 - this program itself
            command, env={**os.environ, **FORGETTING}, check=False
        )
        if ended.returncode != LOCKED_STATUS:
            return ended.returncode


def session(home: Path, who: str | None) -> int:
    """Show the lock screen, then the desk of whoever unlocked; return the exit status.

    Where the device is locked it does not return: the process ends.
    """
    # Textual takes a third of a second to load, and `main` waits without it.
    from client_cli.app import Manner, Wardline
    from client_cli.door import Door

    found = _profiles(home, who)
    if not found:
        warn("No device is enrolled here yet. Run: wardline enroll LINK")
        return int(Exit.UNKNOWN)
    names = sorted(found)

    async def opening(place: int, pin: str) -> Opened:
        return await unlock(found[names[place]], pin, now_ms=_now_ms())

    def ringing(place: int) -> AbstractAsyncContextManager[Ringing]:
        record = read(found[names[place]])
        return Ringing(record.address, record.credentials(), now_ms=_now_ms)

    opened = Door(names, opening, ringing=ringing).run()
    if not isinstance(opened, Opened):
        return int(Exit.DONE)
    seen = home / TOUR
    device = Device.over(
        opened.store, credentials=opened.credentials, address=opened.address, clock=_now_ms
    )
    locks = Wardline(cast("Seat", device), Manner(clock=_now_ms, tour=not seen.exists())).run()
    seen.touch()
    sys.stdout.write(CLEAR)
    sys.stdout.flush()
    if locks:
        lock(opened.store)
    opened.store.close()
    return int(Exit.DONE)


def _profiles(home: Path, who: str | None) -> dict[str, Profile]:
    found = {read(profile).device: profile for profile in profiles(home) if not profile.enrolling}
    return {
        device: profile
        for device, profile in found.items()
        if not who or who in (device, device.partition("/")[0])
    }


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    sys.exit(session(Path(sys.argv[1]), sys.argv[2] or None))
