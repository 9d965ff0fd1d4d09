"""What a message does on this device: who may do what to whose message, and what is kept of it.

Pure but for reading what is already on the disk. The order is the log's, in which every device has
the same messages, so all come to the same judgement. Whatever bytes arrive, there is an outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from client import courses, wording
from client.courses import Answer, Course, TaskCourse
from client.messages import (
    WAITING_PLACE,
    Effect,
    Message,
    MessageKey,
    NewMessage,
    PersonMark,
    PersonState,
    Revision,
    Standing,
    State,
)
from client.messages import Content as Stored
from client.messages import Retraction as Removal
from crypto.errors import DecodeError, InvalidError
from protocol import content as typed
from protocol.authenticated_data import EVERYBODY, Priority, Target
from protocol.content import (
    Acknowledgement,
    Card,
    Claim,
    Closing,
    Content,
    Delivered,
    Edit,
    EmergencyVouch,
    HandOffAcceptance,
    IncidentEvent,
    Kind,
    Moderators,
    Mute,
    Official,
    Reaction,
    Read,
    ReadBack,
    Reference,
    Reply,
    Retraction,
    RoomConfirmation,
    Stage,
    TaskChange,
    Text,
)
from protocol.group_context import ConversationType
from protocol.identifiers import ConversationId, DeviceId, UserName, user_of

MARKS = 1_000
"""Messages that one read mark reaches back: who was away longer is not shown as reading the rest
one by one, and a mark costs a few milliseconds at most."""

AFFAIRS = 256
"""Cards, mutes or moderators' lists that are looked back at: each replaces those before it."""


class Reason(Enum):
    """Why a message changes nothing."""

    NO_TARGET = "what it refers to is not here"
    NOT_THE_AUTHOR = "only its author may"
    NOT_ALLOWED = "its sender may not"
    WRONG_KIND = "what it refers to is of another kind"
    TOO_LATE = "another one came first, or it is closed"
    NOT_READ_BACK = "nobody has read the value back rightly"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """Content that its sender's program should never have made: shown as such, and no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A message that is to be judged.

    Attributes:
        place: Its number in the log; ``WAITING_PLACE`` for one that is about to be sent.
        at_ms: When it was sent.
    """

    conversation: ConversationId
    sender: DeviceId
    plaintext: bytes = field(repr=False)
    at_ms: int
    place: int = WAITING_PLACE
    priority: Priority = Priority.ROUTINE
    target: Target = EVERYBODY
    acknowledgement_asked: bool = False

    @property
    def user(self) -> UserName:
        """Whose device sent it."""
        return user_of(self.sender)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moderation:
    """Who may mute, and who is muted until when."""

    moderators: frozenset[UserName] = frozenset()
    muted: Mapping[UserName, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a conversation is.

    Attributes:
        me: Whose device this is.
        moderation: As ``moderation`` gives it; to be asked again after a ``MODERATORS`` or
            ``MUTE`` was kept.
    """

    kind: ConversationType
    owners: frozenset[UserName]
    me: UserName
    moderation: Moderation = field(default_factory=Moderation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What is kept of a message.

    Attributes:
        content: What the table of messages gets; None for marks, edits and what is refused.
        standing: Of that.
        effects: On other messages.
        read_through: The place up to which this person has read, on another device of theirs.
        refused: Why nothing is kept.
    """

    content: Stored | None = field(default=None, repr=False)
    standing: Standing = field(default_factory=Standing)
    effects: tuple[Effect, ...] = field(default=(), repr=False)
    read_through: int | None = None
    refused: Reason | None = None

    def incoming(
        self, key: MessageKey, at_ms: int, *, message_hash: bytes = b""
    ) -> tuple[Effect, ...]:
        """Return all effects, for a message that came."""
        if self.content is None:
            return self.effects
        new = NewMessage(
            key=key,
            at_ms=at_ms,
            content=self.content,
            standing=self.standing,
            message_hash=message_hash,
        )
        return (new, *self.effects)


class Reading(Protocol):
    """What judging reads: ``client.messages.Messages``."""

    def get(self, key: MessageKey) -> Message | None:
        """Return one message."""

    def about(self, key: MessageKey) -> list[Message]:
        """Return what answers or changes a message."""

    def of_kind(self, conversation: ConversationId, kind: int, *, limit: int) -> list[Message]:
        """Return the last messages of one kind."""

    def unmarked(
        self,
        conversation: ConversationId,
        *,
        author: UserName,
        person: UserName,
        state: PersonState,
        through: int,
        limit: int,
    ) -> list[MessageKey]:
        """Return the newest messages that did not get that far with a person yet."""


_PLAIN_KINDS = frozenset(
    {
        Kind.TEXT,
        Kind.ATTACHMENT,
        Kind.LOCATION,
        Kind.TASK,
        Kind.CRITICAL_RESULT,
        Kind.HAND_OFF,
        Kind.OPEN_SHIFT,
        Kind.CHECK_IN,
        Kind.ROOM_REQUEST,
        Kind.INCIDENT_EVENT,
        Kind.HISTORY_HAND_OVER,
        Kind.OFFICIAL,
        Kind.EMERGENCY_REQUEST,
        Kind.EMERGENCY_VOUCH,
    }
)


def plain(plaintext: bytes) -> bool:
    """Return whether a message refers to no other, so that it is judged without reading any."""
    return plaintext[:1] != b"" and plaintext[0] in _PLAIN_KINDS


def read(data: bytes) -> Content | Unreadable:
    """Return what kept bytes say."""
    try:
        return typed.decode(data)
    except (DecodeError, InvalidError):
        return Unreadable()


def judge(said: Said, *, messages: Reading, setting: Setting) -> Outcome:
    """Return what is kept of a message, sent or received; no bytes make it raise.

    Args:
        said: The message.
        messages: What is on the disk, with everything that stands before it in the log.
        setting: Of its conversation.
    """
    content = read(said.plaintext)
    if isinstance(content, Unreadable):
        return _kept(said, kind=said.plaintext[0] if said.plaintext else 0, text="")
    judging = _Judging(said=said, messages=messages, setting=setting)
    speaks = said.user in setting.owners or _answers(content)
    if setting.kind is ConversationType.ANNOUNCEMENT and not speaks:
        return Outcome(refused=Reason.NOT_ALLOWED)
    rule = _RULES.get(type(content), _Judging.plain)
    return rule(judging, content)


def reference(key: MessageKey) -> Reference:
    """Return how content names a message."""
    return Reference(sender=key.sender, message_id=key.message_id)


def moderation(messages: Reading, conversation: ConversationId) -> Moderation:
    """Return who may mute in a conversation, and who is muted."""
    moderators: frozenset[UserName] = frozenset()
    for content in _affairs(messages, conversation, Kind.MODERATORS):
        if isinstance(content, Moderators):
            moderators = frozenset(content.users)
    muted: dict[UserName, int] = {}
    for content in _affairs(messages, conversation, Kind.MUTE):
        if isinstance(content, Mute):
            muted[content.user] = content.until_ms
    return Moderation(moderators=moderators, muted=muted)


def card(messages: Reading, conversation: ConversationId) -> Card | None:
    """Return a conversation's title and patient reference, None before it has a card."""
    found = messages.of_kind(conversation, Kind.CARD, limit=1)
    return read_card(found[0].content.data) if found else None


def read_card(data: bytes) -> Card | None:
    """Return the card that kept bytes say, None where they are none."""
    found = read(data)
    return found if isinstance(found, Card) else None


def answers_to(messages: Reading, key: MessageKey, *, logged: bool = False) -> list[Answer]:
    """Return what answers a message.

    Args:
        messages: What is on the disk.
        key: Of the message.
        logged: Leave out what this device is still sending: its place is not known yet.
    """
    return [
        Answer(by=user_of(message.key.sender), at_ms=message.at_ms, content=content)
        for message in messages.about(key)
        if not (logged and message.place >= WAITING_PLACE) and message.state is not State.REFUSED
        if not isinstance(content := read(message.content.data), Unreadable)
    ]


def course_of(message: Message, answers: Sequence[Answer]) -> Course | None:
    """Return what became of a message; None where nothing can, or it was taken back."""
    content = read(message.content.data)
    if isinstance(content, Unreadable):
        return None
    return courses.course(content, user_of(message.key.sender), answers)


def _affairs(
    messages: Reading, conversation: ConversationId, kind: Kind
) -> list[Content | Unreadable]:
    found = messages.of_kind(conversation, kind, limit=AFFAIRS)
    return [read(message.content.data) for message in found if message.state is not State.REFUSED]


def _answers(content: Content) -> bool:
    """Return whether everybody may send it where only owners speak."""
    return isinstance(
        content,
        Delivered
        | Read
        | Acknowledgement
        | Reaction
        | TaskChange
        | ReadBack
        | Closing
        | HandOffAcceptance
        | Claim
        | typed.CheckInAnswer
        | RoomConfirmation,
    )


def _kept(
    said: Said, *, kind: int, text: str, about: MessageKey | None = None, hidden: bool = False
) -> Outcome:
    return Outcome(
        content=Stored(kind=kind, data=said.plaintext, text=text),
        standing=Standing(
            priority=said.priority,
            target=said.target,
            acknowledgement_asked=said.acknowledgement_asked,
            about=about,
            hidden=hidden,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judging:
    """One message, and what it is judged by."""

    said: Said
    messages: Reading
    setting: Setting

    def plain(self, content: Content) -> Outcome:
        """Keep what is a message of its own."""
        return self._keep(content, hidden=self._muted())

    def official(self, content: Official) -> Outcome:
        return self._keep(content, hidden=True)

    def vouch(self, content: EmergencyVouch) -> Outcome:
        if content.user == self.said.user:
            return Outcome(refused=Reason.NOT_ALLOWED)
        return self._keep(content)

    def reply(self, content: Reply) -> Outcome:
        # An answer to what is not here any more is still worth reading.
        return self._keep(content, about=self._key(content.to), hidden=self._muted())

    def edit(self, content: Edit) -> Outcome:
        target = self._target(content.target)
        if target is None:
            return Outcome(refused=Reason.NO_TARGET)
        if self._author(target) != self.said.user:
            return Outcome(refused=Reason.NOT_THE_AUTHOR)
        before = read(target.content.data)
        if isinstance(before, Reply):
            after: Content = Reply(to=before.to, text=content.text)
        elif isinstance(before, Text):
            after = Text(text=content.text)
        else:
            return Outcome(refused=Reason.WRONG_KIND)
        stored = Stored(
            kind=target.content.kind, data=typed.encode(after), text=wording.searchable(after)
        )
        revision = Revision(target=target.key, at_ms=self.said.at_ms, content=stored)
        return Outcome(effects=(revision,))

    def retraction(self, content: Retraction) -> Outcome:
        target = self._target(content.target)
        if target is None:
            return Outcome(refused=Reason.NO_TARGET)
        if self._author(target) != self.said.user:
            return Outcome(refused=Reason.NOT_THE_AUTHOR)
        return Outcome(effects=(Removal(target=target.key),))

    def reaction(self, content: Reaction) -> Outcome:
        return self._answer(content, content.target, hidden=True)

    def delivered(self, content: Delivered) -> Outcome:
        return self._mark(content.through, PersonState.DELIVERED)

    def read(self, content: Read) -> Outcome:
        return self._mark(content.through, PersonState.READ)

    def acknowledgement(self, content: Acknowledgement) -> Outcome:
        target = self._target(content.target)
        if target is None:
            return Outcome(refused=Reason.NO_TARGET)
        if self._author(target) == self.said.user:
            return Outcome(refused=Reason.NOT_ALLOWED)
        mark = PersonMark(
            target=target.key,
            person=self.said.user,
            state=PersonState.ACKNOWLEDGED,
            at_ms=self.said.at_ms,
        )
        return Outcome(effects=(mark,))

    def task_change(self, content: TaskChange) -> Outcome:
        target = self._target(content.target)
        if target is None:
            return Outcome(refused=Reason.NO_TARGET)
        now = self._course(target)
        if not isinstance(now, TaskCourse):
            return Outcome(refused=Reason.WRONG_KIND)
        author = self._author(target)
        if courses.may_change(now, content, author=author, by=self.said.user) is None:
            return Outcome(refused=Reason.NOT_ALLOWED)
        return self._keep(content, about=target.key)

    def read_back(self, content: ReadBack) -> Outcome:
        return self._foreign(content, content.target, typed.CriticalResult)

    def closing(self, content: Closing) -> Outcome:
        target = self._target(content.target)
        if target is None:
            return Outcome(refused=Reason.NO_TARGET)
        now = self._course(target)
        if not isinstance(now, courses.ResultCourse):
            return Outcome(refused=Reason.WRONG_KIND)
        if now.state is courses.ResultState.OPEN:
            return Outcome(refused=Reason.NOT_READ_BACK)
        if now.state is courses.ResultState.CLOSED:
            return Outcome(refused=Reason.TOO_LATE)
        if not courses.may_close(now, author=self._author(target), by=self.said.user):
            return Outcome(refused=Reason.NOT_ALLOWED)
        return self._keep(content, about=target.key)

    def acceptance(self, content: HandOffAcceptance) -> Outcome:
        target = self._target(content.target)
        note = None if target is None else read(target.content.data)
        if target is None or not isinstance(note, typed.HandOff):
            return Outcome(refused=Reason.NO_TARGET if target is None else Reason.WRONG_KIND)
        if not courses.may_accept(note, self._author(target), self.said.user):
            return Outcome(refused=Reason.NOT_ALLOWED)
        return self._keep(content, about=target.key)

    def claim(self, content: Claim) -> Outcome:
        return self._foreign(content, content.target, typed.OpenShift)

    def check_in_answer(self, content: typed.CheckInAnswer) -> Outcome:
        return self._answer(content, content.target, kinds=typed.CheckIn)

    def room_confirmation(self, content: RoomConfirmation) -> Outcome:
        return self._foreign(content, content.target, typed.RoomRequest)

    def incident_event(self, content: IncidentEvent) -> Outcome:
        if content.stage is not Stage.UPDATE and self.said.user not in self.setting.owners:
            return Outcome(refused=Reason.NOT_ALLOWED)
        return self._keep(content)

    def card(self, content: Card) -> Outcome:
        """Keep an owner's card; anybody else's only where it says what is known, or all there is.

        Whoever comes later gets the card again from a member who need not be an owner.
        """
        known = card(self.messages, self.said.conversation)
        owner = self.said.user in self.setting.owners
        if not (owner or known is None or known == content):
            return Outcome(refused=Reason.NOT_ALLOWED)
        return self._keep(content, hidden=True)

    def moderators(self, content: Moderators) -> Outcome:
        if self.said.user not in self.setting.owners:
            return Outcome(refused=Reason.NOT_ALLOWED)
        return self._keep(content)

    def mute(self, content: Mute) -> Outcome:
        may = self.setting.owners | self.setting.moderation.moderators
        if self.said.user not in may or content.user in self.setting.owners:
            return Outcome(refused=Reason.NOT_ALLOWED)
        return self._keep(content)

    # -- parts ---------------------------------------------------------------------------------

    def _keep(
        self, content: Content, *, about: MessageKey | None = None, hidden: bool = False
    ) -> Outcome:
        text = wording.searchable(content)
        return _kept(self.said, kind=typed.kind_of(content), text=text, about=about, hidden=hidden)

    def _answer(
        self,
        content: Content,
        target: Reference,
        *,
        kinds: type[object] = object,
        hidden: bool = False,
    ) -> Outcome:
        found = self._target(target)
        if found is None:
            return Outcome(refused=Reason.NO_TARGET)
        if not isinstance(read(found.content.data), kinds):
            return Outcome(refused=Reason.WRONG_KIND)
        return self._keep(content, about=found.key, hidden=hidden)

    def _foreign(self, content: Content, target: Reference, kinds: type[object]) -> Outcome:
        """Keep an answer that is worth something only from somebody else than the author."""
        if user_of(target.sender) == self.said.user:
            return Outcome(refused=Reason.NOT_ALLOWED)
        return self._answer(content, target, kinds=kinds)

    def _mark(self, through: Reference, state: PersonState) -> Outcome:
        target = self.messages.get(self._key(through))
        if target is None:
            return Outcome(refused=Reason.NO_TARGET)
        if self.said.user == self.setting.me:
            return Outcome(read_through=target.place if state is PersonState.READ else None)
        keys = self.messages.unmarked(
            self.said.conversation,
            author=self.setting.me,
            person=self.said.user,
            state=state,
            through=target.place,
            limit=MARKS,
        )
        marks = (
            PersonMark(target=key, person=self.said.user, state=state, at_ms=self.said.at_ms)
            for key in keys
        )
        return Outcome(effects=tuple(marks))

    def _muted(self) -> bool:
        until_ms = self.setting.moderation.muted.get(self.said.user, 0)
        return self.said.at_ms < until_ms and self.said.priority < Priority.URGENT

    def _key(self, target: Reference) -> MessageKey:
        return MessageKey(
            conversation=self.said.conversation,
            sender=target.sender,
            message_id=target.message_id,
        )

    def _target(self, target: Reference) -> Message | None:
        """Return what is referred to, unless it is not here or was taken back."""
        found = self.messages.get(self._key(target))
        return None if found is None or found.state is State.RETRACTED else found

    def _author(self, target: Message) -> UserName:
        return user_of(target.key.sender)

    def _course(self, target: Message) -> Course | None:
        # Of what came, the log alone decides; of what is sent, also what is on its way.
        logged = self.said.place < WAITING_PLACE
        return course_of(target, answers_to(self.messages, target.key, logged=logged))


_RULES: dict[type[object], Callable[[_Judging, Any], Outcome]] = {
    Reply: _Judging.reply,
    Edit: _Judging.edit,
    Retraction: _Judging.retraction,
    Reaction: _Judging.reaction,
    Delivered: _Judging.delivered,
    Read: _Judging.read,
    Acknowledgement: _Judging.acknowledgement,
    TaskChange: _Judging.task_change,
    ReadBack: _Judging.read_back,
    Closing: _Judging.closing,
    HandOffAcceptance: _Judging.acceptance,
    Claim: _Judging.claim,
    typed.CheckInAnswer: _Judging.check_in_answer,
    RoomConfirmation: _Judging.room_confirmation,
    IncidentEvent: _Judging.incident_event,
    Card: _Judging.card,
    Moderators: _Judging.moderators,
    Mute: _Judging.mute,
    Official: _Judging.official,
    EmergencyVouch: _Judging.vouch,
}
