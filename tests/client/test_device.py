"""Devices as their people use them, over a relay."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from client import (
    delivering,
    following,
    membership,
    mls_records,
    sending,
    steward,
    thread,
)
from client.book import Ask
from client.errors import EndedError, ForbiddenError, GoneError, KeptInsideError, ReturningError
from client.messages import PersonState, State
from client.views import Shown
from crypto.errors import InvalidError
from crypto.names import Role
from crypto.revocation import encode_revocations
from crypto.statement import StatementType
from crypto.trust import Revocations
from protocol import frames, limits
from protocol.content import Edit, Reaction, Reply, Text
from protocol.errors import Code
from protocol.frames import Deliver, EntryKind
from protocol.group_context import ConversationType
from protocol.identifiers import ConversationId, LogId, UserName, conversation_log
from protocol.policy import Action, Policy
from tests.client.devices import WAIT_S, Running, garble, opened, ward
from tests.client.relay import address_of
from tests.server.harness import Hospital, hospital, now_ms

BOB, CAT = UserName("bob"), UserName("cat")


@pytest.fixture
def of() -> Hospital:
    return hospital()


def restore(folder: Path, name: str, content: bytes) -> None:
    """Put an old copy of a store in the place of what there is."""
    for path in folder.glob(f"{name}*"):
        path.unlink()
    (folder / name).write_bytes(content)


async def test_two_people_talk(tmp_path: Path, of: Hospital) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        conversation = await here.talk("ann/phone", "bob/phone", kind=ConversationType.DIRECT)
        await here["ann/phone"].say(conversation, "bed 4 is free")
        await here["bob/phone"].sees(conversation, "bed 4 is free")
        await here["bob/phone"].say(conversation, "thank you")
        await here["ann/phone"].sees(conversation, "thank you")
        for name in ("ann/phone", "bob/phone"):
            assert here[name].device.status.faults == 0


OTHERS = [ConversationType.ROLE_BOARD, ConversationType.ANNOUNCEMENT, ConversationType.INCIDENT]
"""The types that no test below begins; a page shows itself to whom it asks alone."""
KEPT_AS = {ConversationType.ANNOUNCEMENT: "notice"}


@pytest.mark.parametrize("kind", OTHERS)
async def test_a_conversation_of_every_other_type_is_begun_joined_and_read(
    tmp_path: Path, of: Hospital, kind: ConversationType
) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        conversation = await here.talk("ann/phone", "bob/phone", kind=kind)
        await here["ann/phone"].say(conversation, "bed 4 is free")
        await here["bob/phone"].sees(conversation, "bed 4 is free")
        for name in ("ann/phone", "bob/phone"):
            assert here[name].device.summary(conversation).kind is kind
            assert here[name].device.status.faults == 0
            context = here[name].engine.rooms.context(here[name].engine.rooms.get(conversation))
            assert context is not None
            assert context.retention_class == KEPT_AS.get(kind, "clinical")


async def test_the_relays_word_alone_takes_nobody_out_of_a_conversation(
    tmp_path: Path, of: Hospital
) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        conversation = await here.talk("ann/phone", "bob/phone")
        bob = here["bob/phone"]
        removed = frames.Ended(log=conversation_log(conversation), code=Code.REMOVED)
        bob.engine._answered(removed)
        await here["ann/phone"].say(conversation, "still here")
        await bob.sees(conversation, "still here")
        await bob.say(conversation, "still here, too")
        await here["ann/phone"].sees(conversation, "still here, too")


async def test_what_is_said_before_the_first_receipt_arrives_after_it(
    tmp_path: Path, of: Hospital
) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        ann, bob = here["ann/phone"], here["bob/phone"]
        conversation = await ann.device.start(ConversationType.GROUP, [BOB], title="Ward 4")
        await ann.say(conversation, "first")
        await ann.say(conversation, "second")
        await bob.sees(conversation, "first", "second")
        assert bob.texts(conversation) == ["first", "second"]
        await bob.until(lambda: bob.device.summary(conversation).title == "Ward 4")
        await ann.device.settled(WAIT_S)
        assert [one.state for one in ann.shown(conversation)] == [State.STORED] * 2


async def test_what_an_earlier_run_left_waiting_keeps_nobody_waiting(
    tmp_path: Path, of: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "AGAIN_MS", 200)
    monkeypatch.setattr(membership, "LACKED_MOST", 1)
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        # Cat is enrolled, and has never connected: what is said to her waits.
        await here.site.open(here.person("cat/phone"))
        conversation = await here.talk("ann/phone", "bob/phone")
        to_cat = await here["ann/phone"].device.start(ConversationType.DIRECT, [CAT])
        await here["ann/phone"].say(to_cat, "for when you come")
        await here.go("ann/phone")
        await here.come("ann/phone")
        ann = here["ann/phone"]
        await ann.say(conversation, "now")
        await ann.device.settled(WAIT_S)
        assert ann.device.status.unsent == 1
        await here["bob/phone"].sees(conversation, "now")


async def test_all_devices_of_a_person_read_along(tmp_path: Path, of: Hospital) -> None:
    names = ("ann/phone", "ann/laptop", "bob/phone", "bob/laptop")
    async with ward(tmp_path, of, *names) as here:
        conversation = await here.talk(*names)
        for name in names:
            await here[name].say(conversation, f"from {name}")
        for name in names:
            await here[name].sees(conversation, *(f"from {other}" for other in names))
            assert {view.user for view in here[name].device.members(conversation)} == {
                "ann",
                "bob",
                "archive",
            }
            assert here[name].device.status.faults == 0


async def test_who_is_added_later_reads_from_then_on(tmp_path: Path, of: Hospital) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone", "cat/phone") as here:
        ann, cat = here["ann/phone"], here["cat/phone"]
        conversation = await here.talk("ann/phone", "bob/phone", title="Ward 4")
        await ann.say(conversation, "before")
        await here["bob/phone"].sees(conversation, "before")
        await ann.device.change_members(conversation, add=[CAT])
        await cat.in_epoch(conversation, 2)
        await ann.say(conversation, "after")
        await cat.sees(conversation, "after")
        assert cat.texts(conversation) == ["after"]
        await cat.until(lambda: cat.device.summary(conversation).title == "Ward 4")
        assert cat.device.status.faults == 0


async def test_a_group_is_handed_to_other_owners_who_then_change_its_members(
    tmp_path: Path, of: Hospital
) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone", "cat/phone") as here:
        ann, bob, cat = (here[name] for name in ("ann/phone", "bob/phone", "cat/phone"))
        conversation = await here.talk("ann/phone", "bob/phone", "cat/phone")
        for owners in ([], ["nobody"], ["archive"]):
            with pytest.raises(InvalidError):
                await ann.device.set_owners(conversation, [UserName(one) for one in owners])
        with pytest.raises(ForbiddenError):
            await bob.device.set_owners(conversation, [BOB])
        await ann.device.set_owners(conversation, [BOB])
        for one in (ann, bob, cat):
            await one.in_epoch(conversation, 2)
            members = one.device.members(conversation)
            assert [view.user for view in members if view.is_owner] == [BOB]
        with pytest.raises(ForbiddenError):
            await ann.device.change_members(conversation, remove=[CAT])
        await bob.device.change_members(conversation, remove=[CAT])
        await cat.until(lambda: cat.device.summary(conversation).ended)


async def test_who_is_removed_reads_nothing_more(tmp_path: Path, of: Hospital) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone", "cat/phone") as here:
        ann, bob, cat = (here[name] for name in ("ann/phone", "bob/phone", "cat/phone"))
        conversation = await here.talk("ann/phone", "bob/phone", "cat/phone")
        await ann.device.change_members(conversation, remove=[CAT])
        await bob.in_epoch(conversation, 2)
        await ann.say(conversation, "without her")
        await bob.sees(conversation, "without her")
        await cat.until(lambda: cat.epoch(conversation) == -1)
        assert cat.device.summary(conversation).ended
        assert cat.texts(conversation) == []
        with pytest.raises(EndedError):
            await cat.say(conversation, "hello?")
        await ann.device.change_members(conversation, add=[CAT])
        await cat.in_epoch(conversation, 3)
        await ann.say(conversation, "welcome back")
        await cat.sees(conversation, "welcome back")
        assert cat.texts(conversation) == ["welcome back"]
        assert not cat.device.summary(conversation).ended
        assert cat.device.status.faults == 0


async def test_who_was_removed_while_away_learns_it_on_coming_back(
    tmp_path: Path, of: Hospital
) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone", "cat/phone") as here:
        ann = here["ann/phone"]
        conversation = await here.talk("ann/phone", "bob/phone", "cat/phone")
        await here.go("cat/phone")
        await ann.device.change_members(conversation, remove=[CAT])
        await here["bob/phone"].in_epoch(conversation, 2)
        await here.come("cat/phone")
        cat = here["cat/phone"]
        await cat.until(lambda: cat.device.summary(conversation).ended)


async def test_edits_reactions_and_read_marks_reach_the_sender(
    tmp_path: Path, of: Hospital
) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        ann, bob = here["ann/phone"], here["bob/phone"]
        conversation = await here.talk("ann/phone", "bob/phone")
        shown = await ann.device.send(
            conversation, Text(text="potassium 6.1"), acknowledgement_asked=True
        )
        assert shown is not None
        await bob.sees(conversation, "potassium 6.1")
        (heard,) = bob.shown(conversation)
        assert heard.acknowledgement_asked
        await bob.device.send(conversation, Reply(to=thread.reference(heard.key), text="seen"))
        await bob.device.send(conversation, Reaction(target=thread.reference(heard.key), mark="+1"))
        await bob.device.mark_read(conversation, heard.place)
        await bob.device.acknowledge(heard.key)
        await ann.until(
            lambda: (
                ann.device.message(shown.key).people.get(BOB, (0, 0))[0]  # type: ignore[union-attr]
                == PersonState.ACKNOWLEDGED
            )
        )
        seen = ann.device.message(shown.key)
        assert seen is not None
        assert seen.reactions == {"+1": ("bob",)}
        await ann.device.send(
            conversation, Edit(target=thread.reference(shown.key), text="potassium 5.1")
        )
        await bob.sees(conversation, "potassium 5.1")
        assert [one.text for one in bob.device.history(heard.key)] == ["potassium 6.1"]
        with pytest.raises(ForbiddenError):
            await ann.device.recall(shown.key)
        assert bob.device.summary(conversation).unread == 0


async def test_the_sender_is_told_to_whom_a_message_was_delivered(
    tmp_path: Path, of: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "TOGETHER_S", 0.1)
    async with ward(tmp_path, of, "ann/phone", "bob/phone", "cat/phone") as here:
        ann = here["ann/phone"]
        conversation = await here.talk("ann/phone", "bob/phone", "cat/phone")
        await here.go("cat/phone")
        shown = await ann.say(conversation, "potassium 6.1")

        def delivered() -> set[UserName]:
            message = ann.device.message(shown.key)
            return set() if message is None else set(message.people) - {UserName("archive")}

        await ann.until(lambda: delivered() == {BOB})
        await here.come("cat/phone")
        await ann.until(lambda: delivered() == {BOB, CAT})


async def test_an_unread_message_can_be_recalled(tmp_path: Path, of: Hospital) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        ann, bob = here["ann/phone"], here["bob/phone"]
        conversation = await here.talk("ann/phone", "bob/phone")
        shown = await ann.say(conversation, "wrong ward")
        await bob.sees(conversation, "wrong ward")
        await ann.device.recall(shown.key)
        await bob.until(lambda: bob.shown(conversation)[0].state is State.RETRACTED)


async def test_a_device_goes_on_after_a_restart(tmp_path: Path, of: Hospital) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        ann = here["ann/phone"]
        conversation = await here.talk("ann/phone", "bob/phone")
        await here.go("bob/phone")
        for number in range(20):
            await ann.say(conversation, f"message {number}")
        await ann.device.settled(WAIT_S)
        await here.come("bob/phone")
        bob = here["bob/phone"]
        expected = [f"message {number}" for number in range(20)]
        await bob.until(lambda: bob.texts(conversation) == expected)
        await here.go("ann/phone")
        await bob.say(conversation, "answer")
        await here.come("ann/phone")
        await here["ann/phone"].sees(conversation, "answer")
        assert here["ann/phone"].device.status.faults == bob.device.status.faults == 0


async def test_what_is_written_without_a_connection_is_sent_with_the_next(
    tmp_path: Path, of: Hospital
) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        ann, bob = here["ann/phone"], here["bob/phone"]
        conversation = await here.talk("ann/phone", "bob/phone")
        await ann.end()
        for number in range(5):
            await ann.say(conversation, f"offline {number}")
        assert ann.device.status.unsent == 5
        await ann.begin()
        expected = [f"offline {number}" for number in range(5)]
        await bob.until(lambda: bob.texts(conversation) == expected)


async def test_a_garbage_commit_stops_nobody(tmp_path: Path, of: Hospital) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone", "cat/phone") as here:
        ann, bob, cat = (here[name] for name in ("ann/phone", "bob/phone", "cat/phone"))
        conversation = await here.talk("ann/phone", "bob/phone")
        garble(ann)
        await ann.device.change_members(conversation, add=[CAT])
        await bob.say(conversation, "still here")
        await ann.sees(conversation, "still here")
        await bob.until(lambda: bob.device.status.faults)
        # Ann's program wants its change done, and makes an honest Commit of it.
        await cat.in_epoch(conversation, 2)
        await ann.say(conversation, "with her")
        await cat.sees(conversation, "with her")
        await bob.sees(conversation, "still here", "with her")


async def test_receipts_and_changes_go_on_while_the_recorder_is_silent(
    tmp_path: Path, of: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RECEIPT_SILENCE_MS", 300)
    monkeypatch.setattr(steward, "RANK_MS", 50)
    async with ward(tmp_path, of, "ann/phone", "bob/phone", "cat/phone") as here:
        ann, bob, cat = (here[name] for name in ("ann/phone", "bob/phone", "cat/phone"))
        conversation = await here.talk("ann/phone", "bob/phone")
        here.recorder.silent = True
        await ann.device.change_members(conversation, add=[CAT])
        await cat.in_epoch(conversation, 2)
        await cat.say(conversation, "hello")
        await bob.sees(conversation, "hello")
        await bob.device.leave(conversation)
        await ann.in_epoch(conversation, 3)
        await bob.until(lambda: bob.device.summary(conversation).ended)
        await ann.say(conversation, "two of us")
        await cat.sees(conversation, "two of us")
        here.recorder.silent = False
        await here.recorder.sees(conversation, "two of us")
        assert ann.device.status.faults == cat.device.status.faults == 0


async def test_an_old_copy_of_a_store_starts_over_and_comes_back(
    tmp_path: Path, of: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RECEIPT_SILENCE_MS", 300)
    monkeypatch.setattr(steward, "RANK_MS", 50)
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        conversation = await here.talk("ann/phone", "bob/phone")
        await here.go("ann/phone")
        kept = (tmp_path / "ann-phone.db").read_bytes()
        await here.come("ann/phone")
        await here["ann/phone"].say(conversation, "from the newer")
        await here["bob/phone"].sees(conversation, "from the newer")
        await here["ann/phone"].device.settled(WAIT_S)
        await here.go("ann/phone")
        restore(tmp_path, "ann-phone.db", kept)
        await here.come("ann/phone")
        ann, bob = here["ann/phone"], here["bob/phone"]
        await ann.in_epoch(conversation, 2)
        await ann.say(conversation, "from the old copy")
        await bob.sees(conversation, "from the old copy")
        await bob.say(conversation, "welcome back")
        await ann.sees(conversation, "welcome back")
        assert bob.device.status.faults == 0


async def test_a_device_that_starts_over_says_so_until_it_is_let_in_again(
    tmp_path: Path, of: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RECEIPT_SILENCE_MS", 300)
    monkeypatch.setattr(steward, "RANK_MS", 50)
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        conversation = await here.talk("ann/phone", "bob/phone")
        await here["bob/phone"].say(conversation, "before")
        await here["ann/phone"].sees(conversation, "before")
        await here.go("ann/phone")
        alone = opened(tmp_path, here.person("ann/phone"), of, address_of(here.site))
        assert not alone.summary(conversation).returning
        alone.engine._start_over(100)
        assert alone.summary(conversation).returning
        with pytest.raises(ReturningError):
            await alone.send(conversation, Text(text="too early"))
        with pytest.raises(ReturningError):
            await alone.leave(conversation)
        assert [one.text for one in alone.messages(conversation, limit=9)][-1] == "before"
        alone.close()
        await here.come("ann/phone")
        ann = here["ann/phone"]
        await ann.until(lambda: not ann.device.summary(conversation).returning)
        await ann.say(conversation, "back again")
        await here["bob/phone"].sees(conversation, "back again")


async def test_a_file_reaches_the_others_as_it_was(tmp_path: Path, of: Hospital) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        ann, bob = here["ann/phone"], here["bob/phone"]
        conversation = await here.talk("ann/phone", "bob/phone")
        scan = tmp_path / "scan.png"
        scan.write_bytes(bytes(range(256)) * 4_000)
        seen: list[tuple[int, int]] = []
        shown = await ann.device.attach(
            conversation, scan, caption="chest", on_progress=lambda *at: seen.append(at)
        )
        assert seen
        await bob.until(lambda: bob.device.message(shown.key) is not None)
        await bob.device.fetch(shown.key, tmp_path / "got.png")
        assert (tmp_path / "got.png").read_bytes() == scan.read_bytes()
        text = await ann.say(conversation, "no file")
        with pytest.raises(GoneError):
            await ann.device.fetch(text.key, tmp_path / "none")
        # It stays inside for whom the policy takes saving from, who still sends.
        rights = {Action.SAVE: frozenset({Role.ADMINISTRATOR, Role.RECORDER})}
        await here.govern(Policy(version=1, rights=rights))
        with pytest.raises(KeptInsideError):
            await bob.device.fetch(shown.key, tmp_path / "kept.png")
        assert not (tmp_path / "kept.png").exists()
        await bob.device.attach(conversation, scan)
        await here.govern(Policy(version=2))
        await bob.device.fetch(shown.key, tmp_path / "kept.png")


@pytest.mark.parametrize("kind", [ConversationType.GROUP, ConversationType.PAGE])
async def test_who_has_never_connected_holds_nobody_up_and_comes_in_later(
    tmp_path: Path, of: Hospital, monkeypatch: pytest.MonkeyPatch, kind: ConversationType
) -> None:
    monkeypatch.setattr(membership, "AGAIN_MS", 200)
    monkeypatch.setattr(membership, "PATIENCE_MS", 500)
    monkeypatch.setattr(membership, "LACKED_MOST", 1)
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        # Cat is enrolled, and has never connected: there is no key package of hers.
        await here.site.open(here.person("cat/phone"))
        ann = here["ann/phone"]
        conversation = await ann.device.start(kind, [BOB, CAT])
        await ann.say(conversation, "for whoever is here")
        await here["bob/phone"].sees(conversation, "for whoever is here")
        await ann.device.settled(WAIT_S)
        await here.come("cat/phone")
        await here["cat/phone"].in_epoch(conversation, 2)


async def test_what_is_said_to_one_person_waits_for_that_person(
    tmp_path: Path, of: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "AGAIN_MS", 200)
    monkeypatch.setattr(membership, "PATIENCE_MS", 100)
    async with ward(tmp_path, of, "ann/phone") as here:
        await here.site.open(here.person("cat/phone"))
        ann = here["ann/phone"]
        conversation = await ann.device.start(ConversationType.DIRECT, [CAT])
        await ann.say(conversation, "for you")
        await asyncio.sleep(0.5)
        assert ann.epoch(conversation) == 0
        assert ann.device.summary(conversation).opening
        # Whoever writes to her again means this one, and begins no second.
        assert ann.device.summary(conversation).peer == CAT
        with pytest.raises(ForbiddenError, match="being set up"):
            await ann.device.attach(conversation, Path(__file__), on_progress=lambda *_: None)
        await here.come("cat/phone")
        await here["cat/phone"].sees(conversation, "for you")


async def test_one_device_that_was_never_on_holds_up_no_message_to_its_person(
    tmp_path: Path, of: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "AGAIN_MS", 200)
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        ann, laptop = here["ann/phone"], here.person("bob/laptop")
        # Bob's laptop is enrolled, and has never been on: there is no key package of it.
        await here.site.open(laptop)
        conversation = await ann.device.start(ConversationType.DIRECT, [BOB])
        await ann.say(conversation, "for you")
        await here["bob/phone"].sees(conversation, "for you")
        await here.come("bob/laptop")
        await here["bob/laptop"].in_epoch(conversation, 2)
        await ann.say(conversation, "wherever you are")
        await here["bob/laptop"].sees(conversation, "wherever you are")
        assert here["bob/laptop"].texts(conversation) == ["wherever you are"]


async def test_nothing_is_sent_to_a_device_that_is_revoked(tmp_path: Path, of: Hospital) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone", "cat/phone") as here:
        ann, bob = here["ann/phone"], here["bob/phone"]
        conversation = await here.talk("ann/phone", "bob/phone", "cat/phone")
        await here.go("cat/phone")
        revoked = replace(Revocations().with_device("cat/phone", at_ms=now_ms()), number=1)
        statement = of.signed(
            StatementType.REVOCATION_LIST, encode_revocations(revoked), by=of.signatory()
        )
        await here.recorder.device.statements.submit(statement)
        await ann.until(lambda: ann.device.trust.revocations.devices)
        shown = await ann.say(conversation, "without her")
        # It waits, sealed for nobody yet, until she is out.
        assert ann.engine.store.outbox.find(shown.key.message_id).held  # type: ignore[union-attr]
        await bob.sees(conversation, "without her")
        assert ann.epoch(conversation) == 2
        users = {view.user for view in bob.device.members(conversation)}
        assert users == {"ann", "bob", "archive"}


async def test_who_is_let_in_and_is_not_given_the_receipt_first_reads_again_until_it_is(
    tmp_path: Path, of: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "WAIT_MS", 0)
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        ann, bob = here["ann/phone"], here["bob/phone"]
        take, lost = bob.engine.following.take, set[int]()

        async def lossy(entries: Iterable[Deliver], ask: Ask, *, now_ms: int) -> dict[LogId, int]:
            kept = []
            for entry in entries:
                if entry.kind == EntryKind.RECEIPT and entry.sequence not in lost:
                    lost.add(entry.sequence)
                else:
                    kept.append(entry)
            return await take(kept, ask, now_ms=now_ms)

        monkeypatch.setattr(bob.engine.following, "take", lossy)
        conversation = await ann.device.start(ConversationType.DIRECT, [BOB])
        await ann.say(conversation, "bed 4 is free")
        await bob.sees(conversation, "bed 4 is free")
        assert lost


class Refused:
    """Sees which messages of a device the relay refuses, and says so again.

    Attributes:
        is_repeated: Whether each refusal is said once more, just before the relay accepts.
    """

    def __init__(self, running: Running) -> None:
        sending = running.engine.sending
        self.frames: list[frames.RefusedMessage] = []
        self.is_repeated = False
        self._refused, self._accepted = sending.refused, sending.accepted
        sending.refused = self.refused  # type: ignore[method-assign]
        sending.accepted = self.accepted  # type: ignore[method-assign]

    def refused(self, frame: frames.RefusedMessage) -> None:
        self.frames.append(frame)
        self._refused(frame)

    def accepted(self, frame: frames.Accepted) -> None:
        if self.is_repeated:
            for one in self.frames:
                self._refused(one)
        self._accepted(frame)


class Late:
    """Keeps back what the relay delivers to a device, and gives it all at once.

    Attributes:
        entries: What was delivered.
        is_over: Whether it is given with the next entry, and everything from then on.
    """

    def __init__(self, running: Running) -> None:
        self.entries: list[Deliver] = []
        self.is_over = False
        self._kept: list[Deliver] = []
        self._take = running.engine.following.take
        running.engine.following.take = self.take  # type: ignore[method-assign]

    async def take(self, entries: Iterable[Deliver], ask: Ask, *, now_ms: int) -> dict[LogId, int]:
        came = list(entries)
        self.entries += came
        self._kept += came
        if not self.is_over:
            return {}
        together, self._kept = self._kept, []
        return await self._take(together, ask, now_ms=now_ms)

    def has_receipt(self) -> bool:
        return any(one.kind == EntryKind.RECEIPT for one in self.entries)

    def logs(self) -> set[bytes]:
        return {one.log for one in self.entries if one.kind == EntryKind.MESSAGE}


async def told_too_early(
    ann: Running, bob: Running, conversation: ConversationId, *, late: Late, refused: Refused
) -> Shown:
    """Have bob say something as an epoch begins that he has not heard of: the relay refuses it."""
    await ann.device.change_members(conversation, remove=[CAT])
    await bob.until(late.has_receipt)
    shown = await bob.say(conversation, "it waits for the epoch")
    await bob.until(lambda: refused.frames)
    return shown


async def test_what_is_said_as_an_epoch_begins_has_a_key_of_its_own(
    tmp_path: Path, of: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only what people say is to come behind the receipt.
    monkeypatch.setattr(delivering, "PEOPLE_MOST", 0)
    async with ward(tmp_path, of, "ann/phone", "bob/phone", "cat/phone") as here:
        ann, bob = here["ann/phone"], here["bob/phone"]
        conversation = await here.talk("ann/phone", "bob/phone", "cat/phone")
        asked = await ann.say(conversation, "is bed 4 free?")
        await bob.sees(conversation, "is bed 4 free?")
        late, refused = Late(bob), Refused(bob)
        await told_too_early(ann, bob, conversation, late=late, refused=refused)
        # With what refers to an earlier message right behind the receipt.
        late.is_over = True
        mark = Reaction(target=thread.reference(asked.key), mark="+1")
        await ann.device.send(conversation, mark)
        await bob.in_epoch(conversation, 2)
        await bob.say(conversation, "it comes after")
        await ann.sees(conversation, "it waits for the epoch", "it comes after")
        assert ann.device.status.faults == 0


async def test_a_refusal_that_is_said_twice_lets_no_message_be_sealed_twice(
    tmp_path: Path, of: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "PEOPLE_MOST", 0)
    async with ward(tmp_path, of, "ann/phone", "bob/phone", "cat/phone") as here:
        ann, bob = here["ann/phone"], here["bob/phone"]
        conversation = await here.talk("ann/phone", "bob/phone", "cat/phone")
        late, refused, heard = Late(bob), Refused(bob), Late(ann)
        heard.is_over = True
        shown = await told_too_early(ann, bob, conversation, late=late, refused=refused)
        refused.is_repeated = late.is_over = True
        await ann.say(conversation, "there is one more to come")
        await ann.sees(conversation, "it waits for the epoch")
        await bob.until(lambda: bob.engine.store.outbox.find(shown.key.message_id) is None)
        # The archive's proof is believed of the bytes that went out.
        came = heard.entries[-1]
        known = bob.engine.store.evidence.hash_of(conversation, came.sequence)
        assert known == hashlib.sha256(came.body).digest()


@pytest.mark.parametrize(("detail", "wrong_ms"), [(50, 3_600_000), (2**60, 0)])
async def test_a_pause_that_the_relay_asks_for_ends_also_when_the_clock_is_set_back(
    tmp_path: Path, of: Hospital, monkeypatch: pytest.MonkeyPatch, detail: int, wrong_ms: int
) -> None:
    monkeypatch.setattr(sending, "PAUSE_MAX_MS", 100)
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        ann, bob = here["ann/phone"], here["bob/phone"]
        conversation = await here.talk("ann/phone", "bob/phone")
        line, unheard = ann.engine.link, list[frames.Accepted]()
        accepted = ann.engine.sending.accepted
        ann.engine.sending.accepted = unheard.append  # type: ignore[assignment, method-assign]
        shown = await ann.say(conversation, "is anybody there?")
        await ann.until(lambda: unheard)
        here.site.later_ms += wrong_ms
        ann.engine.sending.refused(
            frames.RefusedMessage(message_id=shown.key.message_id, code=Code.BACKLOG, detail=detail)
        )
        await asyncio.sleep(0)
        here.site.later_ms -= wrong_ms
        ann.engine.sending.accepted = accepted  # type: ignore[method-assign]
        await ann.say(conversation, "somebody must be")
        await bob.sees(conversation, "somebody must be")
        assert ann.engine.link is line  # A new connection would have ended any pause.


async def test_more_conversations_at_once_than_groups_are_kept_loaded_are_taken_in(
    tmp_path: Path, of: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "PEOPLE_MOST", 0)
    monkeypatch.setattr(mls_records, "GROUPS_IN_MEMORY", 2)
    monkeypatch.setattr(following, "ROOMS_MOST", 1)
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        ann, bob = here["ann/phone"], here["bob/phone"]
        beds = [await here.talk("ann/phone", "bob/phone", title=f"bed {n}") for n in range(4)]
        late = Late(bob)
        for bed in beds[:-1]:
            await ann.say(bed, "is it free?")
        await bob.until(lambda: {conversation_log(bed) for bed in beds[:-1]} <= late.logs())
        late.is_over = True
        await ann.say(beds[-1], "is it free?")
        for bed in beds:
            await bob.sees(bed, "is it free?")
