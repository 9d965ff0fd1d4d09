"""How relay and devices keep on-call data on disk: an octet that says the version, then the struct.

A program reads what any older one has kept, and refuses what a newer one has: it would lose what
it does not know. What was kept before there was such an octet begins with a smaller one.
"""

from __future__ import annotations

from crypto.errors import DecodeError, InvalidError
from protocol.oncall.configuration import OwnQuiet, Plan

MARK = 0x80
"""Bit of the octet: neither the length of a role's name nor a number that counts up has it."""
PLAN_VERSION = 2
"""Of a role: 1 had no swaps that wait for a second signature."""
QUIET_VERSION = 1
PAGE_VERSION = 1
"""Of where a page stands, at the relay and on a device."""

_NO_PROPOSALS = b"\x00"


class VersionError(InvalidError):
    """A newer program kept it: update this one.

    Attributes:
        found: Its version.
        known: The newest that this program knows.
    """

    def __init__(self, *, found: int, known: int) -> None:
        super().__init__(f"what is kept of on call has version {found}, known up to {known}")
        self.found = found
        self.known = known


def marked(version: int, body: bytes) -> bytes:
    """Return what is kept of a struct's encoding."""
    return bytes([MARK | version]) + body


def unmarked(value: bytes, *, known: int) -> tuple[int, bytes]:
    """Return version and encoding of what was kept; version 0 where no octet says one.

    Raises:
        DecodeError: There is nothing.
        VersionError: A newer program kept it.
    """
    if not value:
        raise DecodeError("Kept", 0)
    if not value[0] & MARK:
        return 0, value
    version = value[0] & ~MARK
    if not 1 <= version <= known:
        raise VersionError(found=version, known=known)
    return version, value[1:]


def write_plan(plan: Plan) -> bytes:
    """Return a role as it is kept."""
    return marked(PLAN_VERSION, plan.encode())


def read_plan(value: bytes) -> Plan:
    """Return a role that was kept.

    Raises:
        DecodeError: It is none.
        VersionError: A newer program kept it.
        InvalidError: It breaks a rule.
    """
    version, body = unmarked(value, known=PLAN_VERSION)
    return Plan.decode(body if version == PLAN_VERSION else body + _NO_PROPOSALS)


def write_quiet(quiet: OwnQuiet) -> bytes:
    """Return what a person has set for themself as it is kept."""
    return marked(QUIET_VERSION, quiet.encode())


def read_quiet(value: bytes) -> OwnQuiet:
    """Return what a person has set for themself.

    Raises:
        DecodeError: It is none.
        VersionError: A newer program kept it.
        InvalidError: It breaks a rule.
    """
    return OwnQuiet.decode(unmarked(value, known=QUIET_VERSION)[1])
