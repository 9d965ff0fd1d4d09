"""The relay's real process: installed by its own commands, started, killed, reached over TLS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from crypto.tls_certificate import tls_pin
from protocol import frames
from server.__main__ import FORGETTING
from tests.server.harness import Client, Hospital, Person

START_S = 60.0
"""Seconds in which a relay must be listening, also on a machine that is busy."""

STOP_S = 60.0
"""Seconds in which a relay must have ended once it was asked to: its own limit, and some."""

PROGRAM = Path(sys.executable).with_name("wardline-relay")

FAST = {
    "messages": 1e5,
    "commits": 1e4,
    "requests": 1e4,
    "claims": 1e4,
    "connections": 1e4,
    "secrets": 1e3,
    "personal": 1e3,
    "kept_bytes": 1e9,
}


def _toml(values: Mapping[str, object]) -> str:
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


class Program:
    """A program's process, which is started, ended and killed.

    Attributes:
        log: Where it writes.
        process: The one that runs.
        environment: What it is started with beside the test's own environment.
    """

    def __init__(self, log: Path) -> None:
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}

    def spawn(self, *arguments: str | Path) -> int:
        """Start the process, and return where in the log its words begin."""
        assert self.process is None
        with self.log.open("ab") as log:
            said = log.tell()
            self.process = subprocess.Popen(arguments, env=self.inherited(), stdout=log, stderr=log)
        return said

    def inherited(self) -> dict[str, str]:
        """Return the environment that processes are started with."""
        inherited = {k: v for k, v in os.environ.items() if k not in FORGETTING}
        return {**inherited, **self.environment}

    @property
    def pid(self) -> int:
        """Process id of what runs."""
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """End the process as a power cut would, between two instructions."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(STOP_S)
        self.process = None

    async def stop(self) -> int:
        """Ask the process to end, and return its exit status."""
        assert self.process is not None
        process, self.process = self.process, None
        process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(process.wait, STOP_S)


class Installation(Program):
    """A relay's folder with configuration, root and data, and the process that runs on it."""

    def __init__(self, folder: Path, of: Hospital, **storage: int) -> None:
        super().__init__(folder / "relay.log")
        self.folder = folder
        self.hospital = of
        self.data = folder / "data"
        self.port = 0
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "root.der").write_bytes(of.root.der)
        (folder / "relay.toml").write_text(
            'data = "data"\nlog_level = "DEBUG"\n'
            '[[organisations]]\nroot = "root.der"\n'
            '[listen]\nhost = "127.0.0.1"\nport = 0\n'
            f"[rates]\n{_toml(FAST)}[storage]\n{_toml(storage)}"
        )

    # Its commands.

    def command(self, *arguments: str) -> str:
        """Run one of the program's commands to its end, and return what it prints."""
        ended = subprocess.run(
            [PROGRAM, "--config", self.folder / "relay.toml", *arguments],
            env=self.inherited(),
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    async def start(self) -> None:
        """Start the process and wait until it listens."""
        self.port = await self._listening(self._spawn())

    def _spawn(self) -> int:
        return self.spawn(PROGRAM, "--config", self.folder / "relay.toml", "run")

    async def _listening(self, said: int) -> int:
        assert self.process is not None
        ends_s = time.monotonic() + START_S
        while time.monotonic() < ends_s and self.process.poll() is None:
            for line in self.log.read_bytes()[said:].splitlines():
                if b'"listening"' in line:
                    return int(json.loads(line)["listen"])
            await asyncio.sleep(0.02)
        raise AssertionError(self.log.read_text()[-2000:])

    # Reaching it.

    async def socket(self, **options: Any) -> ClientConnection:
        """Connect over TLS; whether the key is the right one is compared when devices prove."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        settings: dict[str, Any] = {
            "compression": None,
            "max_size": None,
            "max_queue": None,
            "ping_interval": None,
            "close_timeout": 1,
            "proxy": None,
        }
        address = f"wss://127.0.0.1:{self.port}/v1/stream"
        return await connect(address, ssl=context, **{**settings, **options})

    async def greeted(self, person: Person, **options: Any) -> Client:
        """Return a client that has greeted, on a connection to the key that the relay signs for."""
        client = Client(await self.socket(**options), person, self.hospital)
        await client.greet()
        assert client.challenge is not None
        assert client.challenge.pin == self._pin_of(client.socket)
        return client

    def _pin_of(self, socket: ClientConnection) -> bytes:
        session: ssl.SSLObject = socket.transport.get_extra_info("ssl_object")
        assert session.version() == "TLSv1.3"
        der = session.getpeercert(binary_form=True)
        assert der is not None
        return tls_pin(ssl.DER_cert_to_PEM_cert(der).encode())

    async def opened(self, person: Person, **options: Any) -> Client:
        """Return a client that the relay serves."""
        client = await self.greeted(person, **options)
        opened = await client.prove()
        assert isinstance(opened, frames.Opened), opened
        client.token = opened.token
        return client

    # Looking into it.

    def files(self) -> dict[str, bytes]:
        """Return everything that the relay has on disk, its log included."""
        found = {}
        for path in (self.log, *self.data.rglob("*")):
            # The relay may let go of one meanwhile.
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                found[str(path.relative_to(self.folder))] = path.read_bytes()
        return found

    def runs_with(self) -> dict[str, str]:
        """Return the environment of the process that serves."""
        given = Path(f"/proc/{self.pid}/environ").read_text().split("\0")
        return dict(one.split("=", 1) for one in given if one)

    def resident_bytes(self) -> int:
        """Return the memory that the process has in use."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) * 1024


@asynccontextmanager
async def installed(folder: Path, of: Hospital, **storage: int) -> AsyncIterator[Installation]:
    """Install a relay that is not started yet; end its process afterwards, however it stands."""
    made = Installation(folder, of, **storage)
    made.command("init")
    try:
        yield made
    finally:
        if made.process is not None:
            made.kill()


@asynccontextmanager
async def serving(folder: Path, of: Hospital, **storage: int) -> AsyncIterator[Installation]:
    """Install a relay and start it."""
    async with installed(folder, of, **storage) as made:
        await made.start()
        yield made
