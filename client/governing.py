"""What policy and roster ask of a device: how long it opens alone, how long it keeps, when it goes.

A face calls this once a minute: a shift ends by the clock, and tells nobody.
"""

from __future__ import annotations

from contextlib import suppress

from client import lease, signing_out
from client.device import Device
from client.errors import FullError, StoreError
from client.lease import Terms
from client.profile import Profile
from crypto.errors import UsageError

DAY_MS = 24 * 3600 * 1000


def terms_of(device: Device) -> Terms:
    """Return how long this device may open without the relay.

    Until the shift ends, where a roster says; whoever stands in rosters and is not on call now is
    off duty, and whoever stands in none is on duty as the policy knows it.
    """
    hours = device.policy.devices.lease_hours
    roles = [role for role in device.duty.board() if role.on_call or role.following]
    on_call = [role for role in roles if device.user in role.on_call]
    if on_call:
        ends = [role.until_ms for role in on_call if role.until_ms is not None]
        return Terms(hours=hours, on_duty_until_ms=max(ends) if len(ends) == len(on_call) else None)
    waits = any(device.user in role.following for role in roles)
    return Terms(hours=hours, on_duty_until_ms=0 if waits else None)


def govern(device: Device, profile: Profile, *, now_ms: int, sure_ms: int) -> None:
    """Let policy and roster have their effect: on the lease, on what is kept, and on its end.

    What finds no room on a full disk has it the next time: nobody is locked out by that.

    Args:
        device: Open.
        profile: Its own.
        now_ms: Now by this machine's clock, by which a lease ends.
        sure_ms: A time that the relay's clock has reached as well, by which messages go.
    """
    terms = terms_of(device)
    store = device.engine.store
    if lease.terms_of(store) != terms:
        with suppress(FullError):
            lease.keep_terms(store, terms)
    lease.limit(profile, terms=terms, now_ms=now_ms)
    with suppress(OSError):
        signing_out.note(device, profile, shift_ends_ms=terms.on_duty_until_ms)
    days = device.policy.devices.keep_days
    if days and sure_ms:
        with suppress(FullError):
            store.purge(sure_ms - days * DAY_MS)


def leave(device: Device, profile: Profile) -> None:
    """Note of a store that is closed next what has not gone out: the lock screen cannot look.

    One that was closed already, as by a wipe or because the relay will not have the device, or that
    has failed, stays as it is noted: it is not known what it holds.
    """
    with suppress(StoreError, UsageError, OSError):
        ends_ms = terms_of(device).on_duty_until_ms
        signing_out.note(device, profile, shift_ends_ms=ends_ms, locking=True)
