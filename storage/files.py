"""Files that only their owner reads, and that are there after a power cut."""

from __future__ import annotations

import errno
import os
from pathlib import Path

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Of an ``OSError``: the disk is full, or what its owner may have of it."""


def sync_directory(directory: Path) -> None:
    """Make the names in ``directory`` durable: a new file's bytes are lost where its name is."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_private(path: Path) -> None:
    """Make an empty file that only its owner can read.

    Raises:
        FileExistsError: There is one.
    """
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def write_private(path: Path, content: bytes) -> None:
    """Write a new file that only its owner can read, durable with its name when this returns.

    Raises:
        FileExistsError: There is one.
    """
    _write_new(path, content)
    sync_directory(path.parent)


def replace_private(path: Path, content: bytes) -> None:
    """Put ``content`` in the place of the file, durably, whole or not at all."""
    new = beside(path)
    new.unlink(missing_ok=True)
    _write_new(new, content)
    new.replace(path)
    sync_directory(path.parent)


def beside(path: Path) -> Path:
    """Return where the next content of a file is written before it takes the file's place."""
    return path.with_name(path.name + ".new")


def _write_new(path: Path, content: bytes) -> None:
    create_private(path)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
