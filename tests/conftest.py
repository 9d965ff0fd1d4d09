"""What holds for every test."""

from __future__ import annotations

import gc
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

from tests.depth import DEPTH

EXAMPLES = 100
"""Of each property that does not say how many: Hypothesis's own number."""

# An example that is slow on a busy machine is no fault; speed is measured in bench/.
settings.register_profile("wardline", deadline=None, max_examples=EXAMPLES * DEPTH)
settings.load_profile("wardline")

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
