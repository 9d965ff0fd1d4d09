"""Draws the README's pictures from the example ward: ``make pictures``."""

from __future__ import annotations

import asyncio
import os
import re
import time
from pathlib import Path

from tests.client_cli.pilot import NARROW
from tests.client_cli.scenes import scene

FONT_FACE = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)
OUT = Path(__file__).resolve().parents[2] / "docs" / "pictures"
COLOURS = {"dark": {}, "light": {"light": True}, "none": {}}
PICTURES = {
    "conversations": ("conversations", NARROW, "dark"),
    "thread": ("thread", NARROW, "dark"),
    "page": ("page", NARROW, "dark"),
    "recipient-check": ("recipient-check", NARROW, "light"),
    "on-call": ("on-call", NARROW, "light"),
    "emergency": ("emergency", NARROW, "dark"),
    "without-colour": ("page", NARROW, "none"),
    "wide": ("thread", (132, 36), "dark"),
}
"""Scene, size and colours of each."""


async def _draw() -> None:
    for name, (shown, size, colours) in PICTURES.items():
        os.environ.pop("NO_COLOR", None)
        if colours == "none":
            os.environ["NO_COLOR"] = "1"
        async with scene(shown, size=size, **COLOURS[colours]) as pilot:
            path = OUT / f"{name}.svg"
            svg = pilot.app.export_screenshot(title="Wardline")
            # No font is fetched from anywhere: whoever looks has some monospaced one.
            path.write_text(FONT_FACE.sub("", svg).strip() + "\n")


def main() -> None:
    """Draw them all."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    OUT.mkdir(exist_ok=True)
    asyncio.run(_draw())


if __name__ == "__main__":
    main()
