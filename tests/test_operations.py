"""What docs and README tell people to type exists: commands, their options, and make's targets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from archive import mirror_program, review_program
from archive import program as archive_program
from client_cli import program as client_program
from server import program as relay_program

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "demo/README.md", "docs/operations.md", "docs/line-mode.md")
PROGRAMS = ("wardline", "wardline-relay", "wardline-archive")


def typed(document: str) -> Iterator[list[str]]:
    """Yield every command of a document, as words: those in backticks, and lines after ``$``."""
    text = (ROOT / document).read_text().replace("\\\n", " ")
    for match in re.finditer(r"`([^`\n]+)`|^\s*\$ (?:.*\| )?(.+)$", text, re.MULTILINE):
        words = (match[1] or match[2]).split()
        if words and words[0] in (*PROGRAMS, "make"):
            yield words


EVERY = [(document, words) for document in DOCUMENTS for words in typed(document)]


def commands() -> dict[str, Any]:
    review = typer.main.get_command(review_program.app)
    archive = typer.main.get_command(archive_program.app)
    mirror = typer.main.get_command(mirror_program.app)
    archive.commands |= {"review": review, "mirror": mirror}  # type: ignore[attr-defined]
    return {"wardline": typer.main.get_command(client_program.app), "wardline-archive": archive}


def known_options(command: Any, *, anywhere: bool) -> set[str]:
    own = {name for parameter in command.params for name in parameter.opts}
    return own | {"--help", "-h"} | (set(client_program.ANYWHERE) if anywhere else set())


def check(words: list[str]) -> None:
    command = commands()[words[0]]
    context: Any = None
    rest = words[1:]
    while rest and hasattr(command, "get_command") and not rest[0].startswith("-"):
        found = command.get_command(context, rest[0])
        assert found is not None, f"no command {' '.join(words)}"
        command, rest = found, rest[1:]
    options = {word.partition("=")[0] for word in rest if word.startswith("--")}
    anywhere = words[0] == "wardline"
    installs = {"--install-completion", "--show-completion"}
    assert options <= known_options(command, anywhere=anywhere) | installs, " ".join(words)


@pytest.mark.parametrize(("document", "words"), EVERY, ids=lambda value: " ".join(value)[:60])
def test_what_a_document_says_can_be_typed(document: str, words: list[str]) -> None:
    if words[0] == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        families = [word for word in words[1:] if word.endswith("*")]
        named = [word for word in words[1:] if "=" not in word and word not in families]
        assert set(named) <= targets
        assert all(any(t.startswith(word[:-1]) for t in targets) for word in families)
    elif words[0] == "wardline-relay":
        parser = relay_program._parser()
        known = parser._subparsers._group_actions[0].choices  # type: ignore[union-attr]
        named = [word for word in words[1:] if re.fullmatch("[a-z]+", word)]
        assert not named or named[0] in known  # type: ignore[operator]
    else:
        check(words)


def test_commands_were_found_in_the_documents() -> None:
    assert len(EVERY) > 50


BY_HAND = re.compile(r"by hand, \d{4}-\d{2}-\d{2}: .+")


def path_of(words: list[str]) -> str:
    """Return the command that is meant, without what it is given; empty for none and for groups."""
    if words[0] == "wardline-relay":
        parser = relay_program._parser()
        known = parser._subparsers._group_actions[0].choices  # type: ignore[union-attr]
        return " ".join([words[0], *[word for word in words[1:] if word in known]][:2])  # type: ignore[operator]
    words = [words[0], *(word for word in words[1:] if word != "--json")]
    command, found, rest = commands()[words[0]], [words[0]], words[1:]
    while rest and hasattr(command, "get_command") and not rest[0].startswith("-"):
        found.append(rest[0])
        command, rest = command.get_command(None, rest[0]), rest[1:]
    return "" if hasattr(command, "get_command") else " ".join(found)


def test_every_command_of_the_documents_is_run_by_a_test_or_was_run_by_hand() -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    rows = dict(re.findall(r"^\| `(wardline[^`]+)` \| (.+) \|$", page, re.MULTILINE))
    said = {path_of(words) for _, words in EVERY if words[0] != "make"}
    assert set(rows) == {path for path in said if " " in path}
    for command, who in rows.items():
        if not BY_HAND.fullmatch(who):
            text = (ROOT / who.strip("`")).read_text()
            words = command.split()
            assert f'"{words[-1]}"' in text or " ".join(words[-2:]) in text, command
