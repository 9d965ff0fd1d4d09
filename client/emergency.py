"""Emergency access as a person uses it: asking colleagues, vouching, seeing who is in, ending it.

Two members of a conversation vouch. The first one's device signs and says so in the conversation,
with the reason, for all to see; the second one's signs the same statement and makes the Commit that
lets the guest in. The guest goes when the time is over, or when one who vouched ends it before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from client import rules, thread
from client.courses import VouchCourse, VouchState
from client.errors import EndedError, ForbiddenError, NotMemberError, UnknownUserError
from client.membership import Intent
from client.messages import Message, MessageKey, State
from client.rooms import Room
from crypto.errors import DecodeError, InvalidError
from crypto.statement import claimed_statement
from crypto.statement_types import Purpose, StatementType
from protocol.authenticated_data import Priority
from protocol.content import EmergencyRequest, EmergencyVouch, Kind
from protocol.emergency import EMERGENCY_MS, Emergency, Guest
from protocol.group_context import ConversationType, WardlineContext
from protocol.identifiers import ConversationId, UserName, user_of
from protocol.policy import Action

if TYPE_CHECKING:
    from client.device import Device

STAY_MS = 2 * 60 * 60 * 1000
"""How long a guest stays unless somebody says otherwise, in ms: long enough to act, and no more."""

SHORTEST_MS = 5 * 60 * 1000
"""Shortest stay, in ms: what is shorter is over before anybody has read."""

LOOKED_AT = 32
"""Vouching messages that are looked back at; what they say lapses within the hour."""

CLOSED_TO_GUESTS = frozenset({ConversationType.DIRECT, ConversationType.ANNOUNCEMENT})
"""A direct conversation is between two, and what is announced needs no emergency."""


class Vouched(StrEnum):
    """What came of vouching."""

    FIRST = "first"
    """A second colleague must vouch within the hour."""
    SECOND = "second"
    """The guest is let in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """Somebody for whom one colleague has vouched, and a second one must.

    Attributes:
        message: In which the first one says so.
        by: Who that is.
        until_ms: When the access would end, milliseconds since the epoch.
        lapses_ms: Until when the second one can vouch.
        reason: Why, in the first one's words.
    """

    message: MessageKey
    user: UserName
    by: UserName
    until_ms: int
    lapses_ms: int
    reason: str = field(repr=False)
    statement: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A guest who is in a conversation now.

    Attributes:
        until_ms: When the access ends.
        vouchers: On whose word, as far as they are still in the conversation.
    """

    user: UserName
    until_ms: int
    vouchers: tuple[UserName, ...]


class Emergencies:
    """Emergency access over an open device."""

    def __init__(self, device: Device) -> None:
        self._device = device

    # -- reading -------------------------------------------------------------------------------

    def visits(self, conversation: ConversationId) -> list[Visit]:
        """Return the guests who are in a conversation now.

        Raises:
            NotMemberError: This device has never been in it.
        """
        room, context = self._room(conversation)
        members = self._device.engine.rooms.members(room)
        present = {one.user for one in members.values()}
        known = self._device.engine.book.trusted.trust.devices
        return [
            Visit(
                user=guest.user,
                until_ms=guest.until_ms,
                vouchers=rules.vouchers(guest, members, known),
            )
            for guest in context.guests
            if guest.user in present
        ]

    def pending(self, conversation: ConversationId) -> list[Pending]:
        """Return for whom a second colleague can vouch here now, the newest last.

        Raises:
            NotMemberError: This device has never been in it.
        """
        _, context = self._room(conversation)
        if not self._device.engine.rights.may_view(conversation):
            return []  # The reason is for whoever may read.
        now_ms = self._device.now_ms()
        found = (
            vouched(message)
            for message in self._device.store.messages.of_kind(
                conversation, int(Kind.EMERGENCY_VOUCH), limit=LOOKED_AT
            )
        )
        return [
            one
            for one in found
            if one is not None and _state(one, context.guests, now_ms=now_ms) is VouchState.OPEN
        ]

    # -- acting --------------------------------------------------------------------------------

    async def ask(self, colleagues: Collection[UserName], *, about: str, reason: str) -> None:
        """Ask colleagues to vouch, each in the direct conversation with them.

        Raises:
            UnknownUserError: The relay knows no device of one of them.
            NotConnectedError: Somebody's devices are not known here, and there is no connection.
            InvalidError: Nothing is said of which conversation, or why.
        """
        content = EmergencyRequest(about=about, reason=reason)
        for colleague in colleagues:
            conversation = await direct_with(self._device, colleague)
            await self._device.send(
                conversation, content, priority=Priority.URGENT, acknowledgement_asked=True
            )

    async def vouch(
        self,
        conversation: ConversationId,
        user: UserName,
        *,
        reason: str = "",
        stay_ms: int = STAY_MS,
    ) -> Vouched:
        """Vouch for somebody: as the second one where a colleague has already, else as the first.

        Args:
            conversation: Where; this person is in it, and no guest.
            user: Who is to come in, or a guest who is to stay longer.
            reason: Why, for all to read; the second one needs none.
            stay_ms: For how long, at most ``EMERGENCY_MS``; the first one says.

        Raises:
            NotMemberError: This device is not in the conversation.
            ForbiddenError: The policy does not let this person vouch.
            InvalidError: A rule is broken, which is named.
            UnknownUserError: The relay knows no device of the guest.
        """
        room, context = self._room(conversation)
        self._check(room, context, user)
        if not self._device.devices(user):
            await self._device.look_up([user])
        if not self._device.devices(user):
            raise UnknownUserError
        for one in reversed(self.pending(conversation)):
            if one.user == user and one.by != self._device.user:
                await self._second(conversation, one)
                return Vouched.SECOND
        await self._first(conversation, user, reason=reason, stay_ms=stay_ms)
        return Vouched.FIRST

    async def _first(
        self, conversation: ConversationId, user: UserName, *, reason: str, stay_ms: int
    ) -> None:
        if not SHORTEST_MS <= stay_ms <= EMERGENCY_MS:
            raise InvalidError("emergency access lasts from five minutes to twelve hours")
        until_ms = self._device.now_ms() + stay_ms
        body = Emergency(conversation=conversation, user=user, until_ms=until_ms)
        signed = self._device.statements.sign(
            StatementType.EMERGENCY, body.encode(), Purpose.DEVICE
        )
        content = EmergencyVouch(user=user, until_ms=until_ms, reason=reason, statement=signed)
        await self._device.send(conversation, content, priority=Priority.URGENT)

    async def _second(self, conversation: ConversationId, pending: Pending) -> None:
        complete = await self._device.statements.countersign(pending.statement, Purpose.DEVICE)
        self._device.engine.membership.want(conversation, Intent(guests=(complete,)))

    async def end(self, conversation: ConversationId, user: UserName) -> None:
        """End a guest's access now: the guest, one who vouched, or an owner.

        Raises:
            NotMemberError: This device is not in the conversation.
            ForbiddenError: This person may not.
            InvalidError: That person is no guest here.
            NotConnectedError: The guest asks to be let out, and there is no connection.
            RefusedError: The relay does not take that.
        """
        room, context = self._room(conversation)
        visit = next((one for one in self.visits(conversation) if one.user == user), None)
        if visit is None:
            raise InvalidError("nobody of that name is here by emergency access")
        if user == self._device.user:
            await self._device.leave(conversation)
            return
        if self._device.user not in {*visit.vouchers, *context.owners}:
            raise ForbiddenError
        self._device.engine.membership.want(room.conversation, Intent(remove=(user,)))

    # -- parts ---------------------------------------------------------------------------------

    def _room(self, conversation: ConversationId) -> tuple[Room, WardlineContext]:
        room = self._device.engine.rooms.get(conversation)
        context = self._device.engine.rooms.context(room)
        if room.known.ended:
            raise EndedError
        if context is None:
            raise NotMemberError
        return room, context

    def _check(self, room: Room, context: WardlineContext, user: UserName) -> None:
        """Refuse what every member would refuse, while there is somebody to tell why.

        Raises:
            NotAllowedError: The policy does not let this person vouch, or say anything.
            BarredError: It does not let the guest be in conversations.
            InvalidError: A rule is broken, which is named.
        """
        self._device.engine.rights.check(Action.VOUCH)
        self._device.engine.rights.check_bringing(context.conversation_type, [user])
        if context.conversation_type in CLOSED_TO_GUESTS:
            raise InvalidError("a direct conversation or an announcement has no guests")
        guests = {guest.user for guest in context.guests}
        if user == self._device.user or self._device.user in guests:
            raise InvalidError("nobody vouches for themself, and no guest for another")
        if user in self._device.engine.rooms.people(room) - guests:
            raise InvalidError("that person is in the conversation already")


async def direct_with(device: Device, user: UserName) -> ConversationId:
    """Return the direct conversation with somebody; it is begun where there is none yet.

    Raises:
        UnknownUserError: The relay knows no device of that person.
        NotConnectedError: Nothing is known of that person here, and there is no connection.
    """
    for one in device.conversations():
        if one.peer == user and not one.ended:
            return one.conversation
    return await device.start(ConversationType.DIRECT, [user])


def course(message: Message, guests: Iterable[Guest], *, now_ms: int) -> VouchCourse | None:
    """Return what became of a vouching message; None for every other, and for one that is wrong."""
    one = vouched(message)
    if one is None:
        return None
    return VouchCourse(state=_state(one, guests, now_ms=now_ms), until_ms=one.until_ms)


def _state(pending: Pending, guests: Iterable[Guest], *, now_ms: int) -> VouchState:
    for guest in guests:
        if guest.user == pending.user and pending.until_ms <= guest.until_ms:
            return VouchState.IN
    lapsed = now_ms >= min(pending.lapses_ms, pending.until_ms)
    return VouchState.LAPSED if lapsed else VouchState.OPEN


def vouched(message: Message) -> Pending | None:
    """Return what a vouching message asks of a second colleague; None where it cannot count."""
    content = thread.read(message.content.data)
    if not isinstance(content, EmergencyVouch) or message.state in (State.REFUSED, State.RETRACTED):
        return None
    try:
        claimed = claimed_statement(content.statement)
        body = Emergency.decode(claimed.body)
    except (DecodeError, InvalidError):
        return None
    says = (message.key.conversation, content.user, content.until_ms)
    if (body.conversation, body.user, body.until_ms) != says:
        # Whoever reads one thing must not sign another.
        return None
    return Pending(
        message=message.key,
        user=content.user,
        by=user_of(message.key.sender),
        until_ms=content.until_ms,
        lapses_ms=claimed.expires_ms,
        reason=content.reason,
        statement=content.statement,
    )
