"""What is said again, or late: as its sender sees it by then, and to whom it was said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from client import thread
from client.followed import Cause
from client.messages import Retraction as Removal
from client.messages import Revision, State
from client.records import Source, decode_source, encode_source
from client.store import Seal, Sealed, Store
from client.views import Change, ChangeKind
from protocol.authenticated_data import Priority
from protocol.content import Acknowledgement, Content, Edit, Kind, Read, Retraction, Text, encode
from protocol.group_context import ConversationType
from protocol.identifiers import UserName, conversation_log
from server.sqlite_store import SqliteStore
from server.store import LogKey
from tests.client.devices import Running, Ward, ward
from tests.client.ward import WARD, anns, bobs, draft, mute, said, saved, send
from tests.server.harness import Hospital, hospital


@pytest.fixture
def of() -> Hospital:
    return hospital()


async def forgotten(here: Ward) -> Running:
    """Have the relay say that it knows of nothing that Ann's device sent, as if it was set back."""
    store = here.site.relay.store
    assert isinstance(store, SqliteStore)
    name = here["ann/phone"].engine.identity.device
    device = store._pipeline.ledger.devices[here.hospital.id, name]
    device.last, device.ring = 0, None
    await here.go("ann/phone")
    await here.come("ann/phone")
    return here["ann/phone"]


async def test_what_was_corrected_or_taken_back_before_it_went_is_read_by_nobody(
    tmp_path: Path, of: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both go under other ids than the changes name.
    monkeypatch.setattr("client.store.IN_FLIGHT_MESSAGES", 1)
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        ann, bob = here["ann/phone"], here["bob/phone"]
        here.recorder.silent = True
        conversation = await ann.device.start(ConversationType.GROUP, [UserName("bob")])
        dose = await ann.say(conversation, "10 mg")
        other = await ann.say(conversation, "of another patient")
        await ann.device.send(conversation, Edit(target=thread.reference(dose.key), text="1 mg"))
        await ann.device.send(conversation, Retraction(target=thread.reference(other.key)))
        await ann.say(conversation, "that is all")
        here.recorder.silent = False
        here.recorder.speak()
        await bob.sees(conversation, "that is all")
        assert [text for text in bob.texts(conversation) if text] == ["1 mg", "that is all"]
        await ann.until(lambda: not ann.device.status.unsent)


def test_what_waits_for_another_epoch_waits_as_it_stands_by_then(store: Store) -> None:
    dose, other = send(store, "10 mg"), send(store, "of another patient")
    corrected = Revision(target=anns(dose), at_ms=2_000, content=said("1 mg"))
    taken_back = Removal(target=anns(other))
    change = replace(draft(""), content=None, effects=(corrected, taken_back))
    store.sending(WARD, saved(store), change, seal=sealing(store))
    store.received([replace(mute(store, 3), forks=True)])
    waiting = (store.outbox.find(one) for one in store.outbox.waiting_in(WARD))
    drafts = [one.draft for one in waiting if one is not None and one.message is not None]
    assert [one and decode_source(one).plaintext for one in drafts] == [said("1 mg").data]


def sealing(store: Store) -> Seal:
    def seal(message_id: int, previous_id: int) -> Sealed:
        group, message = saved(store).encrypt(b"%d<%d" % (message_id, previous_id))
        return Sealed(group=group, message=message)

    return seal


async def test_nothing_that_the_relay_had_is_said_again_to_who_came_in_later(
    tmp_path: Path, of: Hospital
) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone", "cat/phone") as here:
        ann, cat = here["ann/phone"], here["cat/phone"]
        conversation = await here.talk("ann/phone", "bob/phone")
        await ann.say(conversation, "before she came")
        await here["bob/phone"].sees(conversation, "before she came")
        await ann.device.change_members(conversation, add=[UserName("cat")])
        for one in here.running.values():
            await one.in_epoch(conversation, 2)
        await ann.say(conversation, "since she came")
        await cat.sees(conversation, "since she came")
        await ann.until(lambda: not ann.device.status.unsent)
        ann = await forgotten(here)
        await ann.say(conversation, "that is all")
        await cat.sees(conversation, "that is all")
        assert cat.texts(conversation) == ["since she came", "that is all"]
        shown = {one.text: one.state for one in ann.shown(conversation)}
        assert shown["before she came"] is State.REFUSED
        assert shown["since she came"] is State.STORED
        (trouble,) = ann.device.status.troubles
        assert trouble.cause == Cause.NOT_AGAIN.name


async def test_what_goes_out_under_another_id_is_shown_once_and_corrected_where_it_was_read(
    tmp_path: Path, of: Hospital
) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        ann, bob = here["ann/phone"], here["bob/phone"]
        conversation = await here.talk("ann/phone", "bob/phone")
        dose = await ann.say(conversation, "10 mg")
        await bob.sees(conversation, "10 mg")
        await ann.until(lambda: not ann.device.status.unsent)
        store = ann.engine.store
        # As where bob had read it, and its epoch was forked after that.
        with store._database.transaction():
            store._put_back(conversation, behind=0, epoch=saved(store, conversation).epoch)
        (waits,) = store.outbox.waiting_in(conversation)
        assert waits > dose.key.message_id
        ann.engine.sending.release_all()
        await ann.until(lambda: not ann.device.status.unsent)
        await ann.device.send(conversation, Edit(target=thread.reference(dose.key), text="1 mg"))
        await ann.say(conversation, "that is all")
        await bob.sees(conversation, "that is all")
        for one in (ann, bob):
            assert one.texts(conversation) == ["1 mg", "that is all"]


async def test_what_is_said_again_sounds_once(
    tmp_path: Path, of: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        ann, bob = here["ann/phone"], here["bob/phone"]
        conversation = await here.talk("ann/phone", "bob/phone")
        sounded: list[Priority | None] = []
        tell = bob.engine.changes.tell

        def told(*changes: Change) -> None:
            sounded.extend(one.priority for one in changes if one.kind is ChangeKind.ALERT)
            tell(*changes)

        monkeypatch.setattr(bob.engine.changes, "tell", told)
        await ann.device.send(conversation, Text(text="arrest"), priority=Priority.STAT)
        await bob.sees(conversation, "arrest")
        await ann.until(lambda: not ann.device.status.unsent)
        for _ in range(2):
            ann = await forgotten(here)
        await ann.device.send(conversation, Text(text="soon"), priority=Priority.URGENT)
        await bob.sees(conversation, "soon")
        assert bob.texts(conversation) == ["arrest", "soon"]
        assert sounded == [Priority.STAT, Priority.URGENT]


def changed(store: Store, content: Content) -> int:
    """Let something wait that changes other messages; return its id."""
    number, source = store.outbox.last_id + 1, Source(plaintext=encode(content))
    change = replace(draft(""), content=None, source=encode_source(source))
    store.sending(WARD, saved(store), change, seal=sealing(store))
    return number


def waiting_again(store: Store) -> dict[int, bytes]:
    """Return what waits to be said once more, by ids."""
    found = {one: store.outbox.find(one) for one in store.outbox.waiting_in(WARD)}
    return {
        number: decode_source(one.draft).plaintext
        for number, one in found.items()
        if one is not None and one.held
    }


def changes(store: Store) -> tuple[list[int], dict[int, Content]]:
    """Let changes go out; return their ids, and those that are the last of their subject."""
    dose, note = thread.reference(anns(1)), thread.reference(anns(2))
    stat, last = thread.reference(bobs(1)), thread.reference(bobs(2))
    for text in ("10 mg", "of another patient"):
        send(store, text)
    said_of_them: list[Content] = [
        Edit(target=dose, text="5 mg"),
        Edit(target=dose, text="1 mg"),
        Edit(target=note, text="of this patient"),
        Retraction(target=note),
        Acknowledgement(target=stat),
        Read(through=stat),
        Read(through=last),
    ]
    ids = [changed(store, one) for one in said_of_them]
    # An entry of others stands between them.
    store.accepted({1: 1, 2: 2} | {number: number + 1 for number in ids})
    for sequence in (1, 2):
        store.evidence.prove(WARD, sequence)
    return ids, {ids[at]: said_of_them[at] for at in (1, 3, 4, 6)}


def test_what_changes_messages_goes_out_again_as_the_last_word_on_each(store: Store) -> None:
    ids, last = changes(store)
    assert store.forgotten(ids[-1]) == []
    assert store.forgotten(0) == sorted(last)
    assert waiting_again(store) == {number: encode(one) for number, one in last.items()}
    for number in last:
        found = store.outbox.find(number)
        assert found is not None
        assert decode_source(found.draft).said_in == saved(store).epoch
    assert store.forgotten(0) == []


def test_what_the_archive_has_of_changes_is_not_said_again(store: Store) -> None:
    ids, _ = changes(store)
    for number in ids:
        # As it is told, the one that is no last word any more as well.
        store.evidence.prove(WARD, number + 1)
    assert store.forgotten(0) == []


def test_what_was_changed_in_an_epoch_that_the_others_left_is_changed_in_theirs(
    store: Store,
) -> None:
    ids, last = changes(store)
    store.received([replace(mute(store, 3), forks=True)])
    again = waiting_again(store)
    assert min(again) > max(ids)
    assert list(again.values()) == [encode(one) for _, one in sorted(last.items())]


async def test_a_correction_that_a_relay_has_forgotten_is_told_to_it_again(
    tmp_path: Path, of: Hospital
) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        ann, bob = here["ann/phone"], here["bob/phone"]
        conversation = await here.talk("ann/phone", "bob/phone")
        dose = await ann.say(conversation, "10 mg")
        await ann.device.send(conversation, Edit(target=thread.reference(dose.key), text="1 mg"))
        await bob.sees(conversation, "1 mg")
        await ann.until(lambda: not ann.device.status.unsent)
        store, log = here.site.relay.store, LogKey(of.id, conversation_log(conversation))
        assert isinstance(store, SqliteStore)
        device = store._pipeline.ledger.devices[of.id, ann.engine.identity.device]
        device.last, device.ring = dose.key.message_id, None
        await here.go("ann/phone")
        before = store.head(log)
        await here.come("ann/phone")
        ann = here["ann/phone"]
        await ann.until(lambda: not ann.device.status.unsent)
        after = store.head(log)
        assert before is not None
        assert after is not None
        assert after.seq > before.seq
        await ann.say(conversation, "that is all")
        await bob.sees(conversation, "that is all")
        assert bob.texts(conversation) == ["1 mg", "that is all"]
        assert not bob.device.status.faults


async def test_who_came_in_later_is_told_of_no_correction_and_keeps_nobody_from_taking_back(
    tmp_path: Path, of: Hospital
) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone", "cat/phone") as here:
        ann = here["ann/phone"]
        conversation = await here.talk("ann/phone", "bob/phone")
        dose = await ann.say(conversation, "10 mg")
        other = await ann.say(conversation, "of another patient")
        await ann.device.send(conversation, Edit(target=thread.reference(dose.key), text="1 mg"))
        await ann.device.send(conversation, Retraction(target=thread.reference(other.key)))
        await ann.until(lambda: not ann.device.status.unsent)
        for one in ann.shown(conversation):
            ann.engine.store.evidence.prove(conversation, one.place)
        await ann.device.change_members(conversation, add=[UserName("cat")])
        for running in here.running.values():
            await running.in_epoch(conversation, 2)
        ann = await forgotten(here)
        await ann.until(lambda: not ann.device.status.unsent)
        # Ann is told that the others may not have her correction.
        (trouble,) = ann.device.status.troubles
        assert trouble.cause == Cause.NOT_AGAIN.name
        again = ann.engine.store.evidence.forgotten(0).values()
        kinds = {decode_source(one.draft).plaintext[0] for one in again}
        assert kinds & {Kind.EDIT, Kind.RETRACTION} == {Kind.RETRACTION}
