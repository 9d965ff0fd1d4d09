"""``wardline-archive``, and ``python -m archive``."""

from __future__ import annotations

import os
import sys

from archive.forgetting import FORGETTING


def main() -> None:
    """Run the program under ``FORGETTING``, starting it anew where that is not set.

    A process that records never loads what opens, so the program is chosen before it is imported.
    """
    if any(name not in os.environ for name in FORGETTING):
        environment = {**FORGETTING, **os.environ}
        arguments = [sys.executable, "-m", "archive", *sys.argv[1:]]
        os.execve(sys.executable, arguments, environment)  # noqa: S606 - ourselves, no shell
    if sys.argv[1:2] == ["review"]:
        from archive.review_program import main as program  # noqa: PLC0415 - it opens
    elif sys.argv[1:2] == ["mirror"]:
        from archive.mirror_program import main as program  # noqa: PLC0415 - it has no key
    else:
        from archive.program import main as program  # noqa: PLC0415 - it records
    program()


if __name__ == "__main__":
    main()
