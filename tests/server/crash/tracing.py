"""What a program did to its files, in order, as strace saw it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

STRACE = shutil.which("strace")
"""Without it, these tests are skipped; the continuous integration installs it."""

CALLS = "openat,write,pwrite64,fsync,fdatasync,ftruncate,unlink,unlinkat,rename,renameat2"

WRITES = "pwrite64,fsync,fdatasync,ftruncate"

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened.

    ``call`` is ``write`` (``data`` at ``offset``), ``truncate`` (to ``offset``), ``sync``,
    ``create``, ``unlink``, or ``tell`` for what the program said.
    """

    call: str
    path: str
    data: bytes = b""
    offset: int = 0


_UNFINISHED = re.compile(r"^(\d+) +(\w+)\((.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")
_WHOLE = re.compile(r"^(\d+) +(\w+)\((.*)$")
_RESULT = re.compile(r"^(.*)\) += (-?\d+)")
_FD = re.compile(r"^\d+<((?:\\x[0-9a-f]{2})*)>")
_STRINGS = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


def _bytes(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))


def run(
    arguments: list[str], trace: Path | None = None, *, inject: str = "", calls: str = WRITES
) -> bytes:
    """Run a Python module under strace, and give what it wrote to its standard output."""
    assert STRACE is not None
    command = [STRACE, "-f"]
    if trace is not None:
        command += [
            "--seccomp-bpf",
            "-y",
            "-xx",
            "-s",
            "10000000",
            "-e",
            f"trace={CALLS}",
            "-o",
            str(trace),
        ]
    else:
        command += ["-e", f"trace={calls}", "-e", f"inject={calls}:{inject}", "-o", "/dev/null"]
    done = subprocess.run(
        [*command, sys.executable, "-m", *arguments],
        cwd=ROOT,
        capture_output=True,
        check=trace is not None,
        timeout=120,
    )
    return done.stdout


def events(trace: Path, directory: Path) -> Iterator[Event]:
    """What happened to files below ``directory``, in the order in which it was done.

    A call that overlapped others counts where it returned: what a sync covers was written before,
    as each file has one thread that writes and syncs it.
    """
    begun: dict[str, str] = {}
    for line in trace.read_text().splitlines():
        if found := _UNFINISHED.match(line):
            begun[found[1]] = found[3]
            continue
        if found := _RESUMED.match(line):
            name, rest = found[2], begun.pop(found[1]) + found[3]
        elif found := _WHOLE.match(line):
            name, rest = found[2], found[3]
        else:
            continue
        result = _RESULT.match(rest)
        if result and int(result[2]) >= 0:
            yield from _event(name, result[1], str(directory))


def _event(name: str, arguments: str, directory: str) -> Iterator[Event]:
    descriptor = _FD.match(arguments)
    strings = [_bytes(found) for found in _STRINGS.findall(arguments)]
    if name == "write" and arguments.startswith("1<"):
        yield Event(call="tell", path="", data=strings[0])
        return
    if name in ("openat", "unlink", "unlinkat"):
        path = strings[0].decode()
    else:
        path = _bytes(descriptor[1]).decode() if descriptor else ""
    if not path.startswith(directory) or path.endswith("-shm"):
        return
    if name == "openat":
        if "O_CREAT" in arguments:
            yield Event(call="create", path=path)
    elif name in ("unlink", "unlinkat"):
        yield Event(call="unlink", path=path)
    elif name in ("fsync", "fdatasync"):
        yield Event(call="sync", path=path)
    elif name == "ftruncate":
        yield Event(call="truncate", path=path, offset=_last_number(arguments))
    elif name == "pwrite64":
        yield Event(call="write", path=path, data=strings[0], offset=_last_number(arguments))
    else:
        raise AssertionError(f"{name} is not understood: what is not replayed is not tested")


def _last_number(arguments: str) -> int:
    return int(arguments.rsplit(", ", 1)[1])
