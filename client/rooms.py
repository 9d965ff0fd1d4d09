"""The conversations of a device as it follows them: what the store holds, put together."""

from __future__ import annotations

from dataclasses import dataclass, field

from client import rules
from client.book import Book
from client.follow import members_of
from client.followed import View
from client.records import Known, decode_known, staged_commit
from client.rules import Members
from client.store import Store
from client.thread import Moderation, Setting, moderation
from crypto.mls import Group
from protocol.group_context import ConversationType, WardlineContext
from protocol.identifiers import ConversationId, DeviceId, UserName, user_of


@dataclass(slots=True, kw_only=True)
class Room:
    """A conversation, as far as it does not change with every message.

    Attributes:
        known: What is known beside the group.
        context: What it is; ``None`` before this device came in.
        members: Of the epoch in ``epoch``.
        moderation: Who may mute, and who is muted; ``None`` until it is asked again.
    """

    conversation: ConversationId
    known: Known
    context: WardlineContext | None = None
    epoch: int = -1
    members: Members = field(default_factory=dict)
    moderation: Moderation | None = None


class Rooms:
    """Every conversation that this process has met, and all others when they are asked for."""

    def __init__(self, store: Store, book: Book, *, me: DeviceId) -> None:
        self._store = store
        self._book = book
        self._me = me
        self._rooms: dict[ConversationId, Room] = {}

    def get(self, conversation: ConversationId) -> Room:
        """Return a conversation; one of which nothing is known is new."""
        room = self._rooms.get(conversation)
        if room is None:
            known = decode_known(self._store.followed(conversation))
            room = self._rooms[conversation] = Room(conversation=conversation, known=known)
        return room

    def group(self, conversation: ConversationId) -> Group | None:
        """Return the saved group."""
        return self._store.groups.get(conversation)

    def view(self, room: Room) -> View:
        """Return what an entry is followed with."""
        conversation = room.conversation
        return View(
            conversation=conversation,
            group=self._store.groups.get(conversation),
            staged=tuple(map(staged_commit, self._store.groups.staged(conversation))),
            chains=room.known.chains,
            demands={**self._book.trusted.demands, **room.known.demands},
            withheld=room.known.withheld,
        )

    def context(self, room: Room) -> WardlineContext | None:
        """Return what a conversation is, where this device is or was in it."""
        self._refresh(room)
        return room.context

    def members(self, room: Room) -> Members:
        """Return the devices with a leaf."""
        self._refresh(room)
        return room.members

    def setting(self, room: Room) -> Setting:
        """Return what a message is judged by."""
        self._refresh(room)
        if room.moderation is None:
            room.moderation = moderation(self._store.messages, room.conversation)
        context = room.context
        return Setting(
            kind=ConversationType.GROUP if context is None else context.conversation_type,
            owners=frozenset(() if context is None else context.owners),
            me=user_of(self._me),
            moderation=room.moderation,
        )

    def people(self, room: Room) -> set[UserName]:
        """Return the people of a conversation, the recorder left out."""
        context = self.context(room)
        return set() if context is None else rules.people(room.members, context.recorder)

    def met(self) -> list[ConversationId]:
        """Return the conversations that this process has met."""
        return list(self._rooms)

    def forget(self, conversation: ConversationId) -> None:
        """Read a conversation anew the next time."""
        self._rooms.pop(conversation, None)

    def _refresh(self, room: Room) -> None:
        group = self._store.groups.get(room.conversation)
        if group is None:
            room.epoch, room.members = -1, {}
            if room.context is None and room.known.context:
                room.context = WardlineContext.decode(room.known.context)
        elif room.epoch != group.epoch or len(room.members) != len(group.members):
            room.epoch = group.epoch
            room.context = rules.context_of(group.context.extensions)
            room.members = members_of(group, self._book.judge)
