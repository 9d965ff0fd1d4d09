"""Wardline's GroupContext extension: what a conversation is, agreed by all of its members.

MLS binds the extension into every epoch's key schedule, so a member whose view differs cannot
read; the relay is told the same struct in the Commit that sets it (``authenticated_data``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from crypto import codec
from crypto.codec import Reader
from crypto.errors import DecodeError, InvalidError
from crypto.names import read_text, write_text
from protocol import limits
from protocol.emergency import Guest, guest_of
from protocol.identifiers import (
    DeviceId,
    OrganisationId,
    UserName,
    device_id,
    organisation_id,
    retention_class,
    user_name,
)

EXTENSION_TYPE = 0xF0A1
"""Private-use MLS extension type of this struct (RFC 9420, section 17.3)."""

VERSION = 1

GUESTS_VERSION = 2
"""First octet of a context with guests, who stand at its end; one without begins with 1 alone."""


class ConversationType(IntEnum):
    """What people see the group as."""

    DIRECT = 1
    GROUP = 2
    ROLE_BOARD = 3
    ANNOUNCEMENT = 4
    PAGE = 5
    INCIDENT = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class WardlineContext:
    """The settings of a conversation that every member must agree on.

    Attributes:
        organisation: Fingerprint of the root under which every member's certificate stands.
        conversation_type: What people see the group as.
        owners: Users who may change the roster, ascending and without repeats.
        recorder: The archive's device; a conversation without it is refused.
        retention_class: Name of the class by which the archive keeps the conversation.
        guests: Those with emergency access, ascending by user, each once.
    """

    organisation: OrganisationId
    conversation_type: ConversationType
    owners: tuple[UserName, ...]
    recorder: DeviceId
    retention_class: str
    guests: tuple[Guest, ...] = ()

    def __post_init__(self) -> None:
        organisation_id(self.organisation)
        device_id(self.recorder)
        retention_class(self.retention_class)
        for owner in self.owners:
            user_name(owner)
        if not 1 <= len(self.owners) <= limits.OWNERS:
            raise InvalidError("a conversation has one to OWNERS owners")
        if list(self.owners) != sorted(set(self.owners)):
            raise InvalidError("owners are ascending and without repeats")
        guests = [guest.user for guest in self.guests]
        if guests != sorted(set(guests)) or len(guests) > limits.GUESTS:
            raise InvalidError("guests are ascending, without repeats, at most GUESTS")

    def encode(self) -> bytes:
        """Return the extension's ``extension_data``."""
        return b"".join(
            (
                codec.u8(GUESTS_VERSION if self.guests else VERSION),
                self.organisation,
                codec.u8(self.conversation_type),
                codec.vector(map(write_text, self.owners)),
                write_text(self.recorder),
                write_text(self.retention_class),
                codec.u8(1),
                self._encoded_guests(),
            )
        )

    def _encoded_guests(self) -> bytes:
        if not self.guests:
            return b""
        return codec.vector(codec.opaque(guest.statement) for guest in self.guests)

    @classmethod
    def read(cls, reader: Reader) -> WardlineContext:
        """Read the struct where it stands inside another.

        Raises:
            DecodeError: The bytes are no encoding of it.
            InvalidError: An identifier is malformed, owners or guests are unordered, or no
                archive is required.
        """
        version = reader.u8()
        if version not in (VERSION, GUESTS_VERSION):
            raise reader.fail()
        organisation = OrganisationId(reader.take(32))
        try:
            conversation_type = ConversationType(reader.u8())
        except ValueError:
            raise DecodeError(reader.struct, reader.pos) from None
        owners = tuple(UserName(text) for text in reader.vector(read_text))
        recorder = DeviceId(read_text(reader))
        retention = read_text(reader)
        if reader.u8() != 1:
            # The octet exists so that every member's key schedule says it: no setting turns
            # the archive off, and a group made by another program cannot leave it out.
            raise InvalidError("a conversation requires the archive")
        guests = reader.vector(_read_guest) if version == GUESTS_VERSION else ()
        if version == GUESTS_VERSION and not guests:
            raise reader.fail()
        return cls(
            organisation=organisation,
            conversation_type=conversation_type,
            owners=owners,
            recorder=recorder,
            retention_class=retention,
            guests=guests,
        )

    @classmethod
    def decode(cls, data: bytes) -> WardlineContext:
        """Return the context of an extension's ``extension_data``.

        Raises:
            DecodeError: The bytes are no encoding of it.
            InvalidError: As for ``read``.
        """
        return codec.decode(data, "WardlineContext", cls.read)


def _read_guest(reader: Reader) -> Guest:
    return guest_of(reader.opaque())
