"""Signed changes of who is on call: administrators' commands, and what people ask for themselves.

Each names the version that it makes, one above the present one, so that of two administrators who
change a role at once the second is told and looks again. A person's requests concern their own
quiet, their own shift, and a shift that was offered.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, ClassVar

from crypto import codec
from crypto.codec import U64, Reader, Struct, optional_of
from crypto.errors import InvalidError
from protocol.identifiers import role_name, user_name
from protocol.oncall.delivery import Quiet
from protocol.oncall.escalation import Policy
from protocol.oncall.override import (
    Change,
    Override,
    Swap,
    TemporarySchedule,
    read_change,
    write_change,
)
from protocol.oncall.rotation import PEOPLE
from protocol.oncall.schedule import Layer, Schedule
from protocol.oncall.wire import (
    EARLIEST_MS,
    LATEST_MS,
    MaybeRole,
    MaybeUser,
    Role,
    Text,
    User,
    Users,
    check_name,
    check_span,
    check_users,
    enum_of,
)

VERSION_MAX = (1 << 63) - 1
"""Highest version: what a refusal's detail can say."""
IMPORTED = "imported"
"""Name of the change at the bottom of a stack that an imported calendar fills."""


class HandOver(IntEnum):
    """Who may give their own shift to whom, without an administrator."""

    NOBODY = 0
    HOLDERS = 1
    """Whoever is on call, to a holder of the role."""


class OnCallCommand(Struct):
    """Base of the commands here: a kind octet, then the fields."""

    __slots__ = ()
    KIND: ClassVar[int]

    def encode(self) -> bytes:
        """Return the command's encoding."""
        return codec.u8(self.KIND) + super().encode()

    @property
    def standing(self) -> None:
        """Stands for nothing by itself: a role is all of its commands, which the log keeps."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfRole(OnCallCommand):
    """A change of one role.

    Attributes:
        role: Its name.
        version: The role's next.
    """

    role: Role
    version: U64

    def __post_init__(self) -> None:
        role_name(self.role)
        _check_version(self.version)
        self._check()

    def _check(self) -> None:
        """Refuse what breaks a rule of the command's own fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _FromThenOn(_OfRole):
    """A change of a role's layers.

    Attributes:
        effective_ms: From when on it holds: later for a plan, earlier for a correction.
    """

    effective_ms: U64

    def _check(self) -> None:
        _check_effective(self.effective_ms)


def _check_effective(effective_ms: int) -> None:
    if not EARLIEST_MS <= effective_ms <= LATEST_MS:
        raise InvalidError("a change is in effect from a time between the years 2000 and 2100")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named(_OfRole):
    """A change of what has a name in a role's stack, or among its offers.

    Attributes:
        name: The name: of an offer, then of the override in the stack, too.
    """

    name: Text

    def _check(self) -> None:
        check_name(self.name)


def _check_version(version: int) -> None:
    if not 1 <= version <= VERSION_MAX:
        raise InvalidError("a version is 1 to VERSION_MAX")


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRole(_OfRole):
    """A role that people can be on call for; its schedule stays as it is, empty at first.

    Attributes:
        fallback: Who answers where nobody is on call.
        backup: The role whose people on call are this one's backup.
        owner: Who is told where its schedule has a gap, or somebody on call cannot be woken.
        hand_over: Whether people may give their own shift away.
    """

    KIND: ClassVar[int] = 16
    fallback: Users
    backup: MaybeRole = None
    owner: User
    hand_over: Annotated[HandOver, enum_of(HandOver)] = HandOver.NOBODY

    def _check(self) -> None:
        check_users(self.fallback, at_most=PEOPLE)
        user_name(self.owner)
        if self.backup is not None and role_name(self.backup) == self.role:
            raise InvalidError("a role is not its own backup")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRole(_OfRole):
    """Nobody is on call for a role any more; pages under way go on by their policy."""

    KIND: ClassVar[int] = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSchedule(_FromThenOn):
    """A role's whole schedule, its stack included.

    Attributes:
        schedule: The schedule.
    """

    KIND: ClassVar[int] = 18
    schedule: Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLayer(_FromThenOn):
    """A layer of a role's schedule, in place of the one of its name or behind all others."""

    KIND: ClassVar[int] = 19
    layer: Layer


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveLayer(_FromThenOn):
    """A layer of a role's schedule is taken out."""

    KIND: ClassVar[int] = 20
    name: Text

    def _check(self) -> None:
        _check_effective(self.effective_ms)
        check_name(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddChange(_OfRole):
    """An override, a swap or a temporary schedule on top of a role's stack."""

    KIND: ClassVar[int] = 21
    change: Annotated[Change, codec.Wire(read_change, write_change)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveChange(_Named):
    """A change is taken out of a role's stack, wherever it lies; what it covered is back."""

    KIND: ClassVar[int] = 22


@dataclass(frozen=True, slots=True, kw_only=True)
class SetImported(_OfRole):
    """What a calendar says, at the bottom of a role's stack: every change of ours lies above it.

    Attributes:
        plan: The shifts of the imported span, named ``IMPORTED``; none takes the import out.
    """

    KIND: ClassVar[int] = 23
    plan: Annotated[
        TemporarySchedule | None, optional_of(TemporarySchedule.read, TemporarySchedule.encode)
    ]

    def _check(self) -> None:
        if self.plan is not None and self.plan.name != IMPORTED:
            raise InvalidError("what is imported has the name IMPORTED")


@dataclass(frozen=True, slots=True, kw_only=True)
class SetEscalationPolicy(_OfRole):
    """How pages to a role escalate from now on; those under way keep theirs."""

    KIND: ClassVar[int] = 24
    policy: Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferShift(_Named):
    """A shift that a holder of the role may take; the first valid claim has it.

    Attributes:
        start_ms: Start, included.
        end_ms: End, excluded.
        until_ms: Until when it may be claimed.
    """

    KIND: ClassVar[int] = 25
    start_ms: U64
    end_ms: U64
    until_ms: U64

    def _check(self) -> None:
        check_name(self.name)
        check_span(self.start_ms, self.end_ms)
        if not EARLIEST_MS <= self.until_ms <= self.end_ms:
            raise InvalidError("a shift is claimed before it ends")


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawShift(_Named):
    """A shift that nobody has claimed is not offered any more."""

    KIND: ClassVar[int] = 26


NUMBERS = 256
"""Telephone numbers of one role: its own, and those of everybody who may ever have it."""
_NUMBER = re.compile(r"[+0-9][0-9 ()/.#*,-]{1,39}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Number(Struct):
    """A telephone or pager number.

    Attributes:
        user: Whose it is; None for the role's own, whoever has it.
        number: As it is dialled: digits, and the signs that people put between them.
    """

    user: MaybeUser
    number: Text

    def __post_init__(self) -> None:
        if self.user is not None:
            user_name(self.user)
        if not _NUMBER.fullmatch(self.number):
            raise InvalidError("a number is what a telephone can dial")


@dataclass(frozen=True, slots=True, kw_only=True)
class SetNumbers(_OfRole):
    """How a role and its people are called by telephone: for senders, and for the sheet on paper.

    Attributes:
        numbers: All of them, one each, ascending by person, the role's own first.
    """

    KIND: ClassVar[int] = 27
    numbers: Annotated[tuple[Number, ...], codec.vector_of(Number.read, Number.encode)]

    def _check(self) -> None:
        users = [one.user or "" for one in self.numbers]
        if users != sorted(set(users)) or len(users) > NUMBERS:
            raise InvalidError("numbers are ascending by person, one each, at most NUMBERS")


RoleCommand = (
    SetRole
    | DeleteRole
    | SetSchedule
    | SetLayer
    | RemoveLayer
    | AddChange
    | RemoveChange
    | SetImported
    | SetEscalationPolicy
    | OfferShift
    | WithdrawShift
    | SetNumbers
)
"""What an administrator changes about a role."""

ROLE_COMMANDS: tuple[type[RoleCommand], ...] = (
    SetRole,
    DeleteRole,
    SetSchedule,
    SetLayer,
    RemoveLayer,
    AddChange,
    RemoveChange,
    SetImported,
    SetEscalationPolicy,
    OfferShift,
    WithdrawShift,
    SetNumbers,
)


# What a person asks for, by a device of theirs: the body of a ``DEVICE_REQUEST`` in the control
# log. Their kinds are apart from those of the notes that stand in conversations.


@dataclass(frozen=True, slots=True, kw_only=True)
class SetQuietHours(OnCallCommand):
    """When a person wants to be left in peace.

    Attributes:
        version: The person's next.
        quiet: Their quiet hours, and an end to not being disturbed.
    """

    KIND: ClassVar[int] = 16
    version: U64
    quiet: Quiet

    def __post_init__(self) -> None:
        _check_version(self.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOverShift(OnCallCommand):
    """A person gives a shift of theirs to somebody else, where the role allows it.

    Attributes:
        role: The role.
        change: An override that puts somebody in the person's place.
    """

    KIND: ClassVar[int] = 17
    role: Role
    change: Override

    def __post_init__(self) -> None:
        role_name(self.role)
        if self.change.removed is None or self.change.added is None:
            raise InvalidError("a shift is handed from one person to another")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimShift(OnCallCommand):
    """A person takes a shift that was offered."""

    KIND: ClassVar[int] = 18
    role: Role
    name: Text

    def __post_init__(self) -> None:
        role_name(self.role)
        check_name(self.name)


LINK_BYTES = 32
"""Bytes of a calendar link's secret, and of its hash."""


def _read_hash(reader: Reader) -> bytes:
    return reader.take(LINK_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetCalendarLink(OnCallCommand):
    """A person lets a calendar fetch their shifts by a link, or lets none any more.

    Attributes:
        version: The person's next.
        link: SHA-256 of the link's secret, so that the control log gives it to nobody; None ends
            the link that there was.
    """

    KIND: ClassVar[int] = 19
    version: U64
    link: Annotated[bytes | None, optional_of(_read_hash, bytes)]

    def __post_init__(self) -> None:
        _check_version(self.version)
        if self.link is not None and len(self.link) != LINK_BYTES:
            raise InvalidError("a link's hash has LINK_BYTES bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreeSwap(OnCallCommand):
    """One of two people signs a swap of theirs: the first proposes it, the second makes it true.

    Attributes:
        role: The role.
        swap: All of it: both sign the same.
    """

    KIND: ClassVar[int] = 20
    role: Role
    swap: Swap

    def __post_init__(self) -> None:
        role_name(self.role)


@dataclass(frozen=True, slots=True, kw_only=True)
class DropSwap(OnCallCommand):
    """One of the two takes a swap back, or declines it, before both have signed."""

    KIND: ClassVar[int] = 21
    role: Role
    name: Text

    def __post_init__(self) -> None:
        role_name(self.role)
        check_name(self.name)


PersonalRequest = (
    SetQuietHours | HandOverShift | ClaimShift | SetCalendarLink | AgreeSwap | DropSwap
)
"""What a person changes for themself."""

PERSONAL_REQUESTS: tuple[type[PersonalRequest], ...] = (
    SetQuietHours,
    HandOverShift,
    ClaimShift,
    SetCalendarLink,
    AgreeSwap,
    DropSwap,
)

_REQUESTS = {kind.KIND: kind for kind in PERSONAL_REQUESTS}


def decode_request(body: bytes) -> PersonalRequest:
    """Return the request in a ``DEVICE_REQUEST`` statement's body, as the control log takes it.

    Raises:
        DecodeError: The bytes are no encoding of one.
        InvalidError: A name, a span or a version breaks its rule.
    """
    return codec.decode(body, "PersonalRequest", _read_request)


def _read_request(reader: Reader) -> PersonalRequest:
    kind = _REQUESTS.get(reader.u8())
    if kind is None:
        raise reader.fail()
    return kind.read(reader)
