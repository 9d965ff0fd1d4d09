"""How the fields of content are written, and what text a message may hold.

Text is UTF-8. Characters that would make a screen show something else than what stands there are
refused on both sides: control characters, which a terminal obeys, and the marks that change the
direction of reading, by which ``10 mg`` can be made to look like another dose.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from crypto import codec
from crypto.codec import U64, Reader, Struct, Wire, vector_of
from crypto.errors import InvalidError
from crypto.names import read_text, write_text
from protocol.identifiers import DeviceId, UserName, device_id, user_name
from protocol.oncall.wire import EARLIEST_MS, LATEST_MS

TEXT_BYTES = 8 * 1024
"""A text, in bytes of UTF-8: some three pages. What is longer is a document, and so an
attachment; with what a kind adds, each content stays below ``kinds.CONTENT_BYTES``."""

FIELD_BYTES = 2 * 1024
"""One field of several, as of a hand-off note: four fill less than ``kinds.CONTENT_BYTES``."""

LINE_BYTES = 256
"""A title, a name, a value: what must be readable on one line of a narrow screen."""

MARK_BYTES = 32
"""A reaction: one sign, which may be a cluster of several characters."""

MESSAGE_ID_MAX = (1 << 63) - 1
"""A message's number: the relay and every store refuse larger ones as well."""

ITEMS = 32
"""Questions of a check-in: more than that are a form and belong into the patient's record."""

PEOPLE = 64
"""People whom a hand-off names, or moderators of a group: a shift, not a directory."""

# Categories Cc, Cs, Zl and Zp, and the embeddings, overrides and isolates of bidirectional text.
_OBEYED = "\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069"
_NO_LINE = re.compile(f"[{_OBEYED}]")
_NO_PROSE = re.compile(f"(?![\\n\\t])[{_OBEYED}]")


def _read_utf8(reader: Reader) -> str:
    """Read an ``opaque<V>`` of UTF-8.

    Raises:
        DecodeError: It is cut short or not UTF-8.
    """
    value = reader.opaque()
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise reader.fail() from None


def _write_utf8(text: str) -> bytes:
    return codec.opaque(text.encode("utf-8"))


def _read_user(reader: Reader) -> UserName:
    return UserName(read_text(reader))


def _read_device(reader: Reader) -> DeviceId:
    return DeviceId(read_text(reader))


def _read_flag(reader: Reader) -> bool:
    value = reader.u8()
    if value > 1:
        raise reader.fail()
    return bool(value)


Prose = Annotated[str, Wire(_read_utf8, _write_utf8)]
"""Text of one or many lines."""
Line = Annotated[str, Wire(_read_utf8, _write_utf8)]
"""Text of one line."""
Lines = Annotated[tuple[str, ...], vector_of(_read_utf8, _write_utf8)]
Device = Annotated[DeviceId, Wire(_read_device, write_text)]
Person = Annotated[UserName, Wire(_read_user, write_text)]
People = Annotated[tuple[UserName, ...], vector_of(_read_user, write_text)]
Flag = Annotated[bool, Wire(_read_flag, codec.u8)]
Parts = Annotated[tuple[bytes, ...], vector_of(Reader.opaque, codec.opaque)]


def take_of(size: int) -> Wire[bytes]:
    """Return how a field of exactly ``size`` bytes is read and written."""

    def write(value: bytes) -> bytes:
        return value

    return Wire(lambda reader: reader.take(size), write)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference(Struct):
    """A message of the same conversation, by what its sender signed.

    Attributes:
        sender: The device that sent it.
        message_id: Its number among all that the device sent.
    """

    sender: Device
    message_id: U64

    def __post_init__(self) -> None:
        device_id(self.sender)
        if not 1 <= self.message_id <= MESSAGE_ID_MAX:
            raise InvalidError("message ids count up from 1")


def check_prose(text: str, *, at_most: int = TEXT_BYTES, empty: bool = False) -> None:
    """Refuse what is no text of a message.

    Raises:
        InvalidError: It is empty (unless ``empty``), too long, or holds a character that a screen
            would obey instead of showing.
    """
    _check(text, at_most=at_most, empty=empty, refused=_NO_PROSE)


def check_line(text: str, *, at_most: int = LINE_BYTES, empty: bool = False) -> None:
    """Refuse what is not one line of text.

    Raises:
        InvalidError: It is empty (unless ``empty``), too long, or not one line of plain text.
    """
    _check(text, at_most=at_most, empty=empty, refused=_NO_LINE)


def check_people(people: Sequence[UserName], *, at_least: int = 0) -> None:
    """Refuse what is not an ascending list of people without repeats.

    Raises:
        InvalidError: A name is malformed, or order or length is wrong.
    """
    for person in people:
        user_name(person)
    if list(people) != sorted(set(people)) or not at_least <= len(people) <= PEOPLE:
        raise InvalidError("people are named in ascending order, each once")


def check_instant(at_ms: int, *, none: bool = False) -> None:
    """Refuse an instant outside the years that schedules know; 0 stands for none where allowed.

    Raises:
        InvalidError: It is.
    """
    if not (EARLIEST_MS <= at_ms <= LATEST_MS or (none and at_ms == 0)):
        raise InvalidError("an instant lies between the years 2000 and 2100")


def check_span(start_ms: int, end_ms: int) -> None:
    """Refuse a span that does not start before it ends.

    Raises:
        InvalidError: It does not, or lies outside the years that schedules know.
    """
    check_instant(start_ms)
    check_instant(end_ms)
    if start_ms >= end_ms:
        raise InvalidError("a span starts before it ends")


def _check(text: str, *, at_most: int, empty: bool, refused: re.Pattern[str]) -> None:
    if not (text or empty):
        raise InvalidError("a text is not empty")
    if refused.search(text):
        raise InvalidError("a text holds no sign that a screen would obey")
    if len(text.encode("utf-8")) > at_most:
        raise InvalidError("a text is no longer than its limit")
