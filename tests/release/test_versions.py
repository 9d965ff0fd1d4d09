"""Each program says which version it is: an operator who upgrades looks at all three."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version

import pytest

MODULES = {"wardline": "client_cli", "wardline-relay": "server", "wardline-archive": "archive"}


def said_by(module: str, *options: str) -> str:
    command = [sys.executable, "-m", module, "--version", *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return ended.stdout


@pytest.mark.parametrize("program", MODULES)
def test_a_program_says_which_version_it_is(program: str) -> None:
    assert said_by(MODULES[program]) == f"{program} {version('wardline')}\n"


def test_a_script_is_told_the_version_as_json() -> None:
    assert json.loads(said_by("client_cli", "--json")) == {"version": version("wardline")}
