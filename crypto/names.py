"""Names of people and devices, and the roles that a certificate can carry.

A name is compared byte for byte and stands in signed structures, so each has exactly one spelling.
"""

from __future__ import annotations

import re
from enum import IntEnum

from crypto import codec
from crypto.codec import Reader
from crypto.errors import InvalidError

_USER = re.compile(r"[a-z0-9._-]{1,64}", re.ASCII)
_DEVICE = re.compile(r"[a-z0-9-]{1,32}", re.ASCII)

TIME_MAX_MS = 253_402_300_799_000
"""Latest instant that X.509 can say (RFC 5280, section 4.1.2.5): 9999-12-31 23:59:59 UTC, in ms."""


class Role(IntEnum):
    """What the holder of a certificate may be asked to sign, and is shown as.

    The authority is none of them: it signs with the root's own key, and no leaf can claim it.
    """

    CLINICIAN = 1
    """Reads and writes conversations."""
    AFFILIATE = 2
    """A clinician from outside: contractor, locum, student."""
    ADMINISTRATOR = 3
    """Signs commands: people, groups, schedules, policy, wipes."""
    OFFICER = 4
    """Compliance officer: holds shares of the archive's keys and approves openings."""
    RECORDER = 5
    """The archive's member of every conversation."""
    WITNESS = 6
    """Cosigns the archive's checkpoints: the relay, or a mirror."""


QUORUM_ROLES = frozenset({Role.ADMINISTRATOR, Role.OFFICER})
"""Roles that two administrators grant together: one alone could otherwise make the second."""

AUTHORITY_ROLES = frozenset({Role.RECORDER, Role.WITNESS})
"""Roles that only the authority grants: they belong to the installation, not to a person."""


def check_device_name(user: str, device: str) -> None:
    """Refuse names that are not a user's and a device's.

    Raises:
        InvalidError: The user is not ``[a-z0-9._-]{1,64}`` or the device not ``[a-z0-9-]{1,32}``.
    """
    if not _USER.fullmatch(user):
        raise InvalidError("a user is named [a-z0-9._-]{1,64}")
    if not _DEVICE.fullmatch(device):
        raise InvalidError("a device is named [a-z0-9-]{1,32}")


def check_user_name(user: str) -> None:
    """Refuse a name that is not a user's.

    Raises:
        InvalidError: It is not ``[a-z0-9._-]{1,64}``.
    """
    check_device_name(user, "device")


def check_full_name(name: str) -> None:
    """Refuse a name that is not ``user/device``.

    Raises:
        InvalidError: There is no slash, or either part is malformed.
    """
    user, _, device = name.partition("/")
    check_device_name(user, device)


def check_time(time_ms: int) -> None:
    """Refuse an instant that a certificate cannot say.

    Raises:
        InvalidError: It is negative or after the year 9999.
    """
    if not 0 <= time_ms <= TIME_MAX_MS:
        raise InvalidError("a time lies between 1970 and 9999 (RFC 5280, section 4.1.2.5)")


def read_text(reader: Reader) -> str:
    """Read an ``opaque<V>`` of ASCII text; whoever names the field checks its grammar.

    Raises:
        DecodeError: It is cut short or not ASCII.
    """
    value = reader.opaque()
    if not value.isascii():
        raise reader.fail()
    return value.decode("ascii")


def write_text(text: str) -> bytes:
    """Encode ASCII text as an ``opaque<V>``."""
    return codec.opaque(text.encode("ascii"))


def read_roles(reader: Reader) -> frozenset[Role]:
    """Read roles: one octet each, ascending, at least one.

    Raises:
        DecodeError: They are cut short, unknown, unsorted, repeated or none.
    """
    codes = reader.opaque()
    if not codes or list(codes) != sorted(set(codes)) or not set(codes) <= set(Role):
        raise reader.fail()
    return frozenset(Role(code) for code in codes)


def write_roles(roles: frozenset[Role]) -> bytes:
    """Encode roles, ascending."""
    return codec.opaque(bytes(sorted(roles)))
