"""The program in a terminal: what it leaves behind, and which process holds what."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from client.lock import LOCKED_STATUS
from client_cli import start, terminal

WITHIN_S = 60.0
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


class Terminal:
    """A program under a terminal of its own."""

    def __init__(self, program: str = PROGRAM) -> None:
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
            close_fds=True,
        )
        os.close(slave)
        self.written = b""

    def until(self, text: bytes) -> None:
        end = time.monotonic() + WITHIN_S
        while text not in self.written:
            assert time.monotonic() < end, self.written[-500:]
            self._read()

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def ended(self) -> int:
        end = time.monotonic() + WITHIN_S
        while self._process.poll() is None:
            assert time.monotonic() < end
            self._read()
        self._read()
        os.close(self._master)
        return self._process.returncode

    def _read(self) -> None:
        ready, _, _ = select.select([self._master], [], [], 0.05)
        if ready:
            try:
                self.written += os.read(self._master, 1 << 16)
            except OSError:
                return


def test_after_the_lock_the_terminal_holds_nothing() -> None:
    window = Terminal()
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
    window = Terminal(FAULTY)
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
