"""Hand-over of history: what a colleague has of the last hours, for who came in later; all see it.

A device that comes into a conversation reads nothing of before: so MLS has it, and so it is after
all devices of a person were lost. Where the organisation's policy allows it, a member hands over
the last hours by a message of its own. It is no proof of who wrote what: it shows what this member
has, each message with the hash by which the archive finds the original.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from client import thread, wording
from client.errors import NotAllowedError
from client.messages import Message, MessageKey, Messages, State
from client.thread import Unreadable
from client.views import Shown
from crypto.errors import InvalidError
from protocol.content import CONTENT_BYTES, HistoryHandOver, Original, Unknown
from protocol.content.affairs import ORIGINALS
from protocol.content.kinds import Kind
from protocol.identifiers import ConversationId, user_of
from protocol.policy import Action

if TYPE_CHECKING:
    from client.device import Device

HOUR_MS = 3600 * 1000

MESSAGES = 512
"""Messages handed over at once: beyond this it is no overview but a copy of the conversation."""

_ENVELOPE_BYTES = 256
"""More than an original takes beside its content, in bytes: names, numbers, hash and lengths."""

_STRANGE = "[this program cannot read it]"

HANDED = frozenset(
    {
        Kind.TEXT,
        Kind.REPLY,
        Kind.ATTACHMENT,
        Kind.LOCATION,
        Kind.TASK,
        Kind.CRITICAL_RESULT,
        Kind.HAND_OFF,
        Kind.INCIDENT_EVENT,
    }
)
"""What is handed over: what people said. What only moves something that stands before is not."""


class HandingOver:
    """Handing over, as a face offers it."""

    def __init__(self, device: Device) -> None:
        self._device = device

    @property
    def hours(self) -> int:
        """How far back the policy allows; 0 for not at all."""
        return self._device.policy.devices.hand_over_hours

    def count(self, conversation: ConversationId) -> int:
        """Return how many messages would be handed over of all those hours."""
        if not self.hours or not self._device.engine.rights.may_view(conversation):
            return 0
        return len(originals(self._device, conversation, hours=self.hours))

    async def hand_over(self, conversation: ConversationId) -> None:
        """Hand over what this device has of all those hours.

        Raises:
            InvalidError: The policy does not allow it, or there is nothing to hand over.
            NotSaidError: This person may not write there.
            EndedError: This device is no longer in the conversation.
        """
        await hand_over(self._device, conversation, hours=self.hours)


def originals(device: Device, conversation: ConversationId, *, hours: int) -> list[Original]:
    """Return what this device would hand over of a conversation, oldest first.

    Edited messages as they read now; what was taken back is not among them.

    Args:
        device: Whose.
        conversation: Where.
        hours: How far back, as the policy allows.

    Raises:
        InvalidError: The policy does not allow that much, or nothing at all.
        NotAllowedError: It does not let this person read what is said.
    """
    if not device.engine.rights.may_view(conversation):
        raise NotAllowedError(Action.VIEW)
    most = device.policy.devices.hand_over_hours
    if not 1 <= hours <= most:
        raise InvalidError("history is handed over for as many hours as the policy allows")
    messages = device.engine.store.messages
    since_ms = device.engine.clock() - hours * HOUR_MS
    kept = [one for one in _since(messages, conversation, since_ms) if _is_handed(one)]
    found = (_original(messages, one) for one in kept[-MESSAGES:])
    return [one for one in found if one is not None]


async def hand_over(device: Device, conversation: ConversationId, *, hours: int) -> list[Shown]:
    """Hand over what this device has of a conversation's last hours; return the messages sent.

    Args:
        device: Whose.
        conversation: Where; everybody in it sees who handed over how much.
        hours: How far back, as the policy allows.

    Raises:
        InvalidError: The policy does not allow that much, or there is nothing to hand over.
        NotSaidError: This person may not write there.
        EndedError: This device is no longer in the conversation.
    """
    found = originals(device, conversation, hours=hours)
    if not found:
        raise InvalidError("this device has nothing of those hours")
    sent = [
        await device.send(conversation, HistoryHandOver(originals=part)) for part in parts(found)
    ]
    return [one for one in sent if one is not None]


def parts(found: Iterable[Original]) -> Iterator[tuple[Original, ...]]:
    """Yield originals in as many messages as they need, in their order."""
    part: list[Original] = []
    size = 0
    for one in found:
        length = len(one.content) + _ENVELOPE_BYTES
        if part and (size + length > CONTENT_BYTES or len(part) == ORIGINALS):
            yield tuple(part)
            part, size = [], 0
        part.append(one)
        size += length
    if part:
        yield tuple(part)


def told(content: HistoryHandOver, known: Messages, conversation: ConversationId) -> str:
    """Return a hand-over in words: what this device has not, a line each; else how much it was."""
    head = wording.say(content)
    new = [one for one in content.originals if known.get(_key(conversation, one)) is None]
    if new:
        # Whoever counts the lines below finds as many as are said.
        head += ":" if len(new) == len(content.originals) else f"; new here, {len(new)}:"
    return "\n".join([head, *(line for one in new for line in _lines(one))])


def _since(messages: Messages, conversation: ConversationId, since_ms: int) -> Iterator[Message]:
    """Yield a conversation's messages from a time on, oldest first."""
    pages: list[list[Message]] = []
    before: int | None = None
    while page := messages.page(conversation, limit=MESSAGES, before=before):
        pages.append([one for one in page if one.at_ms >= since_ms])
        if len(pages[-1]) < len(page):
            break
        before = page[0].place
    for page in reversed(pages):
        yield from page


def _is_handed(message: Message) -> bool:
    known = message.state is not State.RETRACTED and message.state is not State.REFUSED
    return known and message.content.kind in HANDED


def _original(messages: Messages, message: Message) -> Original | None:
    """Return a message as it is handed over; ``None`` where nothing shows which it was."""
    message_hash = messages.hash_of(message.key)
    too_long = len(message.content.data) + _ENVELOPE_BYTES > CONTENT_BYTES
    if message_hash is None or too_long:
        return None
    return Original(
        message=thread.reference(message.key),
        at_ms=message.at_ms,
        message_hash=message_hash,
        content=message.content.data,
    )


def _key(conversation: ConversationId, one: Original) -> MessageKey:
    reference = one.message
    return MessageKey(
        conversation=conversation, sender=reference.sender, message_id=reference.message_id
    )


def _lines(one: Original) -> Iterator[str]:
    """Yield an original for people: when, who and what."""
    at = datetime.fromtimestamp(one.at_ms // 1000, UTC).astimezone()
    content = thread.read(one.content)
    if isinstance(content, Unreadable | Unknown | HistoryHandOver):
        text = _STRANGE
    else:
        text = wording.say(content)
    first, *more = text.split("\n")
    yield f"  {at:%d %b %H:%M} {user_of(one.message.sender)}: {first}"
    yield from (f"    {line}" for line in more)
