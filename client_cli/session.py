"""From a command line to an open device: which profile, its PIN, and the connection.

Nothing heavy is imported until a command needs it: help and completion start at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import typer

from client.clocks import now_ms
from client_cli.output import CommandError, Exit, Printer, warn
from client_cli.shell import Current

if TYPE_CHECKING:
    from client.device import Device
    from client.link import Link
    from client.profile import Profile
    from client.unlocking import Opened

T = TypeVar("T")

TIMEOUT_S = 20.0
"""Seconds that a command waits for the relay: a handshake, a share and a day's messages."""


OBEY_TRIES = 3
"""How often a device that was shut out asks for its order; each try waits some seconds for it."""


NOT_OUT = (
    "There is a connection, but not all has gone out yet: it waits for the other person's device "
    "to have been on, or for the archive. It is kept on this device and goes out by itself; do not "
    "send it again. See: wardline status"
)
"""What is said of what waits although the relay is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What stands before or after every command.

    Attributes:
        home: Where profiles are.
        who: Whose profile, ``user`` or ``user/device``; the only one where None.
        pin_file: File with the PIN; asked for where None.
        password_file: File with the password; asked for where None.
        code: One-time code; asked for where None.
        as_json: Whether a program reads.
        offline: Whether nothing is to be connected.
        timeout_s: Seconds to wait for the relay.
    """

    home: Path
    who: str | None = None
    pin_file: Path | None = None
    password_file: Path | None = None
    code: str | None = None
    as_json: bool = False
    offline: bool = False
    timeout_s: float = TIMEOUT_S

    @property
    def printer(self) -> Printer:
        """What prints for this command."""
        return Printer(self.as_json)

    def within(self, shell: Settings) -> Settings:
        """Return these, and the shell's where a command over its device says nothing."""
        return replace(
            self,
            password_file=self.password_file or shell.password_file,
            as_json=self.as_json or shell.as_json,
        )

    def pin(self) -> str:
        """Return the PIN, from its file or the keyboard."""
        return secret("PIN", self.pin_file, option="--pin-file")

    def password(self) -> str:
        """Return the password, from its file or the keyboard."""
        return secret("Password", self.password_file, option="--password-file")

    def one_time_code(self) -> str:
        """Return the one-time code, from the command line or the keyboard."""
        return self.code or secret("One-time code", None, option="--code")


def settings(context: typer.Context) -> Settings:
    """Return the settings that the root command has read."""
    return cast("Settings", context.find_root().obj)


def secret(what: str, file: Path | None, *, option: str) -> str:
    """Return a secret from a file, or from the keyboard without showing it.

    Raises:
        CommandError: The file cannot be read, or there is no keyboard to ask at.
    """
    if file is not None:
        try:
            return file.read_text().rstrip("\r\n")
        except OSError as error:
            text = f"{file} cannot be read ({error.strerror}). It should hold the {what}."
            raise CommandError(Exit.USAGE, "no_secret", text) from None
    if not sys.stdin.isatty():
        text = f"Nobody is there to type the {what}. Give it with {option}."
        raise CommandError(Exit.USAGE, "no_secret", text)
    return getpass.getpass(f"{what}: ")


def choose(options: Settings) -> Profile:
    """Return the profile that a command is for.

    Raises:
        CommandError: There is none, or several and none was named.
    """
    from client.connection import read
    from client.profile import profiles

    found = {read(profile).device: profile for profile in profiles(options.home)}
    wanted = {
        device: profile
        for device, profile in found.items()
        if options.who is None or options.who in (device, device.partition("/")[0])
    }
    if len(wanted) == 1:
        return next(iter(wanted.values()))
    if not found:
        text = "No device is enrolled here yet. Run: wardline enroll LINK"
        raise CommandError(Exit.UNKNOWN, "no_profile", text)
    text = f"Say whose device: --as one of {', '.join(sorted(wanted or found))}"
    raise CommandError(Exit.UNKNOWN, "which_profile", text)


async def unlocked(options: Settings) -> Opened:
    """Return the opened store of the chosen profile, and what it connects with.

    Wipes that were interrupted are finished first, and one that waits for the device is followed.

    Raises:
        WipingError: The device was wiped just now.
        SuspendedError: It is suspended, and has no order to wipe it.
    """
    from client import wiping
    from client.errors import WipingError, WithheldError
    from client.unlocking import unlock

    await wiping.resume(options.home, clock=now_ms)
    await _remove_ended(options.home)
    profile = choose(options)
    try:
        return await unlock(profile, options.pin(), now_ms=now_ms())
    except WithheldError:
        await wiping.obey(profile, clock=now_ms)
        raise WipingError from None


async def _remove_ended(home: Path) -> None:
    """Remove the stores of those whose shift is over, by this machine's clock and the relay's."""
    from client.signing_out import remove_ended, witness_of_ended
    from client.witnessed import Witnessed

    relay = witness_of_ended(home, now_ms=now_ms())
    if relay is not None:
        witnessed = Witnessed(now_ms)
        await witnessed.ask(relay)
        remove_ended(home, sure_ms=witnessed.now_ms())


async def _living(device: Device, opened: Opened) -> None:
    """Let a device run; once the relay will not have it again, follow the order that explains it.

    Raises:
        WipingError: The device was wiped.
        SuspendedError: It is suspended, and no order to wipe it has come.
        ClosedError: The relay will not have it for another reason.
    """
    from client import wiping
    from client.errors import ClosedError, LinkError, SuspendedError, WipingError
    from client.words import Code

    try:
        await device.run()
    except ClosedError as closed:
        if closed.code is not Code.REVOKED:
            raise
        device.close()
        # An order comes in two steps: the first suspends, the authority's signature completes it.
        for _ in range(OBEY_TRIES):
            with contextlib.suppress(SuspendedError, LinkError):
                await wiping.obey(opened.profile, clock=now_ms)
                raise WipingError from None
        raise SuspendedError from None


def _obeying(opened: Opened) -> Callable[[Link], Awaitable[None]]:
    """Return what follows a wipe order that comes while the store is open; the program then ends.

    A suspension without an order ends it too: the process that held the keys does not stay.
    """

    async def obey(link: Link) -> None:
        from client.errors import WipingError
        from client.wiping import carry_out

        await carry_out(link, opened.profile, clock=now_ms, store=opened.store)
        raise WipingError

    return obey


@asynccontextmanager
async def running(options: Settings) -> AsyncIterator[tuple[Device, asyncio.Task[None]]]:
    """Open the chosen device and let it run while the command does its work."""
    from client.connection import renew
    from client.device import Device
    from client.governing import govern, leave

    opened = await unlocked(options)
    device = Device.over(
        opened.store,
        credentials=opened.credentials,
        address=opened.address,
        clock=now_ms,
        files=opened.profile.files,
        on_ordered=_obeying(opened),
        on_certificate=partial(renew, opened.profile),
    )
    task = asyncio.create_task(_living(device, opened))
    try:
        yield device, task
        # With what was heard meanwhile of policy and roster.
        sure_ms = device.engine.witnessed.now_ms()
        govern(device, opened.profile, now_ms=now_ms(), sure_ms=sure_ms)
    finally:
        task.cancel()
        # What ended it early has been raised by then, where anybody waited for it.
        await asyncio.wait([task])
        leave(device, opened.profile)
        device.close()


def with_device(
    context: typer.Context,
    work: Callable[[Device], Awaitable[T]],
    *,
    must_connect: bool = True,
) -> T:
    """Open the device, do ``work`` with it, close it, and return what came of it.

    Args:
        context: The command's.
        work: What to do.
        must_connect: Whether it is for nothing without the relay; else the device's own store
            serves, and a line says so.
    """
    options = settings(context)
    if Current.shared is not None:
        return cast("T", Current.shared.do(work))

    async def worked() -> T:
        async with running(options) as (device, task):
            if must_connect or not options.offline:
                await connected(device, task, options=options, must_connect=must_connect)
            return await done(work, device, task)

    return asyncio.run(worked())


async def done(
    work: Callable[[Device], Awaitable[T]], device: Device, task: asyncio.Task[None]
) -> T:
    """Return what ``work`` gives; what has not gone out although there is a connection is said so.

    Raises:
        CommandError: It has not gone out in the time that was given.
    """
    from client.errors import NotOutError

    try:
        return await unless_ended(work(device), task)
    except NotOutError:
        if not device.status.online:
            raise
        raise CommandError(Exit.UNREACHABLE, "not_out", NOT_OUT) from None


async def connected(
    device: Device, task: asyncio.Task[None], *, options: Settings, must_connect: bool
) -> None:
    """Return once the device is up to date; without the relay only where it is not needed.

    Raises:
        NotConnectedError: It is needed, and not reached in time.
    """
    from client.errors import NotConnectedError

    try:
        await unless_ended(device.online(options.timeout_s), task)
        if device.identity(device.me) is None:
            # What this device signs is verified by itself too, before it goes out.
            await unless_ended(device.look_up([device.user]), task)
    except NotConnectedError:
        if must_connect:
            raise
        warn("No connection: this is what the device has from before.")


async def unless_ended(work: Awaitable[T], task: asyncio.Task[None]) -> T:
    """Return what ``work`` gives; raise why the device has ended, where that comes first."""
    doing = asyncio.ensure_future(work)
    try:
        await asyncio.wait([doing, task], return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            task.result()
        return await doing
    finally:
        doing.cancel()
