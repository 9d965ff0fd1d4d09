"""The installation of the demo: relay, archive with authority, and everybody's devices."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import shutil
import socket
import time
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyotp

from demo.programs import COMMAND_S, HERE, LINE_BYTES, DemoError, Device, Host, Service, run
from demo.record import Record

ORGANISATION = "St. Elsewhere"
QUORUM = 2
TOTP_STEP_S = 30
TOTP_EARLY_S = 1.0
"""Seconds into a step before its code is taken: relay and demo read the same clock, not at once."""

LINK = re.compile(r"WARDLINE:[A-Z2-7]+")


@dataclass(kw_only=True)
class Person:
    """Somebody of the hospital, with what only that person has.

    Attributes:
        user: User name.
        name: As colleagues say it.
        ward: Where the person works.
        folder: The person's own: profile, PIN and password.
        host: Where the person's programs run.
        totp: Secret of the one-time codes.
    """

    user: str
    name: str
    ward: str
    folder: Path
    host: Host = HERE
    totp: str = field(default="", repr=False)
    _last_step: int = 0

    @property
    def home(self) -> Path:
        """Where the person's profiles are."""
        return self.folder / "home"

    @property
    def pin_file(self) -> Path:
        """The person's PIN, as a script has it."""
        return self.folder / "pin"

    @property
    def password_file(self) -> Path:
        """The person's password, as a script has it."""
        return self.folder / "password"

    @property
    def options(self) -> tuple[str | Path, ...]:
        """What every command of this person begins with."""
        files = ("--pin-file", self.pin_file, "--password-file", self.password_file)
        return ("--home", self.home, *files, "--json")

    def settle_in(self) -> None:
        """Draw PIN and password, and write them where only this account reads them."""
        self.folder.mkdir(mode=0o700, parents=True)
        for file, text in (
            (self.pin_file, f"{secrets.randbelow(10**6):06}"),
            (self.password_file, secrets.token_urlsafe(16)),
        ):
            file.touch(mode=0o600)
            file.write_text(text)

    async def code(self) -> str:
        """Return a one-time code that was not used yet; waits where this step's was."""
        now_s = time.time() - TOTP_EARLY_S
        step = max(int(now_s // TOTP_STEP_S), self._last_step + 1)
        await asyncio.sleep(max(0.0, step * TOTP_STEP_S - now_s))
        self._last_step = step
        return str(pyotp.TOTP(self.totp).at(step * TOTP_STEP_S))

    async def enrol(self, link: str, device: str = "phone") -> None:
        """Make a device of this person, by an invitation's link.

        Raises:
            DemoError: The program refuses, or takes too long.
        """
        arguments = (*self.options, "enroll", "-", "--device", device)
        process = await self.host.start(
            "wardline", *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        try:
            async with asyncio.timeout(COMMAND_S):
                await self._talk(process, link)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _talk(self, process: asyncio.subprocess.Process, link: str) -> None:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            return
        process.stdin.write(link.encode() + b"\n")
        async for line in process.stdout:
            said = json.loads(line)
            if "totp_secret" in said:
                self.totp = said["totp_secret"] or self.totp
                process.stdin.write((await self.code()).encode() + b"\n")
            elif "device" in said:
                break
        if await process.wait():
            text = (await process.stderr.read()).decode(errors="replace")
            raise DemoError(f"{self.user} cannot enrol: {text[-600:]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where each program of a hospital runs; for the demo, all on this machine's loopback.

    Attributes:
        relay: The relay's host.
        archive: The archive's host.
        people: Hosts of people's devices by user name; who is missing has the relay's.
        listen: Address on which the relay listens.
        address: Address under which everybody reaches it.
        port: Its port; 0 for one that is free.
    """

    relay: Host = HERE
    archive: Host = HERE
    people: Mapping[str, Host] = field(default_factory=dict)
    listen: str = "127.0.0.1"
    address: str = "127.0.0.1"
    port: int = 0


class Hospital:
    """Everything that runs, and where it keeps what it has.

    Attributes:
        folder: All of it.
        site: Where it runs.
        record: What was given to the programs, and what they answered.
        people: Everybody by user name.
        devices: Running devices by user name.
        invitations: Links that were given out and not used yet, by user name.
    """

    device_type: type[Device] = Device

    def __init__(
        self, folder: Path, site: Site | None = None, record: Record | None = None
    ) -> None:
        self.folder = folder
        self.site = site or Site()
        self.record = record or Record()
        self.people: dict[str, Person] = {}
        self.devices: dict[str, Device] = {}
        self.invitations: dict[str, str] = {}
        self.port = self.site.port or _free_port()
        self.relay = Service(
            *("wardline-relay", "--config", self.relay_file, "run"),
            log=folder / "relay.log",
            host=self.site.relay,
            record=self.record,
        )
        self.archive = Service(
            *("wardline-archive", "run", "--config", self.archive_file),
            log=folder / "archive.log",
            host=self.site.archive,
            record=self.record,
        )
        self._exit = AsyncExitStack()

    @property
    def relay_file(self) -> Path:
        """The relay's configuration."""
        return self.folder / "relay" / "relay.toml"

    @property
    def relay_data(self) -> Path:
        """What the relay has on disk."""
        return self.folder / "relay" / "data"

    @property
    def archive_file(self) -> Path:
        """The archive's configuration."""
        return self.folder / "archive" / "archive.toml"

    def person(self, user: str, *, name: str = "", ward: str = "") -> Person:
        """Return a new person of the hospital, with PIN and password."""
        folder = self.folder / "people" / user
        host = self.site.people.get(user, self.site.relay)
        made = Person(user=user, name=name, ward=ward, folder=folder, host=host)
        made.settle_in()
        self.people[user] = made
        return made

    # Founding, as docs/operations.md says it.

    async def found(self, *, administrators: list[str], officers: list[str]) -> None:
        """Make relay and archive, and get the first invitations."""
        self.relay_file.parent.mkdir(parents=True, exist_ok=True)
        self._configure_relay(organisations="[]")
        init = ("wardline-relay", "--config", self.relay_file, "init")
        said = await run(*init, host=self.site.relay)
        pin = re.search(r"^pin ([0-9a-f]{64})$", said, re.MULTILINE)
        if pin is None:
            raise DemoError(f"wardline-relay init tells no pin: {said}")
        self.archive_file.parent.mkdir(mode=0o700, exist_ok=True)
        said = await run(
            "wardline-archive",
            "init",
            *("--organisation", ORGANISATION, "--relay", f"{self.site.address}:{self.port}"),
            *("--pin", pin[1], "--quorum", str(QUORUM)),
            *(part for user in administrators for part in ("--administrator", user)),
            *(part for user in officers for part in ("--officer", user)),
            *("--config", self.archive_file),
            host=self.site.archive,
        )
        for line in said.splitlines():
            match line.split():
                case ["invitation", user, link]:
                    self.invitations[user] = link
                case ["for", "the", "relay", root]:
                    shutil.copyfile(root, self.relay_file.parent / "root.der")
        self._configure_relay(organisations='[{ root = "root.der" }]')

    def _configure_relay(self, *, organisations: str) -> None:
        self.relay_file.write_text(
            f'data = "data"\norganisations = {organisations}\n\n'
            f'[listen]\nhost = "{self.site.listen}"\nport = {self.port}\n'
        )

    async def serve(self) -> None:
        """Start relay and archive."""
        await self.relay.start(lambda said: '"listening"' in said)
        self._exit.push_async_callback(self.relay.stop)
        await self.archive.start(lambda said: '"connected"' in said)
        self._exit.push_async_callback(self.archive.stop)

    # People.

    async def enrol(self, *users: str) -> None:
        """Enrol people by the invitations that they were given, two at a time."""
        places = asyncio.Semaphore(2)

        async def one(user: str) -> None:
            async with places:
                await self.people[user].enrol(self.invitations.pop(user))

        await asyncio.gather(*map(one, users))

    async def turn_on(self, *users: str) -> None:
        """Start people's devices."""
        places = asyncio.Semaphore(3)

        async def one(user: str) -> None:
            async with places:
                person = self.people[user]
                device = self.device_type(
                    *(user, person.home, person.pin_file),
                    log=person.folder / "device.log",
                    host=person.host,
                    record=self.record,
                )
                self.devices[user] = device
                self._exit.push_async_callback(device.stop)
                await device.start()

        await asyncio.gather(*map(one, users))

    def console(self, user: str) -> Console:
        """Return somebody's shell, for an administrator or an officer at work."""
        return Console(self.people[user], self.record)

    async def shut(self) -> None:
        """End everything, the devices first."""
        await self._exit.aclose()


class Console:
    """An administrator at work: ``wardline shell``, a command a line, one code for all."""

    def __init__(self, person: Person, record: Record) -> None:
        self._person = person
        self._record = record
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Console:
        """Open the shell."""
        self._process = await self._person.host.start(
            "wardline",
            *self._person.options,
            "shell",
            stdin=PIPE,
            stdout=PIPE,
            stderr=STDOUT,
            limit=LINE_BYTES,
        )
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Close it."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()

    async def do(self, line: str, *, code: bool = False) -> dict[str, Any]:
        """Run one command, and return the JSON that it prints.

        Args:
            line: The command, as it would stand behind ``wardline``.
            code: Whether it is an act that may ask for a one-time code.

        Raises:
            DemoError: It failed.
        """
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise DemoError("the shell is not open")
        given = f"{line} --code {await self._person.code()}" if code else line
        self._record.add(self._person.user, gave=line)
        process.stdin.write(f"{given} --json\n".encode())
        said: dict[str, Any] = {}
        try:
            async with asyncio.timeout(COMMAND_S):
                while "line" not in (heard := json.loads(await process.stdout.readline() or "{}")):
                    said = heard or said
                    self._record.add(self._person.user, heard=heard)
                    if process.stdout.at_eof():
                        raise DemoError(f"{self._person.user}: {line.split()[:2]}: {said}")
        except (TimeoutError, json.JSONDecodeError) as error:
            raise DemoError(f"{self._person.user}: {line}: {type(error).__name__}") from None
        if heard["exit"]:
            raise DemoError(f"{self._person.user}: {line}: {said}")
        return said


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
