"""What people say to each other, and what becomes of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated

from crypto.codec import Struct
from crypto.errors import InvalidError
from protocol.content.wire import (
    MARK_BYTES,
    Flag,
    Line,
    Prose,
    Reference,
    check_line,
    check_prose,
    take_of,
)

ATTACHMENT_REF_BYTES = 1 + 32 + 8 + 32 + 32
"""An encoded ``AttachmentRef``; it is opened where attachments are, and never by the relay."""

_SIZE = slice(33, 41)
_BLOB = re.compile(r"[0-9a-z-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text(Struct):
    """Something said."""

    text: Prose = field(repr=False)

    def __post_init__(self) -> None:
        check_prose(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply(Struct):
    """Something said about an earlier message."""

    to: Reference
    text: Prose = field(repr=False)

    def __post_init__(self) -> None:
        check_prose(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit(Struct):
    """Other words for one's own text or reply; what it said before stays visible."""

    target: Reference
    text: Prose = field(repr=False)

    def __post_init__(self) -> None:
        check_prose(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraction(Struct):
    """One's own message is taken back: devices drop what it said, the archive keeps it."""

    target: Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction(Struct):
    """A sign beside a message, or its removal."""

    target: Reference
    mark: Line
    removed: Flag = False

    def __post_init__(self) -> None:
        check_line(self.mark, at_most=MARK_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered(Struct):
    """This device has everything of the conversation up to a message."""

    through: Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Read(Struct):
    """This person has had everything of the conversation up to a message on the screen."""

    through: Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement(Struct):
    """This person confirms a message, by a deliberate act."""

    target: Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment(Struct):
    """A file: where it lies, how it is opened, and what it is called.

    Attributes:
        blob: The relay's name of the upload, ``[0-9a-z-]{1,64}``.
        ref: An encoded ``AttachmentRef``: key, size and hashes.
        name: The file's name, never a path.
        media_type: As ``image/jpeg``; what the sender's program took it for.
        caption: What is said about it; may be empty.
    """

    blob: Line
    ref: Annotated[bytes, take_of(ATTACHMENT_REF_BYTES)] = field(repr=False)
    name: Line = field(repr=False)
    media_type: Line
    caption: Prose = field(default="", repr=False)

    def __post_init__(self) -> None:
        # It becomes part of an address: nothing in it may lead elsewhere.
        if not _BLOB.fullmatch(self.blob):
            raise InvalidError("an upload's name is [0-9a-z-]{1,64}")
        check_line(self.name)
        check_line(self.media_type)
        check_prose(self.caption, empty=True)
        if len(self.ref) != ATTACHMENT_REF_BYTES:
            raise InvalidError("an attachment's reference has one length")
        if "/" in self.name or "\\" in self.name or self.name in (".", ".."):
            raise InvalidError("an attachment's name is no path")

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return int.from_bytes(self.ref[_SIZE], "big")


@dataclass(frozen=True, slots=True, kw_only=True)
class Location(Struct):
    """Where somebody or something is, in the house's own words.

    Attributes:
        ward: The ward or department.
        room: Room or bed; may be empty.
        note: May be empty.
    """

    ward: Line = field(repr=False)
    room: Line = field(default="", repr=False)
    note: Line = field(default="", repr=False)

    def __post_init__(self) -> None:
        check_line(self.ward)
        check_line(self.room, empty=True)
        check_line(self.note, empty=True)
