"""How the on-call values' fields are written: names, instants, zones, members of an enumeration."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Annotated, TypeVar

from crypto.codec import Reader, Wire, optional_of, u8, u64, vector_of
from crypto.errors import InvalidError
from crypto.names import read_text, write_text
from protocol.identifiers import (
    RoleName,
    UserName,
    role_name,
    user_name,
)

E = TypeVar("E", bound=IntEnum)


def _read_user(reader: Reader) -> UserName:
    return UserName(read_text(reader))


def _read_role(reader: Reader) -> RoleName:
    return RoleName(read_text(reader))


TEXT = Wire(read_text, write_text)
USER = Wire(_read_user, write_text)
USERS = vector_of(_read_user, write_text)
ROLE = Wire(_read_role, write_text)

Text = Annotated[str, TEXT]
User = Annotated[UserName, USER]
Users = Annotated[tuple[UserName, ...], USERS]
MaybeUser = Annotated[UserName | None, optional_of(_read_user, write_text)]
Role = Annotated[RoleName, ROLE]
MaybeRole = Annotated[RoleName | None, optional_of(_read_role, write_text)]
MaybeInstant = Annotated[int | None, optional_of(Reader.u64, u64)]


def read_flag(reader: Reader) -> bool:
    """Read a yes or no: one octet, 1 or 0.

    Raises:
        DecodeError: It is another.
    """
    flag = reader.u8()
    if flag > 1:
        raise reader.fail()
    return bool(flag)


Flag = Annotated[bool, Wire(read_flag, u8)]


def enum_of(members: type[E]) -> Wire[E]:
    """Return how a member of an enumeration is read and written: one octet."""

    def read(reader: Reader) -> E:
        try:
            return members(reader.u8())
        except ValueError:
            raise reader.fail() from None

    return Wire(read, u8)


def check_users(users: Sequence[UserName], *, at_most: int, at_least: int = 1) -> None:
    """Refuse what is not an ascending list of people without repeats, of the right length.

    Raises:
        InvalidError: A name is malformed, or order or length is wrong.
    """
    for user in users:
        user_name(user)
    if list(users) != sorted(set(users)) or not at_least <= len(users) <= at_most:
        raise InvalidError("a list of people is ascending, without repeats, within its limits")


def check_name(name: str) -> None:
    """Refuse what is not well formed as a layer's or an override's name: a role's grammar.

    Raises:
        InvalidError: It is malformed.
    """
    role_name(name)


def check_span(start_ms: int, end_ms: int) -> None:
    """Refuse a span that is empty, or outside the years that schedules know.

    Raises:
        InvalidError: It is.
    """
    if not EARLIEST_MS <= start_ms < end_ms <= LATEST_MS:
        raise InvalidError("a span starts before it ends, between the years 2000 and 2100")


def check_instants(*instants: int | None) -> None:
    """Refuse an instant outside the years that schedules know; ``None`` is none.

    Raises:
        InvalidError: One is.
    """
    if not all(at_ms is None or EARLIEST_MS <= at_ms <= LATEST_MS for at_ms in instants):
        raise InvalidError("an instant lies between the years 2000 and 2100")


EARLIEST_MS = 946_684_800_000
"""2000-01-01: older offsets from UTC are not whole minutes everywhere."""
LATEST_MS = 4_102_444_800_000
"""2100-01-01: schedules beyond it are mistakes, and arithmetic stays far from every limit."""
