"""What sounds at a device: what the relay lets alert its person, and nothing in their quiet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client import oncall_admin
from client.views import Change, ChangeKind
from protocol.authenticated_data import Priority
from protocol.content import Text
from tests.client.devices import Running, ward
from tests.server.harness import HOUR_MS, hospital, now_ms


async def leave_in_peace(running: Running, *, hours: str, until_ms: int | None) -> None:
    """Ask for quiet, as ``wardline duty quiet`` does."""
    device = running.device
    request = oncall_admin.quiet_hours(
        device.on_call, device.user, zone="UTC", hours=hours, until_ms=until_ms
    )
    await device.statements.request(request.encode())


def around_now() -> str:
    """Return quiet hours that have begun and do not end soon."""
    now = datetime.now(UTC)
    begin, end = (now + timedelta(hours=ahead) for ahead in (-2, 3))
    return f"{begin:%H}:00-{end:%H}:00"


@pytest.mark.parametrize("by_hours", [True, False], ids=["quiet hours", "do not disturb"])
async def test_a_device_is_silent_in_its_persons_quiet_and_shows_what_came_as_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, by_hours: bool
) -> None:
    async with ward(tmp_path, hospital(), "ann/phone", "bob/phone") as here:
        ann, bob = here["ann/phone"], here["bob/phone"]
        conversation = await here.talk("ann/phone", "bob/phone")
        sounded: list[Priority | None] = []
        tell = bob.engine.changes.tell

        def told(*changes: Change) -> None:
            sounded.extend(one.priority for one in changes if one.kind is ChangeKind.ALERT)
            tell(*changes)

        monkeypatch.setattr(bob.engine.changes, "tell", told)

        async def say(text: str) -> None:
            await ann.device.send(conversation, Text(text=text), priority=Priority.URGENT)
            await bob.sees(conversation, text)

        await say("before")
        await bob.until(lambda: sounded == [Priority.URGENT])
        hours, until_ms = (around_now(), None) if by_hours else ("", now_ms() + HOUR_MS)
        await leave_in_peace(bob, hours=hours, until_ms=until_ms)
        await say("in peace")
        await bob.until(lambda: bob.device.summary(conversation).held == 1)
        assert sounded == [Priority.URGENT]
        assert bob.device.summary(conversation).unread == 2
