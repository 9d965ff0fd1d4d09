"""The program ``wardline-relay``: init, run, check, backup, restore."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

import uvloop

from crypto.certificate import Root, fingerprint, pin_root
from crypto.errors import CryptoError
from crypto.note import SignerKey
from crypto.tls_certificate import create_tls_identity, tls_pin
from server import (
    checking,
    configuration,
    control,
    directory,
    events,
    http,
    secrets,
    sqlite_schema,
    witness,
)
from server.blobs import Blobs
from server.configuration import Configuration, ConfigurationError
from server.listener import Listener
from server.relay import Relay
from server.second_channel import Ways
from server.secrets import Secrets
from server.sqlite_backup import backup as backup_logs
from server.sqlite_store import SqliteStore
from server.store import StoreError
from server.tls import tls_context
from storage.files import create_private, sync_directory, write_private

DATABASE, SECRETS, BLOBS = "relay.db", "secrets.db", "attachments"
SECRETS_KEY, CERTIFICATE, KEY = "secrets.key", "tls.pem", "tls.key"
WITNESS_KEY, REPORT_KEY = "witness.key", "report.key"
"""Files of the data directory. Keys are in no backup. ``SECRETS_KEY`` is kept where keys are kept;
``WITNESS_KEY`` nowhere else, as a relay that has forgotten what it cosigned may not go on under the
same name; ``REPORT_KEY`` signs what ``check`` found."""

EXPIRY_LOOK_S = 60.0
"""Seconds between looks at what has expired."""

YOUNG_OBJECTS = 20_000
"""Objects from which Python's collector looks at the young ones by itself: what is under way on a
busy relay, where it would else look a hundred times a second and find that all of it is in use."""

COLLECT_S = 1.0
"""Seconds between its looks otherwise: what refers to itself is forgotten as soon as all else."""

WATCH_LOOK_S = 15.0
"""Seconds between looks at whether those on call can be woken."""

OUTDATED_LOOK_S = 60.0
"""Seconds between looks at whose certificate has ended while they were connected."""

ARCHIVE_LOOK_S = 5.0
"""Seconds between looks at how far behind the archive is."""


class Program:
    """One run of the program on one configuration file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.configuration: Configuration = configuration.read(path)
        self.data = configuration.resolve(path, self.configuration.data)
        self._despite_refusals = False

    # Files.

    def file(self, name: str) -> Path:
        """Return a file of the data directory."""
        return self.data / name

    def roots(self) -> list[Root]:
        """Return the roots of the organisations.

        Raises:
            ConfigurationError: One cannot be read, is no root, or is named twice.
        """
        found: dict[bytes, Root] = {}
        for settings in self.configuration.organisations:
            path = configuration.resolve(self._path, settings.root)
            try:
                der = path.read_bytes()
                root = pin_root(der, organisation=fingerprint(der))
            except OSError as error:
                raise ConfigurationError(f"{path}: {error.strerror}") from None
            except CryptoError:
                raise ConfigurationError(f"{path}: no root certificate in DER") from None
            if root.organisation in found:
                raise ConfigurationError(f"{path}: the same root twice")
            found[root.organisation] = root
        return list(found.values())

    def tls_files(self) -> tuple[Path, Path]:
        """Return the files of the TLS certificate and its key."""
        listen = self.configuration.listen
        if listen.certificate:
            resolve = configuration.resolve
            return resolve(self._path, listen.certificate), resolve(self._path, listen.key)
        return self.file(CERTIFICATE), self.file(KEY)

    def ways(self) -> Ways | None:
        """Return the ways of the second channel, where it is configured.

        Raises:
            ConfigurationError: Its file of contacts cannot be used.
        """
        settings = self.configuration.second_channel
        return None if settings is None else Ways.open(settings, configuration_file=self._path)

    def pin(self) -> bytes:
        """Return the pin of the TLS key that clients see.

        Raises:
            ConfigurationError: It cannot be read.
        """
        listen = self.configuration.listen
        try:
            if listen.behind_proxy:
                pin = bytes.fromhex(configuration.resolve(self._path, listen.pin_file).read_text())
            else:
                pin = tls_pin(self.tls_files()[0].read_bytes())
        except (OSError, ValueError, CryptoError):
            raise ConfigurationError("the TLS certificate or pin cannot be read") from None
        if len(pin) != 32:
            raise ConfigurationError("a pin has 32 bytes")
        return pin

    def witness_key(self) -> SignerKey:
        """Return the key with which the relay cosigns.

        Raises:
            ConfigurationError: It cannot be read.
        """
        try:
            return witness.read_key(self.file(WITNESS_KEY))
        except (OSError, ValueError, CryptoError):
            raise ConfigurationError("the witness key cannot be read") from None

    @property
    def logs(self) -> Path:
        """The file of the logs."""
        return self.file(DATABASE)

    @property
    def secret_files(self) -> tuple[Path, Path]:
        """The file of secrets, and that of its key."""
        return self.file(SECRETS), self.file(SECRETS_KEY)

    # Commands.

    def init(self) -> None:
        """Make the data directory and its files; refuse where one is there."""
        if self.file(SECRETS_KEY).exists():
            raise ConfigurationError(f"{self.data} is made already; nothing was changed")
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        secrets.create_key(self.file(SECRETS_KEY))
        secrets.create(self.file(SECRETS), self.file(SECRETS_KEY))
        witness.create_key(self.file(WITNESS_KEY))
        checking.create_key(self.file(REPORT_KEY))
        sqlite_schema.create(self.file(DATABASE))
        self.file(BLOBS).mkdir(mode=0o700)
        if not (self.configuration.listen.behind_proxy or self.configuration.listen.certificate):
            self._create_tls()
        self.tell()

    def _create_tls(self) -> None:
        identity = create_tls_identity("wardline-relay", at_ms=time.time_ns() // 1_000_000)
        for name, content in ((KEY, identity.key), (CERTIFICATE, identity.certificate)):
            write_private(self.file(name), content)

    def check(self, target: Path | None) -> bool:
        """Check the installation, print what was found, and tell whether all of it holds.

        Args:
            target: File that the report is written to as a signed note; ``None`` for no file.
        """
        self.tell()
        found = checking.report(self)
        for check in found.checks:
            say(check.line)
        if target is not None:
            key = checking.read_key(self.file(REPORT_KEY))
            target.write_bytes(found.sign(key).encode())
        return not found.failed

    def tell(self) -> None:
        """Print what clients and operators need, once every file is there."""
        for name in (DATABASE, SECRETS, SECRETS_KEY, WITNESS_KEY, REPORT_KEY):
            if not self.file(name).exists():
                raise ConfigurationError(f"{self.file(name)}: missing; run init first")
        if self.data.stat().st_mode & 0o077:
            raise ConfigurationError(f"{self.data}: others can enter it")
        say(f"pin {self.pin().hex()}")
        say(f"witness {self.witness_key().verifier.encode()}")
        say(f"reports {checking.read_key(self.file(REPORT_KEY)).verifier.encode()}")
        for root in self.roots():
            say(f"organisation {root.organisation.hex()}")

    def backup(self, target: Path) -> None:
        """Copy logs and secrets, both ciphertext, into a new directory; the relay may run on."""
        target.mkdir(mode=0o700)
        asyncio.run(self._backup_secrets(target / SECRETS))
        backup_logs(self.file(DATABASE), target / DATABASE)

    async def _backup_secrets(self, target: Path) -> None:
        kept = await Secrets.open(self.file(SECRETS), self.file(SECRETS_KEY))
        try:
            await kept.backup(target)
        finally:
            await kept.close()

    def restore(self, source: Path) -> None:
        """Put a backup into an empty data directory; it then asks the archive before it serves.

        Its witness key is a new one: the old one has signed what the backup does not know of.
        """
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in (DATABASE, SECRETS):
            create_private(self.file(name))
            with (source / name).open("rb") as old, self.file(name).open("wb") as new:
                shutil.copyfileobj(old, new)
                new.flush()
                os.fsync(new.fileno())
        witness.create_key(self.file(WITNESS_KEY))
        checking.create_key(self.file(REPORT_KEY))
        self.file(BLOBS).mkdir(mode=0o700)
        sync_directory(self.data)

    def run(self, *, despite_refusals: bool = False) -> None:
        """Serve until SIGTERM or SIGINT.

        Args:
            despite_refusals: Serve after a restore although something was refused of which the
                relay cannot tell whom it concerns: an operator has looked at it.

        Raises:
            ConfigurationError: Nothing was made in the data directory yet.
        """
        if not self.file(DATABASE).exists():
            raise ConfigurationError(f"{self.data}: no relay is there; init makes one")
        self._despite_refusals = despite_refusals
        events.configure(self.configuration.log_level)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        store = await SqliteStore.open(self.file(DATABASE))
        try:
            kept = await Secrets.open(self.file(SECRETS), self.file(SECRETS_KEY))
            try:
                await self._serve_with(store, kept, stop)
            finally:
                await kept.close()
        finally:
            await store.close()

    async def _serve_with(self, store: SqliteStore, kept: Secrets, stop: asyncio.Event) -> None:
        blobs = await Blobs.open(
            self.file(BLOBS), quota_bytes=self.configuration.storage.attachment_quota_bytes
        )
        relay = Relay(
            self.configuration,
            store=store,
            secrets=kept,
            blobs=blobs,
            pin=self.pin(),
            witness=self.witness_key(),
            despite_refusals=self._despite_refusals,
        )
        relay.second_channel = self.ways()
        try:
            await self._serve_relay(relay, stop)
        finally:
            await blobs.close()

    async def _serve_relay(self, relay: Relay, stop: asyncio.Event) -> None:
        for root in self.roots():
            facts = await relay.store.facts(directory.organisation_of(root))
            await relay.begin(directory.load(root, facts))
        await control.redo_orders(relay)
        tls = None if self.configuration.listen.behind_proxy else tls_context(*self.tls_files())
        listener = Listener(relay, http.application(relay), tls=tls)
        # The directory stays: no collection need go through it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS)
        port = await listener.start()
        events.tell("listening", listen=port, organisations=len(relay.organisations))
        upkeep = loop_tasks(relay)
        await stop.wait()
        events.tell("draining", connections=len(relay.keeper))
        await listener.drain()
        for task in upkeep:
            task.cancel()
        await relay.settled()
        events.tell("stopped")


def loop_tasks(relay: Relay) -> list[asyncio.Task[None]]:
    """Begin what runs now and then, and return the tasks."""
    return [
        asyncio.create_task(repeat(relay, collect, every_s=COLLECT_S)),
        asyncio.create_task(repeat(relay, relay.expire, every_s=EXPIRY_LOOK_S)),
        asyncio.create_task(repeat(relay, relay.end_outdated, every_s=OUTDATED_LOOK_S)),
        asyncio.create_task(repeat(relay, relay.look_at_archive, every_s=ARCHIVE_LOOK_S)),
        asyncio.create_task(repeat(relay, relay.pages.forget, every_s=EXPIRY_LOOK_S)),
        asyncio.create_task(repeat(relay, relay.watch.look, every_s=WATCH_LOOK_S)),
    ]


def collect() -> None:
    """Free what refers to itself and was made of late."""
    gc.collect(1)


async def repeat(relay: Relay, work: Callable[[], object], *, every_s: float) -> None:
    """Do ``work`` now and then; what failed this time, for whatever reason, is tried the next."""
    while True:
        await asyncio.sleep(every_s)
        try:
            done = work()
            if asyncio.iscoroutine(done):
                await done
        except StoreError as error:
            relay.count("upkeep_failures")
            events.warn("upkeep", error=type(error).__name__)
        except Exception as error:
            relay.count("faults")
            events.fault(error)


def say(line: str) -> None:
    """Print a line for whoever runs the command."""
    sys.stdout.write(line + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wardline-relay", description="Wardline's relay: it cannot read, and it forgets."
    )
    number = version("wardline")
    parser.add_argument("--version", action="version", version=f"wardline-relay {number}")
    parser.add_argument("--config", type=Path, default=Path("/etc/wardline/relay.toml"))
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init", help="make the data directory, keys and empty databases")
    run = commands.add_parser("run", help="serve until SIGTERM")
    run.add_argument(
        "--despite-refusals",
        action="store_true",
        help="after a restore, serve although something that may concern anybody was refused",
    )
    check = commands.add_parser("check", help="check files, keys, clock and databases; 1 if wrong")
    check.add_argument("--report", type=Path, help="file for what was found, as a signed note")
    backup = commands.add_parser("backup", help="copy logs and secrets (ciphertext) while serving")
    backup.add_argument("target", type=Path, help="a directory that does not exist yet")
    restore = commands.add_parser("restore", help="put a backup into an empty data directory")
    restore.add_argument("source", type=Path, help="a directory that backup has made")
    return parser


_COMMANDS: Mapping[str, Callable[[Program, argparse.Namespace], bool | None]] = MappingProxyType(
    {
        "init": lambda program, _: program.init(),
        "run": lambda program, arguments: program.run(despite_refusals=arguments.despite_refusals),
        "check": lambda program, arguments: program.check(arguments.report),
        "backup": lambda program, arguments: program.backup(arguments.target),
        "restore": lambda program, arguments: program.restore(arguments.source),
    }
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 1 where it failed or found something wrong."""
    parsed = _parser().parse_args(arguments)
    try:
        held = _COMMANDS[parsed.command](Program(parsed.config), parsed)
    except (ConfigurationError, StoreError, CryptoError, OSError) as error:
        sys.stderr.write(f"wardline-relay: {error}\n")
        return 1
    return 1 if held is False else 0
