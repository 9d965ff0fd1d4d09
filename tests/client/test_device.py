"""Devices as their people use them, over a relay."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.group_context import ConversationType
from tests.client.devices import ward
from tests.server.harness import Hospital, hospital


@pytest.fixture
def of() -> Hospital:
    return hospital()


async def test_two_people_talk(tmp_path: Path, of: Hospital) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        conversation = await here.talk("ann/phone", "bob/phone", kind=ConversationType.DIRECT)
        await here["ann/phone"].say(conversation, "bed 4 is free")
        await here["bob/phone"].sees(conversation, "bed 4 is free")
        await here["bob/phone"].say(conversation, "thank you")
        await here["ann/phone"].sees(conversation, "thank you")
        for name in ("ann/phone", "bob/phone"):
            assert here[name].device.status.faults == 0
