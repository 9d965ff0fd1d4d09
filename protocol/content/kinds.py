"""The kinds of content, and the one encoding of each: an octet for the kind, then its struct.

A kind never changes. What must change becomes a new kind, and a program that does not know it keeps
the bytes and says that it is too old: so nothing that anybody sends stops a conversation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import cast

from crypto import codec
from crypto.codec import Struct
from crypto.errors import DecodeError, InvalidError
from protocol.content import affairs, talk, ward, work

CONTENT_BYTES = 16 * 1024 - 256
"""An encoded content: with MLS's framing and signature it fits the largest size, 16 KiB, that
messages are padded to below ``MESSAGE_BYTES``."""


class Kind(IntEnum):
    """What a message is."""

    TEXT = 1
    REPLY = 2
    EDIT = 3
    RETRACTION = 4
    REACTION = 5
    DELIVERED = 6
    READ = 7
    ACKNOWLEDGEMENT = 8
    ATTACHMENT = 9
    LOCATION = 10
    TASK = 16
    TASK_CHANGE = 17
    CRITICAL_RESULT = 18
    READ_BACK = 19
    CLOSING = 20
    HAND_OFF = 21
    HAND_OFF_ACCEPTANCE = 22
    OPEN_SHIFT = 32
    CLAIM = 33
    CHECK_IN = 34
    CHECK_IN_ANSWER = 35
    ROOM_REQUEST = 36
    ROOM_CONFIRMATION = 37
    INCIDENT_EVENT = 38
    CARD = 48
    MODERATORS = 49
    MUTE = 50
    HISTORY_HAND_OVER = 51
    OFFICIAL = 52
    EMERGENCY_REQUEST = 53
    EMERGENCY_VOUCH = 54


Known = (
    talk.Text
    | talk.Reply
    | talk.Edit
    | talk.Retraction
    | talk.Reaction
    | talk.Delivered
    | talk.Read
    | talk.Acknowledgement
    | talk.Attachment
    | talk.Location
    | work.Task
    | work.TaskChange
    | work.CriticalResult
    | work.ReadBack
    | work.Closing
    | work.HandOff
    | work.HandOffAcceptance
    | ward.OpenShift
    | ward.Claim
    | ward.CheckIn
    | ward.CheckInAnswer
    | ward.RoomRequest
    | ward.RoomConfirmation
    | ward.IncidentEvent
    | affairs.Card
    | affairs.Moderators
    | affairs.Mute
    | affairs.HistoryHandOver
    | affairs.Official
    | affairs.EmergencyRequest
    | affairs.EmergencyVouch
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Content of a kind that this program does not know: it needs a newer one.

    Attributes:
        kind: 0 to 255, none of ``Kind``.
        body: As it came.
    """

    kind: int
    body: bytes = field(repr=False)


Content = Known | Unknown

CLASSES: Mapping[Kind, type[Struct]] = MappingProxyType(
    {
        Kind.TEXT: talk.Text,
        Kind.REPLY: talk.Reply,
        Kind.EDIT: talk.Edit,
        Kind.RETRACTION: talk.Retraction,
        Kind.REACTION: talk.Reaction,
        Kind.DELIVERED: talk.Delivered,
        Kind.READ: talk.Read,
        Kind.ACKNOWLEDGEMENT: talk.Acknowledgement,
        Kind.ATTACHMENT: talk.Attachment,
        Kind.LOCATION: talk.Location,
        Kind.TASK: work.Task,
        Kind.TASK_CHANGE: work.TaskChange,
        Kind.CRITICAL_RESULT: work.CriticalResult,
        Kind.READ_BACK: work.ReadBack,
        Kind.CLOSING: work.Closing,
        Kind.HAND_OFF: work.HandOff,
        Kind.HAND_OFF_ACCEPTANCE: work.HandOffAcceptance,
        Kind.OPEN_SHIFT: ward.OpenShift,
        Kind.CLAIM: ward.Claim,
        Kind.CHECK_IN: ward.CheckIn,
        Kind.CHECK_IN_ANSWER: ward.CheckInAnswer,
        Kind.ROOM_REQUEST: ward.RoomRequest,
        Kind.ROOM_CONFIRMATION: ward.RoomConfirmation,
        Kind.INCIDENT_EVENT: ward.IncidentEvent,
        Kind.CARD: affairs.Card,
        Kind.MODERATORS: affairs.Moderators,
        Kind.MUTE: affairs.Mute,
        Kind.HISTORY_HAND_OVER: affairs.HistoryHandOver,
        Kind.OFFICIAL: affairs.Official,
        Kind.EMERGENCY_REQUEST: affairs.EmergencyRequest,
        Kind.EMERGENCY_VOUCH: affairs.EmergencyVouch,
    }
)

_KINDS = {struct: kind for kind, struct in CLASSES.items()}
_BY_OCTET = {int(kind): struct for kind, struct in CLASSES.items()}


def kind_of(content: Content) -> int:
    """Return the octet of a content's kind."""
    return content.kind if isinstance(content, Unknown) else _KINDS[type(content)]


def encode(content: Content) -> bytes:
    """Return a message's plaintext.

    Raises:
        InvalidError: It is above ``CONTENT_BYTES``.
    """
    body = content.body if isinstance(content, Unknown) else content.encode()
    _check_size(1 + len(body))
    return codec.u8(kind_of(content)) + body


def decode(data: bytes) -> Content:
    """Return what a message's plaintext says.

    Raises:
        DecodeError: It is empty, or no encoding of a kind that is known here.
        InvalidError: It is above ``CONTENT_BYTES``, or a field breaks its rule.
    """
    if not data:
        raise DecodeError("Content", 0)
    _check_size(len(data))
    struct = _BY_OCTET.get(data[0])
    if struct is None:
        return Unknown(kind=data[0], body=data[1:])
    return cast("Known", struct.decode(data[1:]))


def _check_size(size: int) -> None:
    if size > CONTENT_BYTES:
        raise InvalidError("content is no longer than CONTENT_BYTES; what is longer is attached")
