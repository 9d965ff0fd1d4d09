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

EXACT = ("crypto", "interop", "protocol", "storage", "vectors")
"""Parts whose tests have no clock, no process and no socket: what fails there once is wrong."""

_HERE = Path(__file__).parent
_OPEN = pytest.StashKey[int]()
_PROCESS = psutil.Process()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Try what hangs on the machine's time once more where it fails; the run's end names it.

    Deep runs are for finding what is rare: there nothing is tried twice.
    """
    for item in items:
        if DEPTH == 1 and item.path.relative_to(_HERE).parts[0] not in EXACT:
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Count what is open before a test."""
    if getattr(sys, "last_value", None) is not None:
        # What failed before keeps what it had open, and has said so itself.
        sys.last_type = sys.last_value = sys.last_traceback = None
        _collected()
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
    left = _collected()
    if left:
        pytest.fail(f"left open: {', '.join(left)}", pytrace=False)


def _collected() -> list[str]:
    """Collect, and return what was noticed to be open of what nobody holds any more."""
    left: list[str] = []
    noticed, sys.unraisablehook = sys.unraisablehook, lambda one: left.append(repr(one.exc_value))
    try:
        gc.collect()
    finally:
        sys.unraisablehook = noticed
    return left


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory, where there is one: a replayed disk needs no real one."""
    shared = Path("/dev/shm")
    if not shared.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="wardline-", dir=shared) as directory:
        yield Path(directory)
