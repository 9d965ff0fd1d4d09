"""What the relay imports of this package reaches nothing that decrypts or derives a store's key."""

from __future__ import annotations

import subprocess
import sys

import pytest

FORBIDDEN = {"attachment", "hpke", "pin", "sealing", "shares", "xwing", "mls"}


@pytest.mark.parametrize("module", ["attachment_layout", "pin_proof", "witness", "log_proof"])
def test_the_relays_modules_reach_no_module_that_opens_anything(module: str) -> None:
    program = f"import sys, crypto.{module}; print(*sys.modules)"
    names = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    loaded = {name.split(".")[1] for name in names if name.startswith("crypto.")}
    assert module in loaded
    assert loaded & FORBIDDEN == set()
