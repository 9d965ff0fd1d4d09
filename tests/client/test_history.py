"""What a member hands over of a conversation's last hours, and what it never does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from client import history
from client.history import hand_over, originals, parts
from client.messages import MessageKey
from crypto.errors import InvalidError
from protocol.content import CONTENT_BYTES, HistoryHandOver, Original, Reference, Text, encode
from protocol.content.affairs import ORIGINALS
from protocol.content.wire import TEXT_BYTES
from protocol.identifiers import ConversationId, DeviceId
from protocol.policy import DeviceRules, Policy
from tests.client.devices import Ward, ward
from tests.server import harness
from tests.server.harness import Hospital


@pytest.fixture
def of() -> Hospital:
    return harness.hospital()


async def allow(here: Ward, hours: int) -> None:
    """Let members hand over so many hours, by the organisation's policy."""
    await here.govern(Policy(version=1, devices=DeviceRules(hand_over_hours=hours)))


def original(number: int, text: str) -> Original:
    return Original(
        message=Reference(sender=DeviceId("ann/phone"), message_id=number),
        at_ms=1_700_000_000_000 + number,
        message_hash=bytes(32),
        content=encode(Text(text=text)),
    )


async def test_nothing_is_handed_over_unless_the_policy_allows_that_much(
    tmp_path: Path, of: Hospital
) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        bob = here["bob/phone"]
        conversation = await here.talk("ann/phone", "bob/phone")
        await here["ann/phone"].say(conversation, "bp 90/60")
        await bob.sees(conversation, "bp 90/60")
        for hours in (0, 1):
            with pytest.raises(InvalidError):
                await hand_over(bob.device, conversation, hours=hours)
        await allow(here, 12)
        with pytest.raises(InvalidError):
            await hand_over(bob.device, conversation, hours=13)
        assert len(originals(bob.device, conversation, hours=12)) == 1


async def test_what_is_handed_over_is_found_by_its_hash_and_what_was_taken_back_is_not_there(
    tmp_path: Path, of: Hospital
) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        ann, bob = here["ann/phone"], here["bob/phone"]
        conversation = await here.talk("ann/phone", "bob/phone")
        await allow(here, 12)
        with pytest.raises(InvalidError):
            await hand_over(bob.device, conversation, hours=12)
        await ann.say(conversation, "bp 90/60")
        wrong = await ann.say(conversation, "the wrong patient")
        await bob.say(conversation, "seen")
        await bob.sees(conversation, "the wrong patient")
        await ann.device.recall(wrong.key)
        await bob.until(lambda: "the wrong patient" not in bob.texts(conversation))
        found = originals(bob.device, conversation, hours=12)
        assert [one.content for one in found] == [
            encode(Text(text=text)) for text in ("bp 90/60", "seen")
        ]
        # By the same hash whoever sent it and who got it know a message, and the archive has it.
        for one in ann.shown(conversation):
            hashes = {who.engine.store.messages.hash_of(one.key) for who in (ann, bob)}
            assert len(hashes) == 1
            assert None not in hashes
        (shown,) = await hand_over(bob.device, conversation, hours=12)
        assert isinstance(shown.content, HistoryHandOver)
        # Who has the originals is told how much it was; a hand-over is never handed over again.
        await ann.sees(conversation, "handed over 2 earlier messages")
        assert len(originals(ann.device, conversation, hours=12)) == 2


def test_many_messages_go_in_as_many_parts_as_they_need() -> None:
    found = [original(n, "x" * (TEXT_BYTES if n % 40 == 0 else 30)) for n in range(1, 200)]
    made = list(parts(found))
    assert [one for part in made for one in part] == found
    assert all(len(part) <= ORIGINALS for part in made)
    assert all(len(encode(HistoryHandOver(originals=part))) <= CONTENT_BYTES for part in made)


def test_what_is_counted_in_a_hand_over_is_what_is_shown_of_it() -> None:
    class First:
        def get(self, key: MessageKey) -> object:
            return key if key.message_id == 1 else None

    content = HistoryHandOver(originals=tuple(original(n, "bp 90/60") for n in (1, 2, 3)))
    first: Any = First()
    head, *lines = history.told(content, first, ConversationId(bytes(32))).splitlines()
    assert "3" in head
    assert f" {len(lines)}:" in head


def test_what_this_program_cannot_read_is_said_to_be_that() -> None:
    class Nothing:
        def get(self, _: object) -> None:
            return None

    strange = Original(
        message=Reference(sender=DeviceId("ann/phone"), message_id=1),
        at_ms=1_700_000_000_000,
        message_hash=bytes(32),
        content=b"\xfe...",
    )
    content = HistoryHandOver(originals=(strange, original(2, "bp\n90/60")))
    conversation = ConversationId(bytes(32))
    lines = history.told(content, Nothing(), conversation).splitlines()  # type: ignore[arg-type]
    assert lines[0] == "handed over 2 earlier messages:"
    assert [line.partition(": ")[2] for line in lines[1:3]] == [
        "[this program cannot read it]",
        "bp",
    ]
    assert lines[3] == "    90/60"
