"""Emergency access by the pure rules: what two members sign holds, what one tries alone does not.

The committer is bob, who colludes with dan, the guest-to-be; the relay is out of the picture, so
what is refused here is refused by every member and voided by the recorder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from client.follow import follow
from client.followed import Cause, Followed
from client.joining import open_welcome
from client.judging import Judge
from crypto.names import Role
from crypto.statement import (
    Purpose,
    StatementType,
    countersign_statement,
    sign_statement,
)
from protocol.emergency import EMERGENCY_MS, Emergency, guest_of, let_in
from protocol.frames import EntryKind
from protocol.group_context import ConversationType, WardlineContext
from protocol.identifiers import ConversationId, UserName
from tests.client.people import further, renewed
from tests.client.talk import Change, Ward, assembled
from tests.flipped import flipped
from tests.server.harness import Hospital, Person, hospital, now_ms

MINUTE_MS = 60_000
STAY_MS = 20 * MINUTE_MS
BOB, CAT, DAN = "bob/phone", "cat/phone", "dan/phone"
MEMBERS = ("ann/phone", BOB, CAT, "pat/phone", "adam/desk")


@pytest.fixture
def of() -> Hospital:
    found = hospital()
    found.enrol("adam/desk", Role.ADMINISTRATOR)
    return found


@pytest.fixture
def ward(of: Hospital) -> Ward:
    made = assembled(of, *MEMBERS)
    for name in (DAN, "eve/phone"):
        of.enrol(name)
    further(of, of.people[BOB], "laptop")
    return made


def stated(
    ward: Ward,
    *signers: str | Person,
    user: str = "dan",
    stay_ms: int = STAY_MS,
    conversation: ConversationId | None = None,
) -> bytes:
    """Return what people sign for a guest."""
    body = Emergency(
        conversation=conversation or ward.conversation,
        user=UserName(user),
        until_ms=ward.at_ms + stay_ms,
    )
    people = ward.hospital.people
    signing = (people[one] if isinstance(one, str) else one for one in signers)
    first, *others = (one.signatory(Purpose.DEVICE) for one in signing)
    statement = sign_statement(
        StatementType.EMERGENCY,
        body.encode(),
        organisation=ward.hospital.id,
        issued_ms=ward.at_ms,
        lifetime_ms=60 * MINUTE_MS,
        signatory=first,
    )
    for other in others:
        statement = countersign_statement(
            statement, trust=ward.hospital.trust, at_ms=ward.at_ms, signatory=other
        )
    return statement


def context_of(ward: Ward) -> WardlineContext:
    return WardlineContext.decode(ward.recorder.group.context.extensions[0].extension_data)


def with_guest(ward: Ward, statement: bytes) -> WardlineContext:
    context = context_of(ward)
    return replace(context, guests=let_in(context.guests, guest_of(statement)))


def let_dan_in(ward: Ward, *signers: str, by: str = BOB) -> None:
    """Let dan in as members do."""
    context = with_guest(ward, stated(ward, *(signers or (BOB, CAT))))
    ward.change(by, Change(add=[ward.talker(DAN)], context=context))


def judged(ward: Ward, change: Change, *, by: str = BOB) -> dict[str, Followed]:
    """Return what the recorder and the other members make of a Commit."""
    message, _ = ward[by].commit(change)
    entry = ward.entry(message, EntryKind.COMMIT)
    return {name: one.take(entry) for name, one in ward.talkers.items() if name != by}


def is_refused(ward: Ward, change: Change, *, by: str = BOB) -> bool:
    """Tell whether all refuse a Commit and the recorder would void it; they never differ."""
    found = judged(ward, change, by=by)
    # Whom a lawful Commit removes has no group after it to judge.
    verdicts = {
        bool(one.judgement and one.judgement.confirms)
        for name, one in found.items()
        if name not in change.remove
    }
    assert len(verdicts) == 1
    causes = {fault.cause for one in found.values() for fault in one.faults}
    assert causes <= {Cause.UNLAWFUL, Cause.UNTOLD}
    return verdicts == {False}


def grant(ward: Ward, statement: bytes, *, add: Sequence[str] = (DAN,)) -> Change:
    return Change(add=[ward.talker(name) for name in add], context=with_guest(ward, statement))


@pytest.mark.parametrize("by", [BOB, "pat/phone"])
def test_two_members_let_a_guest_in_by_anybodys_commit(ward: Ward, by: str) -> None:
    assert not is_refused(ward, grant(ward, stated(ward, CAT, BOB)), by=by)


def test_all_see_who_came_until_when_and_on_whose_word(ward: Ward) -> None:
    let_dan_in(ward)
    for name in (*MEMBERS, DAN):
        if name != BOB:
            roster = next(one.roster for one in reversed(ward[name].made) if one.roster)
            assert roster.guests == {"dan": ward.at_ms + STAY_MS}, name
            assert roster.vouchers == ("bob", "cat"), name


ALONE: dict[str, Callable[[Ward], Change]] = {
    "nobody's word": lambda ward: Change(add=[ward.talker(DAN)]),
    "one word": lambda ward: grant(ward, stated(ward, BOB)),
    "one person's two devices": lambda ward: grant(ward, stated(ward, BOB, "bob/laptop")),
    "a device's that is not in it": lambda ward: grant(ward, stated(ward, "bob/laptop", CAT)),
    "one person's two certificates": lambda ward: grant(
        ward, stated(ward, BOB, renewed(ward.hospital, ward.hospital.people[BOB]))
    ),
    "an outsider's": lambda ward: grant(ward, stated(ward, BOB, "eve/phone")),
    "the guest's own": lambda ward: grant(ward, stated(ward, BOB, DAN)),
    "an administrator's": lambda ward: grant(ward, stated(ward, BOB, "adam/desk")),
    "for another conversation": lambda ward: grant(
        ward, stated(ward, BOB, CAT, conversation=ConversationId(bytes(32)))
    ),
    "for somebody else": lambda ward: grant(ward, stated(ward, BOB, CAT), add=["eve/phone"]),
    "for one more beside": lambda ward: grant(ward, stated(ward, BOB, CAT), add=[DAN, "eve/phone"]),
    "for nobody who comes": lambda ward: grant(ward, stated(ward, BOB, CAT), add=[]),
    "for a member": lambda ward: grant(ward, stated(ward, BOB, CAT, user="pat"), add=[]),
    "for too long": lambda ward: grant(ward, stated(ward, BOB, CAT, stay_ms=EMERGENCY_MS + 1)),
    "with time over": lambda ward: grant(ward, stated(ward, BOB, CAT, stay_ms=0)),
    "with a signature that is not": lambda ward: grant(ward, flipped(stated(ward, BOB, CAT))),
    "with an owner more": lambda ward: replace(
        grant(ward, stated(ward, BOB, CAT)),
        context=replace(
            with_guest(ward, stated(ward, BOB, CAT)), owners=(UserName("ann"), UserName("bob"))
        ),
    ),
}


@pytest.mark.parametrize("word", ALONE)
def test_one_colluding_colleague_lets_nobody_in(ward: Ward, word: str) -> None:
    assert is_refused(ward, ALONE[word](ward))


def test_no_guest_vouches_for_another(ward: Ward) -> None:
    let_dan_in(ward)
    statement = stated(ward, BOB, DAN, user="eve")
    assert is_refused(ward, grant(ward, statement, add=["eve/phone"]))


def test_a_statement_lets_in_once(ward: Ward) -> None:
    statement = stated(ward, BOB, CAT)
    ward.change(BOB, grant(ward, statement))
    ward.change(CAT, Change(remove=[DAN]))
    assert is_refused(ward, Change(add=[ward.talker(DAN)]))


def test_nobody_forgets_a_guest_to_let_the_statement_count_again(ward: Ward) -> None:
    let_dan_in(ward)
    ward.change(CAT, Change(remove=[DAN]))
    without = replace(context_of(ward), guests=())
    assert is_refused(ward, Change(context=without))


@pytest.mark.parametrize("by", ["ann/phone", BOB])
def test_no_guest_becomes_a_member_by_being_forgotten(ward: Ward, by: str) -> None:
    let_dan_in(ward)
    ward.at_ms += STAY_MS
    without = replace(context_of(ward), guests=())
    assert is_refused(ward, Change(context=without), by=by)


def test_an_earlier_statement_does_not_shorten_or_repeat_a_stay(ward: Ward) -> None:
    shorter = stated(ward, BOB, CAT, stay_ms=STAY_MS - MINUTE_MS)
    let_dan_in(ward)
    assert is_refused(ward, grant(ward, shorter, add=[]))


def test_two_members_let_a_guest_stay_longer(ward: Ward) -> None:
    let_dan_in(ward)
    longer = stated(ward, CAT, "pat/phone", stay_ms=2 * STAY_MS)
    assert not is_refused(ward, grant(ward, longer, add=[]), by="pat/phone")


@pytest.mark.parametrize("by", ["ann/phone", BOB, CAT])
def test_owners_and_who_vouched_end_it_at_any_time(ward: Ward, by: str) -> None:
    let_dan_in(ward)
    assert not is_refused(ward, Change(remove=[DAN]), by=by)


def test_no_other_member_ends_it_before_its_time(ward: Ward) -> None:
    let_dan_in(ward)
    assert is_refused(ward, Change(remove=[DAN]), by="pat/phone")


@pytest.mark.parametrize("by", MEMBERS)
def test_every_member_ends_it_when_the_time_is_over(ward: Ward, by: str) -> None:
    let_dan_in(ward)
    ward.at_ms += STAY_MS
    dan = ward[DAN]
    without = replace(context_of(ward), guests=())
    ward.change(by, Change(remove=[DAN], context=without))
    assert dan.made[-1].removed
    assert not context_of(ward).guests


def test_who_comes_later_knows_the_guest_and_ends_it(ward: Ward) -> None:
    let_dan_in(ward)
    ward.change("ann/phone", Change(add=[ward.talker("eve/phone")]))
    ward.at_ms += STAY_MS
    assert not is_refused(
        ward,
        Change(remove=[DAN], context=replace(context_of(ward), guests=())),
        by="eve/phone",
    )


def test_a_direct_conversation_has_no_guests(of: Hospital) -> None:
    ward = assembled(of, BOB, CAT, kind=ConversationType.DIRECT, owners=["bob", "cat"])
    of.enrol(DAN)
    assert is_refused(ward, grant(ward, stated(ward, BOB, CAT)))


def again(ward: Ward, *names: str) -> list[Person]:
    """Return devices with their next certificates."""
    return [renewed(ward.hospital, ward.hospital.people[name]) for name in names]


def test_who_vouches_with_a_renewed_certificate_counts_and_ends_it(ward: Ward) -> None:
    ward.change(BOB, grant(ward, stated(ward, *again(ward, BOB, CAT))))
    for name in ("ann/phone", CAT, DAN):
        roster = next(one.roster for one in reversed(ward[name].made) if one.roster)
        assert roster.vouchers == ("bob", "cat"), name
    assert is_refused(ward, Change(remove=[DAN]), by="pat/phone")
    assert not is_refused(ward, Change(remove=[DAN]), by=CAT)


def test_a_revoked_device_does_not_vouch_with_a_renewed_certificate_either(ward: Ward) -> None:
    statement = stated(ward, *again(ward, BOB, CAT))
    trust = ward.hospital.trust
    revoked = trust.revocations.with_device(CAT, at_ms=ward.at_ms - MINUTE_MS)
    ward.hospital.trust = trust.revoking(revoked)
    assert is_refused(ward, grant(ward, statement))


def test_a_renewed_certificate_that_is_not_known_here_is_asked_for_first(ward: Ward) -> None:
    dan = ward.talker(DAN)
    before = ward.hospital.trust
    people = again(ward, BOB, CAT)
    context = with_guest(ward, stated(ward, *people))
    wanted = set(context.guests[0].signers)
    message, welcome = ward[BOB].commit(Change(add=[dan], context=context))
    entry = ward.entry(message, EntryKind.COMMIT)
    ann, late_ms = ward["ann/phone"], now_ms() + MINUTE_MS
    judge = Judge(trust=before, me=ann.name)
    asked = follow(ann.view, entry, judge=judge, now_ms=late_ms)
    assert asked.wants is not None
    assert asked.wants.certificates == wanted
    assert asked.view is ann.view
    # Where the relay does not give it, she comes in again once the others have confirmed.
    without = follow(ann.view, entry, judge=judge, now_ms=late_ms, patient=False)
    assert [one.cause for one in without.faults] == [Cause.UNTOLD]
    assert not is_confirmed(without)
    assert is_confirmed(follow(ann.view, entry, judge=ann.judge, now_ms=late_ms))
    # And so does the guest, who is to see on whose word.
    judge = Judge(trust=before, me=dan.name)
    opened = open_welcome(welcome, dan.packages[-1], judge=judge, at_ms=late_ms)
    assert opened.certificates == wanted
    assert opened.stages is None
    opened = open_welcome(welcome, dan.packages[-1], judge=dan.judge, at_ms=late_ms)
    assert opened.stages is not None
    assert opened.stages.roster.vouchers == ("bob", "cat")


def is_confirmed(one: Followed) -> bool:
    """Tell whether a recorder would confirm it."""
    return bool(one.judgement and one.judgement.confirms)
