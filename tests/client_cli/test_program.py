"""The program itself: what it loads, several commands over one device, completion, its table."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from client_cli import start
from client_cli.output import EXIT_MEANINGS, Exit
from tests.client_cli.conftest import Run
from tests.client_cli.fake_device import DIRECT, WARD, FakeDevice

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("nacl", "cryptography", "sqlcipher3", "websockets", "textual", "rich", "msgspec", "segno")


@pytest.mark.parametrize("arguments", [["--help"], ["admin", "--help"], ["send", "--help"], ["x"]])
def test_help_and_mistakes_are_answered_without_loading_what_is_heavy(
    arguments: list[str],
) -> None:
    code = (
        "import sys; from client_cli.program import main; main(sys.argv[1:]);"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines()[-1] == "[]"


def test_nothing_that_is_heavy_is_loaded_before_it_is_needed() -> None:
    first = {*HEAVY, "typer", "asyncio", "client_cli.program"}
    assert not loaded_by("client_cli.start") & first
    # The lock screen draws; what reads messages is loaded while somebody types.
    assert not loaded_by("client_cli.terminal", "client_cli.door") & {
        "typer", "msgspec", "websockets", "sqlcipher3", "crypto.mls", "client.engine",
        "client_cli.rows", "client_cli.app",
    }  # fmt: skip


def loaded_by(*modules: str) -> set[str]:
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ended.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], (Path("/people"), None)),
        (["--home", "/there"], (Path("/there"), None)),
        (["--as", "ann", "--home", "/there"], (Path("/there"), "ann")),
        (["--home"], None),
        (["--json"], None),
        (["send", "--as", "ann"], None),
        (["--as", "ann", "read"], None),
    ],
)
def test_without_a_command_the_terminal_program_starts(
    arguments: list[str], wanted: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(start.HOME_VARIABLE, "/people")
    assert start.without_command(arguments) == wanted


def test_a_shell_knows_the_commands_by_completion() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "client_cli"],
        env={
            "_WARDLINE_COMPLETE": "complete_bash",
            "COMP_WORDS": "wardline conv",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert "conversations" in ended.stdout


def test_several_commands_run_over_one_device(
    device: FakeDevice, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        'send "Ward 4" "one two"',
        "# a remark",
        "",
        "send nobody-of-that-name x",
        "shell",
        "send beth three",
        "quit",
        "send beth never",
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    ended = run("--json", "shell")
    assert ended.status == Exit.DONE
    ends = [json.loads(line) for line in ended.out.splitlines() if '"line"' in line]
    # What a command within it says is for programs too.
    assert json.loads(ended.err.splitlines()[0])["error"] == "no_person"
    assert [one["exit"] for one in ends] == [0, 0, 0, Exit.UNKNOWN, Exit.USAGE, 0]
    assert [shown.text for shown in device.threads[WARD]] == ["one two"]
    assert [shown.text for shown in device.threads[DIRECT]] == ["three"]
    assert device.closed


def test_the_table_of_statuses_in_the_document_is_the_programs() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", text, re.MULTILINE)
    assert {int(number): meaning for number, meaning in rows} == {
        int(status): meaning for status, meaning in EXIT_MEANINGS.items()
    }


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (("nonsense",), "nonsense"),
        (("send",), "argument 'to'"),
        (("send", "beth", "x", "-p", "loud"), "loud"),
        (("admin",), "Usage"),
        (("read", "beth", "-n", "many"), "integer"),
        (("admin", "users", "import", "/no/such.csv"), "such.csv"),
        (("admin", "users", "invite", "eve", "--ends", "soon"), "soon"),
        (("read", "beth", "--loud"), "--loud"),
    ],
)
def test_a_line_that_is_not_understood_is_said_to_people_and_to_programs(
    run: Run, line: tuple[str, ...], word: str
) -> None:
    plain, told = run(*line), run("--json", *line)
    assert plain.status == told.status == Exit.USAGE
    assert word in plain.err
    assert (told.error["error"], told.error["exit"], told.out) == ("usage", Exit.USAGE, "")
    assert word in told.error["text"]


def test_a_program_is_told_the_reason_in_words_too(run: Run) -> None:
    told = run("--json", "read", "nobody-of-that-name")
    assert told.error["text"].startswith("There is no conversation or person called")


def test_a_file_that_is_not_there_is_a_sentence(run: Run, tmp_path: Path) -> None:
    ended = run("admin", "countersign", str(tmp_path / "none.txt"))
    assert ended.status == Exit.UNKNOWN
    assert ended.err == f"{tmp_path / 'none.txt'}: No such file or directory.\n"
