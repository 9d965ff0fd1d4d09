"""Wheel and source distribution: built, installed without this checkout, and started."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from archive.forgetting import FORGETTING as ARCHIVE_FORGETS
from release.lock import ROOT
from server.__main__ import FORGETTING as RELAY_FORGETS

BUILD_S = 180
"""Seconds that a build may take on a machine that is busy."""

DATA = (
    "server/blocklist.txt",
    "crypto/py.typed",
    "client_cli/py.typed",
    "archive/py.typed",
    "storage/py.typed",
)
"""Files that are no Python and must be in the wheel."""


def run(*command: str | Path, cwd: Path, **more: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    ended = subprocess.run(
        command,
        cwd=cwd,
        env={**environment, **more},
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    return ended.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with source distribution and wheel, the wheel built from the former."""
    out = tmp_path_factory.mktemp("dist")
    source = tmp_path_factory.mktemp("source") / "wardline"
    files = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in filter(None, files.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source, cwd=out)
    return out


def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


def test_the_wheel_has_every_package_and_its_data_and_nothing_else(built: Path) -> None:
    names = zipfile.ZipFile(wheel(built)).namelist()
    assert set(DATA) <= set(names)
    top = {name.split("/")[0] for name in names if "dist-info" not in name}
    assert top == {"archive", "client", "client_cli", "crypto", "protocol", "server", "storage"}
    for package in top:
        here = {path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py")}
        assert here <= set(names)


def test_the_source_distribution_can_be_tested_and_installed_by_lock_file(built: Path) -> None:
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "Makefile",
        "requirements.lock",
        "packaging/requirements.lock",
        "packaging/install.sh",
        "docs/operations.md",
        "tests/test_layout.py",
    } <= names
    assert not any("node_modules" in name for name in names)


def test_every_program_starts_from_the_wheel_alone(built: Path, tmp_path: Path) -> None:
    """The dependencies come from this environment's folder, the project from the wheel."""
    environment = tmp_path / "venv"
    run(sys.executable, "-m", "venv", environment, cwd=tmp_path)
    python = environment / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", wheel(built), cwd=tmp_path)
    packages = run(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path
    )
    # A line of a .pth adds the folder, but not what its own .pth files add: this checkout is out.
    (Path(packages.strip()) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = run(python, "-c", "import server; print(server.__file__)", cwd=tmp_path)
    assert where.startswith(str(environment))
    scripts = configparser.ConfigParser()
    with zipfile.ZipFile(wheel(built)) as archive:
        (entry_points,) = (n for n in archive.namelist() if n.endswith("entry_points.txt"))
        scripts.read_string(archive.read(entry_points).decode())
    assert set(scripts["console_scripts"]) >= {"wardline-relay", "wardline-archive"}
    for program in scripts["console_scripts"]:
        assert "usage" in run(environment / "bin" / program, "--help", cwd=tmp_path).lower()


def test_the_container_gets_every_package_that_the_wheel_has() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = settings["tool"]["setuptools"]["packages"]["find"]["include"]
    copied = re.findall(
        r"^COPY (\w+) \1$", (ROOT / "packaging/Containerfile").read_text(), re.MULTILINE
    )
    assert {f"{name}*" for name in copied} == set(included)


@pytest.mark.parametrize(
    "file", ["systemd/wardline-relay.service", "systemd/wardline-archive.service", "Containerfile"]
)
def test_how_memory_is_overwritten_is_left_to_each_program(file: str) -> None:
    text = (ROOT / "packaging" / file).read_text()
    assert [name for name in (*RELAY_FORGETS, *ARCHIVE_FORGETS) if name in text] == []
