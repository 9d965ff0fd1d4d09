"""Destroying a profile: in an order that ends readability first, and that any crash can resume.

1. ``wipe`` is written. From here nothing opens the store, and every start goes on.
2. The keys: deleted from the store where it is open; and always the lease, which is the relay's
   share, and the header with the PIN's salt, without which PIN and share give no key.
3. The store, from its first page on, which holds the cipher's own salt.
4. Files and caches.
5. ``finish``, once the signed receipt has gone: the connection key, ``wipe``, the directory.

A person who leaves a shared workstation has no order and owes no receipt: ``wipe`` is empty then.

Each step can be done again. Overwriting reaches the same blocks on a plain disk; flash and
journalling file systems may keep old ones. What makes an old copy unreadable for certain is that
the relay has deleted its share.

Source: the architecture, section 6.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING

from client import lease
from client.errors import DamagedError, StoreError
from client.profile import (
    CONNECTION,
    FILES,
    HEADER,
    HEADER_NEXT,
    STORE,
    WIPE,
    Profile,
    overwrite,
    read_checked,
    write_checked,
)
from crypto.errors import UsageError
from storage.files import sync_directory

if TYPE_CHECKING:
    from client.store import Store

FIRST_PAGE_BYTES = 4096
"""SQLCipher's page; the first begins with the salt of all."""

_NO_ORDER = b""


class WipeState(Enum):
    """How far a wipe has come; ``DESTROYED`` waits for its receipt to be sent."""

    NONE = "none"
    BEGUN = "begun"
    DESTROYED = "destroyed"


def state(profile: Profile) -> WipeState:
    """Return how far a wipe of the profile has come."""
    if not profile.wiping:
        return WipeState.NONE
    left = {path.name for path in profile.directory.iterdir()} - {WIPE, CONNECTION}
    return WipeState.BEGUN if left else WipeState.DESTROYED


def order(profile: Profile) -> bytes:
    """Return the order that a begun wipe follows, for its receipt.

    Raises:
        DamagedError: The file is not what was written; the wipe goes on all the same.
    """
    return read_checked(profile.directory / WIPE, WIPE)


def leave(profile: Profile) -> None:
    """Begin with no order: nothing opens the store any more, and every start finishes it."""
    write_checked(profile.directory / WIPE, _NO_ORDER)


def owes_receipt(profile: Profile) -> bool:
    """Tell whether a wipe that has begun follows an order; one that is damaged may."""
    try:
        return order(profile) != _NO_ORDER
    except DamagedError:
        return True


def begin(profile: Profile, order: bytes, *, store: Store | None = None) -> None:
    """Destroy everything but the connection key; the order has been verified before.

    Args:
        profile: Whose.
        order: As it came, kept for the receipt.
        store: The open store, where it is; it is closed.
    """
    write_checked(profile.directory / WIPE, order)
    _destroy(profile, store)


def remove(profile: Profile, *, store: Store | None = None) -> None:
    """Destroy everything that a person has left, the connection key too.

    Args:
        profile: Whose.
        store: The open store, where it is; it is closed.
    """
    leave(profile)
    _destroy(profile, store)
    finish(profile)


def _destroy(profile: Profile, store: Store | None) -> None:
    if store is not None:
        # A store that is damaged or on a full disk is destroyed all the same.
        with suppress(StoreError):
            store.destroy_keys()
        with suppress(StoreError):
            store.close()
    resume(profile)


def resume(profile: Profile) -> None:
    """Go on with a wipe that has begun; for every start of the program.

    Raises:
        UsageError: None has begun.
    """
    if not profile.wiping:
        raise UsageError("no wipe has begun")
    directory = profile.directory
    lease.forget(profile)
    overwrite(directory / HEADER)
    overwrite(directory / HEADER_NEXT)
    overwrite(directory / STORE, FIRST_PAGE_BYTES)
    for path in sorted(directory.iterdir()):
        if path.name == FILES:
            shutil.rmtree(path)
        elif path.name not in (WIPE, CONNECTION):
            overwrite(path, FIRST_PAGE_BYTES)
    sync_directory(directory)


def finish(profile: Profile) -> None:
    """End a wipe whose receipt has gone: the connection key and the directory.

    Raises:
        UsageError: Something else is still there, or no wipe has begun.
    """
    if not profile.directory.exists():
        return
    reached = state(profile)
    if reached is WipeState.DESTROYED:
        overwrite(profile.directory / CONNECTION)
        overwrite(profile.directory / WIPE)
    elif reached is WipeState.BEGUN or any(profile.directory.iterdir()):
        raise UsageError("the connection key goes last, and only in a wipe")
    profile.directory.rmdir()
    sync_directory(profile.directory.parent)
