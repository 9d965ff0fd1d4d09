"""The evidence file: one line for each deep run, appended when it ends, never rewritten."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from release.lock import ROOT

EVIDENCE = ROOT / "docs" / "evidence.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a deep run did, and what it found.

    Attributes:
        run: Its make target, as ``soak``.
        seed: By which it is repeated.
        count: What it counts: messages, seeds, inputs.
        failures: How often something that must hold did not.
        duration_s: How long it took, by the clock.
        more: What else is worth keeping, by name.
    """

    run: str
    seed: int
    count: int
    failures: int
    duration_s: float
    more: Mapping[str, object] = field(default_factory=dict)

    def encode(self, *, commit: str, at_s: float) -> str:
        """Return the line, without its end."""
        facts = {
            "run": self.run,
            "ended": datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds"),
            "commit": commit,
            "seed": self.seed,
            "count": self.count,
            "failures": self.failures,
            "duration_s": round(self.duration_s, 1),
        }
        return json.dumps({**facts, **self.more}, ensure_ascii=False)


def append(evidence: Evidence, *, file: Path = EVIDENCE) -> str:
    """Append a run's line to the evidence file, and return it."""
    line = evidence.encode(commit=commit(), at_s=time.time())
    with file.open("a", encoding="utf-8") as out:
        out.write(f"{line}\n")
    return line


def commit() -> str:
    """Return the commit that runs; ``+`` behind it where files differ from it."""
    head = _git("rev-parse", "--short=12", "HEAD")
    if not head:
        return "unknown"
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", f":!{EVIDENCE.name}")
    other = [line for line in changed.splitlines() if not line.endswith(EVIDENCE.name)]
    return f"{head}+" if other else head


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - no outside words
    return ended.stdout.strip()
