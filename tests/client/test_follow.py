from __future__ import annotations

import secrets
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.follow import NOTES_KEPT, follow, members_of
from client.followed import Action, Cause, Followed, Wants
from client.following import WAIT_MS
from client.joining import open_welcome
from client.judging import Judge, Leaves, as_of
from crypto.errors import InvalidError
from crypto.names import Role
from crypto.trust import Revocations
from protocol.authenticated_data import AuthenticatedData, CommitData
from protocol.frames import EntryKind
from protocol.identifiers import ConversationId
from protocol.limits import RECEIPT_SILENCE_MS
from protocol.requests import RequestKind
from tests.client.people import further, ghost, knowing
from tests.client.talk import HOUR_MS, Change, Talker, Ward, assembled
from tests.server.harness import RECORDER, Hospital, hospital, now_ms

YEAR_MS = 365 * 24 * HOUR_MS


@pytest.fixture
def of() -> Hospital:
    return hospital()


@pytest.fixture
def ward(of: Hospital) -> Ward:
    return assembled(of, "ann/phone", "bob/phone", "cat/phone")


def causes(followed: Followed) -> list[Cause]:
    return [fault.cause for fault in followed.faults]


def test_everybody_reads_what_a_member_says(ward: Ward) -> None:
    for name, followed in ward.tell("ann/phone", "hello").items():
        assert followed.said is not None, name
        assert followed.said.plaintext == b"hello"
        assert followed.said.sender == "ann/phone"
        assert not followed.faults


def test_the_recorder_confirms_what_is_lawful(ward: Ward) -> None:
    message, _ = ward["ann/phone"].commit(Change(add=[ward.talker("dan/phone")]))
    followed = ward.recorder.take(ward.entry(message, EntryKind.COMMIT))
    assert followed.judgement is not None
    assert followed.judgement.confirms
    assert followed.stages is not None
    assert followed.stages.roster.joined == ("dan",)


def test_the_recorder_judges_the_first_commit_by_its_welcome(of: Hospital) -> None:
    ward = assembled(of, "ann/phone", "bob/phone")
    assert ward.recorder.made[0].joined
    assert ward.recorder.group.epoch == 1


def test_members_stay_in_their_epoch_until_the_receipt(ward: Ward) -> None:
    message, _ = ward["ann/phone"].commit(Change(add=[ward.talker("dan/phone")]))
    bob = ward["bob/phone"]
    bob.take(ward.entry(message, EntryKind.COMMIT))
    assert bob.group.epoch == 1
    assert ward.recorder.take(ward.entry(bob.say("meanwhile"))).said is not None
    followed = bob.take(ward.verdict(ward["ann/phone"].view.staged[0]))
    assert bob.group.epoch == 2
    assert followed.roster is not None
    assert followed.roster.joined == ("dan",)
    assert not bob.view.staged


def test_a_removed_member_reads_nothing_more(ward: Ward) -> None:
    cat = ward["cat/phone"]
    ward.change("ann/phone", Change(remove=["cat/phone"]))
    assert cat.made[-1].removed
    assert cat.view.group is None
    followed = cat.take(ward.entry(ward["ann/phone"].say("without her")))
    assert followed.said is None
    assert causes(followed) == [Cause.BEFORE_JOINING]


def test_who_joins_reads_from_then_on(ward: Ward) -> None:
    before = ward.entry(ward["ann/phone"].say("before"))
    dan = ward.talker("dan/phone")
    ward.change("ann/phone", Change(add=[dan]))
    assert causes(dan.take(before)) == [Cause.BEFORE_JOINING]
    said = ward.tell("bob/phone", "after")["dan/phone"].said
    assert said is not None
    assert said.plaintext == b"after"


def test_a_welcome_counts_only_with_a_receipt_of_the_same_transcript(ward: Ward) -> None:
    dan = ward.talker("dan/phone")
    message, welcome = ward["ann/phone"].commit(Change(add=[dan]))
    entry = ward.entry(message, EntryKind.COMMIT)
    dan.welcome(welcome)
    ward.recorder.take(entry)
    (staged,) = ward["ann/phone"].view.staged
    forged = dan.take(ward.verdict(staged, transcript=secrets.token_bytes(32)))
    assert dan.view.group is None
    assert causes(forged) == [Cause.WELCOME_LOST]
    assert dan.take(ward.verdict(staged)).joined


def test_a_receipt_before_the_welcome_is_waited_with(ward: Ward) -> None:
    dan = ward.talker("dan/phone")
    _, welcome = ward["ann/phone"].commit(Change(add=[dan]))
    receipt = ward.verdict(ward["ann/phone"].view.staged[0])
    wants = dan.take(receipt, patient=True).wants
    assert wants is not None
    assert wants.welcome
    dan.welcome(welcome)
    assert dan.take(receipt, patient=True).joined


def test_a_garbage_commit_is_staged_and_voided(ward: Ward) -> None:
    ann, bob = ward["ann/phone"], ward["bob/phone"]
    message, _ = ann.commit(Change(remove=["cat/phone"]))
    broken = message[:-32] + secrets.token_bytes(32)
    entry = ward.entry(broken, EntryKind.COMMIT)
    judged = ward.recorder.take(entry)
    assert judged.judgement is not None
    assert not judged.judgement.confirms
    bob.take(entry)
    assert bob.group.epoch == 1
    void = ward.verdict(bob.view.staged[0], void=True)
    assert bob.take(void).drops == (
        (bob.view.staged and b"") or judged.judgement.verdict.commit_hash,
    )
    assert not bob.view.staged
    assert ward.tell("bob/phone", "still here")["cat/phone"].said is not None


def test_what_only_looks_like_a_commit_is_a_fault(ward: Ward) -> None:
    for body in (b"", b"\x00", secrets.token_bytes(200)):
        assert causes(ward["bob/phone"].take(ward.entry(body, EntryKind.COMMIT))) == [Cause.DAMAGED]


def test_a_commit_that_was_lost_for_one_member_asks_it_to_rejoin(ward: Ward) -> None:
    ann, bob = ward["ann/phone"], ward["bob/phone"]
    ann.commit(Change())
    (staged,) = ann.view.staged
    bob.view = replace(bob.view, staged=(replace(staged, refused=Cause.DAMAGED, group=None),))
    followed = bob.take(ward.verdict(staged))
    assert [(fault.cause, fault.action) for fault in followed.faults] == [
        (Cause.EPOCH_LOST, Action.REJOIN)
    ]
    assert bob.group.epoch == 1


def test_a_commit_of_a_later_epoch_leads_nobody_astray_who_does_not_know_it(ward: Ward) -> None:
    ann, bob = ward["ann/phone"], ward["bob/phone"]
    # What only ann has been through: relay and archive were set back behind it.
    ann.commit(Change())
    (own,) = ann.view.staged
    ann.view = replace(ann.view, group=own.group, staged=())
    message, _ = ann.commit(Change())
    entry = ward.entry(message, EntryKind.COMMIT)
    for one in (bob, ward.recorder):
        followed = one.take(entry)
        assert followed.judgement is None
        assert [(fault.cause, fault.action) for fault in followed.faults] == [
            (Cause.EPOCH_LOST, Action.NONE)
        ]
    (staged,) = bob.view.staged
    assert staged.epoch == 3
    before = bob.view
    # Nobody confirms it: everybody is where they were.
    followed = bob.take(ward.verdict(staged, void=True))
    assert not followed.faults
    assert not bob.view.staged
    assert ward.tell("bob/phone", "still here")["cat/phone"].said is not None
    # Somebody does: who does not know that epoch asks to be added again.
    bob.view = before
    followed = bob.take(ward.verdict(replace(ann.view.staged[0], sequence=entry.sequence)))
    assert [(fault.cause, fault.action) for fault in followed.faults] == [
        (Cause.EPOCH_LOST, Action.REJOIN)
    ]


def test_two_commits_in_one_epoch_are_told_apart_by_the_receipt(ward: Ward) -> None:
    ann, bob, cat = ward["ann/phone"], ward["bob/phone"], ward["cat/phone"]
    first, _ = ann.commit(Change(add=[ward.talker("dan/phone")]))
    second, _ = bob.commit(Change())
    cat.take(ward.entry(first, EntryKind.COMMIT))
    cat.take(ward.entry(second, EntryKind.COMMIT))
    followed = cat.take(ward.verdict(bob.view.staged[0]))
    assert not followed.faults
    assert cat.group.epoch == 2
    assert "dan/phone" not in members_of(cat.group, cat.judge)


def test_a_fork_is_noticed_with_the_receipt(ward: Ward) -> None:
    ann, bob, cat = ward["ann/phone"], ward["bob/phone"], ward["cat/phone"]
    first, _ = ann.commit(Change())
    bob.commit(Change())
    cat.take(ward.entry(first, EntryKind.COMMIT))
    followed = cat.take(ward.verdict(bob.view.staged[0]))
    assert causes(followed) == [Cause.FORKED]
    assert cat.group.epoch == 1


def test_a_member_of_another_person_confirms_after_the_silence(ward: Ward) -> None:
    ann, bob, cat = ward["ann/phone"], ward["bob/phone"], ward["cat/phone"]
    message, _ = ann.commit(Change())
    entry = ward.entry(message, EntryKind.COMMIT)
    bob.take(entry)
    cat.take(entry)
    staged = replace(ann.view.staged[0], sequence=entry.sequence)
    assert bob.take(ward.verdict(staged, by=cat), patient=True).wants == Wants(silence=True)
    ward.at_ms += RECEIPT_SILENCE_MS
    assert causes(bob.take(ward.verdict(staged, by=ann))) == [Cause.UNSIGNED]
    assert not bob.take(ward.verdict(staged, by=cat), patient=True).faults
    assert bob.group.epoch == 2


def test_a_clock_that_was_wrong_shuts_nobody_out_of_an_epoch(ward: Ward) -> None:
    ann, cat = ward["ann/phone"], ward["cat/phone"]
    message, _ = ann.commit(Change())
    cat.take(ward.entry(message, EntryKind.COMMIT))
    (staged,) = ann.view.staged
    ann.view = replace(ann.view, staged=(replace(staged, at_ms=staged.at_ms + HOUR_MS),))
    ward.at_ms += RECEIPT_SILENCE_MS
    receipt = ward.verdict(staged, by=cat)
    assert ann.take(receipt, patient=True).wants == Wants(silence=True)
    assert WAIT_MS >= RECEIPT_SILENCE_MS
    assert not ann.take(receipt, patient=False).faults
    assert ann.group.epoch == 2


def test_whoever_has_just_been_certified_is_let_in_by_a_device_whose_clock_is_behind(
    ward: Ward,
) -> None:
    bob = ward["bob/phone"]
    message, _ = ward["ann/phone"].commit(Change(add=[ward.talker("dan/phone")]))
    entry = ward.entry(message, EntryKind.COMMIT)
    followed = follow(bob.view, entry, judge=bob.judge, now_ms=entry.at_ms - 24 * HOUR_MS)
    assert causes(followed) == []
    assert followed.stages is not None
    assert followed.stages.group is not None


def test_nobody_is_let_in_whose_certificate_has_ended(ward: Ward) -> None:
    bob, dan = ward["bob/phone"], ward.talker("dan/phone")
    message, _ = ward["ann/phone"].commit(Change(add=[dan]))
    ward.at_ms += YEAR_MS
    entry = ward.entry(message, EntryKind.COMMIT)
    followed = follow(bob.view, entry, judge=bob.judge, now_ms=entry.at_ms)
    assert causes(followed) == [Cause.DAMAGED]


def test_a_receipt_of_another_transcript_leads_nobody_on(ward: Ward) -> None:
    ann, bob = ward["ann/phone"], ward["bob/phone"]
    message, _ = ann.commit(Change())
    bob.take(ward.entry(message, EntryKind.COMMIT))
    forked = bob.take(ward.verdict(ann.view.staged[0], transcript=secrets.token_bytes(32)))
    assert [(fault.cause, fault.action) for fault in forked.faults] == [
        (Cause.FORKED, Action.REJOIN)
    ]
    assert bob.group.epoch == 1


def test_a_verdict_on_another_conversation_is_none_here(ward: Ward) -> None:
    ann, bob = ward["ann/phone"], ward["bob/phone"]
    message, _ = ann.commit(Change())
    bob.take(ward.entry(message, EntryKind.COMMIT))
    elsewhere = replace(ward, conversation=ConversationId(secrets.token_bytes(32)))
    for void in (False, True):
        verdict = elsewhere.verdict(ann.view.staged[0], void=void)
        assert causes(bob.take(verdict)) == [Cause.UNSIGNED]
    assert len(bob.view.staged) == 1


def test_who_is_in_is_led_elsewhere_by_the_recorders_receipt_alone(ward: Ward) -> None:
    ann, bob, cat = ward["ann/phone"], ward["bob/phone"], ward["cat/phone"]
    _, welcome = ann.commit(Change(remove=["bob/phone"], add=[bob]))
    bob.welcome(welcome)
    (staged,) = ann.view.staged
    ward.at_ms += RECEIPT_SILENCE_MS
    assert causes(bob.take(ward.verdict(staged, by=cat))) == [Cause.UNSIGNED]
    assert bob.group.epoch == 1
    assert bob.take(ward.verdict(staged)).joined


def test_a_message_that_claims_to_change_cursors_is_not_heard(ward: Ward) -> None:
    ann, bob = ward["ann/phone"], ward["bob/phone"]
    data = AuthenticatedData(message_id=7, commit=CommitData(added=(), removed=()))
    _, message = ann.group.encrypt(b"hello", authenticated_data=data.encode())
    followed = bob.take(ward.entry(message))
    assert followed.said is None
    assert causes(followed) == [Cause.DAMAGED]


def test_a_relays_clock_that_is_ahead_ends_no_silence(ward: Ward) -> None:
    ann, bob, cat = ward["ann/phone"], ward["bob/phone"], ward["cat/phone"]
    message, _ = ann.commit(Change())
    entry = ward.entry(message, EntryKind.COMMIT)
    bob.take(entry)
    staged = replace(ann.view.staged[0], sequence=entry.sequence)
    ward.at_ms += RECEIPT_SILENCE_MS
    receipt = ward.verdict(staged, by=cat)
    early = follow(bob.view, receipt, judge=bob.judge, now_ms=now_ms())
    assert early.wants == Wants(silence=True)
    late = follow(bob.view, receipt, judge=bob.judge, now_ms=receipt.at_ms)
    assert late.settled is not None


def test_a_leaf_stays_its_devices(ward: Ward) -> None:
    anns, bobs = (ward["cat/phone"].group.members[at][1] for at in (0, 1))
    leaves = Leaves(ward.hospital.trust, entering_at_ms=now_ms())
    leaves(bobs, bobs)
    with pytest.raises(InvalidError):
        leaves(bobs, anns)


def test_nobody_but_the_recorder_voids(ward: Ward) -> None:
    message, _ = ward["ann/phone"].commit(Change())
    bob = ward["bob/phone"]
    bob.take(ward.entry(message, EntryKind.COMMIT))
    second = ward.hospital.enrol("vault/recorder", Role.RECORDER)
    other = Talker(second, ward.hospital, ward.conversation)
    followed = bob.take(ward.verdict(ward["ann/phone"].view.staged[0], by=other, void=True))
    assert causes(followed) == [Cause.UNSIGNED]
    assert bob.view.staged


def test_a_receipt_counts_where_the_devices_own_clock_is_behind(ward: Ward) -> None:
    message, _ = ward["ann/phone"].commit(Change())
    bob = ward["bob/phone"]
    bob.take(ward.entry(message, EntryKind.COMMIT))
    receipt = ward.verdict(ward["ann/phone"].view.staged[0])
    followed = follow(bob.view, receipt, judge=bob.judge, now_ms=receipt.at_ms - 24 * HOUR_MS)
    assert causes(followed) == []
    assert followed.view.group is not None
    assert followed.view.group.epoch == 2


@pytest.mark.parametrize("is_revoked", [False, True])
def test_a_member_whose_clock_is_before_its_certificate_confirms_unless_it_is_revoked(
    ward: Ward, *, is_revoked: bool
) -> None:
    ann, cat = ward["ann/phone"], ward["cat/phone"]
    message, _ = ann.commit(Change())
    cat.take(ward.entry(message, EntryKind.COMMIT))
    ward.at_ms -= HOUR_MS // 2
    receipt = ward.verdict(ann.view.staged[0], by=cat)
    trust = ward.hospital.trust
    if is_revoked:
        # Between the time that the device believes it is and the one of its certificate.
        trust = trust.revoking(Revocations().with_device("cat/phone", at_ms=ward.at_ms + 1))
    judge = Judge(trust=trust, me=cat.name)
    followed = follow(cat.view, receipt, judge=judge, now_ms=ward.at_ms, patient=False)
    assert causes(followed) == ([Cause.UNSIGNED] if is_revoked else [])
    assert followed.view.group is not None
    assert followed.view.group.epoch == (1 if is_revoked else 2)


def test_a_strangers_receipt_is_none(ward: Ward) -> None:
    message, _ = ward["ann/phone"].commit(Change())
    bob = ward["bob/phone"]
    bob.take(ward.entry(message, EntryKind.COMMIT))
    ward.at_ms += RECEIPT_SILENCE_MS
    stranger = ward.talker("eve/phone")
    followed = bob.take(ward.verdict(ward["ann/phone"].view.staged[0], by=stranger))
    assert causes(followed) == [Cause.UNSIGNED]


def test_a_hole_in_a_senders_messages_is_named(ward: Ward) -> None:
    ward.tell("ann/phone", "one")
    followed = ward["bob/phone"].take(ward.entry(ward["ann/phone"].say("three", skip=1)))
    assert followed.said is not None
    (fault,) = followed.faults
    assert fault.cause is Cause.HOLE
    assert fault.missing in ward["bob/phone"].view.chains[ward["ann/phone"].name].missing


def test_a_message_that_comes_late_closes_its_hole(ward: Ward) -> None:
    ann, bob = ward["ann/phone"], ward["bob/phone"]
    ward.tell("ann/phone", "one")
    late, next_one = ann.say("two"), ann.say("three")
    assert causes(bob.take(ward.entry(next_one))) == [Cause.HOLE]
    assert bob.take(ward.entry(late)).said is not None
    assert not bob.view.chains[ann.name].missing


def test_a_replay_is_never_shown_again(ward: Ward) -> None:
    message = ward["ann/phone"].say("once")
    bob = ward["bob/phone"]
    assert bob.take(ward.entry(message)).said is not None
    for _ in range(3):
        followed = bob.take(ward.entry(message))
        assert followed.said is None
        assert causes(followed) == [Cause.KEY_USED]


def test_what_names_this_device_and_is_not_its_own_is_forged(ward: Ward) -> None:
    ann = ward["ann/phone"]
    message = ann.say("mine")
    assert causes(ann.take(ward.entry(message))) == [Cause.FORGED]


def test_a_commit_that_claims_to_be_a_message_keeps_its_key(ward: Ward) -> None:
    message, _ = ward["ann/phone"].commit(Change())
    bob = ward["bob/phone"]
    assert causes(bob.take(ward.entry(message))) == [Cause.UNLAWFUL]
    assert bob.take(ward.entry(message, EntryKind.COMMIT)).stages is not None


def test_a_revoked_device_is_not_heard(ward: Ward) -> None:
    bob = ward["bob/phone"]
    revoked = Revocations().with_device("ann/phone", at_ms=ward.at_ms - 1)
    trust = ward.hospital.trust.revoking(revoked)
    followed = follow(
        bob.view,
        ward.entry(ward["ann/phone"].say("still here")),
        judge=Judge(trust=trust, me=bob.name),
        now_ms=now_ms(),
    )
    assert followed.said is None
    assert causes(followed) == [Cause.REVOKED]


def test_who_comes_late_accepts_a_device_that_was_revoked_only_later(ward: Ward) -> None:
    message, _ = ward["ann/phone"].commit(Change(add=[ward.talker("dan/phone")]))
    entry = ward.entry(message, EntryKind.COMMIT)
    revoked = Revocations().with_device("dan/phone", at_ms=ward.at_ms + 1)
    judge = Judge(trust=ward.hospital.trust.revoking(revoked), me=ward["bob/phone"].name)
    late = follow(ward["bob/phone"].view, entry, judge=judge, now_ms=now_ms() + HOUR_MS)
    assert late.stages is not None
    assert late.stages.refused is None


def test_a_device_that_was_revoked_before_is_never_let_in(ward: Ward) -> None:
    message, _ = ward["ann/phone"].commit(Change(add=[ward.talker("dan/phone")]))
    entry = ward.entry(message, EntryKind.COMMIT)
    revoked = Revocations().with_device("dan/phone", at_ms=ward.at_ms - 1)
    judge = Judge(trust=ward.hospital.trust.revoking(revoked), me=ward["bob/phone"].name)
    followed = follow(ward["bob/phone"].view, entry, judge=judge, now_ms=now_ms())
    assert followed.stages is not None
    assert followed.stages.refused is Cause.DAMAGED


def test_a_removal_waits_for_the_revocation_that_another_log_brings(ward: Ward) -> None:
    bob = ward["bob/phone"]
    message, _ = ward.recorder.commit(Change(remove=["ann/phone"]))
    entry = ward.entry(message, EntryKind.COMMIT)
    before = bob.view
    wants = bob.take(entry, patient=True).wants
    assert wants is not None
    assert wants.revocation
    assert bob.view == before
    revoked = Revocations().with_device("ann/phone", at_ms=ward.at_ms - 1)
    judge = Judge(trust=ward.hospital.trust.revoking(revoked), me=bob.name)
    told = follow(bob.view, entry, judge=judge, now_ms=now_ms())
    assert told.stages is not None
    assert told.stages.refused is None


def test_who_never_hears_of_a_revocation_asks_to_be_added_again(ward: Ward) -> None:
    ward.change(RECORDER, Change(remove=["ann/phone"]))
    staged, confirmed = ward["bob/phone"].made[-2:]
    assert causes(staged) == [Cause.UNTOLD]
    (fault,) = confirmed.faults
    assert (fault.cause, fault.action) == (Cause.EPOCH_LOST, Action.REJOIN)


def test_no_removal_makes_the_recorder_wait(ward: Ward) -> None:
    message, _ = ward["cat/phone"].commit(Change(remove=["bob/phone"]))
    entry = ward.entry(message, EntryKind.COMMIT)
    judged = ward.recorder.take(entry, patient=True).judgement
    assert judged is not None
    assert not judged.confirms


def test_what_no_revocation_makes_lawful_is_refused_at_once(ward: Ward) -> None:
    message, _ = ward["cat/phone"].commit(
        Change(add=[ward.talker("dan/phone")], remove=["bob/phone"])
    )
    followed = ward["ann/phone"].take(ward.entry(message, EntryKind.COMMIT), patient=True)
    assert causes(followed) == [Cause.UNLAWFUL]


def test_a_device_that_lost_its_state_comes_back(ward: Ward) -> None:
    bob, ann = ward["bob/phone"], ward["ann/phone"]
    bob.view = replace(bob.view, group=None, staged=(), chains={})
    note = ward.note(bob, RequestKind.RE_ADD)
    asked = b""
    for one in (ann, ward["cat/phone"], ward.recorder):
        found = one.take(note).demand
        assert found is not None
        assert found.by == "bob/phone"
        asked = found.hash
    ward.change(
        "cat/phone",
        Change(add=[bob], remove=["bob/phone"], cite=asked),
    )
    assert ward["bob/phone"].made[-1].joined
    assert ward.tell("ann/phone", "welcome back")["bob/phone"].said is not None


def test_an_unknown_statement_that_is_cited_is_waited_for(ward: Ward) -> None:
    message, _ = ward["cat/phone"].commit(
        Change(add=[ward.talker("dan/phone")], cite=secrets.token_bytes(32))
    )
    entry = ward.entry(message, EntryKind.COMMIT)
    wants = ward["bob/phone"].take(entry, patient=True).wants
    assert wants is not None
    assert wants.statement is not None
    refused = ward["bob/phone"].take(entry)
    assert refused.stages is not None
    assert refused.stages.refused is Cause.UNTOLD
    # The recorder has every note: what it does not know either, it voids.
    judged = ward.recorder.take(entry).judgement
    assert judged is not None
    assert not judged.confirms


def test_who_came_after_a_note_that_is_cited_asks_to_be_added_again(ward: Ward) -> None:
    bob = ward["bob/phone"]
    note = ward.note(bob, RequestKind.LEAVE)
    asked = b""
    for one in ward.talkers.values():
        demand = one.take(note).demand
        assert demand is not None
        asked = demand.hash
    ward.change("ann/phone", Change(add=[ward.talker("dan/phone")]))
    # Dan has read nothing of before; everybody else lets Bob go as he asked.
    ward.change("cat/phone", Change(remove=["bob/phone"], cite=asked))
    fault = ward["dan/phone"].made[-1].faults[-1]
    assert (fault.cause, fault.action) == (Cause.EPOCH_LOST, Action.REJOIN)
    assert ward.recorder.group.epoch == ward["cat/phone"].group.epoch == 3


def test_of_a_devices_notes_the_newest_are_kept(ward: Ward) -> None:
    for _ in range(10):
        ward.at_ms += 1
        for note in (ward.note(ward["bob/phone"], kind) for kind in RequestKind):
            newest = ward["ann/phone"].take(note).demand
    assert newest is not None
    kept = ward["ann/phone"].view.demands
    assert newest.hash in kept
    assert len(kept) == len(RequestKind) * NOTES_KEPT
    assert max(one.at_ms for one in kept.values()) - min(one.at_ms for one in kept.values()) < 10


def test_a_note_that_is_given_once_more_asks_for_nothing_more(ward: Ward) -> None:
    ann, note = ward["ann/phone"], ward.note(ward["bob/phone"], RequestKind.LEAVE)
    assert ann.take(note).demand is not None
    replayed = ann.take(ward.entry(note.body))
    assert replayed.demand is None
    assert causes(replayed) == [Cause.KEY_USED]


def test_a_note_on_another_conversation_asks_for_nothing_here(ward: Ward, of: Hospital) -> None:
    other = assembled(of, "ann/phone", "bob/phone")
    note = ward.entry(other.note(other["bob/phone"], RequestKind.LEAVE).body)
    followed = ward["ann/phone"].take(note)
    assert followed.demand is None
    assert causes(followed) == [Cause.UNLAWFUL]
    assert ward["ann/phone"].view.demands == {}


def test_whoever_vouched_for_a_newcomer_is_looked_up_first(ward: Ward, of: Hospital) -> None:
    known = of.trust
    phone = ward.talker("dan/phone")
    further(of, phone.person, "laptop")
    message, _ = ward["ann/phone"].commit(Change(add=[ward.talker("dan/laptop")]))
    entry = ward.entry(message, EntryKind.COMMIT)
    bob = ward["bob/phone"]
    stranger = Judge(trust=known, me=bob.name)
    wants = follow(bob.view, entry, judge=stranger, now_ms=now_ms()).wants
    assert wants is not None
    assert wants.users == {"dan"}
    followed = follow(bob.view, entry, judge=bob.judge, now_ms=now_ms())
    assert followed.stages is not None
    assert followed.stages.refused is None


def test_everybody_who_must_be_looked_up_is_named_at_once(ward: Ward, of: Hospital) -> None:
    known = ward.hospital.trust
    newcomers = []
    for user in ("eve", "fay", "gil"):
        newcomers.append(ward.talker(f"{user}/phone"))
        # It sorts before the phone that vouched for it.
        further(of, of.people[f"{user}/phone"], "laptop")
        newcomers.insert(0, ward.talker(f"{user}/laptop"))
    message, welcome = ward["ann/phone"].commit(Change(add=newcomers))
    judge = Judge(trust=known, me=ward["bob/phone"].name)
    entry = ward.entry(message, EntryKind.COMMIT)
    followed = follow(ward["bob/phone"].view, entry, judge=judge, now_ms=now_ms())
    assert followed.wants is not None
    assert followed.wants.users == {"eve", "fay", "gil"}
    judge = Judge(trust=known, me=newcomers[0].name)
    opened = open_welcome(welcome, newcomers[0].packages[-1], judge=judge, at_ms=now_ms())
    assert opened.wants == {"eve", "fay", "gil"}
    assert opened.stages is None
    judge = Judge(trust=ward.hospital.trust, me=newcomers[0].name)
    opened = open_welcome(welcome, newcomers[0].packages[-1], judge=judge, at_ms=now_ms())
    assert opened.stages is not None


def test_a_second_first_device_of_a_person_is_refused_by_all(ward: Ward, of: Hospital) -> None:
    ghost(of, "bob/ghost")
    ann = ward["ann/phone"]
    # Ann's program would refuse as well; a changed one would not.
    true, of.trust = of.trust, knowing(of, *ward.people("ann/phone", "cat/phone", RECORDER))
    message, _ = ann.commit(Change(add=[ward.talker("bob/ghost")]))
    of.trust = true
    entry = ward.entry(message, EntryKind.COMMIT)
    for one in (ward["bob/phone"], ward["cat/phone"], ward.recorder):
        staged = one.take(entry).stages
        assert staged is not None
        assert staged.refused is Cause.DAMAGED


def test_revocations_as_of_a_time_are_those_up_to_it() -> None:
    revoked = Revocations().with_device("a/b", at_ms=5).with_certificate(bytes(32), at_ms=9)
    assert as_of(revoked, 4) == Revocations()
    assert as_of(revoked, 5).devices == {"a/b": 5}
    assert as_of(revoked, 9).certificates == {bytes(32): 9}


SHARED = assembled(hospital(), "ann/phone", "bob/phone")


@settings(deadline=None)
@given(body=st.binary(max_size=400), kind=st.sampled_from(EntryKind))
def test_any_bytes_give_a_value_and_leave_the_group_alone(body: bytes, kind: EntryKind) -> None:
    bob = SHARED["bob/phone"]
    before = bob.group
    entry = SHARED.entry(body, kind)
    followed = follow(bob.view, entry, judge=bob.judge, now_ms=now_ms(), patient=False)
    assert followed.said is None
    assert followed.view.group is before


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_changed_message_is_never_shown(data: st.DataObject) -> None:
    bob = SHARED["bob/phone"]
    body = bytearray(SHARED["ann/phone"].say("true"))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    entry = SHARED.entry(bytes(body))
    assert follow(bob.view, entry, judge=bob.judge, now_ms=now_ms()).said is None


def test_the_recorder_is_in_every_conversation(ward: Ward) -> None:
    assert RECORDER in members_of(ward["ann/phone"].group, ward["ann/phone"].judge)
