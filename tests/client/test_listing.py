"""The first of the list, what is STAT and what was held: as the whole list has them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from client import reading
from client.device import Device
from client.link import Address
from client.messages import WAITING_PLACE, Content, MessageKey, NewMessage, Standing, State
from client.records import Known, encode_known
from client.views import Summary
from protocol import content as typed
from protocol.authenticated_data import Priority
from protocol.content import Text
from protocol.group_context import ConversationType, WardlineContext
from protocol.identifiers import ConversationId, DeviceId, UserName
from tests.client.devices import opened
from tests.client.talk import assembled
from tests.server.harness import hospital, now_ms

ANN, BOB = DeviceId("ann/phone"), DeviceId("bob/phone")
CONVERSATIONS = 30
TEXT = typed.encode(Text(text="bed 4 is free"))
SPREAD_MS = 600_000
BEGAN_MS = now_ms()
"""Read once, so that no two runs of the seeded source have other ties."""


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    """Ann's, with conversations of every sort and messages whose times are not in their order."""
    of = hospital()
    talk = assembled(of, ANN, BOB)
    address = Address(host="127.0.0.1", port=1, tls_pin=bytes(32), organisation=of.id)
    device = opened(tmp_path, talk[ANN].person, of, address)
    source = random.Random(8)
    for number in range(CONVERSATIONS):
        filled(device, number, source, context=talk.context)
    yield device
    device.close()


def filled(device: Device, number: int, source: random.Random, *, context: WardlineContext) -> None:
    """One more conversation: empty, hidden, with what waits to be sent, held, STAT, or read."""
    conversation = ConversationId(source.randbytes(32))
    if number % 10 == 9:
        context = replace(
            context, conversation_type=ConversationType.PAGE, owners=(UserName("bob"),)
        )
    held = {2: BEGAN_MS - 1} if number % 7 == 0 else {3: BEGAN_MS + SPREAD_MS}
    known = Known(
        context=context.encode(),
        confirmed=True,
        since_ms={ANN: 1, BOB: 1},
        read_through=source.choice((0, 3, 100)),
        held=held if number % 3 == 0 else {},
    )
    device._store.note(conversation, encode_known(known))
    with device._store._database.transaction():
        for place in range(source.randrange(7)):
            said(device, conversation, place + 1, source)


def said(device: Device, conversation: ConversationId, place: int, source: random.Random) -> None:
    waits = source.random() < 0.1
    sender = ANN if waits or source.random() < 0.3 else BOB
    new = NewMessage(
        key=MessageKey(conversation=conversation, sender=sender, message_id=place),
        at_ms=BEGAN_MS - source.randrange(SPREAD_MS),
        content=Content(kind=1, data=TEXT, text="bed 4 is free"),
        standing=Standing(priority=source.choice(list(Priority)), hidden=source.random() < 0.2),
    )
    device._store.messages.apply(
        new,
        place=WAITING_PLACE + place if waits else place,
        state=State.WAITING if waits else State.STORED,
    )


@pytest.mark.parametrize("looked_through", [(), (1,), (3, 20), (1_000,)])
def test_the_first_of_the_list_are_those_of_the_whole_list(
    device: Device, looked_through: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LOOKED_THROUGH", looked_through)
    everything = device.conversations()
    assert len(everything) == CONVERSATIONS - CONVERSATIONS // 10
    for limit in range(1, CONVERSATIONS + 2):
        assert device.conversations(limit) == everything[:limit]


def test_what_is_stat_or_was_held_is_found_without_the_whole_list(device: Device) -> None:
    everything = device.conversations()
    stat = [one for one in everything if one.unread and one.top_priority is Priority.STAT]
    assert stat
    assert device.alarming() == stat
    held = [one for one in everything if one.released]
    assert held
    assert by_name(device.released()) == by_name(held)


def by_name(found: list[Summary]) -> list[Summary]:
    return sorted(found, key=lambda one: one.conversation)
