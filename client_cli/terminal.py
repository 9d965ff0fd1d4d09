"""The terminal program's process for one unlocking: a lock screen, then the desk.

Locking ends it, and with it every key that it held; ``client_cli.start`` then starts another one.
It loads what the lock screen shows, and the rest while somebody types.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from contextlib import AbstractAsyncContextManager, suppress
from functools import cache, partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, cast

from client.clocks import now_ms
from client.lock import LOCKED_STATUS, lock
from client.profile import END, Profile, profiles
from client_cli.failures import WIPED
from client_cli.output import Exit, warn
from client_cli.start import ASKED_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from client.device import Device
    from client.link import Link
    from client.ringing import Ringing
    from client.unlocking import Opened
    from client.wiping import Wiped
    from client.witnessed import Witnessed
    from client_cli.app import Manner

CLEAR = "\x1b[?1049h\x1b[2J\x1b[?1049l"
"""Enters the alternate screen once more, clears it and leaves it: nothing of it can be recalled."""

MINUTE_MS = 60_000
TOUR = "tour-seen"
"""A file that says no more than that somebody has seen the tour here."""

LIGHT = "light"
"""A file that says no more than that the screens here are to be light."""


def session(home: Path, who: str | None) -> int:
    """Show the lock screen, then the desk of whoever unlocked; return the exit status.

    Where the device is locked it does not return: the process ends.
    """
    from client_cli.door import Door

    if any(profile.wiping for profile in profiles(home)):
        from client import wiping

        asyncio.run(wiping.resume(home, clock=now_ms))
    _remove_ended(home)
    found = _profiles(home, who)
    if not found:
        warn("No device is enrolled here yet. Run: wardline enroll LINK")
        return int(Exit.UNKNOWN)
    names = sorted(found)

    async def opening(place: int, pin: str) -> Opened:
        return await _opened(found[names[place]], pin)

    def ringing(place: int) -> AbstractAsyncContextManager[Ringing]:
        # Asked for once the lock screen is there.
        from client.connection import read
        from client.ringing import Ringing

        Thread(target=_prepare, daemon=True).start()
        profile = found[names[place]]
        record = read(profile)
        obey = partial(_obey, profile=profile, leave=door.leave)
        return Ringing(record.address, record.credentials(), now_ms=now_ms, on_ordered=obey)

    door = Door(
        [f"{name}{_waiting(found[name])}" for name in names],
        opening,
        ringing=ringing,
        tend=lambda: _remove_ended(home),
        light=(home / LIGHT).exists(),
        keep_light=partial(_keep_light, home),
    )
    opened = door.run()
    if door.gone:
        return LOCKED_STATUS
    if door.wiped:
        warn(WIPED)
        return LOCKED_STATUS if profiles(home) else int(Exit.WITHHELD)
    return int(Exit.DONE) if opened is None else _desk(home, cast("Opened", opened))


async def _obey(link: Link, *, profile: Profile, leave: Callable[[], None]) -> None:
    """Follow the order that waits for a locked device, and leave its lock screen.

    Raises:
        SuspendedError: No order comes that this device is to follow.
        LinkError: The connection ended before one came.
    """
    from client.wiping import carry_out

    try:
        await carry_out(link, profile, clock=now_ms)
    finally:
        # Also where a PIN that is typed meanwhile ends this connection before the receipt is out.
        if profile.wiping or not profile.directory.exists():
            leave()


def _remove_ended(home: Path) -> bool:
    """Remove the stores of those whose shift is over, where policy says so; tell if there was one.

    By this machine's clock alone none goes: the relay is asked meanwhile, and the next call has its
    answer.
    """
    if not any((profile.directory / END).exists() for profile in profiles(home)):
        return False
    from client.signing_out import remove_ended, witness_of_ended

    witnessed = _witnessed()
    if remove_ended(home, sure_ms=witnessed.now_ms()):
        return True
    relay = witness_of_ended(home, now_ms=now_ms())
    if relay is not None:
        Thread(target=lambda: asyncio.run(witnessed.ask(relay)), daemon=True).start()
    return False


@cache
def _witnessed() -> Witnessed:
    """Return the time that lock screens of this process know."""
    from client.witnessed import Witnessed

    return Witnessed(lambda: now_ms())  # noqa: PLW0108 - a test sets the clock


def _waiting(profile: Profile) -> str:
    """Say what keeps a store here whose time is over; nothing where nothing does."""
    if not (profile.directory / END).exists():
        return ""
    from client.signing_out import UNCOUNTED, end_of

    end = end_of(profile)
    if end is None or not end.unsent or end.at_ms > now_ms():
        return ""
    if end.unsent == UNCOUNTED:
        return "   was not locked: unlock, and what was not sent goes out"
    return f"   {end.unsent} not sent: unlock, and they go out"


def _prepare() -> None:
    """Load what the desk needs, which nobody waits for while a PIN is typed."""
    import client.governing  # noqa: F401 - the loading is all that is wanted
    import client_cli.app  # noqa: F401 - as above


async def _opened(profile: Profile, pin: str) -> Opened:
    """Unlock; where the device is withheld, follow the order that may wait for it.

    Raises:
        WithheldError: It is suspended, or wiped now.
    """
    from client import wiping
    from client.errors import LinkError, SuspendedError, WithheldError
    from client.unlocking import unlock

    try:
        return await unlock(profile, pin, now_ms=now_ms())
    except WithheldError:
        with suppress(SuspendedError, LinkError):
            await wiping.obey(profile, clock=now_ms)
        raise


def _desk(home: Path, opened: Opened) -> int:
    """Show the desk; end the process where it is to be locked, or was wiped."""
    from client import wipe, wiping
    from client.connection import renew
    from client.device import Device
    from client.governing import leave
    from client_cli.app import Ending, Wardline

    wiped: list[Wiped] = []

    async def obey(link: Link) -> None:
        done = await wiping.carry_out(link, opened.profile, clock=now_ms, store=opened.store)
        wiped.append(done)
        app.exit(result=Ending.LOCK)

    device = Device.over(
        opened.store,
        credentials=opened.credentials,
        address=opened.address,
        clock=now_ms,
        files=opened.profile.files,
        on_ordered=obey,
        on_certificate=partial(renew, opened.profile),
    )
    app = Wardline(device, _manner(home, opened, device))
    ending = app.run()
    sys.stdout.write(CLEAR)
    sys.stdout.flush()
    if app.return_code:
        lock(opened.store)
    if wiped:
        warn(WIPED)
        os._exit(int(Exit.WITHHELD))
    (home / TOUR).touch()
    if ending is Ending.REMOVE:
        wipe.remove(opened.profile, store=opened.store)
        os._exit(LOCKED_STATUS)
    leave(device, opened.profile)
    if ending is Ending.LOCK:
        lock(opened.store)
    device.close()
    return int(Exit.DONE)


def _manner(home: Path, opened: Opened, device: Device) -> Manner:
    """Return how the desk behaves over an open device."""
    from client import signing_out
    from client.governing import govern, terms_of
    from client_cli.app import Manner

    return Manner(
        clock=now_ms,
        tour=not (home / TOUR).exists(),
        light=(home / LIGHT).exists(),
        keep_light=partial(_keep_light, home),
        lock_after_ms=device.policy.devices.lock_minutes * MINUTE_MS,
        tend=lambda: govern(
            device, opened.profile, now_ms=now_ms(), sure_ms=device.engine.witnessed.now_ms()
        ),
        shift_ends=lambda: terms_of(device).on_duty_until_ms,
        removes=lambda: signing_out.removes(device.policy, home),
        over=lambda: signing_out.is_over(opened.profile, sure_ms=device.engine.witnessed.now_ms()),
        give_up=partial(signing_out.give_up, device, opened.profile),
    )


def _keep_light(home: Path, light: bool) -> None:
    """Let the next lock screen and the next desk here be as this one is."""
    with suppress(OSError):
        if light:
            (home / LIGHT).touch()
        else:
            (home / LIGHT).unlink(missing_ok=True)


def _profiles(home: Path, who: str | None) -> dict[str, Profile]:
    from client.connection import read

    found = {read(profile).device: profile for profile in profiles(home) if not profile.enrolling}
    return {
        device: profile
        for device, profile in found.items()
        if not who or who in (device, device.partition("/")[0])
    }


def end_with(seen: int) -> None:
    """End this process once the one that started it is gone, however it went.

    Args:
        seen: A pipe's end, whose other one that process holds and never writes to.
    """

    def watch() -> None:
        with suppress(OSError):
            os.read(seen, 1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ASKED_S)
        os._exit(LOCKED_STATUS)

    Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    end_with(int(sys.argv[3]))
    sys.exit(session(Path(sys.argv[1]), sys.argv[2] or None))
