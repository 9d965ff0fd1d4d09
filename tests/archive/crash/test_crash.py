"""Whatever is killed when: what left the archive's process is on its disk, once, and unforked.

``WARDLINE_CUTS`` (10,000 in ``make crash``) says how many power cuts are replayed and
``WARDLINE_KILLS`` at how many of the writes and syncs the program is killed; without them a few
dozen and a few.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.archive.crash.driver import Outside, Script
from tests.archive.crash.evidence import examine
from tests.archive.crash.scene import prepare
from tests.server.crash import tracing
from tests.server.crash.cuts import Disk, power_cuts
from tests.server.crash.tracing import Event

CUTS = int(os.environ.get("WARDLINE_CUTS", "40"))
KILLS = int(os.environ.get("WARDLINE_KILLS", "1"))
MODULE = "tests.archive.crash.driver"

pytestmark = pytest.mark.skipif(
    tracing.STRACE is None and "CI" not in os.environ,
    reason="strace is not installed: no process is killed and no power is cut",
)


class Theatre:
    """An archive as it was before, and the script of what happens to it.

    Attributes:
        script: What happens.
        path: Where that stands.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self.path = folder / "script"
        self.script: Script = prepare(folder / "before")
        self.script.write(self.path)

    def stage(self) -> Path:
        """Return the files once more."""
        self._count += 1
        return Path(shutil.copytree(self._folder / "before", self._folder / f"{self._count}"))

    def run(self, files: Path, trace: Path | None = None, **how: str) -> bytes:
        """Let it happen to files; return what left the process."""
        return tracing.run([MODULE, str(files), str(self.path)], trace, **how)


@pytest.fixture
def theatre(memory: Path) -> Theatre:
    return Theatre(memory)


def recorded(theatre: Theatre, trace: Path) -> tuple[Disk, list[Event]]:
    """Return the disk before a whole run, and all that the run did to it."""
    files = theatre.stage()
    disk = Disk(files)
    theatre.run(files, trace)
    return disk, list(tracing.events(trace, files))


def test_no_power_cut_loses_what_others_rest_on(theatre: Theatre, memory: Path) -> None:
    disk, events = recorded(theatre, memory / "trace")
    assert sum(event.call == "tell" for event in events) > 12
    assert sum(event.call == "sync" for event in events) > 30
    found: list[str] = []
    done = 0
    for files, told in power_cuts(memory, disk, events, cuts=CUTS, seed=1):
        found += examine(files, theatre.script, Outside().take(told))
        done += 1
    assert (done, found) == (CUTS, [])


def test_no_kill_at_a_write_or_sync_loses_what_others_rest_on(
    theatre: Theatre, memory: Path
) -> None:
    recorded(theatre, memory / "trace")
    trace = (memory / "trace").read_text(errors="replace")
    # strace counts each kind of call apart.
    for call in tracing.WRITES.split(","):
        killed = 0
        for at in _spread(trace.count(f"{call}(")):
            files = theatre.stage()
            output = theatre.run(files, inject=f"signal=KILL:when={at}", calls=call)
            killed += b'"closed"' not in output
            assert examine(files, theatre.script, Outside().take(output)) == []
            shutil.rmtree(files)
        assert killed > 0


def _spread(made: int) -> Iterator[int]:
    step = max(1, made // KILLS)
    yield from range(1 + step // 2, made + 1, step)


@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_a_disk_that_fails_for_a_while_costs_time_and_nothing_else(
    theatre: Theatre, call: str, error: str
) -> None:
    refused = 0
    for at in range(3, 3 + KILLS * 10, 10):
        files = theatre.stage()
        output = theatre.run(files, inject=f"error={error}:when={at}..{at + 3}", calls=call)
        outside = Outside().take(output)
        assert b'"closed"' in output
        assert outside.acknowledged == len(theatre.script.entries)
        assert examine(files, theatre.script, outside) == []
        refused += output.count(b'"again"')
        shutil.rmtree(files)
    assert refused > 0
