"""What holds for every test."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings

from tests.depth import DEPTH

EXAMPLES = 100
"""Of each property that does not say how many: Hypothesis's own number."""

# What is slow on a busy machine is no fault, neither an example nor how it is made; speed is
# measured in bench/.
settings.register_profile(
    "wardline",
    derandomize=False,
    deadline=None,
    max_examples=EXAMPLES * DEPTH,
    suppress_health_check=[HealthCheck.too_slow],
)
# Where CI is set the same tree is the same examples: what fails there fails here. Others are tried
# wherever people work, and deep runs (`make fuzz`) are made of new ones each time.
settings.register_profile(
    "wardline-ci", settings.get_profile("wardline"), derandomize=DEPTH == 1, print_blob=True
)
settings.load_profile("wardline-ci" if os.environ.get("CI") else "wardline")

_OPEN = pytest.StashKey[int]()
_PROCESS = psutil.Process()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Count what is open before a test."""
    item.stash[_OPEN] = _PROCESS.num_fds()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Let a test fail itself for what it left open, and no later one that happens to collect it.

    Collecting after every test would take longer than most of them, so only where more is open.
    """
    yield
    if _PROCESS.num_fds() <= item.stash[_OPEN]:
        return
    left: list[str] = []
    noticed, sys.unraisablehook = sys.unraisablehook, lambda one: left.append(repr(one.exc_value))
    try:
        gc.collect()
    finally:
        sys.unraisablehook = noticed
    if left:
        pytest.fail(f"left open: {', '.join(left)}", pytrace=False)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory, where there is one: a replayed disk needs no real one."""
    shared = Path("/dev/shm")
    if not shared.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="wardline-", dir=shared) as directory:
        yield Path(directory)
