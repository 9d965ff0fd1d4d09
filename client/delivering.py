"""Telling senders that their messages are on this device: together, and in small circles only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from client import thread
from client.errors import ActError
from client.messages import MessageKey
from client.records import Source
from client.rooms import Rooms
from client.sending import Sending
from protocol import content
from protocol.authenticated_data import Priority
from protocol.content import Delivered
from protocol.group_context import ConversationType
from protocol.identifiers import ConversationId

TOGETHER_S = 2.0
"""Seconds in which what has come is told in one."""

PEOPLE_MOST = 24
"""People above whom nobody tells: each would tell everybody."""


class Delivering:
    """Remembers what has come, and tells it."""

    def __init__(self, rooms: Rooms, sending: Sending, *, clock: Callable[[], int]) -> None:
        self._rooms = rooms
        self._sending = sending
        self._clock = clock
        self._through: dict[ConversationId, MessageKey] = {}
        self._came = asyncio.Event()

    def came(self, key: MessageKey) -> None:
        """Note a message of somebody else's that is on the disk."""
        self._through[key.conversation] = key
        self._came.set()

    async def work(self) -> None:
        """Tell senders what has come, until cancelled."""
        while True:
            await self._came.wait()
            await asyncio.sleep(TOGETHER_S)
            self._came.clear()
            told, self._through = self._through, {}
            for conversation, key in told.items():
                self._tell(conversation, key)

    def _tell(self, conversation: ConversationId, key: MessageKey) -> None:
        room = self._rooms.get(conversation)
        context = self._rooms.context(room)
        if context is None or context.conversation_type is ConversationType.ANNOUNCEMENT:
            return
        if len(self._rooms.people(room)) > PEOPLE_MOST:
            return
        mark = Delivered(through=thread.reference(key))
        source = Source(plaintext=content.encode(mark), priority=Priority.INFO)
        try:
            self._sending.say(conversation, source, now_ms=self._clock())
        except ActError:
            return  # It has ended since, or this person may not say anything there.
