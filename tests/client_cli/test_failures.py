"""Every error that the client can raise has a sentence and a status."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from client import errors
from client_cli.failures import CLOSINGS, FAILURES, REFUSALS, explained, in_words, pause
from client_cli.output import EXIT_MEANINGS, CommandError, Exit
from crypto import errors as crypto_errors
from protocol.errors import MEANINGS, Code

RAISED = {
    name: kind
    for module in (errors, crypto_errors)
    for name, kind in inspect.getmembers(module, inspect.isclass)
    if issubclass(kind, Exception)
}
BASES = {"StoreError", "LinkError", "UnlockError", "ActError", "CryptoError"}
OUR_OWN = {"UsageError", "EpochError", "KeyUsedError"}
"""A bug of this program, or nothing that reaches a command."""


def test_every_sentence_is_for_an_error_that_there_is() -> None:
    assert set(FAILURES) <= set(RAISED)


def test_every_error_of_the_client_has_a_sentence() -> None:
    without = {
        name
        for name, kind in RAISED.items()
        if not any(base.__name__ in FAILURES for base in kind.__mro__)
    }
    assert without <= BASES | OUR_OWN


@pytest.mark.parametrize("code", Code)
def test_every_code_of_the_relay_ends_a_command_with_a_sentence(code: Code) -> None:
    meaning = MEANINGS[code]
    error = errors.ClosedError(code, 1000) if meaning.closes else errors.RefusedError(code, 1000)
    failure = explained(error)
    assert failure is not None
    assert str(failure).endswith((".", "login", "log"))
    assert failure.exit is not Exit.DONE


def test_only_codes_that_there_are_have_words() -> None:
    assert set(REFUSALS) | set(CLOSINGS) <= {code.name for code in Code}


def test_a_subclass_is_explained_as_its_base() -> None:
    kind = type("Special", (errors.InUseError,), {})
    assert explained(kind()).exit is Exit.BUSY  # type: ignore[union-attr]


def test_an_error_that_nobody_foresaw_is_left_to_the_program() -> None:
    assert explained(RuntimeError("secret")) is None
    own = CommandError(Exit.USAGE, "x", "y")
    assert explained(own) is own


def test_a_pause_is_said_in_seconds_or_minutes() -> None:
    assert pause(0) == ""
    assert "1 s" in pause(1)
    assert "5 min" in pause(300_000)


def test_every_status_has_its_meaning() -> None:
    assert set(EXIT_MEANINGS) == set(Exit)


@pytest.mark.parametrize(
    ("work", "status", "name", "words"),
    [
        (Path("/nowhere/at/all").read_bytes, Exit.UNKNOWN, "file", "/nowhere/at/all: No such file"),
        (Path("/").read_bytes, Exit.USAGE, "file", "Is a directory"),
        (b"\xff".decode, Exit.USAGE, "not_utf8", "UTF-8"),
        ("\udcff".encode, Exit.USAGE, "not_utf8", "UTF-8"),
        (lambda: time.gmtime(1 << 80), Exit.USAGE, "too_large", "larger than any"),
        (lambda: {"": 0}["Bed 7"], Exit.FAULT, "fault", "A fault of the program: KeyError at"),
    ],
    ids=["no file", "a folder", "bytes", "an argument", "a number", "a fault"],
)
def test_what_nobody_foresaw_is_a_sentence_and_a_status(
    work: Callable[[], object], status: Exit, name: str, words: str
) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - each is another one
        work()
    failure = in_words(raised.value)
    assert (failure.exit, failure.name) == (status, name)
    assert words in str(failure)
    assert "Bed 7" not in str(failure)
