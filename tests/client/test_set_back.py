"""A relay that was set back, and the archive with it: devices know more than both."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.membership import AGAIN_MS, LOST_MS
from protocol import limits
from protocol.errors import Code
from protocol.frames import RefusedMessage
from protocol.identifiers import ConversationId, UserName, conversation_log
from server.sqlite_store import SqliteStore
from server.store import GENERATION_BITS
from tests.client.devices import Running, Ward, ward
from tests.server.harness import Hospital, hospital

CAT = UserName("cat")


@pytest.fixture
def of() -> Hospital:
    return hospital()


def set_back(here: Ward, conversation: ConversationId, *, epoch: int) -> None:
    """Let the relay know no more of a conversation than a backup and an archive's backup did."""
    store = here.site.relay.store
    assert isinstance(store, SqliteStore)
    ledger = store._pipeline.ledger
    log = ledger.logs[here.site.key(conversation_log(conversation))]
    log.epoch, log.winner = epoch, 0
    ledger.floor = 1 << GENERATION_BITS


async def set_back_by_one(here: Ward) -> ConversationId:
    """Return a conversation in its second epoch, of which the relay knows the first alone."""
    ann, bob = here["ann/phone"], here["bob/phone"]
    conversation = await here.talk("ann/phone", "bob/phone", "cat/phone")
    await ann.device.change_members(conversation, remove=[CAT])
    for one in (ann, bob):
        await one.in_epoch(conversation, 2)
    set_back(here, conversation, epoch=1)
    return conversation


def refusals(running: Running) -> list[RefusedMessage]:
    """Return the refusals that a device gets from now on."""
    found: list[RefusedMessage] = []
    refused = running.engine.sending.refused

    def seen(frame: RefusedMessage) -> None:
        found.append(frame)
        refused(frame)

    running.engine.sending.refused = seen  # type: ignore[method-assign]
    return found


async def test_a_relay_that_knows_an_earlier_epoch_is_led_on_and_not_asked_without_end(
    tmp_path: Path, of: Hospital
) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone", "cat/phone") as here:
        ann, bob = here["ann/phone"], here["bob/phone"]
        conversation = await set_back_by_one(here)
        seen = refusals(ann)
        await ann.say(conversation, "is bed 4 free?")
        await ann.until(lambda: seen)
        assert ann.device.status.unsent == 1
        here.later(2 * limits.RECEIPT_SILENCE_MS)
        await bob.sees(conversation, "is bed 4 free?")
        await ann.until(lambda: not ann.device.status.unsent)
        assert {one.code for one in seen} == {Code.STALE_EPOCH}
        # One of each thing that was said, what the device says by itself included.
        assert len(seen) <= 3
        for one in (ann, bob):
            assert one.epoch(conversation) == 3
            assert one.device.status.faults == 0


async def test_a_relay_that_is_behind_and_is_not_led_on_is_asked_every_few_seconds_alone(
    tmp_path: Path, of: Hospital
) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone", "cat/phone") as here:
        ann = here["ann/phone"]
        conversation = await set_back_by_one(here)
        store = here.site.relay.store
        assert isinstance(store, SqliteStore)
        store._pipeline.ledger.floor = 0  # It was never restored, it says.
        seen = refusals(ann)
        await ann.device.change_members(conversation, add=[CAT])
        await ann.until(lambda: seen)
        wanted = ann.engine.membership
        assert wanted.intent(conversation) is not None
        assert here.clock() < wanted._not_before[conversation] <= here.clock() + AGAIN_MS
        assert {one.code for one in seen} == {Code.COMMIT_CONFLICT}


async def test_a_commit_that_a_restored_relay_has_lost_keeps_nobody_from_the_next(
    tmp_path: Path, of: Hospital
) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone", "cat/phone") as here:
        ann, bob = here["ann/phone"], here["bob/phone"]
        conversation = await here.talk("ann/phone", "bob/phone", "cat/phone")
        here.recorder.silent = True
        before = ann.engine.store.outbox.last_id
        await ann.device.change_members(conversation, remove=[CAT])
        staged = ann.engine.store.groups.staged
        await ann.until(lambda: staged(conversation) and not ann.engine.store.outbox.size)
        await bob.until(lambda: bob.engine.store.groups.staged(conversation))
        # Its committer knows by the relay's count of what it has taken.
        ann.engine.sending.connected(ann.engine.store.outbox.last_id)
        assert staged(conversation)
        ann.engine.sending.connected(before)
        assert not staged(conversation)
        # Others by the numbers of a restored relay, and give the verdict a minute to come.
        log = conversation_log(conversation)
        bob.engine.store.passed(log, bob.engine.store.cursor(log) + (1 << GENERATION_BITS))
        assert bob.engine.membership._waits(conversation)
        here.site.later_ms += LOST_MS
        assert not bob.engine.membership._waits(conversation)
        assert not bob.engine.store.groups.staged(conversation)


async def test_who_missed_for_good_what_led_to_the_relays_epoch_asks_to_be_let_in_again(
    tmp_path: Path, of: Hospital
) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        ann = here["ann/phone"]
        conversation = await here.talk("ann/phone", "bob/phone")
        # The archive told a restored relay of an epoch whose Commit that has lost.
        store = here.site.relay.store
        assert isinstance(store, SqliteStore)
        log = store._pipeline.ledger.logs[here.site.key(conversation_log(conversation))]
        log.epoch = 2
        seen = refusals(ann)
        await ann.say(conversation, "is bed 4 free?")
        await ann.until(lambda: seen)
        assert not ann.engine.rooms.get(conversation).known.away
        here.later(LOST_MS + 2 * limits.RECEIPT_SILENCE_MS)
        await ann.until(lambda: ann.engine.rooms.get(conversation).known.away)
        assert ann.device.status.unsent == 1
