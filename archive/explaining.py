"""How a command of the archive's programs fails: one line on standard error, and status 1."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from archive.configuration import ConfigurationError
from archive.errors import ArchiveError
from crypto.errors import CryptoError

PROGRAM = "wardline-archive"


def fail(reason: str, *, program: str = PROGRAM) -> typer.Exit:
    """Say why a command did not do what it was asked, and return what ends it."""
    sys.stderr.write(f"{program}: {reason}\n")
    return typer.Exit(1)


@contextmanager
def explaining(program: str = PROGRAM) -> Iterator[None]:
    """End the command where what is asked for cannot be done, saying why."""
    try:
        yield
    except FileExistsError as error:
        reason = f"{error.filename or error} exists already; nothing was changed"
        raise fail(reason, program=program) from None
    except FileNotFoundError as error:
        raise fail(f"{error.filename or error} is missing", program=program) from None
    except (ConfigurationError, ArchiveError, CryptoError, OSError) as error:
        raise fail(str(error) or type(error).__name__, program=program) from None
