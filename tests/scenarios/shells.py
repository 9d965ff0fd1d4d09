"""Real programs of people: ``wardline shell`` processes on profiles of their own."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.client.openable import PIN
from tests.scenarios.desk import PASSWORD
from tests.shared import ROOT

WITHIN_S = 90.0
"""Patience with one command on a busy machine."""
PATIENCE_S = 80.0
"""What the program itself is told to wait for the relay."""
LOOK_S = 0.2
"""Seconds between two askings for what is on its way."""

Facts = dict[str, Any]


@dataclass
class Said:
    """What a command has said, and how it ended.

    Attributes:
        lines: What it printed.
        status: How it ended.
    """

    lines: list[str] = field(default_factory=list)
    status: int = -1

    @property
    def facts(self) -> Facts:
        """The object that it printed."""
        found: Facts = json.loads(self.lines[-1])
        return found


class Shell:
    """One person's ``wardline --json shell``."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    async def tells(self, *words: str) -> Said:
        """Do a command, and return what it says."""
        writer, reader = self._process.stdin, self._process.stdout
        assert writer is not None
        assert reader is not None
        line = shlex.join((*words, "--timeout", f"{PATIENCE_S:.0f}"))
        writer.write(f"{line}\n".encode())
        said = Said()
        async with asyncio.timeout(WITHIN_S):
            while True:
                line = (await reader.readline()).decode().rstrip("\n")
                assert line or not reader.at_eof(), self._log.read_text()
                if line.startswith('{"line":'):
                    said.status = json.loads(line)["exit"]
                    return said
                said.lines.append(line)

    async def does(self, *words: str) -> Facts:
        """Do a command that ends well, and return what it prints."""
        said = await self.tells(*words)
        assert said.status == 0, (words, said, self._log.read_text()[-500:])
        return said.facts

    async def until(self, holds: Callable[[Said], bool], *words: str) -> Said:
        """Ask again and again, until what is on its way has come."""
        async with asyncio.timeout(WITHIN_S):
            while not holds(said := await self.tells(*words)):  # noqa: ASYNC110 - another process's doing
                await asyncio.sleep(LOOK_S)
        return said

    async def end(self) -> None:
        """Let the program end, as a closed terminal does."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        await asyncio.wait_for(self._process.wait(), WITHIN_S)


@asynccontextmanager
async def shell(home: Path, *options: str) -> AsyncIterator[Shell]:
    """Start a person's program over the only profile in a folder."""
    secrets = home.with_name(f"{home.name}-secrets")
    secrets.mkdir()
    for name, text in (("pin", PIN), ("password", PASSWORD)):
        (secrets / name).write_text(text)
    log = secrets / "err"
    with log.open("wb") as err:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "client_cli",
            *("--json", "--home", str(home), "--pin-file", str(secrets / "pin")),
            *("--password-file", str(secrets / "password"), *options, "shell"),
            cwd=ROOT,
            env={**os.environ, "TZ": "UTC"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=err,
        )
    made = Shell(process, log)
    try:
        yield made
    finally:
        await made.end()
