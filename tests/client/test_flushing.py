"""What a batch brought is told once it is kept, whatever the disk says next."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest

from client.changes import Changes
from client.errors import FullError
from client.following import Event, Following, _Batch
from client.messages import MessageKey
from client.store import Store
from client.views import Change, ChangeKind
from protocol.authenticated_data import Priority
from protocol.identifiers import DeviceId
from tests.client.ward import LOG, WARD, mute
from tests.waiting import WITHIN_S


async def test_an_alert_sounds_also_where_the_disk_is_full_behind_its_message(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = Changes()
    nothing = cast("Any", None)
    following = Following(store, nothing, nothing, changes=changes, me=DeviceId("ann/phone"))
    stat = Change(kind=ChangeKind.ALERT, conversation=WARD, priority=Priority.STAT)
    event = Event(room=nothing)
    told: list[Event] = []
    following.on_event = told.append
    following._batch = _Batch(entries=[mute(store, 1)], alerts=[stat], events=[event])
    following._batch.healed.append((LOG, 7))

    def full(*_: object, **__: object) -> None:
        raise FullError

    monkeypatch.setattr(store.faults, "forgive", full)
    watching = changes.watch()
    with pytest.raises(FullError):
        following.flush()
    assert told == [event]
    async with asyncio.timeout(WITHIN_S):
        assert await anext(watching) == stat
    assert store.cursor(LOG) == 1
    await cast("Any", watching).aclose()


async def test_whoever_calls_is_heard_also_where_the_disk_has_no_room_for_what_they_say(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = Changes()
    nothing = cast("Any", None)
    following = Following(store, nothing, nothing, changes=changes, me=DeviceId("ann/phone"))
    key = MessageKey(conversation=WARD, sender=DeviceId("bob/phone"), message_id=1)
    stat = Change(kind=ChangeKind.ALERT, conversation=WARD, messages=(key,), priority=Priority.STAT)
    following._batch = _Batch(entries=[mute(store, 1)], alerts=[stat])

    def full(*_: object, **__: object) -> None:
        raise FullError

    monkeypatch.setattr(store, "received", full)
    watching = changes.watch()
    with pytest.raises(FullError):
        following.flush()
    async with asyncio.timeout(WITHIN_S):
        assert await anext(watching) == replace(stat, messages=())
    assert store.cursor(LOG) == 0
    await cast("Any", watching).aclose()


def test_what_lies_behind_is_not_remembered(store: Store) -> None:
    nothing = cast("Any", None)
    following = Following(store, nothing, nothing, changes=Changes(), me=DeviceId("ann/phone"))
    following._reread = {(LOG, 0), (LOG, 1)}
    following._unwelcomed = {(LOG, 1), (LOG, 2)}
    following._batch = _Batch(entries=[mute(store, 1)])
    following.flush()
    assert following._reread == {(LOG, 1)}
    assert following._unwelcomed == {(LOG, 2)}
