"""Hosts as network namespaces, each with a cable of its own to the relay.

The namespaces belong to a process that has unshared network and mounts, and vanish with it.
Needs ``ip`` (iproute2), ``mount``, ``nsenter`` and ``unshare`` (util-linux).
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

RELAY = "relay"
ADDRESS = "10.77.0.1"
"""The relay's address: nobody's outside of these namespaces."""

PORT = 8443
CABLE = "net0"
"""Name of a host's end of its cable."""

_NOBODY = "02:00:00:00:00:01"
"""Hardware address that no host has: what is sent to it is lost."""

_RUNNING = Path("/run")


def host_settings(*arguments: str) -> None:
    """Run a command that sets up this sandbox.

    Raises:
        subprocess.CalledProcessError: It is not possible here.
    """
    subprocess.run(arguments, check=True, capture_output=True)  # noqa: S603 - our own words


def _ip(host: str, *arguments: str) -> None:
    host_settings("ip", "-n", host, *arguments)


class Network:
    """The relay's host, and others that reach nothing but it.

    Attributes:
        hosts: The others' names, in the order of their cables.
    """

    def __init__(self, hosts: Sequence[str]) -> None:
        self.hosts = tuple(hosts)

    def build(self) -> None:
        """Make the namespaces and lay the cables."""
        # `ip netns` keeps its names there; this one is seen by nobody else.
        host_settings("mount", "-t", "tmpfs", "none", str(_RUNNING))
        for host in (RELAY, *self.hosts):
            host_settings("ip", "netns", "add", host)
            _ip(host, "link", "set", "lo", "up")
        _ip(RELAY, "addr", "add", f"{ADDRESS}/32", "dev", "lo")
        for number, host in enumerate(self.hosts, start=1):
            cable = ("link", "add", host, "type", "veth", "peer", "name", CABLE, "netns", host)
            _ip(RELAY, *cable)
            _ip(RELAY, "addr", "add", f"{_gate(number)}/30", "dev", host)
            _ip(RELAY, "link", "set", host, "up")
            _ip(host, "addr", "add", f"10.77.{number}.2/30", "dev", CABLE)
            _ip(host, "link", "set", CABLE, "up")
            _ip(host, "route", "add", "default", "via", _gate(number))

    def enter(self, host: str) -> tuple[str, ...]:
        """Return what stands before a program that is to run on a host."""
        return ("nsenter", f"--net={_RUNNING}/netns/{host}")

    def cut(self, host: str) -> None:
        """Pull a host's cable: nothing passes, and nobody is told."""
        _ip(RELAY, "link", "set", host, "down")

    def join(self, host: str) -> None:
        """Put the cable back."""
        _ip(RELAY, "link", "set", host, "up")

    def mute(self, host: str) -> None:
        """Lose what a host sends; it still hears the relay."""
        gate = _gate(self.hosts.index(host) + 1)
        _ip(host, "neigh", "replace", gate, "lladdr", _NOBODY, "nud", "permanent", "dev", CABLE)

    def unmute(self, host: str) -> None:
        """Let a host be heard again."""
        _ip(host, "neigh", "del", _gate(self.hosts.index(host) + 1), "dev", CABLE)

    def deafen(self, host: str) -> None:
        """Lose what the relay sends to a host; the relay still hears it."""
        own = f"10.77.{self.hosts.index(host) + 1}.2"
        _ip(RELAY, "neigh", "replace", own, "lladdr", _NOBODY, "nud", "permanent", "dev", host)

    def undeafen(self, host: str) -> None:
        """Let a host hear again."""
        _ip(RELAY, "neigh", "del", f"10.77.{self.hosts.index(host) + 1}.2", "dev", host)


def _gate(number: int) -> str:
    return f"10.77.{number}.1"
