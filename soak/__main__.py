"""``make soak``: by seed and duration, in a sandbox of its own; appends a line to the evidence.

The process starts itself anew with network, mounts and process ids of its own: hosts are network
namespaces, and all of it vanishes with it. It needs root, or a kernel that gives users namespaces.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

from demo.dialogues import find
from demo.night import Night
from demo.programs import DemoError
from demo.stage import Stage
from release.evidence import Evidence, append
from soak.campaign import Campaign
from soak.mix import RATE
from soak.ward import Ward

SANDBOX = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
NEEDED = ("ip", "mount", "nsenter", "unshare")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--rate", type=float, default=RATE, help="messages a second, of all")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _enter(arguments: argparse.Namespace) -> NoReturn:
    """Start anew in a sandbox."""
    missing = [program for program in NEEDED if shutil.which(program) is None]
    if missing:
        sys.exit(f"make soak: {', '.join(missing)} missing (iproute2, util-linux)")
    mapped = () if os.getuid() == 0 else ("--user", "--map-root-user")
    given = (f"--hours={arguments.hours}", f"--seed={arguments.seed}", f"--rate={arguments.rate}")
    command = ["unshare", *mapped, *SANDBOX, sys.executable, "-m", "soak", *given, "--inside"]
    os.execvp(command[0], command)  # noqa: S606 - ourselves, no shell


async def _soak(arguments: argparse.Namespace, folder: Path) -> Campaign:
    ward = Ward(folder)
    night = Night(hospital=ward.hospital, stage=Stage(), source=find(None))
    campaign = Campaign(night, ward, seed=arguments.seed, rate=arguments.rate)
    night.stage.tell(f"seed {arguments.seed}, {arguments.hours} hours, in {folder}")
    try:
        await campaign.begin()
        await campaign.go_on(until_s=time.monotonic() + arguments.hours * 3600)
    except DemoError as error:
        campaign.failures.append(f"it did not go to its end: {error}")
        night.stage.tell(f"NOT SO: {error}")
    finally:
        await ward.hospital.shut()
    return campaign


def main() -> int:
    """Soak; return 1 where something did not hold."""
    arguments = _arguments()
    if not arguments.inside:
        _enter(arguments)
    folder = Path(tempfile.mkdtemp(prefix="wardline-soak-"))
    began_s = time.monotonic()
    campaign = asyncio.run(_soak(arguments, folder))
    line = append(
        Evidence(
            run="soak",
            seed=arguments.seed,
            count=campaign.sent,
            failures=len(campaign.failures),
            duration_s=time.monotonic() - began_s,
            more={
                "shown": campaign.shown,
                "pages": campaign.pages,
                "checks": campaign.checks,
                "slowest_check_s": round(campaign.slowest_s, 1),
                "faults": dict(sorted(campaign.faults.items())),
                "failed": campaign.failures[:20],
            },
        )
    )
    sys.stdout.write(f"\n{line}\n")
    return 1 if campaign.failures else 0


if __name__ == "__main__":
    sys.exit(main())
