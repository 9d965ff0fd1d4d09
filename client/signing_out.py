"""Leaving a shared workstation: the store is locked, or removed, as the organisation's policy says.

A workstation is shared from the day on which a second person's store lies beside the first. Where
policy has stores removed, a person's goes when they sign out, and at the end of their shift: by the
open program, or by the lock screen where it was locked by then, for which the store's end is noted
beside it while it is open. Such an end has come when a relay says so too (``client.witnessed``):
a clock that is ahead removes nothing, and without network a store stays locked.

What was said and has not gone out is never lost unsaid. Nothing removes a store that holds such
messages but its person, who is told how many they are; at the end of a shift it is locked instead,
and the lock screen says for whom it still waits. How many they are is noted as it is locked: one
whose program ended otherwise, killed or with its machine, may hold some, and waits as well.

A store that is removed leaves a device without keys, so it says of itself that it is no more: it is
suspended at once, and the authority revokes it. One that cannot say so, because there is no network
or it was locked, is removed all the same; its leaf goes when it has been away for long.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from client import connection as connections
from client import wipe
from client.errors import (
    ActError,
    DamagedError,
    FailedError,
    FullError,
    LinkError,
    StoreError,
    UnsentError,
)
from client.profile import END, STORE, Profile, overwrite, profiles, read_checked, write_checked
from crypto import codec
from crypto.codec import Reader
from crypto.errors import CryptoError
from crypto.statement_types import StatementType
from protocol.commands import Suspension
from protocol.identifiers import user_of
from protocol.policy import Policy, SignOut
from storage.files import NO_ROOM, replace_private

if TYPE_CHECKING:
    from client.device import Device
    from client.link import Address

SHARED = "shared"
"""Beside the profiles: more than one person has, or had, a store here. It names nobody."""

TELL_S = 5.0
"""Seconds in which the organisation must have heard that a device is no more: who leaves, leaves.
"""

SEVERAL = 2
"""People from whom on a workstation is shared."""

UNCOUNTED = (1 << 32) - 1
"""Noted of a store that is open: what it holds changes, and is known once it is locked."""

_LOCK_BYTE, _LOCK_BYTES = 0x40000000, 512
"""Where SQLite locks its files (sqlite.org, file format, section 1.2.2: the lock-byte page)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """When a store goes from a shared workstation.

    Attributes:
        at_ms: From when on, milliseconds since the epoch.
        unsent: Messages that it held when it was locked; ``UNCOUNTED`` where it was not.
    """

    at_ms: int
    unsent: int

    def encode(self) -> bytes:
        """Return the file's content."""
        return codec.u64(self.at_ms) + codec.u32(self.unsent)


def is_shared(root: Path) -> bool:
    """Tell whether several people have, or had, their stores under ``root``."""
    if (root / SHARED).exists():
        return True
    people = set()
    for profile in profiles(root):
        with suppress(StoreError):
            people.add(user_of(connections.read(profile).device))
    if len(people) < SEVERAL:
        return False
    replace_private(root / SHARED, b"")
    return True


def removes(policy: Policy, root: Path) -> bool:
    """Tell whether whoever leaves has their store removed here."""
    return policy.devices.sign_out is SignOut.REMOVE and is_shared(root)


def opened(profile: Profile) -> None:
    """Note that a store is open, before anything can be said in it."""
    end = end_of(profile)
    if end is None or end.unsent == UNCOUNTED:
        return
    try:
        write_checked(profile.directory / END, replace(end, unsent=UNCOUNTED).encode())
    except OSError:
        # The disk is full: without a note nothing goes by itself.
        overwrite(profile.directory / END)


def note(
    device: Device, profile: Profile, *, shift_ends_ms: int | None, locking: bool = False
) -> None:
    """Note beside the store when it goes, for when it is locked by then.

    Args:
        device: Open.
        profile: Its own.
        shift_ends_ms: When its person's shift ends, 0 off duty; ``None`` where no roster says.
        locking: Whether nothing more is said in it until it is opened again.
    """
    former = end_of(profile)
    # Off duty, what ended before is still due.
    at_ms = shift_ends_ms or (former.at_ms if former and shift_ends_ms == 0 else 0)
    if not at_ms or not removes(device.policy, profile.directory.parent):
        if former is not None:
            overwrite(profile.directory / END)
        return
    end = End(at_ms=at_ms, unsent=device.store.outbox.said if locking else UNCOUNTED)
    if end != former:
        write_checked(profile.directory / END, end.encode())


def end_of(profile: Profile) -> End | None:
    """Return when a store goes, where that is known."""
    try:
        return codec.decode(read_checked(profile.directory / END, END), "End", _read_end)
    except (DamagedError, CryptoError):
        # Whoever could damage it could remove it: the person's next sign-out makes up for it.
        return None


async def give_up(device: Device, profile: Profile, *, lose_unsent: bool = False) -> None:
    """Decide that a store is removed, and say so to the organisation; ``wipe.remove`` follows.

    From here on nothing opens it again, and every start of a program finishes the removal.

    Args:
        device: Open, and running where it is connected.
        profile: Its own.
        lose_unsent: Whether its person has agreed that what has not gone out is lost.

    Raises:
        UnsentError: Something has not gone out, and nobody has agreed; nothing was done.
        StoreError: The disk has no room or fails; nothing was done.
    """
    unsent = device.store.outbox.said
    if unsent and not lose_unsent:
        raise UnsentError(unsent)
    try:
        wipe.leave(profile)
    except OSError as error:
        raise FullError if error.errno in NO_ROOM else FailedError from None
    body = Suspension(devices=(device.me,), lifted=False).encode()
    # Not reached, or closed by the relay's own answer: it goes in any case.
    with suppress(ActError, LinkError, TimeoutError):
        async with asyncio.timeout(TELL_S):
            await device.statements.request(body, kind=StatementType.SUSPENSION)


def is_over(profile: Profile, *, sure_ms: int) -> bool:
    """Tell whether a store's time here is over, so that leaving it removes it.

    Args:
        profile: Whose store.
        sure_ms: A time that this machine's clock and the relay's have both reached.
    """
    end = end_of(profile)
    return end is not None and end.at_ms <= sure_ms


def remove_ended(root: Path, *, sure_ms: int) -> bool:
    """Remove the locked stores whose time here is over; return whether there was one.

    What holds unsent messages or may hold some stays, and so does what another program has open.

    Args:
        root: Where profiles are.
        sure_ms: A time that this machine's clock and a relay's have both reached.
    """
    ended = list(_ended(root, at_ms=sure_ms))
    for profile in ended:
        wipe.remove(profile)
    return bool(ended)


def witness_of_ended(root: Path, *, now_ms: int) -> Address | None:
    """Return whom to ask for the time, where this machine's clock says that a store's is over."""
    for profile in _ended(root, at_ms=now_ms):
        with suppress(StoreError):
            return connections.read(profile).address
    return None


def _ended(root: Path, *, at_ms: int) -> Iterator[Profile]:
    for profile in profiles(root):
        end = None if profile.wiping else end_of(profile)
        if end and end.at_ms <= at_ms and not end.unsent and not _is_open(profile):
            yield profile


def _is_open(profile: Profile) -> bool:
    """Tell whether another program has the store open, by the lock that SQLite holds on it.

    Not for a process that has it open itself: closing a file lets go of the process's own locks.
    """
    with suppress(FileNotFoundError), (profile.directory / STORE).open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCK_BYTES, _LOCK_BYTE, os.SEEK_SET)
        except OSError:
            return True
    return False


def _read_end(reader: Reader) -> End:
    return End(at_ms=reader.u64(), unsent=reader.u32())
