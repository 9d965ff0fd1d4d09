"""A wiped phone's disk was copied before: its keys, against all that the relay ever carried."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client.store import Store
from crypto.errors import CryptoError
from crypto.mls import ApplicationMessage, Group, StagedCommit
from crypto.mls.recording import EpochDecryption
from crypto.revocation import encode_revocations
from crypto.statement import StatementType
from crypto.trust import Revocations
from protocol.identifiers import ConversationId, UserName, conversation_log
from server.store import Answer, Append, Commit
from tests.client.devices import KEY, Ward, ward
from tests.server import harness
from tests.server.harness import now_ms

SECRETS = ("secret one", "secret two", "secret three")


class Carried:
    """Everything that was ever handed to the relay's store, as an operator could have kept it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: Any) -> None:
        self.requests: list[Append] = []
        submit, append = store.submit, store.append

        def submitting(requests: Sequence[Append], done: Callable[[list[Answer]], None]) -> None:
            self.requests += requests
            submit(requests, done)

        async def appending(request: Append) -> Any:
            self.requests.append(request)
            return await append(request)

        monkeypatch.setattr(store, "submit", submitting)
        monkeypatch.setattr(store, "append", appending)

    def entries(self, conversation: ConversationId) -> list[bytes]:
        log = conversation_log(conversation)
        return [one.body for one in self.requests if one.log.id == log]

    def welcomes(self) -> Iterator[bytes]:
        for one in self.requests:
            if isinstance(one.effect, Commit) and one.effect.welcome:
                yield one.effect.welcome


def anyone(_leaf: object, _replaced: object) -> None:
    """Take any leaf: a thief asks nobody."""


def opened(group: Group, entries: Sequence[bytes]) -> list[bytes]:
    """Return all that a state opens of these entries, following every Commit that it can."""
    states, found = [group], []
    for body in entries:
        for at, state in enumerate(list(states)):
            try:
                after, received = state.process(body, authenticate=anyone)
            except CryptoError:
                continue
            states[at] = after
            if isinstance(received, ApplicationMessage):
                found.append(received.data)
            elif isinstance(received, StagedCommit) and received.group is not None:
                states.append(after.merge(received.group))
    return found


def tried(group: Group, entries: Sequence[bytes]) -> list[bytes]:
    """Return what the keys of a state's epoch open, whatever the entries say of their epoch."""
    decryption = EpochDecryption.of(group)
    found = []
    for body in entries:
        try:
            _, _, content = decryption.open(body, decryption.start())
        except CryptoError:
            continue
        found.append(content.content.body)
    return found


async def revoke(here: Ward, device: str) -> None:
    of = here.hospital
    revoked = replace(Revocations().with_device(device, at_ms=now_ms()), number=1)
    statement = of.signed(
        StatementType.REVOCATION_LIST, encode_revocations(revoked), by=of.signatory()
    )
    await here.recorder.device.statements.submit(statement)


async def test_a_removed_devices_old_state_opens_nothing_later_of_all_that_the_relay_ever_carried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = harness.hospital()
    async with ward(tmp_path, of, "ann/phone", "bob/phone", "cat/phone") as here:
        carried = Carried(monkeypatch, here.site.relay.store)
        conversation = await here.talk("ann/phone", "bob/phone", "cat/phone")
        await here.go("bob/phone")
        shutil.copy(tmp_path / "bob-phone.db", tmp_path / "stolen.db")
        ann, cat = here["ann/phone"], here["cat/phone"]
        await ann.say(conversation, "while he was a member")
        await cat.sees(conversation, "while he was a member")
        await revoke(here, "bob/phone")
        await ann.until(lambda: ann.device.trust.revocations.devices)
        await ann.say(conversation, SECRETS[0])
        await cat.sees(conversation, SECRETS[0])
        await cat.say(conversation, SECRETS[1])
        await here.come("dan/phone")
        await ann.device.change_members(conversation, add=[UserName("dan")])
        await here["dan/phone"].in_epoch(conversation, 3)
        await here["dan/phone"].say(conversation, SECRETS[2])
        await ann.sees(conversation, *SECRETS[1:])
    entries = carried.entries(conversation)
    with closing(Store.open(tmp_path / "stolen.db", KEY)) as store:
        state = store.groups.get(conversation)
        assert state is not None
        for search in (opened, tried):
            found = b"\n".join(search(state, entries))
            # The control: the same search opens what was said while the phone was still a member.
            assert b"while he was a member" in found
            assert not any(secret.encode() in found for secret in SECRETS)
        mine = [store.keys.package(one) for one in store.keys.package_references()]
        welcomes = list(carried.welcomes())
        assert welcomes
        assert mine
        for welcome in welcomes[1:]:
            for own in mine:
                assert own is not None
                with pytest.raises(CryptoError):
                    Group.join(welcome, own, authenticate=anyone)
