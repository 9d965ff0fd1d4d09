"""A device that has been in use for long: 5,000 conversations, 100,000 messages, a directory."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from bench.client_store import sentence
from client import thread
from client.messages import MessageKey
from client.records import Known, encode_known
from client.rooms import Room
from client.store import Entry, Store
from client.thread import Said, Setting
from crypto.mls import Group
from protocol import content as typed
from protocol.content import Card, Text
from protocol.identifiers import LogId, conversation_log, user_of
from tests.client.talk import Ward, assembled
from tests.server.harness import Hospital, now_ms

CONVERSATIONS = 5_000
EACH = 20
"""Messages in each conversation, its card counted: 100,000 in all."""

ME, OTHER = "bob/phone", "ann/phone"
MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Full:
    """What was filled.

    Attributes:
        wards: The first conversations, as their members have them: to say more there.
        newest: Title of the conversation with the newest message.
    """

    wards: tuple[Ward, ...]
    newest: str


def join(store: Store, ward: Ward, *, read_through: int = 0) -> Group:
    """Put a store into a conversation, as a receipt does."""
    names = [one.name for one in ward.talkers.values()]
    known = Known(
        context=ward.context.encode(),
        confirmed=True,
        since_ms=dict.fromkeys(names, 1),
        read_through=read_through,
    )
    store.note(ward.conversation, encode_known(known))
    group = ward[ME].group
    store.began(ward.conversation, group)
    store.passed(LogId(b"c" + ward.conversation), ward.sequence)
    return group


def fill(store: Store, of: Hospital, *, conversations: int = CONVERSATIONS, kept: int = 10) -> Full:
    """Fill a new store of ``ME``, all but its credentials; one conversation in ten has unread."""
    source = random.Random(1)
    began_ms = now_ms() - conversations * EACH * MINUTE_MS // 10
    wards = []
    for number in range(conversations):
        ward = assembled(of, OTHER, ME)
        last = ward.sequence + EACH
        group = join(store, ward, read_through=last - (2 if number % 10 == 0 else 0))
        at_ms = began_ms + number * EACH * MINUTE_MS // 10
        store.received(list(_entries(ward, group, f"Ward {number}", at_ms, source)))
        # So that what is said next follows what stands here.
        ward.sequence = last
        if number < kept:
            wards.append(ward)
    return Full(wards=tuple(wards), newest=f"Ward {conversations - 1}")


def _entries(
    ward: Ward, group: Group, title: str, at_ms: int, source: random.Random
) -> Iterator[Entry]:
    room = Room(conversation=ward.conversation, known=Known(), context=ward.context)
    setting = Setting(
        kind=ward.context.conversation_type,
        owners=frozenset(ward.context.owners),
        me=user_of(ward[ME].name),
    )
    for place in range(EACH):
        said = Card(title=title) if place == 0 else Text(text=sentence(source))
        sender = ward[OTHER].name if place % 3 else ward[ME].name
        message = Said(
            conversation=room.conversation,
            sender=ward[OTHER].name if place == 0 else sender,
            plaintext=typed.encode(said),
            at_ms=at_ms + place * MINUTE_MS,
        )
        outcome = thread.judge(message, messages=_Nothing(), setting=setting)
        assert outcome.content is not None
        # Numbers that nobody's next message has.
        key = MessageKey(
            conversation=room.conversation, sender=message.sender, message_id=(1 << 40) + place
        )
        yield Entry(
            log=conversation_log(room.conversation),
            sequence=ward.sequence + 1 + place,
            conversation=room.conversation,
            before=group,
            after=group,
            effects=outcome.incoming(key, message.at_ms),
        )


class _Nothing:
    """A conversation in which nothing has been said."""

    def get(self, *_: object) -> None:
        return None

    def about(self, *_: object) -> list:  # type: ignore[type-arg]
        return []

    def of_kind(self, *_: object, **__: object) -> list:  # type: ignore[type-arg]
        return []

    def unmarked(self, *_: object, **__: object) -> list:  # type: ignore[type-arg]
        return []
