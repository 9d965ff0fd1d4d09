"""The lease: for some hours a device on duty opens its store without the relay.

It is the relay's share, kept here until its end. The PIN is wanted all the same, but whoever takes
the device while a lease runs can try PINs against it off line; what that costs stands in the threat
model. So it lies, where the system has one, in the person's runtime directory, which is memory: a
device that was switched off has none. Elsewhere it lies beside the store.

It ends by the device's clock, with ten wrong PINs, with a suspension that the device hears of, and
first of all in a wipe.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from client.errors import DamagedError
from client.profile import Profile, overwrite, read_checked, write_checked
from crypto import codec
from crypto.codec import Reader
from crypto.errors import CryptoError, UsageError
from crypto.pin_proof import SHARE_BYTES
from protocol.policy import LEASE_HOURS
from storage.files import beside, sync_directory

if TYPE_CHECKING:
    from client.store import Store

LEASE = "lease"
VERSION = 1

HOUR_MS = 3600 * 1000
TRIES = 10
"""Wrong PINs after which a lease ends: as many as the relay allows."""

_TERMS = "lease terms"
_RUNTIME = "XDG_RUNTIME_DIR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How long a lease may run.

    Attributes:
        hours: At most, 0 for no lease at all: the organisation's policy.
        on_duty_until_ms: When the rostered shift ends, 0 for off duty; ``None`` where no roster
            says.
    """

    hours: int = LEASE_HOURS
    on_duty_until_ms: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.hours <= LEASE_HOURS:
            raise UsageError("a lease runs twelve hours at most")

    def ends_ms(self, now_ms: int) -> int:
        """Return when a lease that begins now ends; one that has ended already is none."""
        ends_ms = now_ms + self.hours * HOUR_MS
        return ends_ms if self.on_duty_until_ms is None else min(ends_ms, self.on_duty_until_ms)

    def encode(self) -> bytes:
        """Return the encoding for the store's settings."""
        shift = None if self.on_duty_until_ms is None else codec.u64(self.on_duty_until_ms)
        return codec.u8(self.hours) + codec.optional(shift)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A share that is kept for some hours.

    Attributes:
        ends_ms: Until when, milliseconds since the epoch.
        tries: Wrong PINs that are left.
        share: The relay's.
    """

    ends_ms: int
    tries: int
    share: bytes = field(repr=False)

    def encode(self) -> bytes:
        """Return the file's content."""
        return codec.u8(VERSION) + codec.u64(self.ends_ms) + codec.u8(self.tries) + self.share


def keep_terms(store: Store, terms: Terms) -> None:
    """Keep how long leases may run from now on, as policy and roster say."""
    store.settings.put(_TERMS, terms.encode())


def terms_of(store: Store) -> Terms:
    """Return how long leases may run."""
    kept = store.settings.get(_TERMS)
    if kept is None:
        return Terms()
    return codec.decode(kept, "Terms", _read_terms)


def grant(profile: Profile, share: bytes, *, terms: Terms, now_ms: int) -> None:
    """Keep a share for as long as the terms allow; or let go of what was kept.

    Nor is one kept where the disk has no room: without a lease the relay must be there, and that is
    no reason to open nothing.
    """
    ends_ms = terms.ends_ms(now_ms)
    if ends_ms <= now_ms:
        forget(profile)
        return
    directory = _directory(profile)
    lease = Lease(ends_ms=ends_ms, tries=TRIES, share=share)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_checked(directory / LEASE, lease.encode())
    except OSError:
        forget(profile)


def limit(profile: Profile, *, terms: Terms, now_ms: int) -> None:
    """Let a lease that runs end when these terms say, and no later than it would have.

    At once where the disk has no room to say when.
    """
    lease = running(profile, now_ms=now_ms)
    if lease is None:
        return
    ends_ms = min(lease.ends_ms, terms.ends_ms(now_ms))
    if ends_ms <= now_ms:
        forget(profile)
    elif ends_ms < lease.ends_ms:
        shorter = replace(lease, ends_ms=ends_ms)
        try:
            write_checked(_directory(profile) / LEASE, shorter.encode())
        except OSError:
            forget(profile)


def running(profile: Profile, *, now_ms: int) -> Lease | None:
    """Return the lease that runs, or None; one that has ended, or is damaged, is destroyed."""
    path = _directory(profile) / LEASE
    if not path.exists():
        return None
    try:
        lease = codec.decode(read_checked(path, LEASE), "Lease", _read_lease)
    except (DamagedError, CryptoError):
        forget(profile)
        return None
    # One that ends later than any could was written before the clock was set back.
    if not now_ms < lease.ends_ms <= now_ms + LEASE_HOURS * HOUR_MS or lease.tries == 0:
        forget(profile)
        return None
    return lease


def spend(profile: Profile, lease: Lease) -> None:
    """Count a try, durably, before it is judged."""
    left = replace(lease, tries=lease.tries - 1)
    write_checked(_directory(profile) / LEASE, left.encode())


def restore(profile: Profile, lease: Lease) -> None:
    """Begin to count anew, as the PIN was right."""
    write_checked(_directory(profile) / LEASE, replace(lease, tries=TRIES).encode())


def forget(profile: Profile) -> None:
    """Destroy a lease, wherever it lies, and what was half written of one."""
    for directory in (profile.directory, _directory(profile)):
        for path in (directory / LEASE, beside(directory / LEASE)):
            if path.exists():
                overwrite(path)
    directory = _directory(profile)
    if directory != profile.directory and directory.is_dir():
        directory.rmdir()
        sync_directory(directory.parent)


def _directory(profile: Profile) -> Path:
    """Return where a lease lies: in memory, where the system offers that to this person alone."""
    named = os.environ.get(_RUNTIME, "")
    if not named or not Path(named).is_dir():
        return profile.directory
    status = Path(named).stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        return profile.directory
    return Path(named) / "wardline" / profile.directory.name


def _read_terms(reader: Reader) -> Terms:
    return Terms(hours=reader.u8(), on_duty_until_ms=reader.optional(Reader.u64))


def _read_lease(reader: Reader) -> Lease:
    if reader.u8() != VERSION:
        raise reader.fail()
    return Lease(ends_ms=reader.u64(), tries=reader.u8(), share=reader.take(SHARE_BYTES))
