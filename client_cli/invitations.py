"""Invitations for paper: a page for each person, to be printed, handed over and destroyed."""

from __future__ import annotations

import html
import os
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from client_cli.qr import drawing

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Wardline invitations</title>
<style>
body { font: 12pt sans-serif; margin: 2cm }
section { break-after: page }
svg { width: 9cm; height: 9cm }
code { word-break: break-all; font-size: 8pt }
</style></head><body>
"""

_PAGE = """<section><h1>{name}</h1><p>{ward}</p>
<p>Your user name is <b>{user}</b>. This page lets one device in, once, within fourteen days:
on your device run <b>wardline enroll</b>, and scan or type this:</p>
{code}
<p><code>{link}</code></p>
<p>Give it to nobody; destroy it once your device is enrolled. Should your device say that it was
used before, call an administrator at once.</p></section>
"""

_FOOT = "</body></html>\n"

OWNER_ONLY = 0o600


class InvitationPages:
    """A file of pages, each durable before its invitation is handed in: none is lost or guessed."""

    def __init__(self, path: Path) -> None:
        """Make the file, for its owner alone.

        Raises:
            OSError: It is there already, or cannot be made.
        """
        self._path, self._pages = path, 0
        self._file: IO[str] = os.fdopen(
            os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, OWNER_ONLY), "w", encoding="utf-8"
        )

    def __enter__(self) -> Self:
        """Begin the file."""
        self._file.write(_HEAD)
        return self

    def add(self, user: str, link: str, *, name: str, ward: str) -> None:
        """Write a person's page, and see to it that it is on the disk."""
        page = _PAGE.format(
            name=html.escape(name),
            ward=html.escape(ward),
            user=html.escape(user),
            code=drawing(link),
            link=html.escape(link),
        )
        self._file.write(page)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._pages += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the file; one without a page goes, so that the command can be given again."""
        self._file.write(_FOOT)
        self._file.close()
        if not self._pages:
            self._path.unlink()
