"""Names of people, devices and conversations, and the one place that says which are well formed.

An identifier is compared byte for byte and appears in signed structures, so each has exactly one
spelling: lower-case ASCII, no normalisation, no alternatives.
"""

from __future__ import annotations

import re
from typing import NewType

from crypto.errors import InvalidError

OrganisationId = NewType("OrganisationId", bytes)
"""SHA-256 fingerprint of the organisation's root certificate."""
UserName = NewType("UserName", str)
"""A person within an organisation, ``[a-z0-9._-]{1,64}``."""
DeviceName = NewType("DeviceName", str)
"""A device within its user, ``[a-z0-9-]{1,32}``."""
DeviceId = NewType("DeviceId", str)
"""``user/device``: a device within its organisation."""
RoleName = NewType("RoleName", str)
"""A role that can be paged or granted rights, ``[a-z0-9._-]{1,64}``."""
ConversationId = NewType("ConversationId", bytes)
"""The MLS ``group_id``: random bytes, chosen by the creator."""
LogId = NewType("LogId", bytes)
"""A log within its organisation: a kind octet, then the name (see ``log_id``)."""

ORGANISATION_ID_BYTES = 32
CONVERSATION_ID_BYTES = 32

_NAME = re.compile(r"[a-z0-9._-]{1,64}", re.ASCII)
_DEVICE = re.compile(r"[a-z0-9-]{1,32}", re.ASCII)
_TOKEN = re.compile(r"[a-z0-9-]{1,32}", re.ASCII)

CONTROL_LOG = LogId(b"o")
"""Every signed command of the organisation, in order."""
AUDIT_LOG = LogId(b"a")
"""The relay's own security events of the organisation."""


def user_name(text: str) -> UserName:
    """Return ``text`` as a user's name.

    Raises:
        InvalidError: It is not ``[a-z0-9._-]{1,64}``.
    """
    if not _NAME.fullmatch(text):
        raise InvalidError("a user name is [a-z0-9._-]{1,64}")
    return UserName(text)


def role_name(text: str) -> RoleName:
    """Return ``text`` as a role's name.

    Raises:
        InvalidError: It is not ``[a-z0-9._-]{1,64}``.
    """
    if not _NAME.fullmatch(text):
        raise InvalidError("a role name is [a-z0-9._-]{1,64}")
    return RoleName(text)


def retention_class(text: str) -> str:
    """Return ``text`` as the name of a retention class.

    Raises:
        InvalidError: It is not ``[a-z0-9-]{1,32}``.
    """
    if not _TOKEN.fullmatch(text):
        raise InvalidError("a retention class is [a-z0-9-]{1,32}")
    return text


def device_id(text: str) -> DeviceId:
    """Return ``text`` as a device's id, ``user/device``.

    Raises:
        InvalidError: Either part is malformed.
    """
    user, slash, device = text.partition("/")
    if not (slash and _NAME.fullmatch(user) and _DEVICE.fullmatch(device)):
        raise InvalidError("a device id is user/device")
    return DeviceId(text)


def user_of(device: DeviceId) -> UserName:
    """Return the user whose device this is."""
    return UserName(device.partition("/")[0])


def conversation_id(value: bytes) -> ConversationId:
    """Return ``value`` as a conversation's id.

    Raises:
        InvalidError: It has not ``CONVERSATION_ID_BYTES`` bytes.
    """
    if len(value) != CONVERSATION_ID_BYTES:
        raise InvalidError("a conversation id has 32 bytes")
    return ConversationId(value)


def organisation_id(value: bytes) -> OrganisationId:
    """Return ``value`` as an organisation's id.

    Raises:
        InvalidError: It has not ``ORGANISATION_ID_BYTES`` bytes.
    """
    if len(value) != ORGANISATION_ID_BYTES:
        raise InvalidError("an organisation id has 32 bytes")
    return OrganisationId(value)


def conversation_log(conversation: ConversationId) -> LogId:
    """Return the log of a conversation."""
    return LogId(b"c" + conversation)


def inbox_log(device: DeviceId) -> LogId:
    """Return the inbox of a device."""
    return LogId(b"i" + device.encode("ascii"))


def log_id(value: bytes) -> LogId:
    """Return ``value`` as the id of a log.

    Raises:
        InvalidError: It names no kind of log, or its name is malformed.
    """
    kind, name = value[:1], value[1:]
    if kind == b"c":
        return conversation_log(conversation_id(name))
    if kind == b"i" and name.isascii():
        return inbox_log(device_id(name.decode("ascii")))
    if value in (CONTROL_LOG, AUDIT_LOG):
        return LogId(value)
    raise InvalidError("a log id is a kind octet and the name of that kind")
