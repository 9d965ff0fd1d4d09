"""Rate limits: how often a device, account or address may do a thing.

The generic cell rate algorithm: one number for each key, the time at which the key would be back at
rest, so that a limiter's memory is bounded by what was busy lately.
"""

from __future__ import annotations

from collections.abc import Hashable
from ipaddress import IPv6Address, ip_address

KEYS_MAX = 100_000
"""Keys that one limiter remembers: some tens of MB, far more than were busy at one time."""


_HOST_BITS = 64
"""Bits of an IPv6 address that its client chooses at will (RFC 4291, section 2.5.1)."""


def network_of(address: str) -> str:
    """Return what is counted in an address's stead: of IPv6 a client has all of its network's.

    Args:
        address: As a socket or a proxy names it; what is none is counted as it is.
    """
    try:
        read = ip_address(address)
    except ValueError:
        return address
    if not isinstance(read, IPv6Address):
        return address
    if read.ipv4_mapped is not None:
        return str(read.ipv4_mapped)
    return str(IPv6Address(int(read) >> _HOST_BITS << _HOST_BITS))


class Limiter:
    """Allows ``burst`` acts at once and ``rate_per_s`` in the long run, for each key."""

    __slots__ = ("_burst_s", "_interval_s", "_rest_at_s")

    def __init__(self, *, rate_per_s: float, burst: int) -> None:
        self._interval_s = 1.0 / rate_per_s
        self._burst_s = self._interval_s * burst
        self._rest_at_s: dict[Hashable, float] = {}

    def wait_ms(self, key: Hashable, *, now_s: float, acts: int = 1) -> int:
        """Count acts of ``key`` and return 0, or return how long to wait and count nothing.

        Args:
            key: Whoever acts.
            now_s: A monotonic clock's reading.
            acts: How many acts this one counts for.
        """
        rest_at = max(self._rest_at_s.get(key, 0.0), now_s) + self._interval_s * acts
        over_s = rest_at - now_s - self._burst_s
        # Beyond the burst by less than a nanosecond is the clock's rounding, not the key's haste.
        if over_s > 1e-9:
            return int(over_s * 1000) + 1
        if len(self._rest_at_s) >= KEYS_MAX:
            self._forget(now_s)
        self._rest_at_s[key] = rest_at
        return 0

    def _forget(self, now_s: float) -> None:
        """Drop the keys that are at rest; where all are busy, start anew rather than grow."""
        busy = {key: at for key, at in self._rest_at_s.items() if at > now_s}
        self._rest_at_s = busy if len(busy) < KEYS_MAX else {}
