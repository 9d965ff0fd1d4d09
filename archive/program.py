"""The program ``wardline-archive``: the authority's and the recorder's commands."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import json
import shutil
import signal
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import segno
import typer

from archive import (
    checking,
    configuration,
    copying,
    events,
    founding,
    installation,
    mirror_rows,
    uploads,
)
from archive.activity import activity
from archive.alarms import Alarm
from archive.configuration import ConfigurationError, RelaySettings
from archive.explaining import explaining
from archive.founding import Files, Plan
from archive.installation import Installation
from archive.intray import Intray, witnessed
from archive.log import LogFiles
from archive.mirror_store import COPY_FILE
from archive.proving import Proving, Trusted
from archive.running import serve
from archive.store import Store
from archive.verify import audit
from archive.watch import STATUS_FILE
from archive.wipe_proof import WIPE_VERIFIER, wipe_proof
from client.clocks import now_ms
from client.officer_book import LogPolicy
from crypto.certificate import DAY_MS, pin_root
from crypto.checkpoint import Checkpoint, verify_checkpoint, verify_cosignature
from crypto.merkle import EMPTY_ROOT
from crypto.names import Role
from protocol.identifiers import device_id

app = typer.Typer(
    help="Wardline's archive and authority: it records everything, and opens nothing.",
    epilog="Beside these: review, what k officers have released; mirror, a second machine's copy.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"wardline-archive {version('wardline')}")
        raise typer.Exit


@app.callback()
def root(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_say_version, help="Say which version this is."
        ),
    ] = False,
) -> None:
    """Read what holds for every command."""


ConfigFile = Annotated[
    Path, typer.Option("--config", envvar="WARDLINE_ARCHIVE", help="The archive's TOML file.")
]
STALE_MS = 15_000
"""Age, in ms, of what the running archive told last, from which it counts as not running."""

INSTANTS = {
    "at_ms": "at",
    "witnessed_ms": "witnessed_at",
    "cosigned_ms": "cosigned_at",
    "canary_opened_ms": "canary_opened_at",
}
"""Figures of the status that are times, and what they are called as people read them."""

SECOND_MS = 1000

DEFAULT = Path("/etc/wardline/archive/archive.toml")


def say(line: str = "") -> None:
    """Print a line for whoever runs the command."""
    sys.stdout.write(line + "\n")


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


@app.command()
def status(config: ConfigFile = DEFAULT) -> None:
    """Show how far the running archive is; exits 2 where an alarm stands or it does not run."""
    with explaining():
        settings = configuration.read(config)
        path = configuration.resolve(config, settings.data) / STATUS_FILE
        if not path.exists():
            say("NOT RUNNING: it has never run")
            raise typer.Exit(2)
        told = json.loads(path.read_text())
    age_ms = now_ms() - int(told["at_ms"])
    for name, value in told.items():
        if name != "alarms":
            say(_told(name, value))
    for name, count in told["alarms"].items():
        say(f"ALARM {name} ({count}): {Alarm[name].value}")
    if age_ms > STALE_MS:
        say(f"NOT RUNNING: last heard of {age_ms // 1000} s ago")
    if told["alarms"] or age_ms > STALE_MS:
        raise typer.Exit(2)


def _told(name: str, value: object) -> str:
    """Return a figure as a line; an instant as the time that it is at this host, with its zone."""
    if name not in INSTANTS:
        return f"{name} {value}"
    shown = "never"
    if value:
        at = datetime.fromtimestamp(int(str(value)) / SECOND_MS, UTC).astimezone()
        shown = at.isoformat(" ", "seconds")
    return f"{INSTANTS[name]} {shown}"


@app.command()
def check(
    target: Annotated[
        Path | None, typer.Option("--report", help="File for what was found, as a signed note.")
    ] = None,
    config: ConfigFile = DEFAULT,
) -> None:
    """Check configuration, keys, files and quorum, and show what others pin; exits 1 on a fault."""
    with explaining(), installation.opened(config) as archive:
        found = checking.report(archive, now_ms=now_ms())
        key = checking.report_key(config.parent)
        if target is not None:
            target.write_bytes(found.sign(key).encode())
        say(f"root {archive.organisation.hex()}")
    say(f"reports {key.verifier.encode()}")
    for one in found.checks:
        say(one.line)
    if found.failed:
        raise typer.Exit(1)


@app.command("activity")
def tell_activity(
    *,
    days: Annotated[int, typer.Option(help="Days back from now.")] = 7,
    zone: Annotated[str, typer.Option(help="Whose hours count: an IANA zone.")] = "UTC",
    as_csv: Annotated[bool, typer.Option("--csv", help="For a spreadsheet, not JSON.")] = False,
    config: ConfigFile = DEFAULT,
) -> None:
    """Tell what the last days were like: volume, response times, unanswered STAT, denials."""
    with explaining():
        files = founding.files_of(config, configuration.read(config))
        until_ms = now_ms()
        try:
            hours = ZoneInfo(zone)
        except (KeyError, ValueError):
            raise ConfigurationError(f"--zone: no zone {zone}") from None
        with contextlib.closing(Store(files.log.log, founding.database_key(files))) as store:
            found = activity(store, from_ms=until_ms - days * DAY_MS, until_ms=until_ms, zone=hours)
    facts = {"days": days, "zone": zone, "until_ms": until_ms, **found.facts()}
    if as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerows([facts.keys(), facts.values()])
    else:
        say(json.dumps(facts))


@app.command("wipe-proof")
def prove_wipe(
    device: Annotated[str, typer.Argument(help="The device: user/device.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder to write; it must not exist.")],
    config: ConfigFile = DEFAULT,
) -> None:
    """Write the proof of a device's wipe: order, states and receipt, which verify offline."""
    with explaining(), contextlib.ExitStack() as stack:
        settings = configuration.read(config)
        files = founding.files_of(config, settings)
        organisation = bytes.fromhex(settings.organisation)
        root = pin_root(
            (config.parent / founding.ROOT_FILE).read_bytes(), organisation=organisation
        )
        policy = LogPolicy(log=founding.log_key(config), witnesses=founding.witness_keys(config))
        store = Store(files.log.log, founding.database_key(files))
        stack.callback(store.close)
        proving = Proving(store=store, trusted=Trusted(root=root, policy=policy))
        proof = wipe_proof(proving, device_id(device))
        out.mkdir(mode=0o700)
        for name, data in proof.items():
            (out / name).write_bytes(data)
    say(f"{out}: python {out / WIPE_VERIFIER.name} verifies it")


@app.command()
def verify(
    copy: Annotated[
        Path | None, typer.Argument(help="A copy: a backup or a mirror. Default: the archive.")
    ] = None,
    config: ConfigFile = DEFAULT,
) -> None:
    """Verify a whole log: record, hash, proof, body, attachment; exits 1 where one is wrong."""
    with explaining(), tempfile.TemporaryDirectory(dir=config.parent) as place:
        files = founding.files_of(config, configuration.read(config))
        key = founding.database_key(files)
        last = _last_witnessed(config, files, key)
        log = copy_of(copy, Path(place), config, key)
        found = audit(log, database_key=key, log_key=founding.log_key(config), last=last)
        lacking: list[str] = []
        if not found.findings:
            with contextlib.closing(Store(log.log, key)) as store:
                beside = files.authority.parent if copy is None else copy
                lacking = uploads.missing(store, beside / uploads.FOLDER)
    say(f"records {found.size}")
    say(f"not yet signed {found.unsigned}")
    say(f"last witnessed {last.size}")
    for finding in found.findings:
        say(f"FINDING {finding.fault}{'' if finding.index is None else f' at {finding.index}'}")
    for name in lacking:
        say(f"FINDING attachment {name} is missing")
    if found.findings or lacking:
        raise typer.Exit(1)


def copy_of(given: Path | None, place: Path, config: Path, key: bytes) -> LogFiles:
    """Return the log to audit: a copy, so that the running archive is not disturbed."""
    files = founding.files_of(config, configuration.read(config))
    if given is not None and mirror_rows.is_copy(given):
        # Opened row by row: one that is not what was sent is found here, and named.
        unpacked = place / "unpacked"
        mirror_rows.unpack(given, unpacked, log_key=founding.log_key(config), key=key)
        given = unpacked
    log = LogFiles(log=place / founding.LOG_FILE, head=place / founding.HEAD_FILE)
    if given is None:
        copying.copy_head(files.log.head, log.head)
        copying.copy_log(files.log.log, log.log, key)
    else:
        # Byte for byte: what is damaged in it is what is asked.
        shutil.copy(given / founding.LOG_FILE, log.log)
        shutil.copy(given / founding.HEAD_FILE, log.head)
    return log


def _last_witnessed(config: Path, files: Files, key: bytes) -> Checkpoint:
    """Return the last checkpoint that a pinned witness cosigned; the empty one before any."""
    empty = Checkpoint(origin=founding.log_key(config).name, size=0, root=EMPTY_ROOT)
    intray = Intray(files.log.log, key)
    try:
        note = witnessed(intray.store)
    finally:
        intray.close()
    if note is None:
        return empty
    checkpoint = verify_checkpoint(note, founding.log_key(config))
    verify_cosignature(note, founding.witness_keys(config)[0])
    return checkpoint


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(help="A directory that does not exist yet.")],
    config: ConfigFile = DEFAULT,
) -> None:
    """Copy log, authority and letters, encrypted, while the archive runs; no live keys."""
    with explaining():
        files = founding.files_of(config, configuration.read(config))
        copying.backup(config.parent, files, founding.database_key(files), target)
    say(f"backup {target}; its key is {files.key}, keep it elsewhere")


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(help="A backup, or a mirror's directory.")],
    config: ConfigFile = DEFAULT,
) -> None:
    """Put a copy into an empty data directory; `run` then asks the witness before it signs."""
    with explaining(), tempfile.TemporaryDirectory(dir=config.parent) as place:
        files = founding.files_of(config, configuration.read(config))
        key = founding.database_key(files)
        if mirror_rows.is_copy(source):
            unpacked = Path(place) / "unpacked"
            mirror_rows.unpack(
                source, unpacked, log_key=founding.log_key(source / COPY_FILE), key=key
            )
            source = unpacked
        copying.restore(config.parent, files, source, key=key)
    say(f"restored {files.authority.parent}; start it with run")


def main() -> None:
    """Run one command."""
    app(prog_name="wardline-archive")
