"""``wardline relay``: the program itself, after a relay's TLS key was exchanged."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from client.unlocking import unlock
from crypto.tls_certificate import create_tls_identity, tls_pin
from tests.client.openable import PIN
from tests.flipped import flipped
from tests.scenarios.process import serving
from tests.scenarios.test_stolen_phone import phone_of
from tests.server import harness
from tests.server.harness import now_ms
from tests.shared import ROOT


def told(home: Path, place: str, pin: bytes) -> tuple[int, dict[str, Any]]:
    """Run the program; return its status, and what it said."""
    program = [sys.executable, "-m", "client_cli", "--json", "--home", str(home)]
    ended = subprocess.run(
        [*program, "relay", place, "--pin", pin.hex()],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, json.loads(ended.stdout or ended.stderr)


async def test_a_device_takes_the_relays_new_key_from_its_person_and_no_wrong_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    of, home = harness.hospital(), tmp_path / "home"
    async with serving(tmp_path / "relay", of) as at:
        profile = await phone_of(home, of.enrol("ann/phone"), at)
        await at.stop()
        identity = create_tls_identity("relay", at_ms=now_ms())
        (at.data / "tls.pem").write_bytes(identity.certificate)
        (at.data / "tls.key").write_bytes(identity.key)
        await at.start()
        place, pin = f"127.0.0.1:{at.port}", tls_pin(identity.certificate)
        status, said = await asyncio.to_thread(told, home, place, flipped(pin))
        assert (status, said["error"]) == (5, "impostor")
        status, said = await asyncio.to_thread(told, home, place, pin)
        assert (status, said) == (0, {"relay": place, "pin": pin.hex()})
        opened = await unlock(profile, PIN, now_ms=now_ms())
        assert not opened.leased
        opened.store.close()
        assert opened.address.tls_pin == pin
