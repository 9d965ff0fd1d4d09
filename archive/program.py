"""The program ``wardline-archive``: the authority's and the recorder's commands."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import segno
import typer

from archive import configuration, events, founding, installation
from archive.configuration import ConfigurationError, RelaySettings
from archive.errors import ArchiveError
from archive.founding import Plan
from archive.installation import Installation
from archive.running import serve
from crypto.errors import CryptoError
from crypto.names import Role

app = typer.Typer(
    help="Wardline's archive and authority: it records everything, and opens nothing.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigFile = Annotated[
    Path, typer.Option("--config", envvar="WARDLINE_ARCHIVE", help="The archive's TOML file.")
]
DEFAULT = Path("/etc/wardline/archive/archive.toml")


def now_ms() -> int:
    """Return this host's time in ms since the epoch."""
    return time.time_ns() // 1_000_000


def say(line: str = "") -> None:
    """Print a line for whoever runs the command."""
    sys.stdout.write(line + "\n")


def fail(reason: str) -> typer.Exit:
    """Say why a command did not do what it was asked, and return what ends it."""
    sys.stderr.write(f"wardline-archive: {reason}\n")
    return typer.Exit(1)


@contextmanager
def explaining() -> Iterator[None]:
    """End the command with one line on standard error where it fails."""
    try:
        yield
    except FileExistsError as error:
        raise fail(f"{error.filename or error} exists already; nothing was changed") from None
    except FileNotFoundError as error:
        raise fail(f"{error.filename or error} is missing") from None
    except (ConfigurationError, ArchiveError, CryptoError, OSError) as error:
        raise fail(str(error) or type(error).__name__) from None


@app.command()
def init(
    *,
    organisation: Annotated[str, typer.Option(help="What people call the organisation.")],
    relay: Annotated[str, typer.Option(help="The relay, host:port.")],
    pin: Annotated[str, typer.Option(help="SHA-256 of the relay's TLS key, hexadecimal.")],
    k: Annotated[int, typer.Option("--quorum", help="Officers who must agree to open.")] = 3,
    administrator: Annotated[
        list[str] | None, typer.Option(help="An administrator's user name; two of them.")
    ] = None,
    officer: Annotated[
        list[str] | None, typer.Option(help="An officer's user name; quorum + 2 at least.")
    ] = None,
    head: Annotated[
        str, typer.Option(help="File of the last checkpoint, best on another disk.")
    ] = "",
    witness: Annotated[str, typer.Option(help="The relay's witness key, where known.")] = "",
    config: ConfigFile = DEFAULT,
) -> None:
    """Found the organisation: root, archive, invitations for administrators and officers."""
    with explaining():
        host, _, port = relay.rpartition(":")
        if not port.isdecimal():
            raise ConfigurationError("--relay: host:port is wanted")
        settings = RelaySettings(host=host, port=int(port), pin=pin, witness=witness)
        plan = Plan(
            name=organisation,
            relay=settings,
            administrators=administrator or ["admin-1", "admin-2"],
            officers=officer or [f"officer-{number}" for number in range(1, k + 3)],
            k=k,
            head=head,
        )
        founded = founding.found(config, plan, now_ms=now_ms())
    say(f"root {founded.fingerprint.hex()}")
    say(f"configuration {founded.configuration}")
    say(f"for the relay {config.parent / founding.ROOT_FILE}")
    for user, link in founded.links.items():
        show_link(user, link)


def show_link(user: str, link: str) -> None:
    """Print a person's invitation as a text, and on a terminal as a code to scan as well."""
    say(f"invitation {user} {link}")
    if sys.stdout.isatty():
        segno.make_qr(link).terminal(out=sys.stdout, compact=True)


@app.command("recover-admin")
def recover_admin(
    user: Annotated[str, typer.Argument(help="User name of the new administrator.")],
    config: ConfigFile = DEFAULT,
) -> None:
    """Invite a new administrator where none is left; it is put on record by the next `run`."""
    with explaining():
        with installation.opened(config) as archive:
            authority = archive.authority
            if any(device.user == user for device in authority.trust.devices.values()):
                raise ConfigurationError(f"{user} has a device already: choose another name")
            at = configuration.address(archive.settings.relay)
            invited = authority.invite(user, [Role.ADMINISTRATOR], at=at, now_ms=now_ms())
        link = invited.link.encode()
        founding.write_link(config.parent / founding.INVITATIONS, user, link)
    show_link(user, link)


@app.command()
def run(config: ConfigFile = DEFAULT) -> None:
    """Record until SIGTERM: one connection outward, to the relay."""
    with explaining(), installation.opened(config) as archive:
        events.configure(archive.settings.log_level)
        asyncio.run(_run(archive))


async def _run(archive: Installation) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    work = asyncio.create_task(serve(archive))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not work.done():
        work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work


def main() -> None:
    """Run one command."""
    app()
