"""What lies on top of a schedule's layers: overrides, swaps and temporary schedules, one stack.

Each is applied to what all below it gave, so the later wins, an override of an override is nothing
special, and removing one restores what it covered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from crypto import codec
from crypto.codec import U64, Reader, Struct, vector_of
from crypto.errors import InvalidError
from protocol.identifiers import UserName, user_name
from protocol.oncall.rotation import PEOPLE
from protocol.oncall.wire import (
    MaybeUser,
    Text,
    User,
    Users,
    check_name,
    check_span,
    check_users,
)

People = frozenset[UserName]

FIXED_SHIFTS = 512
"""Shifts of a temporary schedule: a festive month, three shifts a day, a few roles over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Override(Struct):
    """Somebody is added, removed or replaced for a while.

    Attributes:
        name: Its name within the stack.
        start_ms: Start, included.
        end_ms: End, excluded.
        removed: Who is off call; with ``added``, the replacement happens only where this person is
            on call.
        added: Who is on call.
    """

    KIND: ClassVar[int] = 1
    name: Text
    start_ms: U64
    end_ms: U64
    removed: MaybeUser = None
    added: MaybeUser = None

    def __post_init__(self) -> None:
        check_name(self.name)
        check_span(self.start_ms, self.end_ms)
        people = [user_name(user) for user in (self.removed, self.added) if user is not None]
        if not people or len(set(people)) != len(people):
            raise InvalidError("an override adds somebody, removes somebody, or both, not the same")

    def apply(self, people: People, at_ms: int) -> People:
        """Return who is on call once this has been applied to who was below it."""
        if not self.start_ms <= at_ms < self.end_ms:
            return people
        if self.removed is not None:
            if self.removed not in people:
                return people
            people -= {self.removed}
        return people if self.added is None else people | {self.added}

    def edges(self) -> Iterator[int]:
        """Yield the instants at which its effect may change."""
        yield from (self.start_ms, self.end_ms)

    def people(self) -> People:
        """Return whom it may put on call."""
        return frozenset() if self.added is None else frozenset({self.added})


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap(Struct):
    """Two people exchange what each has in one span for what the other has in another.

    Attributes:
        name: Its name within the stack.
        first: Who gives up what they have from ``first_start_ms`` to ``first_end_ms``.
        first_start_ms: Start, included.
        first_end_ms: End, excluded.
        second: Who takes that, and gives up what they have in the second span.
        second_start_ms: Start, included.
        second_end_ms: End, excluded; the two spans do not overlap.
    """

    KIND: ClassVar[int] = 2
    name: Text
    first: User
    first_start_ms: U64
    first_end_ms: U64
    second: User
    second_start_ms: U64
    second_end_ms: U64

    def __post_init__(self) -> None:
        check_name(self.name)
        check_span(self.first_start_ms, self.first_end_ms)
        check_span(self.second_start_ms, self.second_end_ms)
        if user_name(self.first) == user_name(self.second):
            raise InvalidError("a swap has two people")
        if self.first_start_ms < self.second_end_ms and self.second_start_ms < self.first_end_ms:
            raise InvalidError("the two spans of a swap do not overlap")

    @property
    def begins_ms(self) -> int:
        """When it first moves anybody."""
        return min(self.first_start_ms, self.second_start_ms)

    def apply(self, people: People, at_ms: int) -> People:
        """Return who is on call once this has been applied to who was below it."""
        if self.first_start_ms <= at_ms < self.first_end_ms:
            return _replace(people, self.first, self.second)
        if self.second_start_ms <= at_ms < self.second_end_ms:
            return _replace(people, self.second, self.first)
        return people

    def edges(self) -> Iterator[int]:
        """Yield the instants at which its effect may change."""
        yield from (self.first_start_ms, self.first_end_ms)
        yield from (self.second_start_ms, self.second_end_ms)

    def people(self) -> People:
        """Return whom it may put on call."""
        return frozenset({self.first, self.second})


def _replace(people: People, removed: UserName, added: UserName) -> People:
    return people - {removed} | {added} if removed in people else people


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedShift(Struct):
    """People on call in one span."""

    start_ms: U64
    end_ms: U64
    users: Users

    def __post_init__(self) -> None:
        check_span(self.start_ms, self.end_ms)
        check_users(self.users, at_most=PEOPLE)


_FIXED_SHIFTS = vector_of(FixedShift.read, FixedShift.encode)


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporarySchedule(Struct):
    """Fixed shifts that replace all that is below for a while: a festive plan.

    Attributes:
        name: Its name within the stack.
        start_ms: Start, included.
        end_ms: End, excluded.
        shifts: Who is on call in it; outside of them nobody is.
    """

    KIND: ClassVar[int] = 3
    name: Text
    start_ms: U64
    end_ms: U64
    shifts: Annotated[tuple[FixedShift, ...], _FIXED_SHIFTS]

    def __post_init__(self) -> None:
        check_name(self.name)
        check_span(self.start_ms, self.end_ms)
        if not 1 <= len(self.shifts) <= FIXED_SHIFTS:
            raise InvalidError("a temporary schedule has 1 to FIXED_SHIFTS shifts")
        if any(s.start_ms < self.start_ms or s.end_ms > self.end_ms for s in self.shifts):
            raise InvalidError("a temporary schedule's shifts lie within it")

    def apply(self, people: People, at_ms: int) -> People:
        """Return who is on call once this has been applied to who was below it."""
        if not self.start_ms <= at_ms < self.end_ms:
            return people
        on = (shift for shift in self.shifts if shift.start_ms <= at_ms < shift.end_ms)
        return frozenset(user for shift in on for user in shift.users)

    def edges(self) -> Iterator[int]:
        """Yield the instants at which its effect may change."""
        yield from (self.start_ms, self.end_ms)
        for shift in self.shifts:
            yield from (shift.start_ms, shift.end_ms)

    def people(self) -> People:
        """Return whom it may put on call."""
        return frozenset(user for shift in self.shifts for user in shift.users)


Change = Override | Swap | TemporarySchedule

_CHANGES: dict[int, Callable[[Reader], Change]] = {
    Override.KIND: Override.read,
    Swap.KIND: Swap.read,
    TemporarySchedule.KIND: TemporarySchedule.read,
}


def read_change(reader: Reader) -> Change:
    """Read one element of a stack: a kind octet, then the struct of that kind.

    Raises:
        DecodeError: The bytes are no encoding of one.
        InvalidError: It breaks a rule stated in the classes here.
    """
    read = _CHANGES.get(reader.u8())
    if read is None:
        raise reader.fail()
    return read(reader)


def write_change(change: Change) -> bytes:
    """Return the encoding of one element of a stack."""
    return codec.u8(change.KIND) + change.encode()
