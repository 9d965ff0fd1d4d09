"""The package's README runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import crypto

README = Path(crypto.__file__).with_name("README.md")


def test_the_code_in_the_readme_runs_and_says_what_was_sent(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(compile(code, "crypto/README.md", "exec"), {})
    assert capsys.readouterr().out == "0 bed 12: please look at the ECG\n"


def test_the_readme_names_every_module_of_the_package() -> None:
    named = set(re.findall(r"`(\w+)`", README.read_text()))
    modules = {path.stem for path in README.parent.glob("*.py")} - {"__init__"}
    assert modules - named == set()
