"""What devices give back to a relay that was restored, together with its archive."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from client.link import Link
from crypto.names import Role
from protocol import limits
from protocol.identifiers import ConversationId, UserName, conversation_log
from protocol.policy import Action, Policy
from server.sqlite_store import SqliteStore
from server.store import GENERATION_BITS, LogKey
from tests.client.devices import WAIT_S, Ward, ward
from tests.server.harness import hospital


async def test_an_administrators_device_gives_a_restored_relay_back_the_policy_that_it_forgot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = hospital()
    of.enrol("chief/desk", Role.ADMINISTRATOR)
    async with ward(tmp_path, of, "chief/desk", "ann/phone") as made:
        policy = Policy(version=1, rights={Action.VOUCH: frozenset({Role.RECORDER})})
        await made.govern(policy)
        relay, knows = made.site.relay, made.site.relay.organisations[of.id]
        knows.policy = Policy()
        knows.seen.clear()

        async def proved(link: Link, password: str, code: str) -> None:
            for connection in relay.delivery.connections(of.id):
                connection.strong_until_s = float("inf")

        monkeypatch.setattr(Link, "authenticate", proved)
        made.later(2 * 24 * 3600 * 1000)
        # To a relay that has lost nothing it is a command whose day is over.
        await made["chief/desk"].device.statements.authenticate("password", "123456")
        assert knows.policy == Policy()
        monkeypatch.setattr(SqliteStore, "was_restored", True)
        await made["ann/phone"].device.statements.authenticate("password", "123456")
        assert knows.policy == Policy()
        await made["chief/desk"].device.statements.authenticate("password", "123456")
        assert knows.policy == policy


def set_back(made: Ward, conversation: ConversationId, *, head: int, without: str) -> None:
    """Let the relay be as it was before the last Commit, which let somebody in, as restored."""
    store = made.site.relay.store
    assert isinstance(store, SqliteStore)
    ledger = store._pipeline.ledger
    ledger.floor = 1 << GENERATION_BITS
    log = ledger.logs[LogKey(made.hospital.id, conversation_log(conversation))]
    log.epoch, log.head = 1, head
    cursor = log.cursors.pop(made[without].engine.identity.device)
    del cursor.device.cursors[log]


@pytest.mark.parametrize("first", ["ann/phone", "bob/phone"], ids=["an owner", "a member"])
async def test_who_was_let_in_after_the_backups_is_let_in_once_more_whoever_leads_the_relay_on(
    tmp_path: Path, first: str
) -> None:
    async with ward(tmp_path, hospital(), "ann/phone", "bob/phone", "cat/phone") as made:
        ann, cat = made["ann/phone"], made["cat/phone"]
        conversation = await made.talk("ann/phone", "bob/phone")
        head = ann.engine.cursor(conversation)
        await ann.device.change_members(conversation, add=[UserName("cat")])
        for one in made.running.values():
            await one.in_epoch(conversation, 2)
        set_back(made, conversation, head=head, without="cat/phone")
        await made[first].say(conversation, "after both")
        async with asyncio.timeout(WAIT_S):
            for name in ("ann/phone", "bob/phone"):
                while (
                    "after both" not in made[name].texts(conversation)
                    or cat.epoch(conversation) < 3
                ):
                    made.later(limits.RECEIPT_SILENCE_MS)
                    await asyncio.sleep(0.2)
        await cat.say(conversation, "I am still here")
        for name in ("ann/phone", "bob/phone"):
            await made[name].sees(conversation, "I am still here")
        await ann.say(conversation, "good")
        await cat.sees(conversation, "good")
        assert not cat.device.status.faults
