"""Commands run in this process, over a device that is none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from client_cli import session
from client_cli.program import main
from client_cli.session import Settings
from tests.client_cli.fake_device import FakeDevice


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        return json.loads(self.err.splitlines()[-1])


Run = Callable[..., Ended]


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    """Return the device that every command opens."""
    fake = FakeDevice()

    @asynccontextmanager
    async def running(_options: Settings) -> AsyncIterator[tuple[FakeDevice, asyncio.Task[None]]]:
        task = asyncio.create_task(fake.run())
        try:
            yield fake, task
        finally:
            task.cancel()
            fake.close()

    monkeypatch.setattr(session, "running", running)
    return fake


@pytest.fixture
def run(device: FakeDevice, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs a command line."""

    def command(*arguments: str) -> Ended:
        capsys.readouterr()
        status = main(arguments)
        out, err = capsys.readouterr()
        return Ended(status=status, out=out, err=err)

    return command
