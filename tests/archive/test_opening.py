"""Opening: k officers open what they approved, and nothing else; fewer open nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from archive.errors import DamagedError, HeldError, NotWitnessedError, SessionError
from archive.opening_reading import Line, Segment, read_segment
from archive.record import RecordType
from archive.shredding import shred
from crypto.errors import CryptoError, InvalidError
from crypto.statement_types import StatementType
from crypto.xwing import XWingKey
from protocol.identifiers import UserName
from protocol.letters import LetterKind, Notice, Topic, decode_letter, encode_letter
from protocol.opening import Draft, Purpose, RecordProof, Shares
from tests.archive.officers import (
    CLINIC,
    DAY_MS,
    NAMES,
    WARD,
    Archive,
    acknowledge,
    read_through,
    text,
)
from tests.flipped import flipped

ROOT = Path(__file__).resolve().parents[2]
CANARY = "canary-of-the-ward-0451"
OTHER = "canary-of-the-clinic-0452"


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """An archive with two conversations of two epochs each."""
    archive = Archive(tmp_path)
    archive.begin()
    ward, clinic = archive.talk(WARD), archive.talk(CLINIC, listener=archive.ada)
    archive.record([archive.certificate(archive.ada)])
    archive.say(ward, text(f"bp 90/60 {CANARY}"))
    archive.say(ward, text("on my way"), who="listener")
    archive.say(clinic, text(f"discharge {OTHER}"))
    archive.rekey(ward)
    archive.say(ward, text(f"bp 110/70 now, {CANARY}"))
    archive.say(ward, read_through("alice/phone", 2), who="listener")
    archive.say(ward, acknowledge("alice/phone", 2), who="listener")
    archive.tick()
    yield archive
    archive.close()


def lines_of(archive: Archive, segments: list[Segment], request: bytes) -> list[Line]:
    key = archive.sessions.key(
        archive.handing_out().permit(request, now_ms=archive.now_ms).request.session_key
    )
    return [line for one in segments for line, _ in read_segment(one, key, archive.root)]


def test_k_officers_open_the_scope_and_read_it_with_its_signers(archive: Archive) -> None:
    request = archive.opened(archive.scope(WARD))
    lines = lines_of(archive, archive.hand_out(request), request)
    assert [(line.sender, line.kind) for line in lines] == [
        ("alice/phone", "text"),
        ("bob/desk", "text"),
        ("alice/phone", "text"),
        ("bob/desk", "read"),
        ("bob/desk", "acknowledgement"),
    ]
    assert lines[0].text == f"bp 90/60 {CANARY}"
    assert {line.fault for line in lines} == {""}
    assert {line.priority for line in lines} == {"urgent"}


def test_nothing_beyond_the_scope_is_released_or_handed_out(archive: Archive) -> None:
    request = archive.opened(archive.scope(WARD))
    segments = archive.hand_out(request)
    assert {one.sealed[0:1] for one in segments} == {b"\x01"}
    assert OTHER not in str(lines_of(archive, segments, request))
    for officer, encoded in archive.desk.shares(request).items():
        shares = Shares.decode(encoded)
        assert (shares.officer, len(shares.sealed)) == (officer, 2)
    # What was released for the ward opens nothing of the clinic, whoever puts it together.
    clinic = archive.opened(archive.scope(CLINIC), names=NAMES[2:])
    (other,) = archive.hand_out(clinic)
    mixed = Segment(
        sealed=other.sealed,
        shares=segments[0].shares,
        members=other.members,
        messages=other.messages,
    )
    assert {line.fault for line in lines_of(archive, [mixed], request)} == {"segment does not open"}


@pytest.mark.parametrize(
    ("people", "groups"), [(["ada"], {CLINIC}), (["bob"], {WARD}), (["alice"], {WARD, CLINIC})]
)
def test_a_scope_of_people_hits_the_epochs_that_they_were_in(
    archive: Archive, people: list[str], groups: set[bytes]
) -> None:
    request = archive.ask(archive.scope(people=people))
    hits = archive.officers["olga"].cases(now_ms=archive.now_ms)[-1].filed.hits
    assert hits is not None
    assert {hit.group_id for hit in hits.segments} == groups
    assert request


def test_a_patient_is_found_by_the_archives_blind_tag(archive: Archive) -> None:
    with archive.log.store.transaction():
        archive.index.add_patient("4711", CLINIC)
    archive.ask(archive.scope(patient="4711"))
    hits = archive.officers["olga"].offers()[0]
    assert CLINIC in hits.hits
    assert WARD not in hits.hits


def test_fewer_officers_than_k_get_no_share_and_no_record_key(archive: Archive) -> None:
    request = archive.ask(archive.scope(WARD))
    archive.approve(request, "olga", "omar")
    for name in ("olga", "omar"):
        with pytest.raises(InvalidError):
            archive.officers[name].release(request, now_ms=archive.now_ms)
    with pytest.raises(InvalidError):
        archive.handing_out().permit(request, now_ms=archive.now_ms)
    assert not [letter for letter in archive.mail if letter[0] == LetterKind.SHARES]


def test_with_all_approvals_but_one_release_too_few_nothing_is_handed_out(
    archive: Archive,
) -> None:
    request = archive.ask(archive.scope(WARD))
    archive.approve(request, *NAMES)
    archive.release(request, "olga", "omar")
    with pytest.raises(InvalidError):
        archive.handing_out().permit(request, now_ms=archive.now_ms)
    archive.release(request, "otto")
    assert lines_of(archive, archive.hand_out(request), request)


def test_an_emergency_takes_its_own_quorum_and_every_officer_is_told(archive: Archive) -> None:
    request = archive.ask(archive.scope(WARD), emergency=True)
    archive.approve(request, "olga", "omar")
    archive.release(request, "olga", "omar")
    assert lines_of(archive, archive.hand_out(request), request)
    for officer in archive.officers.values():
        topics = [notice.topic for _, notice in officer.notices()]
        assert Topic.EMERGENCY in topics


def test_a_refusal_takes_an_approval_back(archive: Archive) -> None:
    request = archive.ask(archive.scope(WARD))
    archive.approve(request, "olga", "omar", "otto")
    letters = archive.officers["omar"].refuse(request, reason="wrong ward", now_ms=archive.now_ms)
    archive.post("omar", letters)
    for name in ("olga", "omar", "otto"):
        with pytest.raises(InvalidError):
            archive.officers[name].release(request, now_ms=archive.now_ms)


def test_the_release_of_who_took_the_approval_back_counts_for_nothing(archive: Archive) -> None:
    request = archive.ask(archive.scope(WARD))
    archive.approve(request, "olga", "omar", "otto", "oona")
    archive.release(request, "olga", "omar", "otto")
    refusal = archive.officers["otto"].refuse(request, reason="no", now_ms=archive.now_ms)
    archive.post("otto", refusal)
    # Three approve it as before, and three released; but only two of them are the same.
    with pytest.raises(InvalidError):
        archive.handing_out().permit(request, now_ms=archive.now_ms)
    archive.release(request, "oona")
    permit = archive.handing_out().permit(request, now_ms=archive.now_ms)
    assert set(permit.releases) == set(permit.shares) == {"olga", "omar", "oona"}


def test_shares_that_lie_changed_on_the_desk_are_not_what_was_released(archive: Archive) -> None:
    request = archive.opened(archive.scope(WARD))
    archive.handing_out().permit(request, now_ms=archive.now_ms)
    olga = UserName("olga")
    shares = Shares.decode(archive.desk.shares(request)[olga])
    for sealed in (shares.sealed[::-1], shares.sealed[:1], (flipped(shares.sealed[0]),)):
        changed = replace(shares, sealed=sealed)
        with archive.desk.transaction():
            archive.desk.keep_shares(request, olga, changed.encode())
        with pytest.raises(DamagedError):
            archive.handing_out().permit(request, now_ms=archive.now_ms)


def test_a_device_approves_and_releases_only_what_it_saw_witnessed(archive: Archive) -> None:
    otto = archive.officers.pop("otto")  # his device is away while the proofs come
    request = archive.ask(archive.scope(WARD))
    statements = [one for one in archive.mail if one[0] == LetterKind.PROOF]
    assert statements
    archive.approve(request, "olga", "omar", "oona")
    seen = [one for one in archive.mail if one[0] != LetterKind.PROOF]
    filed = archive.desk.statement(request)
    assert filed is not None
    for letter in seen:
        otto.receive(letter, now_ms=archive.now_ms)
    with pytest.raises(InvalidError):
        otto.approve(request, now_ms=archive.now_ms)
    with pytest.raises(InvalidError):
        otto.release(request, now_ms=archive.now_ms)


def test_a_proof_that_no_witness_cosigned_is_refused(archive: Archive) -> None:
    archive.ask(archive.scope(WARD))
    proof = next(one for one in archive.mail if one[0] == LetterKind.PROOF)
    letter = decode_letter(proof)
    assert isinstance(letter, RecordProof)
    bare = letter.proof[: letter.proof.rindex("— relay.example".encode())]
    other = b"A" if letter.proof[-10:-9] != b"A" else b"B"
    for wrong in (bare, letter.proof[:-10] + other + letter.proof[-9:]):
        with pytest.raises(CryptoError):
            archive.officers["omar"].receive(
                encode_letter(replace(letter, proof=wrong))[0], now_ms=archive.now_ms
            )


def test_shares_go_to_the_requests_own_session_and_to_no_other(archive: Archive) -> None:
    request = archive.opened(archive.scope(WARD))
    segments = archive.hand_out(request)
    other = archive.sessions.key(archive.sessions.begin())
    lines = [line for one in segments for line, _ in read_segment(one, other, archive.root)]
    assert {line.fault for line in lines} == {"segment does not open"}
    # Asked again the device gives the same letter, and seals nothing anew.
    first = archive.officers["olga"].release(request, now_ms=archive.now_ms)
    assert archive.officers["olga"].release(request, now_ms=archive.now_ms) == first
    assert archive.officer_over("olga").release(request, now_ms=archive.now_ms) == first


def test_a_session_serves_one_request(archive: Archive) -> None:
    archive.ask(archive.scope(WARD))
    key = archive.officers["olga"].offers()[0].session_key
    archive.post("omar", archive.officers["omar"].draft(archive.scope(CLINIC)))
    notices = [one for _, one in archive.officers["omar"].notices()]
    assert [one.topic for one in notices] == [Topic.NO_SESSION]
    assert [one[0] for one in archive.desk.sessions()] == [key]


def test_after_a_requests_end_nothing_moves(archive: Archive) -> None:
    request = archive.ask(archive.scope(WARD), life_ms=DAY_MS)
    archive.approve(request, "olga", "omar", "otto")
    archive.release(request, "olga", "omar", "otto")
    archive.hand_out(request)
    late = archive.now_ms + DAY_MS
    with pytest.raises(InvalidError):
        archive.handing_out().permit(request, now_ms=late)
    for act in (archive.officers["oona"].approve, archive.officers["olga"].release):
        with pytest.raises(InvalidError):
            act(request, now_ms=late)


def test_when_the_sessions_key_is_destroyed_what_was_released_opens_no_more(
    archive: Archive,
) -> None:
    request = archive.opened(archive.scope(WARD))
    session = archive.handing_out().permit(request, now_ms=archive.now_ms).request.session_key
    archive.sessions.end(session)
    archive.desk.close_session(session)
    with pytest.raises(SessionError):
        archive.sessions.key(session)
    with pytest.raises(SessionError):
        archive.handing_out().permit(request, now_ms=archive.now_ms)


def test_killed_between_any_two_steps_no_key_leaves_without_the_witnessed_record(
    archive: Archive,
) -> None:
    request = archive.opened(archive.scope(WARD))
    permit = archive.handing_out().permit(request, now_ms=archive.now_ms)

    def keys() -> list[Segment]:
        """What a process that starts now can get."""
        return list(archive.handing_out().segments(request, number, now_ms=archive.now_ms))

    number = 0
    with pytest.raises(NotWitnessedError):  # before it was announced
        keys()
    number = archive.handing_out().announce(permit, verifier=b"v" * 32)
    with pytest.raises(NotWitnessedError):  # announced, not recorded
        keys()
    archive.take_up()
    with pytest.raises(NotWitnessedError):  # recorded, not signed
        keys()
    archive.log.sign()
    with pytest.raises(NotWitnessedError):  # signed, not cosigned
        keys()
    archive.witness()
    assert len(keys()) == 2
    # Another record's number is no permission, though it is witnessed.
    for other in range(1, number):
        number = other
        with pytest.raises(NotWitnessedError):
            keys()


def test_one_requests_announcement_hands_out_nothing_for_another(archive: Archive) -> None:
    first, second = (archive.opened(archive.scope(WARD)) for _ in range(2))
    handing = archive.handing_out()
    permit = handing.permit(second, now_ms=archive.now_ms)
    number = handing.announce(permit, verifier=bytes(32))
    archive.take_up()
    archive.witness()
    with pytest.raises(NotWitnessedError):
        list(handing.segments(first, number, now_ms=archive.now_ms))
    assert list(handing.segments(second, number, now_ms=archive.now_ms))


def test_announcing_again_is_the_same_record(archive: Archive) -> None:
    request = archive.opened(archive.scope(WARD))
    archive.hand_out(request)
    size = archive.log.size
    archive.hand_out(request)
    assert archive.log.size == size


def test_the_worker_searches_in_memory_and_ends_when_nobody_asks(archive: Archive) -> None:
    request = archive.opened(archive.scope(WARD, CLINIC))
    with archive.worker(request) as worker:
        assert worker.ask("summary", dict)["lines"] == 6
        found = worker.ask("search", list[Line], text="canary ward")
        assert [line.text for line in found] == [f"bp 90/60 {CANARY}", f"bp 110/70 now, {CANARY}"]
        assert worker.ask("search", list[Line], text="nothing of that") == []
        timeline = worker.ask("timeline", list[Line])
        assert [line.sent_ms for line in timeline] == sorted(line.sent_ms for line in timeline)
        rest = worker.ask("timeline", list[Line], after_index=timeline[3].index)
        assert rest == timeline[4:]
        course = worker.ask("course", list[Line], index=found[1].index)
        assert [(line.sender, line.kind) for line in course] == [
            ("bob/desk", "read"),
            ("bob/desk", "acknowledgement"),
        ]
        around = worker.ask("context", list[Line], index=found[1].index, before=1, after=1)
        assert [line.kind for line in around] == ["text", "text", "read"]
    assert worker.has_ended


def test_an_idle_worker_ends_by_itself(archive: Archive) -> None:
    request = archive.opened(archive.scope(WARD))
    with archive.worker(request, idle_s=0.2) as worker:
        worker._process.wait(timeout=30)
        assert worker.has_ended
        with pytest.raises(SessionError):
            worker.ask("summary", dict)


def test_a_forged_or_foreign_letter_changes_nothing_and_is_answered_by_its_rule(
    archive: Archive,
) -> None:
    request = archive.ask(archive.scope(WARD))
    archive.approve(request, "olga")
    before = len(archive.desk.of_request(request, archive.desk.statement(request).kind))  # type: ignore[union-attr]
    genuine = [one for one in archive.mail if one[0] == LetterKind.PROOF][-1]
    for letter in (b"", b"\xff", genuine[:-1], b"\x01" + b"\x00"):
        archive.desk.received("eve/phone", letter, archive.now_ms)
    archive.tick()
    assert archive.desk.incoming() == []
    after = len(archive.desk.of_request(request, archive.desk.statement(request).kind))  # type: ignore[union-attr]
    assert before == after


def test_a_letter_that_breaks_the_archives_own_code_keeps_no_other_waiting(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = archive.casework._take

    def breaking(letter: Any, at_ms: int) -> None:
        if isinstance(letter, Draft):
            raise RecursionError
        take(letter, at_ms)

    monkeypatch.setattr(archive.casework, "_take", breaking)
    draft = Draft(nonce=bytes(32), purpose=Purpose.REVIEW, scope=archive.scope(WARD))
    for letter in encode_letter(draft):
        archive.desk.received("eve/phone", letter, archive.now_ms)
    archive.tick()
    assert archive.desk.incoming() == []


def test_who_is_no_officer_asks_in_vain(archive: Archive) -> None:
    removed = archive.officers.pop("olga")
    archive.casework = archive.new_casework()
    archive.desk.begin_session(archive.sessions.begin(), archive.now_ms)
    for letter in removed.draft(archive.scope(WARD)):
        archive.desk.received("olga/desk", letter, archive.now_ms)
    archive.tick()
    offer = next(one for one in archive.mail if one[0] == LetterKind.OFFER)
    removed.receive(offer, now_ms=archive.now_ms)
    nonce = removed.offers()[0].draft.nonce
    for letter in removed.request(nonce, case="c", reason="r", now_ms=archive.now_ms):
        archive.desk.received("olga/desk", letter, archive.now_ms)
    archive.tick()
    notices = [decode_letter(one) for one in archive.mail if one[0] == LetterKind.NOTICE]
    assert [one.topic for one in notices if isinstance(one, Notice)] == [Topic.REFUSED]
    assert archive.desk.of_kind(StatementType.OPENING_REQUEST) == []


def test_the_archive_alone_yields_no_canary_while_nothing_is_open(archive: Archive) -> None:
    request = archive.ask(archive.scope(WARD))
    archive.approve(request, *NAMES)
    kept = [archive.log.body(index) for index in range(archive.log.size)]
    rows = [
        repr(archive.desk._db.execute(f"SELECT * FROM {table}").fetchall()).encode()
        for table in ("statement", "shares", "hits", "session")
    ]
    for secret in (CANARY, OTHER):
        assert all(secret.encode() not in body for body in [*kept, *rows])
    with pytest.raises(CryptoError):
        archive.handing_out().permit(request, now_ms=archive.now_ms)


def test_officers_without_the_archive_open_nothing(archive: Archive) -> None:
    """All officers' stores, keys and letters: the record keys are in the archive alone."""
    archive.opened(archive.scope(WARD), names=NAMES)
    everything = b"".join(archive.mail)
    assert CANARY.encode() not in everything
    hold = {
        row.value
        for store in archive.stores.values()
        for kind in ("officer shares",)
        for row in store.cache.all(kind)
    }
    assert hold
    record = next(
        index
        for index in range(archive.log.size)
        if archive.log.read(index).type is RecordType.EPOCH_KEYS
    )
    # What the shares would open is not among what officers have.
    assert archive.log.body(record) not in everything


def test_liveness_is_proved_by_opening_and_a_device_that_lost_its_keys_cannot(
    archive: Archive,
) -> None:
    for name in NAMES[:4]:
        archive.post(name, archive.officers[name].prove_liveness(now_ms=archive.now_ms))
    found = archive.casework.health(archive.now_ms)
    assert set(found.proven) == set(NAMES[:4])
    assert not found.alarm
    assert archive.casework.health(archive.now_ms + 40 * DAY_MS).alarm
    assert Topic.FEW_OFFICERS not in {one.topic for _, one in archive.officers["olga"].notices()}
    store = archive.stores["otto"]
    for name in store.keys.names("officer key"):
        store.keys.put(name, XWingKey.generate().seed)
    with pytest.raises(InvalidError):
        archive.officers["otto"].prove_liveness(now_ms=archive.now_ms)
    assert "otto" in archive.casework.health(archive.now_ms).overdue


def test_officers_are_told_once_a_day_that_too_few_have_proved_their_keys(
    archive: Archive,
) -> None:
    for name in NAMES[:4]:
        archive.post(name, archive.officers[name].prove_liveness(now_ms=archive.now_ms))
    archive.now_ms += 40 * DAY_MS
    for _ in range(3):
        archive.tick()
    told = [one for _, one in archive.officers["olga"].notices() if one.topic is Topic.FEW_OFFICERS]
    assert len(told) == 1
    assert "otto" in told[0].words


def test_an_opening_is_due_each_quarter_and_the_officers_are_told_until_there_is_one(
    archive: Archive,
) -> None:
    def told() -> int:
        notices = archive.officers["olga"].notices()
        return sum(one.topic is Topic.OPENING_DUE for _, one in notices)

    begun_ms = archive.now_ms
    archive.now_ms = begun_ms + 99 * DAY_MS
    archive.tick()
    assert not archive.casework.is_opening_due(archive.now_ms)
    assert told() == 0
    archive.now_ms = begun_ms + 101 * DAY_MS
    for name in NAMES:
        archive.devices[name] = archive.renew(archive.devices[name])
        archive.officers[name] = archive.officer_over(name)
    archive.record([archive.certificate(archive.devices[name]) for name in NAMES])
    for _ in range(3):
        archive.tick()
    assert archive.casework.is_opening_due(archive.now_ms)
    assert told() == 1
    request = archive.ask(archive.scope(WARD))
    archive.approve(request, *NAMES[:3])
    archive.release(request, *NAMES[:2])
    assert archive.casework.is_opening_due(archive.now_ms)
    archive.release(request, NAMES[2])
    assert not archive.casework.is_opening_due(archive.now_ms)
    archive.now_ms += 2 * DAY_MS
    archive.tick()
    assert told() == 1


def test_officers_are_told_what_was_opened(archive: Archive) -> None:
    request = archive.opened(archive.scope(WARD))
    archive.hand_out(request)
    archive.hand_out(request)
    archive.tick()
    told = [one for _, one in archive.officers["otto"].notices()]
    assert [(one.topic, one.about) for one in told] == [(Topic.OPENED, request)]


def test_an_answer_to_an_old_challenge_proves_nothing_new(archive: Archive) -> None:
    letters = archive.officers["olga"].prove_liveness(now_ms=archive.now_ms)
    archive.now_ms += 26 * DAY_MS
    archive.tick()
    archive.post("olga", letters)
    assert "olga" not in archive.casework.health(archive.now_ms).proven


def test_a_hold_stops_the_shredding_of_what_it_covers_until_it_is_lifted(
    archive: Archive,
) -> None:
    letters = archive.officers["olga"].hold(
        archive.scope(people=["bob"]), case="2026-118", reason="suit", now_ms=archive.now_ms
    )
    archive.post("olga", letters)
    archive.tick()
    bucket = b"clinical 2027Q1"
    with pytest.raises(HeldError):
        shred(archive.log, bucket, now_ms=archive.now_ms)
    (hold,) = archive.officers["omar"].holds()
    archive.post("omar", archive.officers["omar"].lift(hold, reason="over", now_ms=archive.now_ms))
    archive.tick()
    assert shred(archive.log, bucket, now_ms=archive.now_ms)


def test_a_segment_that_is_none_is_refused_and_the_worker_goes_on(archive: Archive) -> None:
    request = archive.opened(archive.scope(WARD))
    with archive.worker(request) as worker:
        with pytest.raises(SessionError):
            worker.add([Segment(sealed=b"", shares={}, members=(), messages=())])
        assert worker.ask("summary", dict)["lines"] == 5


KILLED = """
import sys, time
from archive.opening_session import Worker
from crypto.certificate import create_root, fingerprint, pin_root
from crypto.xwing import XWingKey

der, _ = create_root("St. Elsewhere", at_ms=1_800_000_000_000)
worker = Worker(XWingKey.generate(), pin_root(der, organisation=fingerprint(der)))
sys.stdout.write(f"{worker.pid}\\n")
sys.stdout.flush()
time.sleep(60)
"""


def test_when_the_program_is_killed_its_worker_ends_with_what_was_opened() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        worker = psutil.Process(int(program.stdout.readline()))
        assert worker.is_running()
        program.kill()
        program.wait()
    ends_s = time.monotonic() + 30
    while has_memory(worker) and time.monotonic() < ends_s:
        time.sleep(0.05)
    assert not has_memory(worker)


def has_memory(process: psutil.Process) -> bool:
    """Tell whether a process has more than a name, which a container's init may never take."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
