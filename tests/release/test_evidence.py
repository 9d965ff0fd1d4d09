"""The evidence file: a line a run, with the commit that ran."""

from __future__ import annotations

import json
from pathlib import Path

from release.evidence import EVIDENCE, Evidence, append, commit

FIELDS = {"run", "ended", "commit", "seed", "count", "failures", "duration_s"}


def test_a_run_adds_one_line_and_leaves_those_before(tmp_path: Path) -> None:
    file = tmp_path / "evidence.jsonl"
    file.write_text('{"run": "earlier"}\n')
    run = Evidence(run="soak", seed=7, count=12, failures=1, duration_s=3.21, more={"pages": 2})
    append(run, file=file)
    first, second = map(json.loads, file.read_text().splitlines())
    assert first == {"run": "earlier"}
    assert set(second) == FIELDS | {"pages"}
    assert (second["seed"], second["count"], second["failures"]) == (7, 12, 1)
    assert second["commit"] == commit()


def test_every_line_of_the_evidence_says_what_ran_at_which_commit_and_what_failed() -> None:
    lines = EVIDENCE.read_text().splitlines() if EVIDENCE.exists() else []
    assert [line for line in map(json.loads, lines) if set(line) < FIELDS] == []
