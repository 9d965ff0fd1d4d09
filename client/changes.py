"""Telling faces that something changed: joined for who is slow, so that nobody's memory grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace

from client.views import Change, ChangeKind
from protocol.identifiers import ConversationId

JOINED_MESSAGES = 1_000
"""Messages named in one joined change; a face that is further behind reads the thread again."""

_Key = tuple[ChangeKind, ConversationId | None]


class Changes:
    """All watchers of one device."""

    def __init__(self) -> None:
        self._watchers: set[_Watcher] = set()

    def tell(self, *changes: Change) -> None:
        """Let everybody who watches know."""
        for watcher in self._watchers:
            watcher.add(changes)

    def watch(self) -> AsyncIterator[Change]:
        """Return changes from now on, until the caller stops."""
        watcher = _Watcher()
        self._watchers.add(watcher)
        return self._changes(watcher)

    async def _changes(self, watcher: _Watcher) -> AsyncIterator[Change]:
        try:
            while True:
                for change in await watcher.take():
                    yield change
        finally:
            self._watchers.discard(watcher)


class _Watcher:
    def __init__(self) -> None:
        self._waiting: dict[_Key, Change] = {}
        self._came = asyncio.Event()

    def add(self, changes: Iterable[Change]) -> None:
        for change in changes:
            key = (change.kind, change.conversation)
            before = self._waiting.get(key)
            self._waiting[key] = change if before is None else _joined(before, change)
            self._came.set()

    async def take(self) -> list[Change]:
        await self._came.wait()
        self._came.clear()
        taken, self._waiting = list(self._waiting.values()), {}
        return taken


def _joined(first: Change, second: Change) -> Change:
    messages = tuple(dict.fromkeys((*first.messages, *second.messages)))[-JOINED_MESSAGES:]
    priorities = [one for one in (first.priority, second.priority) if one is not None]
    return replace(second, messages=messages, priority=max(priorities, default=None))
