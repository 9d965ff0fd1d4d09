"""``wardline-relay``, and ``python -m server``."""

from __future__ import annotations

import os
import sys

PERTURB = "MALLOC_PERTURB_"
"""glibc's setting by which freed memory is overwritten, so that no ciphertext stays in it."""


def main() -> int:
    """Run the program under ``MALLOC_PERTURB_``, starting it anew where that is not set.

    glibc reads the setting when a process begins and only then. The program is imported after
    that, so that a start pays for its imports once.
    """
    if PERTURB not in os.environ:
        environment = {**os.environ, PERTURB: "165"}
        arguments = [sys.executable, "-m", "server", *sys.argv[1:]]
        os.execve(sys.executable, arguments, environment)  # noqa: S606 - ourselves, no shell
    from server.program import main as program  # noqa: PLC0415 - see above

    return program()


if __name__ == "__main__":
    sys.exit(main())
