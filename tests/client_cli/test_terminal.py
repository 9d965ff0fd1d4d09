"""The program in a terminal: what it leaves behind, and which process holds what."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from client import wiping
from client.errors import SuspendedError
from client.lock import LOCKED_STATUS
from client.profile import WIPE, Profile
from client_cli import start, terminal
from tests.client_cli.window import Window

if TYPE_CHECKING:
    from client.link import Link

PROGRAM = """
import sys
from client_cli.app import Manner, Wardline
from client_cli.terminal import CLEAR
from tests.client_cli.fake_ward import NOW_MS, example_ward
locks = Wardline(example_ward(), Manner(clock=lambda: NOW_MS)).run()
sys.stdout.write(CLEAR)
sys.exit(75 if locks else 0)
"""
BLOCKED = "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
DEAF = f"{BLOCKED}{PROGRAM}"


def held(program: str, *, patience_s: float) -> str:
    """Return the program as it begins, with a desk in its second process.

    As a terminal begins it: whoever runs the tests may have been told to outlive theirs.
    """
    return f"""
import signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from client_cli import start
start.ASKED_S = {patience_s}
class Child(start._Child):
    def run(self, command):
        return super().run([sys.executable, "-c", {program!r}])
start._Child = Child
sys.exit(start.main([]))
"""


ENTERS, LEAVES, CLIPBOARD, TITLE = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b]52", b"\x1b]0"


FAULTY = PROGRAM.replace(
    "locks =",
    """
ward = example_ward()
def broken(*_, **__):
    patient = "MRN 4711"
    raise ValueError(patient)
ward.messages = broken
locks =""",
).replace("Wardline(example_ward()", "Wardline(ward")


def test_after_the_lock_the_terminal_holds_nothing() -> None:
    window = Window(sys.executable, "-c", PROGRAM)
    window.until(b"Bed 7")
    window.press(b"\r")
    window.until(b"Potassium")
    window.press(b"\x0c")
    assert window.ended() == LOCKED_STATUS
    before, _, _ = window.written.partition(ENTERS)
    assert b"Bed 7" not in before
    assert b"Bed 7" not in window.written[window.written.rindex(ENTERS) :]
    assert window.written.rindex(LEAVES) > window.written.rindex(b"Potassium")
    assert CLIPBOARD not in window.written
    assert TITLE not in window.written


def test_a_fault_prints_its_class_and_place_and_nothing_that_was_on_the_screen() -> None:
    window = Window(sys.executable, "-c", FAULTY)
    window.until(b"Bed 7")
    window.press(b"\r")
    window.ended()
    after = window.written[window.written.index(LEAVES) :]
    assert b"A fault of the program: ValueError at" in after
    assert b"MRN 4711" not in after
    assert b"patient" not in after


def test_a_lock_brings_a_new_process_and_quitting_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses = iter([LOCKED_STATUS, LOCKED_STATUS, 0])
    started: list[list[str]] = []

    class Ended:
        def __init__(
            self, command: list[str], *, env: dict[str, str], pass_fds: tuple[int, ...]
        ) -> None:
            assert command[-1] == str(pass_fds[0])
            assert env["MALLOC_PERTURB_"] != "0"
            started.append(command)

        def __enter__(self) -> Ended:
            return self

        def __exit__(self, *_error: object) -> None:
            pass

        def wait(self) -> int:
            return next(statuses)

    monkeypatch.setattr("client_cli.start.subprocess.Popen", Ended)
    assert start.main(["--home", str(tmp_path)]) == 0
    assert len(started) == 3
    assert all(str(tmp_path) in command for command in started)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_whoever_is_asked_to_end_takes_the_process_with_the_keys_along(number: int) -> None:
    window = Window(sys.executable, "-c", held(PROGRAM, patience_s=60))
    window.until(b"Bed 7")
    (child,) = window.process.children()
    # To the first of the two alone, as a supervisor or `kill` does.
    window.process.send_signal(number)
    assert window.ended() == 128 + number
    assert not child.is_running()
    assert window.written.rindex(LEAVES) > window.written.rindex(b"Bed 7")


@pytest.mark.parametrize("deaf", ["", BLOCKED], ids=["that ends", "that hears nothing"])
def test_whoever_is_killed_takes_the_process_with_the_keys_along(deaf: str) -> None:
    begun = f"""{deaf}
import sys
from client_cli import terminal
terminal.ASKED_S = 0.1
terminal.end_with(int(sys.argv[1]))
{PROGRAM}"""
    window = Window(sys.executable, "-c", held(begun, patience_s=60))
    window.until(b"Bed 7")
    (child,) = window.process.children()
    window.process.kill()
    # The window stays open: it is not for its end that the other one ends.
    window.gone(child)
    assert window.ended() == -signal.SIGKILL


def test_a_process_that_does_not_end_when_it_is_asked_is_killed() -> None:
    window = Window(sys.executable, "-c", held(DEAF, patience_s=0.1))
    window.until(b"Bed 7")
    (child,) = window.process.children()
    window.process.send_signal(signal.SIGTERM)
    assert window.ended() == 128 + signal.SIGTERM
    assert not child.is_running()


def test_where_nobody_is_enrolled_it_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert terminal.session(tmp_path, None) != 0
    assert "wardline enroll" in capsys.readouterr().err


@pytest.mark.parametrize(("begun", "left"), [(True, 1), (False, 0)])
async def test_a_wipe_that_is_interrupted_leaves_the_lock_screen_and_a_suspension_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bool, left: int
) -> None:
    profile = Profile(directory=tmp_path)
    destroyed = asyncio.Event()

    async def carry_out(*_: object, **__: object) -> None:
        if not begun:
            raise SuspendedError
        (tmp_path / WIPE).touch()
        destroyed.set()
        await asyncio.Event().wait()  # the receipt is on its way

    monkeypatch.setattr(wiping, "carry_out", carry_out)
    calls: list[None] = []
    work = asyncio.create_task(
        terminal._obey(cast("Link", None), profile=profile, leave=lambda: calls.append(None))
    )
    if begun:
        await destroyed.wait()
        # As by whoever types a PIN just then.
        work.cancel()
    with pytest.raises((asyncio.CancelledError, SuspendedError)):
        await work
    assert len(calls) == left
