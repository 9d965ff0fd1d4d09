"""The program in a terminal: what it leaves behind, and which process holds what."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from client.lock import LOCKED_STATUS
from client_cli import start, terminal
from tests.client_cli.window import Window

PROGRAM = """
import sys
from client_cli.app import Manner, Wardline
from client_cli.terminal import CLEAR
from tests.client_cli.fake_ward import NOW_MS, example_ward
locks = Wardline(example_ward(), Manner(clock=lambda: NOW_MS)).run()
sys.stdout.write(CLEAR)
sys.exit(75 if locks else 0)
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

    def run(command: list[str], *, env: dict[str, str], check: bool) -> SimpleNamespace:
        assert not check
        assert env["MALLOC_PERTURB_"] != "0"
        started.append(command)
        return SimpleNamespace(returncode=next(statuses))

    monkeypatch.setattr("client_cli.start.subprocess.run", run)
    assert start.main(["--home", str(tmp_path)]) == 0
    assert len(started) == 3
    assert all(str(tmp_path) in command for command in started)


def test_where_nobody_is_enrolled_it_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert terminal.session(tmp_path, None) != 0
    assert "wardline enroll" in capsys.readouterr().err
