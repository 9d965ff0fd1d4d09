"""The second look at the night's table: what the files do not say is not so."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from demo.by_hand import CHECKS, PRIVATE_MESSAGE, Files, judge, main, table
from demo.record import Record
from demo.stage import COLUMNS, Stage
from tests.demo.small_night import GROUP, TABLE, keep_on_relay, leave, record, write_record

CHECKER = Path(__file__).parents[2] / "demo" / "by_hand.py"

Lines = list[dict[str, Any]]


@pytest.fixture
def night(tmp_path: Path) -> Path:
    leave(tmp_path)
    return tmp_path


def wrong(night: Path) -> set[str]:
    """Return the lines that are called not so."""
    files = Files(night)
    return {claim for claim, line in table(night).items() if judge(files, claim, line)}


def test_a_table_that_the_files_bear_out_is_so(night: Path) -> None:
    # Away from the checkout and its packages: it has to do with the files alone.
    argv = [sys.executable, "-I", "-S", str(CHECKER), str(night)]
    done = subprocess.run(argv, cwd=night, capture_output=True, text=True, timeout=60, check=False)
    said = f"{len(CHECKS)} of {len(CHECKS)} lines are so."
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Taken again from the files alone: {said}\n"


@pytest.mark.parametrize("claim", CHECKS)
def test_a_line_that_says_no_is_not_so(night: Path, claim: str) -> None:
    assert judge(Files(night), claim, (False, table(night)[claim][1]))


def test_a_line_that_nobody_can_check_is_not_so(night: Path) -> None:
    assert judge(Files(night), "all is well", (True, ""))


def test_a_line_that_is_missing_is_missed(
    night: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = next(iter(CHECKS))
    file = night / "table.txt"
    file.write_text(file.read_text().replace(f"yes  {first}\n", ""))
    monkeypatch.setattr(sys, "argv", ["by_hand.py", str(night)])
    assert main() == 1
    assert f"NOT SO: {first}\n" in capsys.readouterr().out


FIGURES = [
    (claim, number)
    for claim, found in re.findall(r"^yes  (.+)\n((?: {5}.+\n)+)", TABLE, re.MULTILINE)
    for number in range(len(re.findall(r"\d[\d,.]*\d|\d", found)))
]


@pytest.mark.parametrize(("claim", "number"), FIGURES)
def test_another_figure_than_the_files_have_is_not_so(night: Path, claim: str, number: int) -> None:
    found = table(night)[claim][1]
    figure = list(re.finditer(r"\d[\d,.]*\d|\d", found))[number]
    other = f"{float(figure[0].replace(',', '')) + 30:g}"
    line = True, found[: figure.start()] + other + found[figure.end() :]
    assert judge(Files(night), claim, line)


def _without(lines: Lines, unwanted: Callable[[dict[str, Any]], object]) -> Lines:
    return [line for line in lines if not unwanted(line)]


def _never_shown(lines: Lines) -> Lines:
    return _without(lines, lambda one: one["who"] == "farid" and "g:1" in str(one))


def _not_proved(lines: Lines) -> Lines:
    for line in lines:
        for message in line.get("heard", {}).get("messages", ()):
            if message["key"] == "p:1":
                message["archived"] = False
    return lines


def _next_never_rang(lines: Lines) -> Lines:
    return _without(lines, lambda one: one["who"] == "farid" and "alerting" in str(one))


def _luis_rang_too(lines: Lines) -> Lines:
    page = {"conversation": "p1", "alerting": True}
    at_ms = lines[-1]["at_ms"]
    return [*lines[:-1], {"at_ms": at_ms, "who": "luis", "heard": {"event": "page", "page": page}}]


def _henry_was_alerted(lines: Lines) -> Lines:
    return [*lines[:-1], {**lines[-1], "who": "henry", "heard": {"event": "alert"}}]


def _out_of_order(lines: Lines) -> Lines:
    for line in lines:
        if line["who"] == "clara" and "messages" in line.get("heard", {}):
            line["heard"]["messages"].reverse()
    return lines


def _never_killed(lines: Lines) -> Lines:
    return _without(lines, lambda one: one.get("did") == "killed")


def _one_alone_opened(lines: Lines) -> Lines:
    for line in lines:
        if line.get("exit") == 1:
            line["exit"] = 0
    return lines


def _more_was_said(lines: Lines) -> Lines:
    for line in lines:
        if isinstance(line.get("gave"), dict) and line["gave"].get("text") == "Now?":
            line["gave"]["text"] = "Now, please?"
    return lines


def _never_confirmed(lines: Lines) -> Lines:
    for line in lines:
        for wipe in line.get("heard", {}).get("wipes", ()):
            wipe["stage"] = "cryptographic"
    return lines


def _still_runs(lines: Lines) -> Lines:
    return _without(lines, lambda one: one.get("did") == "ended")


def _pin_opened(lines: Lines) -> Lines:
    for line in lines:
        if line.get("exit") == 7:
            line.update(exit=0, err="")
    return lines


def _clara_still_reads(lines: Lines) -> Lines:
    message = {"event": "message", "message": {"key": "g:4"}}
    return [*lines[:-1], {**lines[-2], "who": "clara", "did": "", "heard": message}, lines[-1]]


def _too_long(lines: Lines) -> Lines:
    lines[-1]["at_ms"] += 65_000
    return lines


@pytest.mark.parametrize(
    ("change", "claims"),
    [
        (_never_shown, {"a message is shown at once"}),
        (_not_proved, {"every sender has the archive's proof"}),
        (_next_never_rang, {"a STAT page rings who is on call"}),
        (_luis_rang_too, {"a STAT page that was taken"}),
        (_henry_was_alerted, {"a routine message to somebody off duty"}),
        (_out_of_order, {"what is sent around the relay's death"}),
        (_never_killed, {"what is sent around the relay's death"}),
        (_one_alone_opened, {"one officer's approval opens nothing"}),
        (_more_was_said, {"they open every message"}),
        (_never_confirmed, {"a stolen phone destroys"}),
        (_still_runs, {"the stolen phone's program"}),
        (_pin_opened, {"its PIN opens nothing"}),
        (_clara_still_reads, {"the conversation goes on"}),
        (_too_long, {"the night itself", "a STAT page that was taken"}),
    ],
)
def test_what_the_programs_said_otherwise_is_not_so(
    night: Path, change: Callable[[Lines], Lines], claims: set[str]
) -> None:
    write_record(night, change(record()))
    assert wrong(night) == {claim for claim in CHECKS if claim.startswith(tuple(claims))}


def test_a_message_that_lies_on_the_relays_disk_is_seen(night: Path) -> None:
    size = (night / "relay-then" / "relay.db").stat().st_size
    keep_on_relay(night, b"head" + PRIVATE_MESSAGE + bytes([len(GROUP)]) + GROUP + b"sealed")
    assert (night / "relay-then" / "relay.db").stat().st_size == size
    assert wrong(night) == {"no message that everybody has is left on the relay's disk"}


def test_a_text_in_the_relays_log_is_seen(night: Path) -> None:
    log = night / "relay-then" / "relay.log"
    log.write_text("The scan of bed 7 is back.".ljust(len(log.read_text())))
    assert wrong(night) == {"no text of 12 letters or more is in the relay's files or log"}


def test_an_export_that_is_not_as_it_was_is_seen(night: Path) -> None:
    (night / "export" / "wardline-export" / "transcript.txt").write_text("as it was sold\n")
    assert wrong(night) == {"the export proves itself to whoever gets it, by one file of Python"}


def test_an_export_that_takes_any_letter_is_seen(night: Path) -> None:
    (night / "export" / "wardline-export" / "verify.py").write_text("print('VERIFIED')\n")
    assert wrong(night) == {"one letter changed in it is found"}


def test_what_is_left_on_the_stolen_phone_is_seen(night: Path) -> None:
    (night / "people" / "clara" / "home" / "header").write_bytes(b"left")
    assert wrong(night) == {"a stolen phone destroys what it holds, and its last key signs that"}


def test_a_night_that_left_nothing_proves_nothing(night: Path) -> None:
    write_record(night, [])
    shutil.rmtree(night / "export")
    assert wrong(night) == set(CHECKS)


def test_the_page_about_the_table_has_each_of_its_lines() -> None:
    page = CHECKER.with_name("README.md").read_text()
    assert set(re.findall(r"\*\*(.+?)\*\*", page)) == set(CHECKS)


def test_the_table_as_it_is_printed_is_the_one_that_is_read(tmp_path: Path) -> None:
    stage = Stage()
    stage.claim("it holds", found="many words, " * 12 + "7 in all", holds=True)
    stage.claim("it does not", found="0 of 2", holds=False)
    (tmp_path / "table.txt").write_text(stage.table() + "\n")
    assert table(tmp_path) == {
        "it holds": (True, "many words, " * 12 + "7 in all"),
        "it does not": (False, "0 of 2"),
    }
    assert all(len(line) <= COLUMNS for line in stage.table().splitlines())


def test_a_record_is_on_disk_when_the_next_thing_happens(tmp_path: Path) -> None:
    kept = Record(tmp_path / "record.jsonl")
    kept.add("anna", gave={"do": "list"})
    kept.add("anna", heard={"answer": 1})
    first, second = map(json.loads, (tmp_path / "record.jsonl").read_text().splitlines())
    assert (first["gave"], second["heard"]) == ({"do": "list"}, {"answer": 1})
    assert first["at_ms"] <= second["at_ms"]
    kept.close()
    kept.add("anna", gave={"do": "quit"})
    assert len((tmp_path / "record.jsonl").read_text().splitlines()) == 2


def test_without_a_file_nothing_is_kept() -> None:
    Record().add("anna", gave={"do": "list"})
