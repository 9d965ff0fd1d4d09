"""The relay's security events, as they stand in an organisation's audit log.

They say that something happened and to which device, never what was said.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from crypto import codec
from crypto.codec import Reader
from crypto.names import read_text, write_text
from protocol.authenticated_data import COUNTER_MAX
from protocol.identifiers import (
    DeviceId,
    device_id,
)

VERSION = 1


class EventKind(IntEnum):
    """What happened."""

    OPENED = 1
    PROOF_WRONG = 2
    REFUSED = 3
    ENROLLED = 4
    PASSWORD_WRONG = 5
    SHARE_LOCKED = 6
    SHARE_GIVEN = 7
    REVOKED = 8
    SUSPENDED = 9
    RESTORED = 10
    WIPED = 11
    CONCURRENT_USE = 12
    WIPE_DELIVERED = 13
    WIPE_CONFIRMED = 14
    PAGE_ESCALATED = 40
    PAGE_ACCEPTED = 41
    PAGE_COVERAGE = 42
    PAGE_UNANSWERED = 43
    PAGE_EXPIRED = 44
    PAGE_UNREACHABLE = 45
    ON_CALL_UNREACHABLE = 46
    GAP = 47


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One event.

    Attributes:
        kind: What happened.
        at_ms: When, by the relay's clock.
        device: Whom it befell; ``None`` where the relay cannot know.
    """

    kind: EventKind
    at_ms: int
    device: DeviceId | None = None

    def encode(self) -> bytes:
        """Return the body of the log's entry."""
        device = None if self.device is None else write_text(self.device)
        head = codec.u8(VERSION) + codec.u8(self.kind) + codec.u64(self.at_ms & COUNTER_MAX)
        return head + codec.optional(device)


def decode_event(body: bytes) -> AuditEvent:
    """Return the event in an entry of the audit log.

    Raises:
        DecodeError: The bytes are no encoding of one.
        InvalidError: The device's name breaks its rule.
    """
    return codec.decode(body, "AuditEvent", _read)


def _read(reader: Reader) -> AuditEvent:
    if reader.u8() != VERSION:
        raise reader.fail()
    try:
        kind = EventKind(reader.u8())
    except ValueError:
        raise reader.fail() from None
    at_ms = reader.u64()
    device = reader.optional(read_text)
    return AuditEvent(kind=kind, at_ms=at_ms, device=None if device is None else device_id(device))
