"""A locked device's start under a wipe order: ``python -m tests.client.crash.ordered ROOT``."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from pathlib import Path

from client import wiping
from client.errors import LinkError
from client.profile import profiles


def clock() -> int:
    return time.time_ns() // 1_000_000


async def main(root: Path) -> None:
    await wiping.resume(root, clock=clock)
    for profile in profiles(root):
        with suppress(LinkError):
            await wiping.obey(profile, clock=clock)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
    sys.stdout.write("ended")
