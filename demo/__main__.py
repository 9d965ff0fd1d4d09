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
from demo.hospital import Hospital, Person
from demo.night import Night, death, forget, found, page, silence, staff, talk, theft
from demo.opening import opening
from demo.programs import BIN, DemoError
from demo.record import NAME as RECORD
from demo.record import Record
from demo.stage import Stage

NIGHT_S = 120.0
"""The night itself, without founding and enrolling, ends within two minutes."""

SCENES = (found, staff, talk, forget, page, death, opening, theft, silence)

ROLES = (
    ("luis", "A clinician", ""),
    ("ada", "An administrator", "admin posture"),
    ("olga", "An officer", "officer requests"),
)
"""Whom to be afterwards, as what, and a command of that role beside the terminal program."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--dialogues", type=Path, help="CSV with a column 'dialogue'")
    parser.add_argument("--keep", action="store_true", help="leave everything running")
    return parser.parse_args()


async def play(night: Night) -> None:
    """Play every scene; a program that fails ends the night."""
    began_s, record = time.monotonic(), night.hospital.record
    for scene in SCENES:
        if scene not in (found, staff) and not night.sent:
            began_s = time.monotonic()
        record.add("demo", did="scene", name=scene.__name__)
        await scene(night)
    took_s = time.monotonic() - began_s
    record.add("demo", did="scene", name="end")
    night.stage.claim(
        "the night itself takes under two minutes", found=f"{took_s:.1f} s", holds=took_s < NIGHT_S
    )


async def taken_again(folder: Path) -> bool:
    """Hold the table against the files of the night, by a program that shares nothing with it."""
    checker = Path(__file__).with_name("by_hand.py")
    process = await asyncio.create_subprocess_exec(sys.executable, str(checker), str(folder))
    return await process.wait() == 0


async def look_in(night: Night) -> None:
    """Say how to open the terminal program as somebody, and wait for Ctrl-C."""
    night.stage.scene("Everything is left running; Ctrl-C ends it")
    night.stage.say("In another terminal; the program asks for the PIN, ? tells its keys.")
    for user, what, command in ROLES:
        if user in night.hospital.devices:
            await night.hospital.devices[user].stop()
        night.stage.say(told(night.hospital.people[user], what, command))
    folder = night.hospital.folder
    again = f"{BIN / 'python'} demo/by_hand.py --show {folder}"
    night.stage.say(f"\nThe table, taken from the files:\n  {again}")
    night.stage.say(f"Everything is in {folder}, which stays afterwards.")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


def told(person: Person, what: str, command: str) -> str:
    """Return how to be a person: the terminal program, a command, and a one-time code for it."""
    wardline = f"{BIN / 'wardline'} --home {person.home}"
    lines = [f"\n{what}: {person.user}, PIN {person.pin_file.read_text()}", f"  {wardline}"]
    if command:
        code = f"import pyotp; print(pyotp.TOTP('{person.totp}').now())"
        lines += [
            f"or, with that closed, a command (--help lists them): {command}",
            f"  {wardline} {command}",
            f"where an act asks: password {person.password_file.read_text()}, one-time code from",
            f'  {BIN / "python"} -c "{code}"',
        ]
    return "\n".join(lines)


async def main() -> int:
    """Play the night; return the exit status."""
    arguments = _arguments()
    try:
        source = find(arguments.dialogues)
    except DialogueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    folder = Path(tempfile.mkdtemp(prefix="wardline-night-"))
    record = Record(folder / RECORD)
    night = Night(hospital=Hospital(folder, record=record), stage=Stage(), source=source)
    try:
        try:
            await play(night)
        except DemoError as error:
            night.stage.claim("the night goes to its end", found=str(error), holds=False)
        record.close()
        holds = night.stage.close()
        (folder / "table.txt").write_text(night.stage.table() + "\n")
        holds = await taken_again(folder) and holds
        if arguments.keep:
            await look_in(night)
        return 0 if holds else 1
    finally:
        await night.hospital.shut()
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
