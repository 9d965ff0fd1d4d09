"""Whatever is killed when: what was answered is there, once, and no epoch has two Commits.

``WARDLINE_CUTS`` (10,000 in ``make crash``) says how many power cuts are replayed and
``WARDLINE_KILLS`` at how many of the writes and syncs the program is killed; without them a few
hundred and a few.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.server.crash import driver, tracing
from tests.server.crash.cuts import Disk, power_cuts
from tests.server.crash.evidence import Told, examine, read_lines
from tests.server.crash.tracing import Event

CUTS = int(os.environ.get("WARDLINE_CUTS", "300"))
KILLS = int(os.environ.get("WARDLINE_KILLS", "8"))
ROUNDS = 12
MODULE = "tests.server.crash.driver"

pytestmark = pytest.mark.skipif(
    tracing.STRACE is None and "CI" not in os.environ,
    reason="strace is not installed: no process is killed and no power is cut",
)


def recorded(directory: Path, *, synchronous: str) -> tuple[Disk, list[Event]]:
    """The disk before a whole run of the driver, and all that the run did to it."""
    files = directory / "files"
    files.mkdir()
    driver.prepare(files)
    disk = Disk(files)
    trace = directory / "trace"
    tracing.run([MODULE, str(files), str(ROUNDS), synchronous], trace)
    return disk, list(tracing.events(trace, files))


def replayed(
    directory: Path, disk: Disk, events: list[Event], *, cuts: int, seed: int
) -> tuple[int, list[str]]:
    """Cut the power ``cuts`` times over the whole run; give how often, and what was lost."""
    found: list[str] = []
    done = 0
    for target, told in power_cuts(directory, disk, events, cuts=cuts, seed=seed):
        found += examine(target, Told().take(read_lines(told)))
        done += 1
    return done, found


def test_no_power_cut_loses_what_was_answered(memory: Path) -> None:
    disk, events = recorded(memory, synchronous="FULL")
    told = [event for event in events if event.call == "tell"]
    synced = [event for event in events if event.call == "sync"]
    assert len(told) > 100
    assert len(synced) > 50
    done, found = replayed(memory, disk, events, cuts=CUTS, seed=1)
    assert (done, found) == (CUTS, [])


def test_the_same_cuts_find_what_a_weaker_setting_loses(memory: Path) -> None:
    disk, events = recorded(memory, synchronous="NORMAL")
    _, found = replayed(memory, disk, events, cuts=min(CUTS, 300), seed=2)
    assert any("is lost" in what for what in found)


@pytest.mark.parametrize("call", ["pwrite64", "fdatasync", "fsync", "ftruncate"])
def test_no_kill_at_a_write_or_sync_loses_what_was_answered(tmp_path: Path, call: str) -> None:
    # strace counts each kind of call apart: a number over all of them would nearly always mean a
    # write, and never a late sync.
    recorded(tmp_path, synchronous="FULL")
    made = (tmp_path / "trace").read_text(errors="replace").count(f"{call}(")
    assert made > 0
    step = max(1, made // KILLS)
    killed = 0
    for at in range(1 + step // 2, made + 1, step):
        files = tmp_path / f"kill{at}"
        files.mkdir()
        driver.prepare(files)
        arguments = [MODULE, str(files), str(ROUNDS)]
        output = tracing.run(arguments, inject=f"signal=KILL:when={at}", calls=call)
        killed += b'"closed"' not in output
        assert examine(files, Told().take(read_lines(output))) == []
        # What the next start does, and the one after it, changes nothing of that.
        assert examine(files, Told().take(read_lines(output))) == []
    assert killed > 0


@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_a_disk_that_fails_for_a_while_costs_time_and_nothing_else(
    tmp_path: Path, call: str, error: str
) -> None:
    files = tmp_path / "files"
    refused = 0
    for at in range(20, 20 + min(KILLS, 40) * 2, 6):
        files.mkdir()
        driver.prepare(files)
        inject = f"error={error}:when={at}..{at + 3}"
        output = tracing.run([MODULE, str(files), "6"], inject=inject, calls=call)
        told = Told().take(read_lines(output))
        assert b'"closed"' in output
        assert len(told.appended) == 6 * 3 + 3 * 3
        assert examine(files, told) == []
        refused += output.count(b'"again"')
        shutil.rmtree(files)
    assert refused > 0
