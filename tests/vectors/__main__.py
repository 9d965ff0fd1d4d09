"""``python -m tests.vectors DIR...`` checks every JSON file of vectors below the folders.

Prints a line a file: cases passed, refused by a named rule of the package, and failed. The exit
status is 1 where a case failed or where there was none, for nothing checked is not a success.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from crypto.errors import CryptoError
from tests.vectors.cases import run_case


@dataclass
class Tally:
    """What became of the cases of one file."""

    passed: int = 0
    failed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def run_file(path: Path) -> Tally:
    """Check all cases of one file."""
    tally = Tally()
    cases = json.loads(path.read_text())
    for number, case in enumerate(cases if isinstance(cases, list) else [cases]):
        try:
            run_case(case)
        except CryptoError as error:
            tally.refused[f"{type(error).__name__}: {error}"] += 1
        except Exception as error:
            tally.failed += 1
            tally.failures.append(f"case {number}: {type(error).__name__}: {error}"[:200])
        else:
            tally.passed += 1
    return tally


def main(folders: list[str]) -> int:
    """Check every file; see the module's text."""
    files = sorted(path for folder in folders for path in Path(folder).rglob("*.json"))
    total: Counter[str] = Counter()
    for path in files:
        tally = run_file(path)
        refused = tally.refused.total()
        total.update(passed=tally.passed, refused=refused, failed=tally.failed)
        line = f"{path.name}: {tally.passed} passed, {refused} refused, {tally.failed} failed"
        print(line)  # noqa: T201 - a command's output
        for rule, count in tally.refused.items():
            print(f"    {count} refused by {rule}")  # noqa: T201 - a command's output
        for failure in tally.failures:
            print(f"    {failure}")  # noqa: T201 - a command's output
    summary = ", ".join(f"{total[word]} {word}" for word in ("passed", "refused", "failed"))
    print(f"{len(files)} files: {summary}")  # noqa: T201 - a command's output
    return 1 if total["failed"] or not total.total() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
