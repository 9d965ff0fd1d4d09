"""Every screen's text, at a small and a large size, as it was last looked at and found good.

``WARDLINE_DRAW=1`` writes what the screens show now; look at the difference before committing it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.client_cli.pilot import NARROW, WIDE, text_of
from tests.client_cli.scenes import SCENES, scene

HERE = Path(__file__).parent / "snapshots"


SMALL = [(name, NARROW) for name in (*SCENES, "tour")]
LARGE = [(name, WIDE) for name in ("conversations", "thread", "page", "on-call", "details", "help")]


@pytest.mark.parametrize(("name", "size"), [*SMALL, *LARGE])
async def test_a_screen_shows_what_it_showed(name: str, size: tuple[int, int]) -> None:
    async with scene(name, size=size) as pilot:
        shown = text_of(pilot.app).rstrip() + "\n"
    path = HERE / f"{name}-{size[0]}x{size[1]}.txt"
    if os.environ.get("WARDLINE_DRAW"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(shown)
    assert shown == path.read_text()


def test_no_snapshot_is_of_a_screen_that_is_gone() -> None:
    names = {path.name.rpartition("-")[0] for path in HERE.glob("*.txt")}
    assert names == {*SCENES, "tour"}


@pytest.mark.parametrize("name", [*SCENES, "tour"])
def test_no_line_is_cut_where_the_screen_is_small(name: str) -> None:
    lines = (HERE / f"{name}-80x24.txt").read_text().splitlines()
    assert len(lines) <= 24
    assert all(len(line) <= 80 for line in lines)


@pytest.mark.parametrize("light", [True, False], ids=["light", "dark"])
async def test_light_and_dark_say_the_same(light: bool) -> None:
    async with scene("thread", size=NARROW, light=light) as pilot:
        assert text_of(pilot.app).rstrip() + "\n" == (HERE / "thread-80x24.txt").read_text()
