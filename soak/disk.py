"""Disks of their own, small enough to be filled."""

from __future__ import annotations

import contextlib
from pathlib import Path

from soak.network import host_settings

DISK_BYTES = 1 << 29
"""Size of each disk: an hour's data several times over."""

_CHUNKS = (1 << 20, 1 << 12)
_FILLING = "filling"


class Disk:
    """A folder that is a disk of its own.

    Attributes:
        folder: Where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def mount(self) -> None:
        """Mount it, empty and for its owner alone."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        options = f"size={DISK_BYTES},mode=0700"
        host_settings("mount", "-t", "tmpfs", "-o", options, "none", str(self.folder))

    def fill(self) -> None:
        """Leave no room on it."""
        with (self.folder / _FILLING).open("ab", buffering=0) as file:
            for chunk in _CHUNKS:
                with contextlib.suppress(OSError):
                    while file.write(bytes(chunk)) == chunk:
                        pass

    def free(self) -> None:
        """Give the room back."""
        (self.folder / _FILLING).unlink(missing_ok=True)
