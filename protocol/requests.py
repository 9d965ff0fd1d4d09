"""What a device asks of a conversation's steward, in a signed note in the log.

The body of a ``DEVICE_REQUEST`` statement: a kind octet, then the conversation. A Commit that does
what is asked cites the note by its hash.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from crypto import codec
from crypto.codec import Reader
from protocol.identifiers import CONVERSATION_ID_BYTES, ConversationId, conversation_id


class RequestKind(IntEnum):
    """What is asked."""

    RE_ADD = 1
    """The device that signed has lost its state: remove it and add it again."""
    LEAVE = 2
    """The person whose device signed wants out, with all of their devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRequest:
    """A request; whom it is for is whoever signed it.

    Attributes:
        kind: What is asked.
        conversation: Where; a note stands in the log of its conversation.
    """

    kind: RequestKind
    conversation: ConversationId

    def __post_init__(self) -> None:
        conversation_id(self.conversation)

    def encode(self) -> bytes:
        """Return the statement's body."""
        return codec.u8(self.kind) + self.conversation


def decode_request(body: bytes) -> DeviceRequest:
    """Return the body of a ``DEVICE_REQUEST`` statement.

    Raises:
        DecodeError: The bytes are no encoding of it.
    """
    return codec.decode(body, "DeviceRequest", _read)


def _read(reader: Reader) -> DeviceRequest:
    kind = reader.u8()
    if kind not in _KINDS:
        raise reader.fail()
    return DeviceRequest(
        kind=_KINDS[kind], conversation=ConversationId(reader.take(CONVERSATION_ID_BYTES))
    )


_KINDS = {int(kind): kind for kind in RequestKind}
