"""Stories about clocks that are wrong for a while, each on the simulation's own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from client.device import Device
from client.views import Shown
from client.words import Text
from protocol.group_context import ConversationType
from protocol.identifiers import ConversationId, UserName
from tests.simulation.clock import virtual_time
from tests.simulation.world import ARCHIVE, World, installed
from tests.waiting import comes_true

HOUR_MS = 3_600_000
AGAIN_S = 120.0
"""Seconds, of the run, within which it is said again."""


def play(story: Callable[[World], Awaitable[None]]) -> None:
    async def played(world: World) -> None:
        try:
            await world.begin()
            await story(world)
        finally:
            await world.end()

    with virtual_time() as loop, installed(random.Random(1)) as world:
        loop.run_until_complete(played(world))
        assert not world.crashes


def said(device: Device, conversation: ConversationId) -> list[Shown]:
    shown = device.messages(conversation, limit=9)
    return [one for one in shown if isinstance(one.content, Text)]


@pytest.mark.parametrize("wrong_ms", [HOUR_MS, -HOUR_MS])
def test_what_an_archive_signed_by_a_wrong_clock_is_said_again(wrong_ms: int) -> None:
    async def story(world: World) -> None:
        first, second = (world.devices[name] for name in ("anna/phone", "ben/phone"))
        anna = first.device
        ward = await anna.start(ConversationType.GROUP, [UserName("ben"), UserName("clara")])
        await comes_true(lambda: first.epoch(ward) == second.epoch(ward) == 1)
        world.ahead_ms[ARCHIVE] = wrong_ms
        await anna.change_members(ward, add=[UserName("david")], remove=[])
        await anna.send(ward, Text(text="Potassium 6.1"))
        # Whoever is not the committer confirms, where the archive's word does not count.
        await asyncio.sleep(20)
        assert "CLOCK" in world.alarms()
        world.ahead_ms[ARCHIVE] = 0
        await comes_true(
            lambda: [one.archived for one in said(anna, ward)] == [True], within_s=AGAIN_S
        )
        await comes_true(lambda: first.epoch(ward) == second.epoch(ward) == 2)
        await comes_true(lambda: "CLOCK" not in world.alarms())

    play(story)
