"""A device that is killed at any call while it follows its order has followed it at the next start.

``WARDLINE_KILLS=0`` kills it at every call of each kind, else at every third.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from client.errors import WipingError
from client.lease import LEASE
from client.profile import CONNECTION, HEADER, STORE, profiles
from client.wipe import WipeState, state
from tests.client.crash.test_crash import KILLS, killing, pytestmark, traced
from tests.client.openable import KEY
from tests.client.orders import entry_of, handing, item, order_for
from tests.client.test_wiping import profile_at
from tests.server import harness

__all__ = ["pytestmark"]
ORDERED = "tests.client.crash.ordered"
STRIDE = 3 if KILLS else 1
WHOLE = {HEADER, STORE, CONNECTION, LEASE, "files"}


async def started(root: Path, options: list[str]) -> bool:
    """Run the program; return whether it came to its end."""
    return await asyncio.to_thread(traced, options, [ORDERED, str(root)]) == b"ended"


def examine(root: Path, share: bytes) -> None:
    """Show that what is left is a whole profile, or one that opens no more."""
    for profile in profiles(root):
        names = {path.name for path in profile.directory.iterdir()}
        if state(profile) is WipeState.NONE:
            assert names >= WHOLE
            profile.open(KEY, share).close()
        else:
            with pytest.raises(WipingError):
                profile.open(KEY, share)


@pytest.mark.parametrize(
    ("call", "least"), [("fsync", 8), ("unlink", 4), ("rename", 1), ("rmdir", 2)]
)
async def test_a_device_that_is_killed_while_it_follows_its_order_never_opens_half_wiped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, least: int
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    of = harness.hospital()
    ann = of.enrol("ann/phone")
    whole, root = tmp_path / "whole", tmp_path / "people"
    async with handing(tmp_path, [entry_of(ann, item(order_for(of, ann)))]) as (address, handed):
        profile_at(whole, address, of, ann)
        share = (next(whole.rglob(LEASE)).read_bytes())[10:42]
        at, ended = 0, False
        while not ended:
            at += STRIDE if at else 1
            shutil.copytree(whole, root)
            ended = await started(root, killing(call, at))
            examine(root, share)
            assert await started(root, ["-e", "trace=none", "-o", "/dev/null"])
            assert list(root.iterdir()) == []
            shutil.rmtree(root)
        assert at > least
        assert handed.posted
