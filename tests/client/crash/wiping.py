"""A program's start that wipes its one profile: ``python -m tests.client.crash.wiping ROOT``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from client.profile import profiles, remove_unfinished
from client.wipe import WipeState, begin, finish, resume, state


def main(root: Path) -> None:
    remove_unfinished(root, now_ms=time.time_ns() // 1_000_000)
    for profile in profiles(root):
        if state(profile) is WipeState.NONE:
            begin(profile, b"order")
        resume(profile)
        finish(profile)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    sys.stdout.write("ended")
