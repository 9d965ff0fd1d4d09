"""Devices that are connected and say nothing, on one process: as many as ``make promises`` says."""

from __future__ import annotations

import asyncio
import os
import resource
from pathlib import Path

import pytest

from protocol import frames
from tests.scenarios.process import serving
from tests.server import harness

IDLE = int(os.environ.get("WARDLINE_IDLE", "0")) or 200
AT_ONCE = 50
CONNECTION_BYTES = 64 * 1024
"""Memory that one idle connection with TLS may cost the relay: half of it is OpenSSL's."""


@pytest.fixture
def many_files() -> None:
    """Allow this process and its children as many sockets as the test needs."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The relay is a process of its own, and each of the two holds its ends of the connections.
    wanted = IDLE + 500
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.fail(f"the limit of open files is {hard}, {wanted} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@pytest.mark.usefixtures("many_files")
async def test_idle_connections_cost_little_and_each_is_reached(tmp_path: Path) -> None:
    of = harness.hospital()
    people = [of.enrol(f"user{number}/phone") for number in range(IDLE)]
    async with serving(tmp_path / "relay", of) as at:
        before = at.resident_bytes()
        clients = []
        for first in range(0, IDLE, AT_ONCE):
            some = people[first : first + AT_ONCE]
            clients += await asyncio.gather(*(at.opened(person) for person in some))
        assert at.resident_bytes() - before < IDLE * CONNECTION_BYTES + (16 << 20)
        for client in clients:
            found = await client.answer(lambda ref: frames.Lookup(ref=ref, users=("user0",)))
            assert isinstance(found, frames.Directory)
        for client in clients:
            client.socket.transport.abort()
