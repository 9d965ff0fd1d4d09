"""The recorder's core, without a network: whatever comes, all of it is recorded, and once."""

from __future__ import annotations

import hashlib
import random
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from archive import authority, copying, founding, recorder
from archive.alarms import Alarm
from archive.demands import done_with, let_in
from archive.errors import StoreFullError
from archive.evidence import Evidence, Gap
from archive.live import Live
from archive.log import Log
from archive.record import Record, RecordFlags, RecordType
from archive.recorder import ENTRY_BYTES, HOLE_TRIES, PATIENCE_MS, Recorder
from archive.sealing import Officers
from archive.shredding import shred
from archive.store import LIVE_TABLES
from archive.verify import audit
from archive.work import Work, commit
from bench.recorder import OFFICERS, Conversation, asking, certified
from client.followed import Followed
from client.rules import Demand
from crypto.certificate import DAY_MS, decode_certificate, fingerprint
from crypto.checkpoint import Checkpoint
from crypto.errors import InvalidError
from crypto.merkle import EMPTY_ROOT
from crypto.names import Role
from crypto.statement import Purpose, Signatory, StatementType
from crypto.trust import CLOCK_SKEW_MS
from protocol.archived import ProofRequest, Unproved
from protocol.commands import ChangeMembers, WipeOrder, WipeReason
from protocol.content import kinds
from protocol.content.affairs import Card
from protocol.frames import Deliver, EntryKind
from protocol.identifiers import (
    AUDIT_LOG,
    CONTROL_LOG,
    ConversationId,
    DeviceId,
    UserName,
    conversation_log,
    inbox_log,
)
from protocol.inbox import Item, ItemKind
from protocol.limits import RECEIPT_SILENCE_MS
from protocol.opening import BUCKET_KEY_BYTES, BucketKey, OfficerKeys
from protocol.recorded import check_commitment
from protocol.requests import DeviceRequest, RequestKind
from protocol.retention import Bucket
from storage import encrypted
from tests.archive.recording import Ward, ward
from tests.server.harness import now_ms


def records(log: Log, kind: RecordType) -> list[Record]:
    return [record for record in log.records() if record.type is kind]


def hashes_of(entries: Sequence[Deliver]) -> list[bytes]:
    return [hashlib.sha256(entry.body).digest() for entry in entries]


def is_whole(made: Ward, entries: Sequence[Deliver]) -> None:
    """Check that each entry is recorded exactly once, with its signature checked, and all fits."""
    indices = [made.log.index_of(body_hash) for body_hash in hashes_of(entries)]
    assert None not in indices
    assert len(set(indices)) == len(entries)
    messages = records(made.log, RecordType.MESSAGE)
    assert len(messages) == len(entries)
    assert all(record.flags & RecordFlags.SIGNATURE_CHECKED for record in messages)
    assert records(made.log, RecordType.FAULT_EVIDENCE) == []
    assert records(made.log, RecordType.RESTORE_OR_GAP) == []
    signer = founding.log_signer(made.archive.store)
    found = audit(
        made.archive.files.log,
        database_key=founding.database_key(made.archive.files),
        log_key=signer.verifier,
        last=Checkpoint(origin=signer.name, size=0, root=EMPTY_ROOT),
    )
    assert found.findings == ()


class KilledError(BaseException):
    """The process is gone."""


STEPS: dict[str, tuple[type, str]] = {
    "before the transaction": (Log, "recording"),
    "inside it, before the index": (Live, "save"),
    "inside it, before the senders are noted": (Live, "add_untold"),
    "after it, before it is known": (Live, "remember"),
    "before the checkpoint is signed": (Log, "sign"),
    "before it is witnessed": (Log, "request"),
    "after it is witnessed": (Log, "accept"),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_killed_at_any_step_nothing_is_lost_and_nothing_is_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, nth: int
) -> None:
    with ward(tmp_path) as made:
        talk = made.conversation()
        entries = [talk.say(number) for number in range(40)]
        made.acknowledged[conversation_log(talk.id)] = 2
        owner, name = STEPS[step]
        genuine = getattr(owner, name)
        left = nth

        def killed(*args: object, **kwargs: object) -> object:
            nonlocal left
            left -= 1
            if left == 0:
                raise KilledError
            return genuine(*args, **kwargs)

        monkeypatch.setattr(owner, name, killed)
        lives = 0
        at = 0
        while at < len(entries) and lives < 5:
            try:
                made.take(entries[at : at + 7])
                made.publish()
                at += 7
            except KilledError:
                lives += 1
                made.die()
                made.live()
                at = made.acknowledged[conversation_log(talk.id)] - 2
        made.publish()
        assert lives == 1
        monkeypatch.undo()
        is_whole(made, entries)


POISON: dict[str, Callable[[Conversation], Deliver]] = {
    "random bytes as a message": lambda talk: talk.entry(random.Random(1).randbytes(500)),
    "random bytes as a Commit": lambda talk: talk.entry(
        random.Random(2).randbytes(500), EntryKind.COMMIT
    ),
    "random bytes as a receipt": lambda talk: talk.entry(
        random.Random(3).randbytes(500), EntryKind.RECEIPT
    ),
    "random bytes as a note": lambda talk: talk.entry(b"\1" + random.Random(4).randbytes(500)),
    "a message whose ciphertext was changed": lambda talk: talk.entry(
        talk.say(900).body[:-9] + bytes(9)
    ),
    "an empty message": lambda talk: talk.entry(b"\0"),
}


@pytest.mark.parametrize("what", POISON)
def test_a_poisoned_entry_is_kept_with_evidence_and_stops_nobody(tmp_path: Path, what: str) -> None:
    with ward(tmp_path) as made:
        talk, other = made.conversation(), made.conversation()
        before = talk.say(1)
        bad = POISON[what](talk)
        if what == "a message whose ciphertext was changed":
            talk.sequence -= 1  # its original was never sent
            bad = talk.entry(bad.body)
            talk.sequence = bad.sequence
            bad = Deliver(
                log=bad.log,
                sequence=before.sequence + 1,
                predecessor=before.sequence,
                at_ms=bad.at_ms,
                kind=bad.kind,
                body=bad.body,
            )
            talk.sequence = bad.sequence
        after = [talk.say(2), other.say(3), talk.say(4)]
        assert made.take([before, bad, *after])
        made.publish()
        evidence = [
            Evidence.decode(made.log.body(record.index))
            for record in records(made.log, RecordType.FAULT_EVIDENCE)
        ]
        assert [one.sequence for one in evidence] == [bad.sequence]
        assert evidence[0].body_hash == hashlib.sha256(bad.body).digest()
        assert made.log.index_of(evidence[0].body_hash) is not None
        assert None not in map(made.log.index_of, hashes_of([before, *after]))
        assert made.recorder.position(conversation_log(talk.id)) == after[-1].sequence


def test_a_number_that_never_comes_is_asked_for_again_and_then_noted(tmp_path: Path) -> None:
    with ward(tmp_path) as made:
        talk = made.conversation()
        first, lost, last = talk.say(1), talk.say(2), talk.say(3)
        made.take([first])
        for _ in range(HOLE_TRIES - 1):
            assert not made.take([last])
        assert made.log.index_of(hashes_of([last])[0]) is None
        assert made.take([last])
        (record,) = records(made.log, RecordType.RESTORE_OR_GAP)
        gap = Gap.decode(made.log.body(record.index))
        assert (gap.after, gap.before) == (first.sequence, last.sequence)
        assert {Alarm.HOLE, Alarm.GAP} <= made.recorder.alarms.keys()
        assert made.take([lost])  # too late: its number is behind what was taken in
        assert made.log.index_of(hashes_of([lost])[0]) is None


def test_a_recorder_that_was_given_a_made_up_number_records_what_follows(tmp_path: Path) -> None:
    with ward(tmp_path) as made:
        talk = made.conversation()
        log = conversation_log(talk.id)
        before = talk.say(1)
        forged = msgspec.structs.replace(
            before, sequence=1 << 40, predecessor=before.sequence, body=b"of nobody"
        )
        made.take([before, forged])
        after = talk.say(2)
        made.take([after])
        assert made.log.index_of(hashes_of([after])[0]) is None
        made.recorder.led_back(log, before.sequence, now_ms=now_ms())
        assert Alarm.RELAY in made.recorder.alarms
        assert made.recorder.position(log) == before.sequence
        made.die()
        made.live()
        assert made.recorder.position(log) == before.sequence
        made.take([after])
        assert made.log.index_of(hashes_of([after])[0]) is not None
        made.recorder.led_back(log, after.sequence + 1, now_ms=now_ms())
        assert made.recorder.position(log) == after.sequence


def test_a_receipt_leads_into_no_epoch_whose_keys_are_not_sealed(tmp_path: Path) -> None:
    with ward(tmp_path) as made:
        talk = made.conversation()
        with made.log.store.transaction():
            made.log.store.change("DELETE FROM officer_key")
        message, group = talk.renew()
        commit = talk.entry(message, EntryKind.COMMIT)
        made.take([commit])
        assert Alarm.OFFICERS in made.recorder.alarms
        assert made.recorder.live.verdicts(below=1 << 60) == []
        # The recorder is silent, and a member of another person's confirms.
        later_ms = now_ms() + RECEIPT_SILENCE_MS
        receipt = made.confirmed(talk, commit, group, by=1, at_ms=later_ms)
        log = conversation_log(talk.id)
        assert log not in made.recorder.take([receipt], now_ms=later_ms)
        assert made.recorder.waiting_logs == 1
        assert made.recorder.position(log) == commit.sequence
        made.give_keys()
        assert made.recorder.retry(now_ms=later_ms)[log] == receipt.sequence
        assert made.recorder.index.began_ms(talk.id, group.epoch) is not None


def test_a_recorder_that_was_left_behind_lets_go_of_its_epoch_and_asks_to_be_let_in(
    tmp_path: Path,
) -> None:
    with ward(tmp_path) as made:
        talk = made.conversation()
        # A Commit that a relay, set back, and the archive have not: the members go on behind it.
        _, talk.groups[0] = talk.renew()
        message, group = talk.renew()
        commit = talk.entry(message, EntryKind.COMMIT)
        assert made.take([commit])
        assert made.recorder.live.view(talk.id).group is not None
        later_ms = now_ms() + RECEIPT_SILENCE_MS
        receipt = made.confirmed(talk, commit, group, by=1, at_ms=later_ms)
        made.recorder.take([receipt], now_ms=later_ms)
        # With the old one it could not judge the Commit that lets it in, and would ask for ever.
        assert made.recorder.live.view(talk.id).group is None
        assert talk.id in made.recorder.rejoining


def test_nobody_gives_keys_as_an_officer_who_is_none_of_the_quorum(tmp_path: Path) -> None:
    with ward(tmp_path) as made:
        body = OfficerKeys(
            keys=(BucketKey(bucket=b"clinical 2027Q1", public_key=bytes(BUCKET_KEY_BYTES)),)
        ).encode()
        for user, known in ((OFFICERS[0], True), ("o9", False)):
            officer = certified(made.archive, f"{user}/desk", Role.OFFICER)
            signatory = Signatory(
                purpose=Purpose.OFFICER,
                fingerprint=fingerprint(officer.certificate),
                key=officer.keys.signature_key,
            )
            statement = made.signed(StatementType.OFFICER_KEYS, body, by=signatory)
            work = Work()
            if known:
                made.recorder.officer_keys(work, statement, at_ms=now_ms())
                assert [row[0] for row in work.officer_keys] == [user]
            else:
                with pytest.raises(InvalidError):
                    made.recorder.officer_keys(work, statement, at_ms=now_ms())
                assert work.officer_keys == []


class Delaying:
    """Lets each entry of conversations wait until nobody is patient any more."""

    def __init__(self, made: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
        follow = made.recorder._conversation

        def late(*args: Any, patient: bool) -> bool:
            return not patient and follow(*args, patient=False)

        monkeypatch.setattr(made.recorder, "_conversation", late)


def test_what_began_to_wait_while_the_clock_was_a_day_ahead_waits_no_longer_than_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ward(tmp_path) as made:
        talk = made.conversation()
        Delaying(made, monkeypatch)
        said, at_ms = talk.say(0), now_ms()
        log = conversation_log(talk.id)
        assert log not in made.recorder.take([said], now_ms=at_ms + DAY_MS)
        # It is set right, and from then on the wait is as long as any.
        assert log not in made.recorder.retry(now_ms=at_ms)
        assert log not in made.recorder.retry(now_ms=at_ms + PATIENCE_MS - 1)
        assert made.recorder.retry(now_ms=at_ms + PATIENCE_MS)[log] == said.sequence
        assert made.recorder.waiting_logs == 0


def test_what_waits_beyond_the_memory_for_it_is_read_again_and_is_no_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "WAITING_BYTES", 4000)
    with ward(tmp_path) as made:
        talk, other = made.conversation(), made.conversation()
        entries = [talk.say(number) for number in range(20)]
        Delaying(made, monkeypatch)
        for _ in range(HOLE_TRIES + 2):
            # One connection: all of it is given, and let go of again.
            assert made.take([*entries, other.say(1)])
            assert made.recorder.reread
            assert made.recorder.waiting_logs == 0
            made.recorder.reread = False
        assert records(made.log, RecordType.RESTORE_OR_GAP) == []
        assert made.recorder.alarms == {}
        assert made.recorder.position(conversation_log(talk.id)) == 2
        later_ms = now_ms() + PATIENCE_MS
        taken = made.recorder.take(entries, now_ms=later_ms)
        assert taken[conversation_log(talk.id)] == entries[-1].sequence
        assert None not in map(made.log.index_of, hashes_of(entries))
        # Once it is over, what comes next may wait again.
        made.recorder.tick(now_ms=later_ms + PATIENCE_MS)
        assert made.take([talk.say(20)])
        assert made.recorder.waiting_logs == 1


def test_small_entries_that_wait_count_for_more_than_their_bodies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "WAITING_BYTES", 10 * ENTRY_BYTES)
    with ward(tmp_path) as made:
        talk = made.conversation()
        Delaying(made, monkeypatch)
        assert made.take([talk.entry(b"") for _ in range(10)])
        assert not made.recorder.reread
        assert made.take([talk.entry(b"")])
        assert made.recorder.reread


def test_a_full_disk_takes_nothing_in_and_the_same_entries_go_in_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ward(tmp_path) as made:
        talk = made.conversation()
        entries = [talk.say(number) for number in range(60)]
        made.log.store.rows("PRAGMA max_page_count=1")
        with pytest.raises(StoreFullError):
            made.take(entries)
        assert made.recorder.position(conversation_log(talk.id)) == 2
        made.log.store.rows("PRAGMA max_page_count=1000000")
        assert made.take(entries)
        is_whole(made, entries)


def test_equal_events_of_the_relay_are_two_records(tmp_path: Path) -> None:
    with ward(tmp_path) as made:
        events = [
            Deliver(log=AUDIT_LOG, sequence=n, predecessor=n - 1, at_ms=1, kind=0, body=b"same")
            for n in (1, 2)
        ]
        assert made.take(events)
        assert len(records(made.log, RecordType.RELAY_SECURITY_EVENT)) == 2


def test_a_patients_conversations_are_found_by_the_reference_that_is_nowhere_kept(
    tmp_path: Path,
) -> None:
    with ward(tmp_path) as made:
        talk = made.conversation()
        card = kinds.encode(Card(title="Bed 4", patient="MRN-0042-CANARY"))
        talk.groups[0], message = talk.groups[0].encrypt(card, authenticated_data=talk.said(50))
        assert made.take([talk.entry(message)])
        index = made.recorder.index
        assert index.of_patient("MRN-0042-CANARY") == [talk.id]
        assert index.of_patient("MRN-0043") == []
        key = founding.database_key(made.archive.files)
        db = encrypted.connect(made.archive.files.log.log, key)
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        tables = [name for name in names if not name.startswith("sqlite_")]
        dump = repr([db.execute(f"SELECT * FROM {name}").fetchall() for name in tables])
        db.close()
        assert "leaf" in tables
        assert "CANARY" not in dump


def test_a_backup_has_no_live_state_and_all_else(tmp_path: Path) -> None:
    with ward(tmp_path) as made:
        talk = made.conversation()
        made.take([talk.say(number) for number in range(5)])
        key = founding.database_key(made.archive.files)
        copying.copy_log(made.archive.files.log.log, tmp_path / "copy.db", key)
        db = encrypted.connect(tmp_path / "copy.db", key)
        for statement in LIVE_TABLES:
            name = statement.split("(")[0].split()[-1]
            assert db.execute(f"SELECT count(*) FROM {name}").fetchone() == (0,), name
        assert db.execute("SELECT count(*) FROM leaf").fetchone() == (made.log.size,)
        assert db.execute("SELECT count(*) FROM epoch").fetchone() == (1,)
        db.close()


def test_an_entry_that_breaks_the_recorders_own_code_is_evidence_and_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ward(tmp_path) as made:
        talk = made.conversation()
        good, bad, last = talk.say(1), talk.say(2), talk.say(3)
        genuine = type(made.recorder)._content

        def broken(self: Recorder, all_of_it: Work, outcome: Followed) -> RecordFlags:
            if outcome.said is not None and outcome.said.sequence == bad.sequence:
                raise ZeroDivisionError
            return genuine(self, all_of_it, outcome)

        monkeypatch.setattr(type(made.recorder), "_content", broken)
        assert made.take([good, bad, last])
        assert Alarm.POISON in made.recorder.alarms
        assert None not in map(made.log.index_of, hashes_of([good, bad, last]))
        assert len(records(made.log, RecordType.FAULT_EVIDENCE)) == 1
        assert made.recorder.position(conversation_log(talk.id)) == last.sequence


def test_whoever_has_most_to_be_told_of_delays_nobody_else(tmp_path: Path) -> None:
    with ward(tmp_path) as made:
        talk, other = made.conversation(), made.conversation()
        busy = [talk.say(number * 3) for number in range(40)]
        assert made.take([*busy, other.say(1)])
        live, size = made.recorder.live, made.log.size
        devices = live.untold_devices(after="", most=9)
        assert devices == ["user-0/phone", "user-1/phone"]
        assert live.untold_devices(after=devices[0], most=9) == devices[1:]
        assert live.untold_devices(after="", most=1) == devices[:1]
        assert [len(live.untold_of(one, below=size, most=30)) for one in devices] == [30, 1]
        assert live.untold_of(devices[1], below=0, most=30) == []
        assert live.untold_of(devices[0], below=size, most=50) == [
            one for one in live.untold(below=size, most=99) if one.device == devices[0]
        ]


def requested(made: Ward, body: bytes) -> bool:
    """Let a device ask the archive for something by its inbox; tell whether it was recorded."""
    device = made.devices[0]
    signatory = Signatory(
        purpose=Purpose.DEVICE,
        fingerprint=fingerprint(device.certificate),
        key=device.keys.signature_key,
    )
    statement = made.signed(StatementType.DEVICE_REQUEST, body, by=signatory)
    log, size = inbox_log(made.recorder.me.device), made.log.size
    through = made.recorder.position(log)
    entry = Deliver(
        log=log,
        sequence=through + 1,
        predecessor=through,
        at_ms=now_ms(),
        kind=EntryKind.MESSAGE,
        body=Item(kind=ItemKind.STATEMENT, body=statement).encode(),
    )
    assert made.take([entry])
    return made.log.size > size


def test_a_sender_who_has_no_proof_is_told_again_of_what_the_log_has(tmp_path: Path) -> None:
    with ward(tmp_path) as made:
        talk = made.conversation()
        said = [talk.say(0), talk.say(0)]
        assert made.take(said)
        live = made.recorder.live
        with made.log.store.transaction():
            live.told(live.untold(below=made.log.size, most=9))
        lost = secrets.token_bytes(32)
        request = ProofRequest(
            messages=tuple(
                Unproved(conversation=talk.id, sequence=number, message_hash=one)
                for number, one in enumerate((hashlib.sha256(said[1].body).digest(), lost), 7)
            )
        )
        assert not requested(made, request.encode())
        (found,) = live.untold(below=made.log.size, most=9)
        assert (found.device, found.sequence) == ("user-0/phone", 7)
        record = made.log.read(found.index).encode()
        check_commitment(record, salt=found.salt, body_hash=hashlib.sha256(said[1].body).digest())
        # What is no such request is kept with evidence, as whatever makes no sense.
        assert requested(made, b"\x01" + talk.id)


def asked_for_certificates(made: Ward, *requests: bytes) -> list[Deliver]:
    """Return requests as they come by the recorder's inbox."""
    log = inbox_log(made.recorder.me.device)
    through = made.recorder.position(log)
    return [
        Deliver(
            log=log,
            sequence=through + number,
            predecessor=through + number - 1,
            at_ms=now_ms(),
            kind=EntryKind.MESSAGE,
            body=Item(kind=ItemKind.REQUEST, body=request).encode(),
        )
        for number, request in enumerate(requests, 1)
    ]


def is_now(at_ms: int) -> bool:
    return abs(at_ms - now_ms()) <= CLOCK_SKEW_MS


@pytest.mark.parametrize("wrong_ms", [-DAY_MS, 5 * DAY_MS], ids=["behind", "ahead"])
def test_who_asks_while_the_clock_is_wrong_is_certified_once_it_is_right(
    tmp_path: Path, wrong_ms: int
) -> None:
    with ward(tmp_path) as made:
        made.recorder.is_sure = is_now
        _, request = asking(made.archive, "eve/phone", Role.CLINICIAN)
        entries = asked_for_certificates(made, request, b"none at all")
        made.recorder.take(entries, now_ms=now_ms() + wrong_ms)
        assert Alarm.FAULT not in made.recorder.alarms
        made.die()
        made.live()
        made.recorder.is_sure = is_now
        made.recorder.tick(now_ms=now_ms() + wrong_ms)
        known = made.archive.authority
        assert "eve/phone" not in known.certificates()
        made.recorder.tick(now_ms=now_ms())
        der = known.certificates()["eve/phone"]
        certificate = decode_certificate(der, root=known.root)
        assert abs(certificate.not_before_ms - now_ms()) < CLOCK_SKEW_MS
        assert made.log.index_of(fingerprint(der)) is not None
        # What is no request is evidence, as it had been at once.
        assert Alarm.FAULT in made.recorder.alarms
        assert [one.body for one in known.outgoing()][-1] == der
        size = made.log.size
        made.recorder.tick(now_ms=now_ms())
        assert made.log.size == size


def test_no_more_requests_wait_for_the_right_time_than_there_is_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authority, "PUT_OFF_MOST", 1)
    with ward(tmp_path) as made:
        made.recorder.is_sure = lambda _: False
        entries = asked_for_certificates(made, b"first", b"second")
        assert made.take(entries[:1])
        assert made.take(entries[:1])
        assert Alarm.FAULT not in made.recorder.alarms
        assert made.take(entries[1:])
        assert Alarm.FAULT in made.recorder.alarms
        assert list(made.archive.authority.requests_put_off().values()) == [b"first"]


def ordered(made: Ward, device: str, key: bytes, *, by: Signatory) -> set[Alarm]:
    """Let an order come by the control log; return the alarms that are new."""
    before = set(made.recorder.alarms)
    body = WipeOrder(device=DeviceId(device), connection_key=key, reason=WipeReason.LEFT).encode()
    through = made.recorder.position(CONTROL_LOG)
    order = Deliver(
        log=CONTROL_LOG,
        sequence=through + 1,
        predecessor=through,
        at_ms=now_ms(),
        kind=0,
        body=made.signed(StatementType.WIPE_ORDER, body, by=by),
    )
    assert made.take([order])
    return set(made.recorder.alarms) - before


def test_an_officers_device_is_wiped_by_one_once_no_share_is_with_it(tmp_path: Path) -> None:
    with ward(tmp_path) as made:
        admin = certified(made.archive, "ada/desk", Role.ADMINISTRATOR)
        officer = certified(made.archive, "o1/desk", Role.OFFICER)
        by = Signatory(
            purpose=Purpose.ADMINISTRATOR,
            fingerprint=fingerprint(admin.certificate),
            key=admin.keys.signature_key,
        )
        key = officer.keys.connection_key.public_key
        talk = made.conversation()
        revoked = made.archive.authority.trust.revocations.devices
        assert ordered(made, "o1/desk", key, by=by) == {Alarm.OFFICER_WIPE}
        assert made.take([talk.say(0)])
        after = Officers(quorum=made.recorder.officers.quorum, users=("o2", "o3", "o4", "o5"))
        made.recorder.officers = after
        made.recorder.alarms.clear()
        assert ordered(made, "o1/desk", key, by=by) == {Alarm.OFFICER_WIPE}
        assert made.archive.authority.trust.revocations.devices == revoked
        shred(made.log, Bucket.at("clinical", now_ms()).name, now_ms=now_ms())
        made.recorder.alarms.clear()
        assert ordered(made, "o1/desk", key, by=by) == set()
        assert "o1/desk" in made.archive.authority.trust.revocations.devices
        other = made.devices[0].keys
        name, key = f"{other.user}/{other.device}", other.connection_key.public_key
        assert ordered(made, name, key, by=by) == {Alarm.WIPE}


def asked(by: str, kind: RequestKind, *, at_ms: int) -> Demand:
    body = DeviceRequest(kind=kind, conversation=ConversationId(bytes(32))).encode()
    name = f"{by} {kind} {at_ms}".encode()
    return Demand(
        hash=hashlib.sha256(name).digest(),
        kind=StatementType.DEVICE_REQUEST,
        by=DeviceId(by),
        body=body,
        at_ms=at_ms,
    )


def test_a_device_that_came_in_was_let_in_and_its_person_may_still_want_to_leave() -> None:
    came, other = DeviceId("ann/phone"), "bob/phone"
    followed = asked(came, RequestKind.RE_ADD, at_ms=1)
    waiting = [asked(other, RequestKind.RE_ADD, at_ms=1), asked(came, RequestKind.LEAVE, at_ms=1)]
    command = replace(followed, kind=StatementType.COMMAND, by=None, body=b"another kind")
    assert let_in([followed, *waiting, command], {came}) == [followed]


def test_what_asks_for_nothing_any_more_is_done() -> None:
    ann, bob = DeviceId("ann/phone"), DeviceId("bob/phone")
    left = asked("cat/phone", RequestKind.LEAVE, at_ms=1)
    stays = [asked(ann, kind, at_ms=1) for kind in RequestKind]
    change = ChangeMembers(
        conversation=ConversationId(bytes(32)),
        added=(UserName("bob"),),
        removed=(UserName("cat"),),
    )
    command = replace(left, kind=StatementType.COMMAND, by=None, body=change.encode())
    demands = [left, *stays, command]
    standing = {"ann": {ann}, "bob": {bob}, "cat": {DeviceId("cat/phone")}}
    assert done_with(demands, [ann, bob], standing) == [left, command]
    assert done_with(demands, [ann], standing) == [left]
    assert done_with(demands, [ann, bob, DeviceId("cat/phone")], standing) == []
    # Who is in by a device alone that no longer counts is still to be let in.
    assert done_with([command], [ann, DeviceId("bob/lost")], standing) == []


def test_who_was_let_in_again_is_not_once_more_after_a_start(tmp_path: Path) -> None:
    times = [now_ms() - DAY_MS - 1, now_ms() - 1, now_ms()]
    requests = [asked("user-0/phone", RequestKind.RE_ADD, at_ms=at_ms) for at_ms in times]
    with ward(tmp_path) as made:
        index, live = made.recorder.index, made.recorder.live
        for one in requests:
            commit(Work(let_in=[one]), log=made.log, index=index, live=live, now_ms=now_ms())
        made.die()
        made.live()
        # What nobody follows any more, as it is more than a day old, is not kept either.
        assert made.recorder.done == {one.hash for one in requests[1:]}
