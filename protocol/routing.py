"""What the relay reads of an MLS message: where it belongs, and what it says in the open.

A reader of its own, of the header alone: the relay imports nothing that could go further, and this
runs for every message.

Source: RFC 9420, sections 6 and 6.3.
"""

from __future__ import annotations

import struct
from enum import IntEnum

import msgspec

from crypto.codec import Reader
from crypto.errors import DecodeError, InvalidError
from protocol.authenticated_data import EVERYBODY, AuthenticatedData, Target, TargetKind
from protocol.identifiers import CONVERSATION_ID_BYTES, ConversationId

_PRIVATE_MESSAGE = b"\x00\x01\x00\x02" + bytes([CONVERSATION_ID_BYTES])
_WELCOME = b"\x00\x01\x00\x03"
_EPOCH = len(_PRIVATE_MESSAGE) + CONVERSATION_ID_BYTES
_CONTENT_TYPE = _EPOCH + 8
_DATA = _CONTENT_TYPE + 1
_EPOCH_MAX = (1 << 63) - 1
_HEADER = struct.Struct(f"!{CONVERSATION_ID_BYTES}sQB")
_ONE_OCTET = 1 << 6
"""Lengths below this are their own one octet; an octet of up to twice that begins a length of two
(RFC 9000, section 16). Nearly all fields of a message have the one or the other."""
_TARGET_KIND = 3
"""Where ``authenticated_data`` says what kind of target it has."""
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
    conversation, epoch, kind = _HEADER.unpack_from(message, len(_PRIVATE_MESSAGE))
    content_type = _CONTENT_TYPES.get(kind)
    if content_type is None or epoch > _EPOCH_MAX:
        raise DecodeError("PrivateMessage", _EPOCH)
    start, stop = _field(message, _DATA)
    data = AuthenticatedData.decode(message[start:stop])
    # Neither ciphertext is looked at, but both must be there and nothing behind them.
    _, end = _field(message, _field(message, stop)[1])
    if end != len(message):
        raise DecodeError("PrivateMessage", end)
    if data.message_id > _MESSAGE_ID_MAX:
        raise InvalidError("a message id that the relay answers has 63 bits")
    if (data.commit is not None) is not (content_type is ContentType.COMMIT):
        raise InvalidError("a Commit, and nothing else, says how it changes the cursors")
    return Routed(conversation, epoch, content_type, data)


def epoch_of(message: bytes) -> int:
    """Return the epoch that a PrivateMessage of one's own is of; nothing else of it is looked at.

    Raises:
        DecodeError: It is no such message.
    """
    if len(message) <= _CONTENT_TYPE or not message.startswith(_PRIVATE_MESSAGE):
        raise DecodeError("PrivateMessage", 0)
    return int(_HEADER.unpack_from(message, len(_PRIVATE_MESSAGE))[1])


def target_of(message: bytes) -> Target:
    """Return whom a message that ``route`` has let in is meant to reach.

    Nothing else of it is looked at: a log's entries are asked for this one by one.

    Raises:
        DecodeError: It is no such message.
        InvalidError: Its target has no name that could be one.
    """
    if len(message) <= _DATA or not message.startswith(_PRIVATE_MESSAGE):
        raise DecodeError("PrivateMessage", 0)
    start, stop = _field(message, _DATA)
    kind = start + _TARGET_KIND
    if kind < stop and message[kind] == TargetKind.CONVERSATION:
        return EVERYBODY
    return AuthenticatedData.decode(message[start:stop]).target


def _field(message: bytes, position: int) -> tuple[int, int]:
    """Return where the content of an ``opaque<V>`` begins and ends, without copying it."""
    first = message[position] if position < len(message) else 0xFF
    if first < _ONE_OCTET:
        end = position + 1 + first
        if end <= len(message):
            return position + 1, end
    elif first < 2 * _ONE_OCTET and position + 1 < len(message):
        size = (first - _ONE_OCTET) << 8 | message[position + 1]
        end = position + 2 + size
        if size >= _ONE_OCTET and end <= len(message):
            return position + 2, end
    reader = Reader(message, "PrivateMessage")
    reader.pos = position
    size = reader.varint()
    end = reader.pos + size
    if end > len(message):
        raise reader.fail()
    return reader.pos, end


def is_application(message: bytes) -> bool:
    """Tell whether a message that ``route`` has let in says something, and changes no keys."""
    is_private = len(message) > _CONTENT_TYPE and message.startswith(_PRIVATE_MESSAGE)
    return is_private and message[_CONTENT_TYPE] == ContentType.APPLICATION


def check_welcome(welcome: bytes) -> None:
    """Refuse what is not headed as an MLSMessage that is a Welcome; its inside is for its readers.

    Raises:
        DecodeError: It is headed otherwise.
    """
    if not welcome.startswith(_WELCOME):
        raise DecodeError("Welcome", 0)
