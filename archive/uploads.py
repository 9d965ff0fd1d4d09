"""Attachments as files beside the databases, and their second copies.

An attachment is kept as it was uploaded, under the relay's name of it, in a file that never changes
again. So a copy is made once, and is whole or not there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from archive.store import Store
from storage.files import sync_directory

FOLDER = "attachments"
"""Directory of the files, in the data directory, a backup's and a mirror's."""

PART = ".part"
"""Ends the name of a file that has not come as a whole."""


def kept(folder: Path) -> set[str]:
    """Return the names of the attachments that are whole."""
    if not folder.is_dir():
        return set()
    return {path.name for path in folder.iterdir() if path.suffix != PART}


def copy(source: Path, target: Path, names: Iterable[str]) -> None:
    """Copy attachments that ``target`` lacks; they are durable there when this returns.

    Raises:
        OSError: They cannot be read or written.
    """
    target.mkdir(mode=0o700, exist_ok=True)
    # Each is looked for by its name: there may be a million of them, and one is to be copied.
    for name in sorted(one for one in set(names) if not (target / one).exists()):
        part = target / f"{name}{PART}"
        with (source / name).open("rb") as old, part.open("wb") as new:
            os.fchmod(new.fileno(), 0o600)
            shutil.copyfileobj(old, new)
            new.flush()
            os.fsync(new.fileno())
        part.rename(target / name)
    sync_directory(target)


def missing(store: Store, folder: Path) -> list[str]:
    """Return the attachments that were fetched and are not in ``folder``."""
    rows = store.rows("SELECT blob FROM attachment WHERE fetched=1 ORDER BY blob")
    here = kept(folder)
    return [row[0] for row in rows if row[0] not in here]


def ask_again(store: Store, folder: Path) -> None:
    """Have what is missing fetched once more, where the relay still has it."""
    names = missing(store, folder)
    with store.transaction():
        store.change_many("UPDATE attachment SET fetched=0 WHERE blob=?", [(n,) for n in names])
