"""What the relay reads of an MLS message: where it belongs, and what it says in the open.

A reader of its own, of the header alone: the relay imports nothing that could go further, and this
runs for every message.

Source: RFC 9420, sections 6 and 6.3.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from crypto.codec import Reader
from crypto.errors import DecodeError, InvalidError
from protocol.authenticated_data import AuthenticatedData
from protocol.identifiers import CONVERSATION_ID_BYTES, ConversationId

_PRIVATE_MESSAGE = b"\x00\x01\x00\x02" + bytes([CONVERSATION_ID_BYTES])
_WELCOME = b"\x00\x01\x00\x03"
_EPOCH = len(_PRIVATE_MESSAGE) + CONVERSATION_ID_BYTES
_CONTENT_TYPE = _EPOCH + 8
_EPOCH_MAX = (1 << 63) - 1
_ONE_OCTET = 1 << 6
"""Lengths below this are their own one octet (RFC 9000, section 16): most fields of a header."""
_MESSAGE_ID_MAX = (1 << 63) - 2
"""The relay answers with the id, or with the next one, in a number of 63 bits."""


class ContentType(IntEnum):
    """What a PrivateMessage holds (RFC 9420, section 6)."""

    APPLICATION = 1
    PROPOSAL = 2
    COMMIT = 3


_CONTENT_TYPES = {int(value): value for value in ContentType}


class Routed(msgspec.Struct, frozen=True, gc=False):
    """The header of a PrivateMessage.

    Attributes:
        conversation: The MLS ``group_id``.
        epoch: The epoch in which it was sent.
        content_type: Application, proposal or Commit.
        data: What its ``authenticated_data`` says.
    """

    conversation: ConversationId
    epoch: int
    content_type: ContentType
    data: AuthenticatedData


def route(message: bytes) -> Routed:
    """Return the header of an encoded MLSMessage that is a PrivateMessage of a conversation.

    Raises:
        DecodeError: It is no such encoding.
        InvalidError: Its ``authenticated_data`` breaks a rule, says more than its content type
            allows, or less.
    """
    if len(message) <= _CONTENT_TYPE or not message.startswith(_PRIVATE_MESSAGE):
        raise DecodeError("PrivateMessage", 0)
    content_type = _CONTENT_TYPES.get(message[_CONTENT_TYPE])
    epoch = int.from_bytes(message[_EPOCH:_CONTENT_TYPE], "big")
    if content_type is None or epoch > _EPOCH_MAX:
        raise DecodeError("PrivateMessage", _EPOCH)
    start, stop = _field(message, _CONTENT_TYPE + 1)
    data = AuthenticatedData.decode(message[start:stop])
    # Neither ciphertext is looked at, but both must be there and nothing behind them.
    _, end = _field(message, _field(message, stop)[1])
    if end != len(message):
        raise DecodeError("PrivateMessage", end)
    if data.message_id > _MESSAGE_ID_MAX:
        raise InvalidError("a message id that the relay answers has 63 bits")
    if (data.commit is not None) is not (content_type is ContentType.COMMIT):
        raise InvalidError("a Commit, and nothing else, says how it changes the cursors")
    conversation = ConversationId(message[len(_PRIVATE_MESSAGE) : _EPOCH])
    return Routed(conversation, epoch, content_type, data)


def _field(message: bytes, position: int) -> tuple[int, int]:
    """Return where the content of an ``opaque<V>`` begins and ends, without copying it."""
    first = message[position] if position < len(message) else 0xFF
    if first < _ONE_OCTET:
        end = position + 1 + first
        if end <= len(message):
            return position + 1, end
    reader = Reader(message, "PrivateMessage")
    reader.pos = position
    size = reader.varint()
    end = reader.pos + size
    if end > len(message):
        raise reader.fail()
    return reader.pos, end


def check_welcome(welcome: bytes) -> None:
    """Refuse what is not headed as an MLSMessage that is a Welcome; its inside is for its readers.

    Raises:
        DecodeError: It is headed otherwise.
    """
    if not welcome.startswith(_WELCOME):
        raise DecodeError("Welcome", 0)
