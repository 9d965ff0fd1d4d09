"""``make demo``: plays the night, prints what is so, and ends with 1 where a claim is not.

``--keep`` (``make demo KEEP=1``) leaves everything running and says how to look in.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from demo.dialogues import DialogueError, find
from demo.hospital import Hospital
from demo.night import SCENES, Night, found, staff
from demo.programs import BIN, DemoError
from demo.stage import Stage

NIGHT_S = 120.0
"""The night itself, without founding and enrolling, ends within two minutes."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--dialogues", type=Path, help="CSV with a column 'dialogue'")
    parser.add_argument("--keep", action="store_true", help="leave everything running")
    return parser.parse_args()


async def play(night: Night) -> None:
    """Play every scene; a program that fails ends the night."""
    began_s = time.monotonic()
    for scene in SCENES:
        if scene not in (found, staff) and not night.sent:
            began_s = time.monotonic()
        await scene(night)
    took_s = time.monotonic() - began_s
    night.stage.claim(
        "the night itself takes under two minutes", found=f"{took_s:.0f} s", holds=took_s < NIGHT_S
    )


async def look_in(night: Night) -> None:
    """Say how to open the terminal program as somebody, and wait for Ctrl-C."""
    people = night.hospital.people
    night.stage.scene("Everything is left running; Ctrl-C ends it")
    for user in ("luis", "ada", "olga"):
        if user in night.hospital.devices:
            await night.hospital.devices[user].stop()
        person = people[user]
        pin = person.pin_file.read_text()
        night.stage.tell(f"{user} (PIN {pin}): {BIN / 'wardline'} --home {person.home}")
    night.stage.tell(f"everything is in {night.hospital.folder}, which stays afterwards")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


async def main() -> int:
    """Play the night; return the exit status."""
    arguments = _arguments()
    try:
        source = find(arguments.dialogues)
    except DialogueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    folder = Path(tempfile.mkdtemp(prefix="wardline-night-"))
    night = Night(hospital=Hospital(folder), stage=Stage(), source=source)
    try:
        try:
            await play(night)
        except DemoError as error:
            night.stage.claim("the night goes to its end", found=str(error), holds=False)
        holds = night.stage.close()
        if arguments.keep:
            await look_in(night)
        return 0 if holds else 1
    finally:
        await night.hospital.shut()
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
