"""The desk of a device that cannot go on: it was reported, or its store failed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from client.errors import ClosedError, FailedError, SuspendedError
from client.views import Change, ChangeKind
from client_cli.app import Ending
from protocol.errors import Code
from tests.client_cli.fake_ward import FakeWard, example_ward
from tests.client_cli.pilot import desk, flat, keys, shows, until


@pytest.fixture
def ward() -> FakeWard:
    return example_ward()


@pytest.mark.parametrize("error", [ClosedError(Code.REVOKED), SuspendedError()])
async def test_a_device_that_is_reported_locks_at_once(
    error: Exception, ward: FakeWard, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        raise error

    monkeypatch.setattr(ward, "run", run)
    async with desk(ward) as pilot:
        await until(pilot, lambda: pilot.app.return_value is Ending.LOCK)


async def test_who_connected_elsewhere_is_told_and_goes_on_reading(
    ward: FakeWard,
) -> None:
    async with desk(ward) as pilot:
        ward.status = replace(ward.status, online=False, shut_out=ClosedError(Code.REPLACED))
        for _ in range(2):
            ward.tell(Change(kind=ChangeKind.STATUS))
        await shows(pilot, "What is on this device can still be read.")
        await keys(pilot, "escape")
        assert "What is on this device" not in flat(pilot.app)
        assert pilot.app.return_value is None


async def test_a_store_that_failed_says_why_and_locks(
    ward: FakeWard, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        raise FailedError(full=True)

    monkeypatch.setattr(ward, "run", run)
    async with desk(ward) as pilot:
        await shows(pilot, "disk is full. Nothing is lost")
        await keys(pilot, "escape")
        await until(pilot, lambda: pilot.app.return_value is Ending.LOCK)
