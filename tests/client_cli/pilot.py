"""Driving the program in tests: keys in, the screen's text out."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC
from typing import Any

from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Input

from client.messages import State
from client_cli.app import Ending, Manner, Wardline
from client_cli.screens.page_alert import PageAlert
from tests.client_cli.fake_ward import NOW_MS, FakeWard
from tests.waiting import WITHIN_S

NARROW = (80, 24)
WIDE = (200, 60)
QUIET_S = 0.05
"""In tests, how long nothing must be typed before a page takes an answer."""


@asynccontextmanager
async def desk(
    ward: FakeWard, *, size: tuple[int, int] = NARROW, quiet_s: float = QUIET_S, **manner: Any
) -> AsyncIterator[Pilot[Ending]]:
    """Run the program over a ward."""
    settings = Manner(clock=lambda: NOW_MS, zone=UTC, quiet_s=quiet_s, **manner)
    async with Wardline(ward, settings).run_test(size=size, notifications=True) as pilot:
        await pilot.pause()
        yield pilot


async def keys(pilot: Pilot[Any], *pressed: str) -> None:
    """Press keys one after another, and let the screen follow."""
    for key in pressed:
        await pilot.press(key)
        await pilot.pause()


async def typed(pilot: Pilot[Any], text: str) -> None:
    """Type a text."""
    names = {" ": "space", "@": "at", "+": "plus", ".": "full_stop", "/": "slash", ",": "comma"}
    await pilot.press(*(names.get(sign, sign) for sign in text))
    await pilot.pause()


async def shows(pilot: Pilot[Any], text: str) -> None:
    """Wait until the screen shows a text; changes are laid out together, a moment later."""
    await until(pilot, lambda: text in flat(pilot.app))


async def until(pilot: Pilot[Any], holds: Callable[[], bool]) -> None:
    """Wait until something holds, however busy the machine is."""
    end = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < end, text_of(pilot.app)
        await pilot.pause(0.02)


async def armed(pilot: Pilot[Any]) -> None:
    """Wait until a page lies over everything and takes an answer."""
    end = time.monotonic() + WITHIN_S
    while not (isinstance(pilot.app.screen, PageAlert) and pilot.app.screen.armed):
        assert time.monotonic() < end, text_of(pilot.app)
        await pilot.pause(QUIET_S)
    await pilot.pause()


def text_of(app: App[Any]) -> str:
    """Return what the screen shows, line by line, without blanks at the ends."""
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips)


def flat(app: App[Any]) -> str:
    """Return what the screen shows as one line, without frames: for sentences that wrap."""
    return " ".join(text_of(app).translate(FRAMES).split())


FRAMES = str.maketrans(dict.fromkeys("│╭╮╰╯─┃▌▐█▎▊┏┓┗┛━", " "))


def fill(pilot: Pilot[Any], text: str) -> None:
    """Put a text into the line that has the focus."""
    focused = pilot.app.screen.focused
    assert isinstance(focused, Input)
    focused.value = text


def said(ward: FakeWard) -> list[object]:
    """Return what was sent, newest last."""
    sent = [
        line.shown
        for lines in ward.lines.values()
        for line in lines
        if line.shown.state is State.WAITING
    ]
    return [shown.content for shown in sorted(sent, key=lambda shown: shown.place)]
