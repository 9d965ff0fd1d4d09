"""``wardline pin``: the program itself, on a relay's process."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from client.errors import WrongPinError
from client.unlocking import unlock
from tests.client.openable import PIN
from tests.scenarios.process import serving
from tests.scenarios.test_stolen_phone import phone_of
from tests.server import harness
from tests.server.harness import now_ms
from tests.shared import ROOT

OTHER = "271828"


def changing(home: Path, old: str, new: str) -> tuple[int, dict[str, Any]]:
    """Run the program; return its status, and what it said."""
    for name, pin in (("old", old), ("new", new)):
        (home.parent / name).write_text(pin)
    program = [sys.executable, "-m", "client_cli", "--json"]
    before = ["--home", str(home), "--pin-file", str(home.parent / "old")]
    ended = subprocess.run(
        [*program, *before, "pin", "--new-pin-file", str(home.parent / "new")],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, json.loads(ended.stdout or ended.stderr)


async def test_the_new_pin_opens_and_the_old_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    of = harness.hospital()
    async with serving(tmp_path / "relay", of) as at:
        home = tmp_path / "home"
        profile = await phone_of(home, of.enrol("ann/phone"), at)
        status, said = await asyncio.to_thread(changing, home, OTHER, OTHER)
        assert (status, said["exit"]) == (3, 3)
        status, said = await asyncio.to_thread(changing, home, PIN, OTHER)
        assert (status, said) == (0, {"changed": True})
        with pytest.raises(WrongPinError):
            await unlock(profile, PIN, now_ms=now_ms())
        (await unlock(profile, OTHER, now_ms=now_ms())).store.close()
