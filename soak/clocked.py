"""``python -m soak.clocked FILE PROGRAM ...``: the program, with a wall clock that can be set.

``FILE`` holds by how much its wall clock is wrong, so that it jumps while the program runs. The
monotonic clock is left alone, as it is where somebody sets a machine's clock.
"""

from __future__ import annotations

import mmap
import runpy
import struct
import sys
import time
from pathlib import Path

_OFFSET = struct.Struct("=q")


def set_clock(file: Path, offset_s: float) -> None:
    """Set by how many seconds the clock behind ``file`` is fast."""
    with file.open("r+b" if file.exists() else "w+b") as out:
        out.write(_OFFSET.pack(round(offset_s * 1e9)))


def _follow(file: Path) -> None:
    """Let this process's wall clock follow ``file``."""
    with file.open("rb") as given:
        offset = mmap.mmap(given.fileno(), _OFFSET.size, prot=mmap.PROT_READ)
    real_ns = time.time_ns

    def time_ns() -> int:
        return real_ns() + int(_OFFSET.unpack(offset[:])[0])

    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9


def main() -> None:
    """Run the program that the command line names."""
    file, program, *arguments = sys.argv[1:]
    _follow(Path(file))
    sys.argv = [program, *arguments]
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
