"""An officer's device against an archive that lies, and over the years."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from client.opening import counted, purpose_of, quorum_from, told_scope
from crypto.errors import CryptoError, InvalidError, VerificationError
from protocol.identifiers import UserName
from protocol.letters import (
    Letter,
    LetterKind,
    Part,
    Recorded,
    decode_letter,
    encode_letter,
    join_parts,
    statement_of,
)
from protocol.opening import Hits, Offer, Purpose, RecordProof, Scope, Shares
from protocol.quorum import Quorum
from protocol.retention import CLINICAL
from tests.archive.officers import CLINIC, DAY_MS, WARD, Archive, text
from tests.flipped import flipped

QUARTER_MS = 92 * DAY_MS


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    archive = Archive(tmp_path)
    archive.begin()
    for group_id in (WARD, CLINIC):
        archive.say(archive.talk(group_id), text("bp 90/60"))
    archive.tick()
    yield archive
    archive.close()


def letters(archive: Archive, kind: LetterKind) -> list[Letter]:
    """Return the whole letters of a kind that have gone through the conversation."""
    parts: dict[bytes, list[Part]] = {}
    found: list[Letter] = []
    for data in archive.mail:
        letter = decode_letter(data)
        if isinstance(letter, Part):
            parts.setdefault(letter.whole, []).append(letter)
        elif data[0] == kind:
            found.append(letter)
    whole = [one for one in map(join_parts, parts.values()) if one is not None]
    found += [one for one in whole if encoded_kind(one) == kind]
    return found


def encoded_kind(letter: Letter) -> int:
    first = encode_letter(letter)[0]
    decoded = decode_letter(first)
    if isinstance(decoded, Part):
        return decoded.data[0]
    return first[0]


def receive(archive: Archive, name: str, letter: Letter) -> None:
    for data in encode_letter(letter):
        archive.officers[name].receive(data, now_ms=archive.now_ms)


def test_keys_are_made_once_and_the_next_quarters_are_added(archive: Archive) -> None:
    olga = archive.officers["olga"]
    assert olga.begin(now_ms=archive.now_ms, classes=[CLINICAL]) == ()
    before = [view.bucket for view in olga.keys(now_ms=archive.now_ms)]
    assert len(before) == 5
    anew = olga.begin(now_ms=archive.now_ms, classes=[CLINICAL], anew=True)
    assert len(anew) == 1
    assert statement_of(anew[0]) is not None
    archive.now_ms += QUARTER_MS
    archive.devices["olga"] = archive.renew(archive.devices["olga"])
    olga = archive.officer_over("olga")
    assert olga.begin(now_ms=archive.now_ms, classes=[CLINICAL])
    after = [view.bucket for view in olga.keys(now_ms=archive.now_ms)]
    assert after == [*before, before[-1].next]


def test_no_key_is_destroyed_before_its_end(archive: Archive) -> None:
    olga = archive.officers["olga"]
    view = olga.keys(now_ms=archive.now_ms)[0]
    assert olga.destroy_ended_keys(now_ms=view.ends_ms - 1) == []
    assert olga.destroy_ended_keys(now_ms=view.ends_ms) == [view.bucket]


def held(archive: Archive, by: str) -> bytes:
    """Let an officer set a hold; return what names it."""
    officer = archive.officers[by]
    letters = officer.hold(
        archive.scope(people=["bob"]), case="2026-118", reason="suit", now_ms=archive.now_ms
    )
    archive.post(by, letters)
    archive.tick()
    (hold,) = officer.holds()
    return hold


def test_a_new_officers_device_learns_of_a_hold_set_before_it_came_whose_signer_is_gone(
    archive: Archive,
) -> None:
    hold = held(archive, "olga")
    archive.now_ms += 60 * DAY_MS
    newcomer = archive.appoint("ottilie")
    assert newcomer.holds() == {}
    archive.casework.tell_holds()
    archive.tick()
    assert newcomer.holds() == archive.officers["omar"].holds()
    # It can be lifted there as on any other, and is shown to nobody any more.
    archive.casework = archive.new_casework()
    archive.post("ottilie", newcomer.lift(hold, reason="over", now_ms=archive.now_ms))
    archive.tick()
    assert archive.officers["omar"].holds() == {}
    before = len(archive.mail)
    archive.casework.tell_holds()
    archive.tick()
    assert len(archive.mail) == before


def test_a_hold_reaches_who_comes_between_its_letter_and_its_place_in_the_log(
    archive: Archive,
) -> None:
    scope = archive.scope(people=["bob"])
    (letter,) = archive.officers["olga"].hold(
        scope, case="2026-118", reason="suit", now_ms=archive.now_ms
    )
    archive.desk.received("olga/desk", letter, archive.now_ms)
    newcomer = archive.appoint("ottilie")
    archive.tick()
    (hold,) = newcomer.holds().values()
    assert hold.scope == scope


def test_no_archive_makes_a_hold_or_another_statement_of_a_place_in_its_log(
    archive: Archive,
) -> None:
    held(archive, "olga")
    (shown,) = (one for one in letters(archive, LetterKind.RECORDED) if isinstance(one, Recorded))
    newcomer = archive.appoint("ottilie")
    request = archive.ask(archive.scope(WARD), who="omar")
    statement = archive.desk.statement(request)
    assert statement is not None
    other = next(
        one
        for one in letters(archive, LetterKind.PROOF)
        if isinstance(one, RecordProof) and one.statement == request
    )
    for false in (
        replace(shown, statement=flipped(shown.statement)),
        replace(shown, proof=replace(shown.proof, record=flipped(shown.proof.record))),
        replace(shown, proof=other),
        Recorded(statement=statement.data, proof=other),
    ):
        with pytest.raises(CryptoError):
            receive(archive, "ottilie", false)
        assert newcomer.holds() == {}
    receive(archive, "ottilie", shown)
    assert len(newcomer.holds()) == 1


def test_hits_that_the_scope_does_not_name_are_signed_for_by_nobody(archive: Archive) -> None:
    """An archive that counts the clinic where the ward was asked for."""
    archive.desk.begin_session(archive.sessions.begin(), archive.now_ms)
    olga = archive.officers["olga"]
    archive.post("olga", olga.draft(archive.scope(WARD)))
    honest = olga.offers()[0]
    archive.post("olga", olga.draft(archive.scope(CLINIC)))
    clinic = next(one for one in olga.offers() if CLINIC in one.draft.scope.conversations)
    lie = Offer(draft=honest.draft, session_key=honest.session_key, hits=clinic.hits)
    receive(archive, "olga", lie)
    with pytest.raises(InvalidError):
        olga.request(honest.draft.nonce, case="c", reason="r", now_ms=archive.now_ms)


def test_a_request_without_an_offer_is_refused(archive: Archive) -> None:
    with pytest.raises(InvalidError):
        archive.officers["olga"].request(bytes(32), case="c", reason="r", now_ms=archive.now_ms)


def approved(archive: Archive, scope: Scope) -> bytes:
    request = archive.ask(scope)
    archive.approve(request, "olga", "omar", "otto")
    return request


def sent_shares(archive: Archive, officer: str, request: bytes) -> Shares:
    for letter in letters(archive, LetterKind.SHARES):
        if isinstance(letter, Shares) and (letter.officer, letter.request) == (officer, request):
            return letter
    raise AssertionError(officer)


def test_shares_of_another_segment_are_not_released(archive: Archive) -> None:
    """An archive that sends the clinic's shares for a request that names the ward."""
    clinic = approved(archive, archive.scope(CLINIC))
    ward = approved(archive, archive.scope(WARD))
    lie = replace(sent_shares(archive, "olga", clinic), request=ward)
    receive(archive, "olga", lie)
    with pytest.raises(VerificationError):
        archive.officers["olga"].release(ward, now_ms=archive.now_ms)
    honest = sent_shares(archive, "olga", ward)
    receive(archive, "olga", honest)
    assert archive.officers["olga"].release(ward, now_ms=archive.now_ms)


@pytest.mark.parametrize("change", ["more", "fewer", "broken"])
def test_shares_that_are_not_those_of_the_hits_are_not_released(
    archive: Archive, change: str
) -> None:
    ward = approved(archive, archive.scope(WARD))
    honest = sent_shares(archive, "olga", ward)
    sealed = {
        "more": (*honest.sealed, *honest.sealed),
        "fewer": (),
        "broken": tuple(flipped(one) for one in honest.sealed),
    }[change]
    receive(archive, "olga", replace(honest, sealed=sealed))
    with pytest.raises(CryptoError):
        archive.officers["olga"].release(ward, now_ms=archive.now_ms)


def test_a_proof_of_another_record_is_none(archive: Archive) -> None:
    ward = archive.ask(archive.scope(WARD))
    clinic = archive.ask(archive.scope(CLINIC))
    proofs = {
        one.statement: one
        for one in letters(archive, LetterKind.PROOF)
        if isinstance(one, RecordProof)
    }
    for wrong in (
        replace(proofs[ward], statement=clinic),
        replace(proofs[ward], record=proofs[clinic].record),
        replace(proofs[ward], salt=bytes(32)),
        replace(proofs[ward], proof=proofs[clinic].proof),
        replace(proofs[ward], statement=bytes(32)),
    ):
        with pytest.raises(CryptoError):
            receive(archive, "omar", wrong)


def test_a_device_whose_owner_was_told_a_larger_quorum_releases_nothing_for_a_smaller(
    archive: Archive,
) -> None:
    """An archive that splits for two where the ceremony said three, emergencies included."""
    archive.quorum = Quorum(k=3, n=5, emergency_k=3)
    olga = archive.officer_over("olga")
    ward = approved(archive, archive.scope(WARD))
    with pytest.raises(InvalidError):
        olga.approve(ward, now_ms=archive.now_ms)
    with pytest.raises(InvalidError):
        olga.release(ward, now_ms=archive.now_ms)


def test_approvals_that_the_archive_only_claims_count_for_nothing(archive: Archive) -> None:
    """Statements without their proofs: everything but what the log shows."""
    ward = archive.ask(archive.scope(WARD))
    alone = archive.officers.pop("otto")
    archive.approve(ward, "olga", "omar", "oona")
    for data in archive.mail:
        if data[0] == LetterKind.STATEMENT:
            alone.receive(data, now_ms=archive.now_ms)
    (case,) = alone.cases(now_ms=archive.now_ms)
    assert case.tally.approved == frozenset()
    assert set(case.filed.waiting) == {"olga", "omar", "oona"}


def test_a_letter_in_parts_survives_a_restart_between_them(archive: Archive) -> None:
    shares = Shares(request=bytes(32), officer=UserName("olga"), sealed=(b"x" * 40_000,))
    parts: Sequence[bytes] = encode_letter(shares)
    assert len(parts) > 1
    for part in parts[:-1]:
        assert archive.officers["olga"].receive(part, now_ms=archive.now_ms) is None
    again = archive.officer_over("olga")
    assert again.receive(parts[-1], now_ms=archive.now_ms) == shares


def test_what_faces_are_told_of_an_opening(archive: Archive) -> None:
    assert quorum_from(k=3) == Quorum(k=3, n=5, emergency_k=3)
    assert quorum_from(k=3, n=7, emergency_k=2) == Quorum(k=3, n=7, emergency_k=2)
    assert [purpose_of(reshare=flag) for flag in (False, True)] == [
        Purpose.REVIEW,
        Purpose.RESHARE,
    ]
    archive.ask(archive.scope(WARD, CLINIC))
    offer = archive.officers["olga"].offers()[0]
    assert counted(offer) == {"records": 2, "segments": 2, "conversations": 2}
    assert len(Hits.decode(offer.hits).segments) == 2
    scope = Scope(people=(UserName("ann"),), patient="4711", from_ms=0, until_ms=(1 << 63) - 1)
    told = told_scope(scope)
    assert told["text"] == f"person ann, patient 4711; from the beginning to {(1 << 63) - 1} ms"
