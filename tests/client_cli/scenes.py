"""The screens that are compared and pictured: how each is reached in the example ward."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from textual.pilot import Pilot

from client_cli.app import Ending
from tests.client_cli.fake_ward import example_ward, stat_page, vouched_for_eva
from tests.client_cli.pilot import armed, desk, keys, typed

SCENES: dict[str, tuple[str, ...]] = {
    "conversations": (),
    "thread": ("enter",),
    "writing-urgent": ("enter", "ctrl+t", "ctrl+r", "=Please come to bed 7"),
    "recipient-check": ("enter", "ctrl+t", "=Please come @eva", "enter"),
    "page": ("!",),
    "page-later": ("!", "escape", "g"),
    "on-call": ("b",),
    "search": ("slash", "=pot"),
    "new-conversation": ("c", "=ben", "enter"),
    "message-menu": ("enter", "escape", "enter"),
    "read-back": ("enter", "escape", "t"),
    "details": ("enter", "escape", "up", "up", "i"),
    "members": ("enter", "escape", "m"),
    "hand-off": ("enter", "escape", "n", "h"),
    "save": ("enter", "escape", "up", "s"),
    "emergency": ("enter", "escape", "?", "end", "t"),
    "devices": ("v",),
    "help": ("question_mark",),
}
"""Keys of each; ``=`` begins a text to type, ``!`` stands for a STAT page that comes,
``?`` for a colleague who vouches for somebody."""


@asynccontextmanager
async def scene(name: str, *, size: tuple[int, int], **manner: Any) -> AsyncIterator[Pilot[Ending]]:
    """Run the program over the example ward, up to a scene."""
    ward = example_ward()
    async with desk(ward, size=size, tour=name == "tour", **manner) as pilot:
        for key in SCENES.get(name, ()):
            if key == "!":
                stat_page(ward)
                await armed(pilot)
            elif key == "?":
                vouched_for_eva(ward)
                await pilot.pause(0.2)
            elif key.startswith("="):
                await typed(pilot, key[1:])
            else:
                await keys(pilot, key)
        await pilot.pause(0.05)
        yield pilot
