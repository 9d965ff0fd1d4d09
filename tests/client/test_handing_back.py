"""What devices give back to a relay that was restored, together with its archive."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.link import Link
from crypto.names import Role
from protocol.policy import Action, Policy
from server.sqlite_store import SqliteStore
from tests.client.devices import ward
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
