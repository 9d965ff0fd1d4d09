"""``wardline-relay``, and ``python -m server``."""

from __future__ import annotations

import os
import sys

FORGETTING = {
    "MALLOC_PERTURB_": "165",
    "GLIBC_TUNABLES": "glibc.malloc.tcache_max=160:glibc.malloc.tcache_count=64",
    "PYTHONMALLOC": "malloc",
}
"""Settings by which freed memory is overwritten, so that no ciphertext stays in it.

The first is glibc's. Without the second, blocks of up to a kilobyte, which most messages are, keep
what was in them: they go into a cache for each thread that the first one does not reach. It is left
to blocks that are shorter than any message, for they are what a program allocates nearly always,
and to so few of a size that a busy second uses all of them again. Without the third, Python keeps
blocks of up to half a kilobyte, the smallest messages, to itself.
"""


def main() -> int:
    """Run the program under ``FORGETTING``, starting it anew where that is not set.

    glibc reads its settings when a process begins and only then. The program is imported after
    that, so that a start pays for its imports once.
    """
    if any(name not in os.environ for name in FORGETTING):
        environment = {**FORGETTING, **os.environ}
        arguments = [sys.executable, "-m", "server", *sys.argv[1:]]
        os.execve(sys.executable, arguments, environment)  # noqa: S606 - ourselves, no shell
    from server.program import main as program  # noqa: PLC0415 - see above

    return program()


if __name__ == "__main__":
    sys.exit(main())
