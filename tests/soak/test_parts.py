"""The soak's faults and clock."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from release.lock import ROOT
from soak.clocked import set_clock
from soak.faults import Deck
from soak.mix import GROUPS, PAIRS
from soak.ward import CLINICIANS


def names(seed: int) -> list[list[str]]:
    deck = Deck(seed)
    return [[fault.name for fault in deck.draw()] for _ in range(60)]


def test_the_same_seed_breaks_the_same_in_the_same_order() -> None:
    assert names(7) == names(7)
    assert names(7) != names(8)


def test_every_kind_of_fault_comes_before_any_comes_a_third_time() -> None:
    played = [name for faults in names(7) for name in faults]
    kinds = set(played)
    assert len(kinds) == 22
    assert set(played[: 2 * len(kinds)]) == kinds


def test_two_faults_at_once_never_break_the_same() -> None:
    deck = Deck(3)
    pairs = [faults for _ in range(300) if len(faults := deck.draw()) == 2]
    assert pairs
    assert not [pair for pair in pairs if pair[0].touches & pair[1].touches]


def test_everybody_who_is_talked_to_has_a_device() -> None:
    people = {user for _, stays, floats in GROUPS for user in (*stays, *floats)}
    assert people | {user for pair in PAIRS for user in pair} <= set(CLINICIANS)


def test_a_programs_wall_clock_jumps_while_it_runs_and_its_monotonic_clock_does_not(
    tmp_path: Path,
) -> None:
    clock, program = tmp_path / "clock", tmp_path / "program.py"
    program.write_text(
        "import sys, time\n"
        "for _ in sys.stdin:\n"
        "    print(time.time_ns(), time.monotonic_ns(), flush=True)\n"
    )
    set_clock(clock, 0)
    command = [sys.executable, "-m", "soak.clocked", str(clock), str(program)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def told() -> tuple[float, float]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            wall, monotonic = process.stdout.readline().split()
            return int(wall) / 1e9 - time.time(), int(monotonic) / 1e9 - time.monotonic()

        assert max(map(abs, told())) < 60
        set_clock(clock, -86_400)
        wall_s, monotonic_s = told()
        assert abs(wall_s + 86_400) < 60
        assert abs(monotonic_s) < 60
        process.stdin.close()
