"""One order only: what is shown, sent or acknowledged is on the disk, with its key gone."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from client.errors import InUseError, RolledBackError
from client.messages import Retraction, State
from client.mls_records import Staged
from client.records import decode_source
from client.store import Draft, Entry, Seal, Sealed, Store
from crypto.errors import KeyUsedError, UsageError
from crypto.mls import ApplicationMessage, Group, StagedCommit
from protocol.identifiers import inbox_log
from protocol.limits import IN_FLIGHT_MESSAGES
from tests.client.ward import (
    ANN,
    BOB,
    KEY,
    LOG,
    PATH,
    THEATRE,
    WARD,
    anns,
    assembled,
    draft,
    entry,
    everything,
    hear,
    mute,
    said,
    saved,
    send,
    texts,
)
from tests.crypto.mls.clients import accept, key_package
from tests.crypto.mls.clients import saved as records


def again(store: Store, directory: Path) -> Store:
    """Close a store and open it."""
    store.close()
    return Store.open(directory / PATH, KEY)


def test_what_was_received_is_there_after_a_restart_and_its_key_is_not(
    store: Store, bob: Group, tmp_path: Path
) -> None:
    bob, message = bob.encrypt(b"bed 4 is free")
    received = hear(store, message, 7)
    assert [shown.content.text for shown in received.messages] == ["bed 4 is free"]
    assert received.through == {LOG: 7}
    store = again(store, tmp_path)
    assert texts(store) == ["bed 4 is free"]
    assert store.cursor(LOG) == 7
    with pytest.raises(KeyUsedError):
        saved(store).process(message, authenticate=accept)
    store.close()


def test_a_group_comes_back_from_the_disk_as_it_was_saved(
    store: Store, bob: Group, tmp_path: Path
) -> None:
    for number in range(1, 4):
        bob, message = bob.encrypt(b"one")
        hear(store, message, number)
        send(store, "two")
    kept = records(saved(store))
    store = again(store, tmp_path)
    assert records(saved(store)) == kept
    assert store.groups.conversations() == [WARD]
    store.close()


def test_many_entries_are_kept_in_one_step_or_none_of_them(store: Store, bob: Group) -> None:
    group = saved(store)
    entries = []
    for number in range(1, 4):
        bob, message = bob.encrypt(f"number {number}".encode())
        entries.append(entry(group, message, number))
        after = entries[-1].after
        assert after is not None
        group = after
    with pytest.raises(UsageError):
        store.received([*entries, replace(entries[0], before=group, after=group)])
    assert texts(store) == []
    assert store.cursor(LOG) == 0
    assert store.received(entries).through == {LOG: 3}
    assert texts(store) == ["number 1", "number 2", "number 3"]
    assert saved(store) is group


def test_an_entry_has_its_effect_once(store: Store, bob: Group) -> None:
    bob, message = bob.encrypt(b"once")
    hear(store, message, 5)
    for sequence in (4, 5):
        with pytest.raises(UsageError):
            store.received([mute(store, sequence)])
        with pytest.raises(UsageError):
            store.passed(LOG, sequence)
    assert store.passed(LOG, 6) == 6
    assert texts(store) == ["once"]


def test_a_message_delivered_under_two_numbers_is_shown_once(store: Store, bob: Group) -> None:
    bob, message = bob.encrypt(b"once")
    first = entry(saved(store), message, 1)
    store.received([first])
    second = store.received([replace(mute(store, 2), effects=first.effects)])
    assert second.messages == ()
    assert texts(store) == ["once"]


def test_nothing_goes_on_from_a_group_whose_keys_were_used_since(store: Store, bob: Group) -> None:
    old = saved(store)
    bob, message = bob.encrypt(b"late")
    send(store, "first")
    with pytest.raises(UsageError):
        store.received([entry(old, message, 1)])
    with pytest.raises(UsageError):
        store.sending(WARD, old, draft("second"), seal=lambda *_: pytest.fail("sealed"))
    with pytest.raises(UsageError):
        store.received([replace(mute(store, 1), before=Group.load(records(saved(store))))])
    with pytest.raises(UsageError):
        store.began(WARD, old)
    assert texts(store) == ["first"]


def test_a_group_is_saved_under_its_own_id_only(store: Store) -> None:
    with pytest.raises(UsageError):
        store.began(THEATRE, saved(store))
    assert store.groups.get(THEATRE) is None


def test_sealing_that_fails_leaves_everything_as_it_was(store: Store) -> None:
    before = saved(store)

    def fail(message_id: int, previous_id: int) -> Sealed:
        raise KeyError(message_id, previous_id)

    with pytest.raises(KeyError):
        store.sending(WARD, before, draft("lost"), seal=fail)
    assert saved(store) is before
    assert store.outbox.last_id == 0
    assert texts(store) == []
    assert send(store, "kept") == 1


def test_messages_go_out_in_order_under_ids_that_survive_a_restart(
    store: Store, tmp_path: Path
) -> None:
    store.began(THEATRE, assembled(THEATRE)[0])
    ids = [send(store, "a"), send(store, "b", THEATRE), send(store, "c")]
    assert ids == [1, 2, 3]
    before = store.outbox.to_send(0)
    store = again(store, tmp_path)
    assert store.outbox.to_send(0) == before
    assert [outgoing.message_id for outgoing in before] == [1, 2, 3]
    assert [outgoing.message_id for outgoing in store.outbox.to_send(0, after=1, limit=1)] == [2]
    store.accepted({1: 40, 2: 9})
    store.accepted({1: 40})
    assert [outgoing.message_id for outgoing in store.outbox.to_send(2)] == [3]
    assert send(store, "d") == 4
    store.close()


def test_each_message_names_the_one_before_it_in_its_conversation(store: Store, bob: Group) -> None:
    store.began(THEATRE, assembled(THEATRE)[0])
    send(store, "a")
    send(store, "b", THEATRE)
    send(store, "c")
    store.refused(3)
    send(store, "d")
    tags = []
    for outgoing in store.outbox.to_send(0):
        if outgoing.conversation == WARD:
            bob, received = bob.process(outgoing.sealed, authenticate=accept)
            assert isinstance(received, ApplicationMessage)
            tags.append(received.authenticated_data)
    assert tags == [b"1<0", b"4<1"]


def test_a_message_waits_behind_the_log_until_it_has_its_place_there(
    store: Store, bob: Group
) -> None:
    send(store, "mine")
    bob, message = bob.encrypt(b"yours")
    hear(store, message, 3)
    assert texts(store) == ["yours", "mine"]
    store.accepted({1: 2})
    assert texts(store) == ["mine", "yours"]
    shown = store.messages.get(anns(1))
    assert shown is not None
    assert shown.state is State.STORED


def test_a_refused_message_is_shown_as_refused_and_waits_no_more(store: Store) -> None:
    send(store, "mine")
    store.refused(1)
    store.refused(1)
    shown = store.messages.get(anns(1))
    assert shown is not None
    assert shown.state is State.REFUSED
    assert store.outbox.to_send(0) == []


def test_a_stale_message_is_sealed_again_under_its_id(store: Store, bob: Group) -> None:
    send(store, "mine")
    send(store, "other")
    before = saved(store)

    def seal(message_id: int, previous_id: int) -> Sealed:
        tag = f"{message_id}<{previous_id}".encode()
        group, message = before.encrypt(b"mine again", authenticated_data=tag)
        return Sealed(group=group, message=message)

    store.resending(1, before, seal=seal)
    first = store.outbox.to_send(0)[0]
    assert first.message_id == 1
    bob, received = bob.process(first.sealed, authenticate=accept)
    assert isinstance(received, ApplicationMessage)
    assert (received.data, received.authenticated_data) == (b"mine again", b"1<0")
    assert texts(store) == ["mine", "other"]
    with pytest.raises(UsageError):
        store.resending(9, saved(store), seal=seal)


def test_a_staged_commit_waits_beside_its_group_and_is_merged_after_a_restart(
    store: Store, bob: Group, tmp_path: Path
) -> None:
    bob_after, commit = bob.commit(authenticate=accept)
    assert commit.group is not None
    group = saved(store)
    after, received = group.process(commit.message, authenticate=accept)
    assert isinstance(received, StagedCommit)
    staged = Staged(reference=b"r1", about=b"who", group=received.group)
    store.received([replace(mute(store, 1), before=group, after=after, stages=staged)])
    store = again(store, tmp_path)
    found = store.groups.staged(WARD)
    assert [(one.reference, one.about) for one in found] == [(b"r1", b"who")]
    assert found[0].group is not None
    before = saved(store)
    merged = before.merge(found[0].group)
    store.received([replace(mute(store, 2), before=before, after=merged, drops=(b"r1",))])
    store = again(store, tmp_path)
    assert store.groups.staged(WARD) == []
    bob_after, message = bob_after.merge(commit.group).encrypt(b"in the next epoch")
    assert saved(store).epoch == bob_after.epoch
    hear(store, message, 3)
    store.close()


def test_ones_own_commit_is_staged_with_its_bytes_and_dropped_when_refused(store: Store) -> None:
    before = saved(store)

    def seal(message_id: int, previous_id: int) -> Sealed:
        group, commit = before.commit(authenticate=accept)
        staged = Staged(reference=b"own", about=b"", group=commit.group)
        return Sealed(group=group, message=commit.message, welcome=b"welcome", stages=staged)

    assert store.sending(WARD, before, Draft(sender=ANN, at_ms=1), seal=seal) is None
    assert [one.reference for one in store.groups.staged(WARD)] == [b"own"]
    assert store.outbox.to_send(0)[0].welcome == b"welcome"
    before = saved(store)
    store.resending(1, before, seal=seal)
    assert len(store.groups.staged(WARD)) == 1
    store.refused(1)
    assert store.groups.staged(WARD) == []


def test_a_commit_that_removes_this_device_ends_its_group_and_leaves_the_messages(
    store: Store,
) -> None:
    send(store, "before")
    group = saved(store)
    staged = Staged(reference=b"r", about=b"", group=None)
    store.received([replace(mute(store, 1), stages=staged)])
    assert store.groups.staged(WARD) == [staged]
    store.received([replace(mute(store, 2), before=group, after=None)])
    assert store.groups.get(WARD) is None
    assert store.groups.staged(WARD) == []
    assert store.groups.conversations() == []
    assert texts(store) == ["before"]


def test_a_key_package_is_there_until_a_welcome_used_it(store: Store, tmp_path: Path) -> None:
    own, other, last = key_package("ann"), key_package("ann"), key_package("ann")
    store.keys.add_packages([own, other], last_resort=last)
    store = again(store, tmp_path)
    reference = own.key_package.reference(own.suite)
    assert store.keys.package(reference) == own
    joined = assembled(THEATRE)[0]
    welcomed = Entry(
        log=inbox_log(ANN),
        sequence=1,
        conversation=THEATRE,
        before=None,
        after=joined,
        key_package=reference,
    )
    store.received([welcomed])
    assert store.keys.package(reference) is None
    assert store.keys.package_references() == [other.key_package.reference(own.suite)]
    with pytest.raises(UsageError):
        store.received([replace(welcomed, sequence=2, before=joined)])
    assert saved(store, THEATRE) is joined
    store.close()


def test_the_package_of_last_resort_stays_until_its_time_is_over(store: Store) -> None:
    old, new = key_package("ann"), key_package("ann")
    store.keys.add_packages([], last_resort=old)
    reference = old.key_package.reference(old.suite)
    store.received([replace(mute(store, 1), key_package=reference)])
    assert store.keys.package(reference) is not None
    store.keys.add_packages([], last_resort=new)
    # A Welcome to the one that was replaced may be on its way.
    assert store.keys.package(reference) is not None
    assert store.keys.package(new.key_package.reference(new.suite)) is not None
    assert store.keys.package_references() == []
    lifetime = old.key_package.leaf_node.lifetime
    assert lifetime is not None
    store.keys.expire_packages(lifetime.not_after)
    assert store.keys.package(reference) is not None
    store.keys.expire_packages(lifetime.not_after + 1)
    assert store.keys.package(reference) is None


def test_an_old_copy_is_known_by_the_relays_count_and_sends_nothing(
    store: Store, tmp_path: Path
) -> None:
    send(store, "before the copy")
    store.close()
    shutil.copy(tmp_path / PATH, tmp_path / "copy.db")
    store, copy = Store.open(tmp_path / PATH, KEY), Store.open(tmp_path / "copy.db", KEY)
    for text in ("one", "two"):
        send(store, text)
    sent = store.outbox.to_send(0)
    send(copy, "the copy's own")
    with pytest.raises(RolledBackError) as refused:
        copy.outbox.to_send(sent[-1].message_id)
    assert (refused.value.have, refused.value.seen) == (2, 3)
    copy.start_over(3)
    assert copy.groups.conversations() == []
    assert copy.outbox.to_send(3) == []
    assert copy.messages.page(WARD, limit=9)[-1].state is State.REFUSED
    copy.began(WARD, assembled()[0])
    assert send(copy, "healed") == 4
    store.close()
    copy.close()


def test_a_second_opening_of_a_store_in_use_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InUseError):
        Store.open(tmp_path / PATH, KEY)
    store.close()
    Store.open(tmp_path / PATH, KEY).close()


def test_more_groups_than_stay_in_memory_come_back_from_the_disk(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.mls_records.GROUPS_IN_MEMORY", 1)
    store.began(THEATRE, assembled(THEATRE)[0])
    first = saved(store)
    assert saved(store) is first
    saved(store, THEATRE)
    assert saved(store) is not first
    assert records(saved(store)) == records(first)


def test_the_devices_keys_settings_and_caches_survive_a_restart(
    store: Store, tmp_path: Path
) -> None:
    store.keys.put("signature", b"seed")
    store.settings.put("lifespan", b"30")
    store.settings.put("theme", b"dark")
    store.settings.put("theme", None)
    store.cache.replace("directory", {b"a": b"1", b"b": b"2"}, at_ms=5)
    store.cache.update("directory", {b"a": None, b"c": b"3"}, at_ms=6)
    store.cache.replace("oncall", {b"x": b"y"}, at_ms=7)
    store = again(store, tmp_path)
    assert store.keys.get("signature") == b"seed"
    assert store.keys.get("other") is None
    assert (store.settings.get("lifespan"), store.settings.get("theme")) == (b"30", None)
    rows = [(row.key, row.value, row.at_ms) for row in store.cache.all("directory")]
    assert rows == [(b"b", b"2", 5), (b"c", b"3", 6)]
    found = store.cache.get("oncall", b"x")
    assert found is not None
    assert (found.value, store.cache.get("oncall", b"z")) == (b"y", None)
    store.cache.replace("directory", {}, at_ms=8)
    assert store.cache.all("directory") == []
    store.close()


def test_no_repr_and_no_file_beside_shows_content(store: Store, bob: Group, tmp_path: Path) -> None:
    bob, message = bob.encrypt(b"canary-text")
    received = hear(store, message, 1)
    shown = repr((received, store.outbox.to_send(0), store.messages.page(WARD, limit=9)))
    assert "canary" not in shown
    assert BOB.encode() not in everything(tmp_path)


def test_the_cursor_passes_what_this_device_appended_itself(store: Store, bob: Group) -> None:
    first, second = send(store, "one"), send(store, "two")
    store.accepted({first: 1})
    assert store.cursor(LOG) == 1
    # Somebody else's second entry is still on its way when the third, one's own, is answered.
    store.accepted({second: 3})
    assert store.cursor(LOG) == 1
    received = hear(store, bob.encrypt(b"between")[1], 2)
    assert received.through == {LOG: 3}
    assert store.cursor(LOG) == 3


def test_what_is_held_goes_out_only_once_it_was_sealed_again(store: Store) -> None:
    before = saved(store)
    held = replace(draft("held"), held=True, source=b"source")
    shown = store.sending(WARD, before, held, seal=sealing(store))
    assert shown is not None
    assert store.outbox.to_send(0) == []
    assert store.outbox.held_in() == [WARD]
    waiting = store.outbox.find(shown.key.message_id)
    assert waiting is not None
    assert waiting.draft == b"source"
    assert store.resending(shown.key.message_id, saved(store), seal=sealing(store)) == 1
    assert [one.message_id for one in store.outbox.to_send(0)] == [1]


def test_what_was_held_for_long_gets_an_id_that_the_relay_still_takes(store: Store) -> None:
    held = replace(draft("held"), held=True)
    store.sending(WARD, saved(store), held, seal=sealing(store))
    for _ in range(IN_FLIGHT_MESSAGES):
        send(store, "other")
    again = store.resending(1, saved(store), seal=sealing(store))
    assert again == IN_FLIGHT_MESSAGES + 2
    assert store.outbox.find(1) is None
    assert store.messages.get(anns(again)) is None
    shown = store.messages.get(anns(1))
    assert shown is not None
    assert shown.state is State.WAITING
    store.accepted({again: 9})
    shown = store.messages.get(anns(1))
    assert shown is not None
    assert shown.state is State.STORED


def test_a_commit_and_what_is_held_are_named_by_no_message_after_them(store: Store) -> None:
    named: list[int] = []

    def seal(message_id: int, previous_id: int) -> Sealed:
        named.append(previous_id)
        group, message = saved(store).encrypt(b"x")
        return Sealed(group=group, message=message)

    send(store, "one")
    store.sending(WARD, saved(store), replace(draft("held"), held=True), seal=seal)
    store.sending(WARD, saved(store), draft("three"), seal=seal)
    store.resending(2, saved(store), seal=seal)
    assert named == [1, 1, 3]


def test_the_archive_is_believed_message_by_message(store: Store) -> None:
    number = send(store, "one")
    sealed = store.outbox.sealed(number)
    assert sealed is not None
    store.accepted({number: 1})
    assert store.evidence.hash_of(WARD, 1) == hashlib.sha256(sealed).digest()
    assert not store.evidence.is_archived(anns(number))
    assert store.evidence.oldest_ms() == 1_000
    assert store.evidence.prove(WARD, 1) == anns(number)
    assert store.evidence.prove(WARD, 1) is None
    assert store.evidence.is_archived(anns(number))
    assert store.evidence.oldest_ms() is None


def test_what_was_sent_into_an_epoch_that_the_others_left_waits_again_under_another_id(
    store: Store, tmp_path: Path
) -> None:
    ids = [send(store, text) for text in ("before", "behind", "on its way", "taken back")]
    store.accepted({ids[0]: 1, ids[1]: 4, ids[3]: 5})
    taken_back = Retraction(target=anns(ids[3]))
    store.received([replace(mute(store, 2), effects=(taken_back,))])
    store.received([replace(mute(store, 3), forks=True)])
    store = again(store, tmp_path)
    # The relay answers for the old ids, whenever its answer comes.
    store.accepted({ids[2]: 6})
    assert store.outbox.to_send(0) == []
    waiting = store.outbox.waiting_in(WARD)
    assert len(waiting) == 2
    assert min(waiting) > max(ids)
    shown = {one.key.message_id: one for one in store.messages.page(WARD, limit=9)}
    # The conversation knows them by their first ids.
    assert {shown[one].state for one in ids[1:3]} == {State.WAITING}
    assert [shown[one].content.text for one in ids[1:3]] == ["behind", "on its way"]
    assert shown[ids[0]].state is State.STORED
    assert store.evidence.hash_of(WARD, 4) is None
    assert store.evidence.hash_of(WARD, 1) is not None
    found = store.outbox.find(waiting[0])
    assert found is not None
    assert found.held
    assert decode_source(found.draft).plaintext == said("behind").data
    named: list[tuple[int, int]] = []

    def seal(message_id: int, previous_id: int) -> Sealed:
        named.append((message_id, previous_id))
        group, message = saved(store).encrypt(b"x")
        return Sealed(group=group, message=message)

    for one in waiting:
        store.resending(one, saved(store), seal=seal)
    # None of those that nobody has is named.
    assert named == [(waiting[0], 0), (waiting[1], waiting[0])]
    assert len(store.outbox.to_send(0)) == 2
    # What the relay forgets is told by the ids that it had them under.
    store.accepted({waiting[0]: 7, waiting[1]: 8})
    assert store.forgotten(waiting[0]) == waiting[1:]


def test_what_a_relay_has_forgotten_and_nobody_has_proved_waits_again_under_its_id(
    store: Store,
) -> None:
    ids = [send(store, text) for text in ("kept", "proved", "lost", "waits")]
    store.accepted({ids[0]: 1, ids[1]: 2, ids[2]: 3})
    store.evidence.prove(WARD, 2)
    assert store.forgotten(ids[3]) == []
    assert store.forgotten(ids[0]) == [ids[2]]
    assert store.forgotten(ids[0]) == []
    waiting = store.outbox.find(ids[2])
    assert waiting is not None
    assert decode_source(waiting.draft).plaintext == said("lost").data
    for _ in range(IN_FLIGHT_MESSAGES):
        send(store, "other")
    # The relay takes it under its id, as it knows of none behind it: who has it shows it once.
    seal = sealing(store)
    assert store.resending(ids[2], saved(store), seal=seal, relay_last_id=ids[0]) == ids[2]
    assert [one.message_id for one in store.outbox.to_send(0, limit=2)] == ids[2:]
    shown = store.messages.get(anns(ids[2]))
    assert shown is not None
    assert shown.state is State.WAITING


def test_faults_are_kept_once_with_their_last_time_and_forgotten_when_they_heal(
    store: Store,
) -> None:
    store.received([replace(mute(store, 1), faults=((11, 7),), at_ms=5)])
    store.faults.note(LOG, 1, cause=11, detail=7, at_ms=9)
    store.faults.note(LOG, 1, cause=11, detail=7, at_ms=8)
    assert store.faults.all() == [(LOG, 1, 11, 7, 9)]
    store.faults.forgive(LOG, cause=11, detail=7)
    assert store.faults.all() == []


def test_what_is_known_of_a_conversation_stands_with_its_last_entry(store: Store) -> None:
    store.received([mute(store, 1)], states={WARD: b"old"})
    store.received([mute(store, 2)], states={WARD: b"new"})
    assert store.followed(WARD) == b"new"
    store.note(WARD, b"newer")
    assert store.all_followed() == {WARD: b"newer"}


def sealing(store: Store) -> Seal:
    def seal(message_id: int, previous_id: int) -> Sealed:
        group, message = saved(store).encrypt(b"%d<%d" % (message_id, previous_id))
        return Sealed(group=group, message=message)

    return seal
