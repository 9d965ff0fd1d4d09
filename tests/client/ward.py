"""Devices with stores, and what they send each other without a relay in between."""

from __future__ import annotations

from pathlib import Path

from client.messages import Content, MessageKey, NewMessage
from client.store import Draft, Entry, Received, Sealed, Store
from crypto.mls import ApplicationMessage, Group
from protocol.identifiers import (
    ConversationId,
    DeviceId,
    UserName,
    conversation_log,
)
from tests.crypto.mls.clients import accept, admit, key_package

KEY = bytes(range(32))
WARD = ConversationId(b"w" * 32)
THEATRE = ConversationId(b"t" * 32)
LOG = conversation_log(WARD)
ANN = DeviceId("ann/phone")
BOB = DeviceId("bob/phone")
CAT = UserName("cat")
PATH = "store.db"


def assembled(conversation: ConversationId = WARD) -> list[Group]:
    """Return the groups of Ann and Bob."""
    return admit(Group.create(key_package("ann"), group_id=conversation), ["bob"])


def said(text: str, kind: int = 1) -> Content:
    return Content(kind=kind, data=b"\x01" + text.encode(), text=text)


def draft(text: str, at_ms: int = 1_000) -> Draft:
    return Draft(sender=ANN, at_ms=at_ms, content=said(text))


def saved(store: Store, conversation: ConversationId = WARD) -> Group:
    group = store.groups.get(conversation)
    assert group is not None
    return group


def send(store: Store, text: str, conversation: ConversationId = WARD, at_ms: int = 1_000) -> int:
    """Let a text wait in the outbox; return its id."""
    before = saved(store, conversation)

    def seal(message_id: int, previous_id: int) -> Sealed:
        tag = f"{message_id}<{previous_id}".encode()
        group, message = before.encrypt(text.encode(), authenticated_data=tag)
        return Sealed(group=group, message=message)

    shown = store.sending(conversation, before, draft(text, at_ms), seal=seal)
    assert shown is not None
    return shown.key.message_id


def bobs(number: int, conversation: ConversationId = WARD) -> MessageKey:
    return MessageKey(conversation=conversation, sender=BOB, message_id=number)


def anns(number: int, conversation: ConversationId = WARD) -> MessageKey:
    return MessageKey(conversation=conversation, sender=ANN, message_id=number)


def entry(
    before: Group, message: bytes, sequence: int, *, number: int | None = None, at_ms: int = 2_000
) -> Entry:
    """Return what Ann's device makes of a message of Bob's."""
    after, received = before.process(message, authenticate=accept)
    assert isinstance(received, ApplicationMessage)
    key = bobs(number or sequence, ConversationId(before.group_id))
    new = NewMessage(key=key, at_ms=at_ms, content=said(received.data.decode()))
    return Entry(
        log=conversation_log(key.conversation),
        sequence=sequence,
        conversation=key.conversation,
        before=before,
        after=after,
        effects=(new,),
    )


def hear(store: Store, message: bytes, sequence: int, *, at_ms: int = 2_000) -> Received:
    return store.received([entry(saved(store), message, sequence, at_ms=at_ms)])


def mute(store: Store, sequence: int, *effects: NewMessage) -> Entry:
    """Return an entry that leaves the group as it is."""
    group = saved(store)
    return Entry(
        log=LOG,
        sequence=sequence,
        conversation=WARD,
        before=group,
        after=group,
        effects=effects,
    )


def texts(store: Store, conversation: ConversationId = WARD) -> list[str]:
    page = store.messages.page(conversation, limit=1_000_000)
    return [message.content.text for message in page]


def everything(directory: Path) -> bytes:
    """Return the bytes of every file below a directory, and their names."""
    found = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    return b"\n".join(str(path).encode() + path.read_bytes() for path in found)
