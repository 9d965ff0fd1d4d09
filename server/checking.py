"""``wardline-relay check``: what must hold of this installation, looked at now.

Everything is read, nothing is changed, and the relay may run meanwhile.
"""

from __future__ import annotations

import asyncio
import ctypes
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from crypto.errors import CryptoError
from crypto.note import SignatureType, SignerKey
from crypto.tls_certificate import tls_ends_ms
from protocol.report import Check, Report
from server import sqlite_schema
from server.configuration import ConfigurationError
from server.ledger import Ledger
from server.secrets import Secrets
from server.sqlite_load import load, read_tally, tally_facts
from server.store import StoreError
from storage.database import DATABASE_ERRORS, uri
from storage.files import write_private

if TYPE_CHECKING:
    from server.program import Program

PROGRAM = "wardline-relay"
DAY_MS = 24 * 3600 * 1000

TLS_LEFT_MS = 30 * DAY_MS
"""Life that the TLS certificate must have left, in ms: clients pin its key, and a renewal that
keeps the key wants a quiet hour to be found."""

DISK_LEFT_BYTES = 2 * 1024**3
"""Room that the disk must have left, in bytes: some two million messages that wait."""

WALL_STEP_MS = 60 * 1000
"""How far, in ms, the wall clock may stand behind the store's last reading of it."""

_UNREADABLE: tuple[type[Exception], ...] = (*DATABASE_ERRORS, StoreError, TypeError, ValueError)
_TIMEX_BYTES = 256
_TIME_ERROR = 5


def create_key(path: Path) -> None:
    """Write a new key for reports to ``path``, for its owner alone.

    Raises:
        FileExistsError: There is a file.
    """
    key = SignerKey.generate(PROGRAM, SignatureType.ED25519)
    write_private(path, key.encode().encode())


def read_key(path: Path) -> SignerKey:
    """Return the key that ``create_key`` wrote.

    Raises:
        FileNotFoundError: There is none.
        DecodeError: The file holds no such key.
    """
    return SignerKey.decode(path.read_text())


def report(program: Program) -> Report:
    """Return what was found of an installation."""
    at_ms = time.time_ns() // 1_000_000
    groups: tuple[Callable[[], Iterator[Check]], ...] = (
        lambda: _files(program),
        lambda: _second_channel(program),
        _clock,
        lambda: _keys(program, at_ms=at_ms),
        lambda: _logs(program.logs, at_ms=at_ms),
        lambda: _secrets(*program.secret_files),
        lambda: _disk(program.data),
    )
    checks = tuple(check for group in groups for check in group())
    return Report(program=PROGRAM, at_ms=at_ms, checks=checks)


def _files(program: Program) -> Iterator[Check]:
    roots = program.roots()
    yield Check(
        name="configuration", holds=bool(roots), found=f"readable, {len(roots)} organisations"
    )
    paths = [program.data, *program.data.rglob("*")]
    rights = stat.S_IRWXG | stat.S_IRWXO
    shared = sum(1 for path in paths if path.lstat().st_mode & rights and not path.is_symlink())
    yield Check(
        name="files are their owner's alone",
        holds=not shared,
        found=f"{len(paths)} files, {shared} open to others",
    )


def _second_channel(program: Program) -> Iterator[Check]:
    """Look at what a start, or the first page that nobody answers, would stumble over."""
    try:
        ways = program.ways()
    except ConfigurationError as error:
        yield Check(name="second channel", holds=False, found=str(error))
        return
    if ways is not None:
        command = ways.settings.command[:1]
        runs = all(map(shutil.which, command))
        told = "" if runs else f", {command[0]} cannot be run"
        yield Check(name="second channel", holds=runs, found=f"{ways.count} people{told}")


def _clock() -> Iterator[Check]:
    kept = is_clock_kept()
    found = "synchronised" if kept else "nobody synchronises it (adjtimex)"
    yield Check(name="clock", holds=kept, found=found)


def is_clock_kept() -> bool:
    """Tell whether the kernel takes its clock for synchronised."""
    state = ctypes.create_string_buffer(_TIMEX_BYTES)
    return bool(0 <= ctypes.CDLL(None).adjtimex(state) < _TIME_ERROR)


def _keys(program: Program, *, at_ms: int) -> Iterator[Check]:
    key = program.witness_key()
    yield Check(name="witness key", holds=True, found=key.verifier.encode())
    if program.configuration.listen.behind_proxy:
        yield Check(name="TLS", holds=True, found=f"ended by a proxy, pin {program.pin().hex()}")
        return
    left_ms = tls_ends_ms(program.tls_files()[0].read_bytes()) - at_ms
    yield Check(
        name="TLS",
        holds=left_ms > TLS_LEFT_MS,
        found=f"{left_ms // DAY_MS} days left, pin {program.pin().hex()}",
    )


def _logs(path: Path, *, at_ms: int) -> Iterator[Check]:
    """Read every head and counter of the logs, as a start does."""
    try:
        with closing(sqlite3.connect(uri(path, "ro"), uri=True)) as db:
            db.text_factory = sqlite_schema.text
            db.execute("BEGIN")
            ledger, facts = load(db), read_tally(db) == tally_facts(db)
    except _UNREADABLE as error:
        yield Check(name="logs", holds=False, found=type(error).__name__)
        return
    yield _whole(ledger, facts=facts)
    behind_ms = ledger.clock.wall_ms - at_ms
    yield Check(
        name="clock and store agree",
        holds=behind_ms <= WALL_STEP_MS,
        found=f"the clock stands {max(0, behind_ms) // 1000} s before the store's",
    )


def _whole(ledger: Ledger, *, facts: bool) -> Check:
    unreadable = sum(map(len, ledger.unreadable.values()))
    damaged = sum(1 for log in ledger.logs.values() if log.damaged)
    holds = not (ledger.awaiting or unreadable or damaged) and facts
    found = f"{len(ledger.logs)} logs, {ledger.entries} entries, {unreadable} rows unreadable"
    if ledger.awaiting:
        found += ", awaits the archive"
    return Check(name="logs", holds=holds, found=found)


def _secrets(path: Path, key: Path) -> Iterator[Check]:
    async def opened() -> bool:
        kept = await Secrets.open(path, key)
        try:
            return await kept.awaiting_archive()
        finally:
            await kept.close()

    try:
        awaiting = asyncio.run(opened())
    except (StoreError, CryptoError) as error:
        yield Check(name="secrets", holds=False, found=type(error).__name__)
        return
    found = "every page is whole" + (", awaits the archive" if awaiting else "")
    yield Check(name="secrets", holds=not awaiting, found=found)


def _disk(data: Path) -> Iterator[Check]:
    usage = shutil.disk_usage(data)
    yield Check(
        name="disk",
        holds=usage.free >= DISK_LEFT_BYTES,
        found=f"{usage.free // 1024**2} of {usage.total // 1024**2} MiB free",
    )
