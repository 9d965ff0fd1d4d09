"""``python -m tests.fuzzing.group NAME [libFuzzer's options]``: one group of targets, by coverage.

An input's first octet chooses the target. It ends with its last input, or with the first that
gives a third thing, which libFuzzer then keeps in a file.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["crypto", "protocol", "archive", "client"]):
    from tests.fuzzing.targets import targets


def main() -> None:
    """Fuzz until it ends."""
    group = list(targets()[sys.argv.pop(1)].values())

    def one(data: bytes) -> None:
        if data:
            group[data[0] % len(group)](data[1:])

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
