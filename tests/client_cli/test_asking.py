"""Last questions: on standard error, answered by hand alone, and with a status of their own."""

from __future__ import annotations

import io
import json
import os
import pty

import pytest

from client_cli.asking import typed_line
from client_cli.output import Exit
from tests.client_cli.conftest import Run
from tests.client_cli.fake_device import FakeDevice

QUESTIONS = (
    ("admin", "wipe", "beth/phone", "--reason", "lost"),
    ("admin", "users", "remove", "beth"),
    ("leave", "Ward 4"),
)


@pytest.mark.parametrize("answer", ["", "\n", "n\n", "yess\n"])
@pytest.mark.parametrize("command", QUESTIONS, ids=lambda command: " ".join(command[:2]))
def test_whoever_does_not_say_yes_has_nothing_done(
    device: FakeDevice,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    answer: str,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    ended = run(*command)
    assert ended.status == Exit.DECLINED
    assert "?" in ended.err
    assert "Nothing was done." in ended.err
    assert ended.out == ""
    assert device.statements.submitted == []


def test_whoever_says_yes_has_it_done(
    device: FakeDevice, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Yes\n"))
    ended = run("leave", "Ward 4")
    assert (ended.status, ended.out) == (Exit.DONE, "You are let out within seconds.\n")


def test_a_program_that_is_not_asked_reads_the_question_nowhere(
    device: FakeDevice, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    ended = run("--json", "admin", "wipe", "beth/phone", "--reason", "lost")
    assert (ended.status, ended.error["error"]) == (Exit.DECLINED, "declined")
    assert ended.out == ""


def test_the_next_line_of_a_shell_is_a_command_and_no_answer(
    device: FakeDevice, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ("admin users remove beth", "members beth")
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    ended = run("--json", "shell")
    ends = [json.loads(line)["exit"] for line in ended.out.splitlines() if '"line"' in line]
    assert ends == [Exit.DECLINED, Exit.DONE]
    assert device.statements.submitted == []


async def test_at_a_keyboard_a_whole_line_is_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    above, below = pty.openpty()
    with os.fdopen(below) as keyboard:
        monkeypatch.setattr("sys.stdin", keyboard)
        os.write(above, b"y\n")
        assert await typed_line() == "y\n"
    os.close(above)
