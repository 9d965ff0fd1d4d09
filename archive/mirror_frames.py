"""What an archive and the machine of its mirror say to each other, over one TLS connection.

Each frame is its length in four octets and one MessagePack array, a tag first. The archive speaks,
the mirror answers ``Hello``, ``Confirm``, ``Have`` and a file's last ``Piece``, in their order.
"""

from __future__ import annotations

import asyncio
from enum import IntEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from archive.body import MAX_BODY_BYTES
from crypto.errors import InvalidError

LENGTH_BYTES = 4
"""Before each frame: its length, big-endian."""

FRAME_BYTES = MAX_BODY_BYTES + (1 << 20)
"""Longest frame: the longest body there is, sealed, with room for what stands beside it."""

TOKEN_BYTES = 32
"""By it the mirror knows its archive; random, and told over the pinned connection alone."""

PIECE_BYTES = 1 << 20
"""Bytes of a file that go over at once."""

NAMES = 10_000
"""Names in one frame at most."""

U63 = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Name = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,128}$")]
"""Of an attachment: also the name of a file, so that nothing in it leads elsewhere."""


class FileKind(IntEnum):
    """Which file a piece is of."""

    ATTACHMENT = 1
    AUTHORITY = 2
    DESK = 3
    ROOT = 4
    LOG_KEY = 5
    WITNESS_KEYS = 6
    SETTINGS = 7


class Reason(IntEnum):
    """Why the mirror does not go on."""

    OTHER_LOG = 1
    """It mirrors the log of another key: a new log needs a new mirror."""
    NOT_CONSISTENT = 2
    """What it has does not lead to the checkpoint: the log was rewritten, set back or forked."""
    INVALID = 3
    """A frame says what cannot be."""
    DISK = 4
    """Its disk is full, or failed."""


class Frame(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all frames."""

    def __repr__(self) -> str:
        """Name the frame alone: one holds a token, others what stays at home."""
        return f"{type(self).__name__}(...)"


class Hello(Frame, frozen=True, tag=1):
    """Whose archive this is, and of which log."""

    token: Bytes32
    log_key: Annotated[str, Meta(max_length=512)]


class Leaves(Frame, frozen=True, tag=2):
    """Records of the log, from the first index on."""

    first: U63
    records: Annotated[list[bytes], Meta(max_length=NAMES)]


class Rows(Frame, frozen=True, tag=3):
    """Rows beside them, sealed, each under the name of its place; the newest counts."""

    rows: Annotated[list[tuple[Bytes32, bytes]], Meta(max_length=NAMES)]


class Gone(Frame, frozen=True, tag=4):
    """Rows that were shredded."""

    names: Annotated[list[Bytes32], Meta(max_length=NAMES)]


class Confirm(Frame, frozen=True, tag=5):
    """Asks that ``size`` leaves be durable, which the checkpoint's tree begins with."""

    size: U63
    note: bytes
    proof: Annotated[list[Bytes32], Meta(max_length=64)]


class Have(Frame, frozen=True, tag=6):
    """Asks which of these attachments are missing."""

    names: Annotated[list[Name], Meta(max_length=NAMES)]


class Piece(Frame, frozen=True, tag=7):
    """The next bytes of a file; after the last it takes the place of the one before."""

    kind: FileKind
    name: Annotated[str, Meta(max_length=128)]
    data: bytes
    last: bool


class Known(Frame, frozen=True, tag=65):
    """How many leaves the mirror has, and how many with all that stands beside them."""

    size: U63
    held: U63


class Confirmed(Frame, frozen=True, tag=66):
    """So many leaves are durable, and begin the checkpoint's tree."""

    size: U63


class Lacking(Frame, frozen=True, tag=67):
    """The attachments that are missing."""

    names: Annotated[list[Name], Meta(max_length=NAMES)]


class Stored(Frame, frozen=True, tag=68):
    """The file is durable."""


class Refused(Frame, frozen=True, tag=69):
    """The mirror does not go on; it closes after this."""

    reason: Reason


Asked = Hello | Leaves | Rows | Gone | Confirm | Have | Piece
Answer = Known | Confirmed | Lacking | Stored | Refused

_ASKED = msgspec.msgpack.Decoder(Asked)
_ANSWERS = msgspec.msgpack.Decoder(Answer)


def encode(frame: Frame) -> bytes:
    """Return a frame's bytes, its length before them."""
    data = msgspec.msgpack.encode(frame)
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def decode_asked(data: bytes) -> Asked:
    """Return what an archive says.

    Raises:
        InvalidError: It is no frame of an archive.
    """
    try:
        frame: Asked = _ASKED.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise InvalidError("a frame of an archive's") from None
    return frame


def decode_answer(data: bytes) -> Answer:
    """Return what a mirror says.

    Raises:
        InvalidError: It is no frame of a mirror.
    """
    try:
        frame: Answer = _ANSWERS.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise InvalidError("a frame of a mirror's") from None
    return frame


async def receive(reader: asyncio.StreamReader, *, most: int = FRAME_BYTES) -> bytes:
    """Return the next frame's bytes.

    Raises:
        IncompleteReadError: The connection ended.
        OSError: It failed.
        InvalidError: It is longer than ``most``.
    """
    length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
    if length > most:
        raise InvalidError("a frame has a length that can be")
    return await reader.readexactly(length)
