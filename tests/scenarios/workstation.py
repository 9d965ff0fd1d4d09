"""A shared workstation: several people's stores side by side, and the real program before them."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.client_cli.window import Window

LOCK, SIGN_OUT, QUIT = b"\x0c", b"\x0f", b"\x11"
TO_THE_LIST, DOWN = b"\x1b[Z", b"\x1b[B"


CURSOR_AT_PIN = re.compile(rb"P(\x1b\[[0-9;]*m)+IN")
"""The empty line for the PIN while the keys go there: its first letter stands under the cursor."""
PIN_LEFT = b"PIN"
LOCKED = b"Wardline is locked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """What a switch took, from the key that locks to the other person's desk.

    Attributes:
        wall_s: By the clock, the typing of the PIN left out.
        cpu_s: Of all processes of the program.
    """

    wall_s: float
    cpu_s: float


@contextmanager
def started(home: Path) -> Iterator[Window]:
    """Start ``wardline`` over the profiles in ``home``; it is to have ended at the end."""
    window = Window(sys.executable, "-m", "client_cli", "--home", str(home))
    try:
        yield window
    except BaseException:
        window.kill()
        raise


@contextmanager
def program(home: Path) -> Iterator[Window]:
    """Start ``wardline`` over the profiles in ``home``, and quit it as a person does."""
    with started(home) as window:
        yield window
        window.press(QUIT)
        assert window.ended() == 0


def desk_of(user: str) -> bytes:
    """Return what the desk of a person shows and no other screen."""
    return f"{user} · off duty".encode()


def unlock(window: Window, user: str, *, place: int, pin: str, after: int = 0) -> None:
    """Choose a person at the lock screen, and open their store."""
    window.until(CURSOR_AT_PIN, after=after)
    if place:
        # Each key waits until the one before has moved the cursor, as a person's does.
        for keys, seen in ((TO_THE_LIST, PIN_LEFT), (DOWN * place, user.encode())):
            before = len(window.written)
            window.press(keys)
            window.until(seen, after=before)
        before = len(window.written)
        window.press(b"\r")
        window.until(CURSOR_AT_PIN, after=before)
    window.press(pin.encode() + b"\r")
    window.until(desk_of(user), after=after)


def switch(window: Window, user: str, *, place: int, pin: str) -> Took:
    """Lock, and open another person's store."""
    before, used_s, began_s = len(window.written), window.cpu_s(), time.monotonic()
    window.press(LOCK)
    unlock(window, user, place=place, pin=pin, after=before)
    return Took(wall_s=time.monotonic() - began_s, cpu_s=window.cpu_s() - used_s)
