"""The end of a bucket, holds that outlive it, and officers who are replaced."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from archive import checking
from archive.errors import HeldError, SessionError, ShreddedError
from archive.opening_reading import read_segment
from archive.opening_reshare import Recipients, Resharing, take_effect
from archive.opening_session import Worker
from archive.replacing import is_replaced
from archive.retention import LATE_MS, end_buckets, ended_buckets, late_buckets
from archive.sealing import Officers as SealedTo
from archive.shredding import shred
from archive.store import Store
from crypto.errors import CryptoError, InvalidError
from crypto.merkle import leaf_hash
from protocol.identifiers import UserName
from protocol.opening import Purpose, Scope
from protocol.retention import CLINICAL, HELD, Bucket
from tests.archive.officers import CLINIC, NAMES, WARD, Archive, text

CANARY = "canary-of-the-ward-0451"


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    archive = Archive(tmp_path)
    archive.begin()
    for group_id in (WARD, CLINIC):
        talk = archive.talk(group_id)
        archive.say(talk, text(CANARY))
        archive.say(talk, text("understood"), who="listener")
    archive.tick()
    yield archive
    archive.close()


def ended(archive: Archive) -> Bucket:
    """Let the time pass until the ward's bucket has ended; return it."""
    bucket = Bucket.at(CLINICAL, archive.now_ms)
    archive.now_ms = bucket.ends_ms()
    return bucket


def read(archive: Archive, request: bytes) -> set[str]:
    """Return what a released request reads, or why nothing."""
    permit = archive.handing_out().permit(request, now_ms=archive.now_ms)
    key = archive.sessions.key(permit.request.session_key)
    return {
        line.fault or line.text
        for segment in archive.hand_out(request)
        for line, _ in read_segment(segment, key, archive.root)
    }


def reshared(
    archive: Archive, scope: object, recipients: Recipients, *, names: tuple[str, ...] = NAMES[:3]
) -> None:
    request = archive.opened(scope, names=names, purpose=Purpose.RESHARE)  # type: ignore[arg-type]
    handing = archive.handing_out()
    permit = handing.permit(request, now_ms=archive.now_ms)
    number = handing.announce(permit, verifier=bytes(32))
    archive.take_up()
    archive.witness()
    with empty_worker(archive, permit.request.session_key) as resharing:
        done = resharing.run(permit, number, recipients, now_ms=archive.now_ms)
    assert not any(take_effect(archive.log.store, *one) for one in done)
    archive.take_up()
    archive.witness()
    assert all(take_effect(archive.log.store, *one) for one in done)


@contextmanager
def empty_worker(archive: Archive, session_key: bytes) -> Iterator[Resharing]:
    worker = Worker(archive.sessions.key(session_key), archive.root, idle_s=60)
    try:
        yield Resharing(worker, archive.log.store, archive.handing_out())
    finally:
        worker.close()


def test_a_bucket_ends_when_its_class_says_and_not_before(archive: Archive) -> None:
    assert ended_buckets(archive.log, now_ms=archive.now_ms) == []
    bucket = Bucket.at(CLINICAL, archive.now_ms)
    assert ended_buckets(archive.log, now_ms=bucket.ends_ms() - 1) == []
    assert ended_buckets(archive.log, now_ms=bucket.ends_ms()) == [bucket]
    (ending,) = end_buckets(archive.log, now_ms=bucket.ends_ms())
    assert (ending.bucket, ending.hold, len(ending.records)) == (bucket, None, 1)
    assert end_buckets(archive.log, now_ms=bucket.ends_ms()) == []


def test_after_its_end_nobody_opens_a_bucket_from_an_old_backup_either(
    archive: Archive, tmp_path: Path
) -> None:
    request = archive.opened(archive.scope(WARD))
    assert read(archive, request) == {CANARY, "understood"}
    index = next(
        place.index for place in archive.index.places(WARD) if place.type.name == "MESSAGE"
    )
    proof = archive.log.receipts([index], archive.log.publish())[0]
    backup = tmp_path / "backup"
    backup.mkdir()
    for path in tmp_path.glob("log.db*"):
        shutil.copy(path, backup / path.name)
    bucket = ended(archive)
    end_buckets(archive.log, now_ms=archive.now_ms)
    archive.witness()
    for officer in archive.officers.values():
        assert officer.destroy_ended_keys(now_ms=archive.now_ms) == [bucket]
    with pytest.raises(ShreddedError):
        archive.log.body(index)
    leaf = leaf_hash(archive.log.read(index).encode())
    proof.verify(leaf=leaf, key=archive.site.signer.verifier)
    assert archive.site.audit(archive.log.signed).findings == ()
    # The backup has records and record keys still; the officers' keys are what is gone.
    old = Store(backup / "log.db", archive.site.database_key)
    assert old.body(index) is not None
    old.close()
    store = archive.stores["olga"]
    assert bucket.name.decode() not in "".join(store.keys.names("officer key"))
    with pytest.raises(InvalidError):
        archive.officers["olga"]._key(bucket.name)


def test_a_hold_keeps_officers_keys_until_what_it_covers_is_shared_anew(archive: Archive) -> None:
    letters = archive.officers["olga"].hold(
        archive.scope(WARD), case="2026-118", reason="suit", now_ms=archive.now_ms
    )
    archive.post("olga", letters)
    scope = archive.scope(WARD)
    bucket = ended(archive)
    for name, officer in archive.officers.items():
        assert officer.destroy_ended_keys(now_ms=archive.now_ms) == []
        # Certificates have long ended by then: who is in office has a new one.
        archive.devices[name] = archive.renew(archive.devices[name])
        archive.officers[name] = archive.officer_over(name)
        archive.post(name, archive.officers[name].begin(now_ms=archive.now_ms, classes=[HELD]))
    archive.record([archive.certificate(device) for device in archive.devices.values()])
    (ending,) = end_buckets(archive.log, now_ms=archive.now_ms)
    assert ending.hold is not None
    # Whoever runs the archive is told: all of the quarter waits for what the hold covers.
    assert late_buckets(archive.log, now_ms=archive.now_ms) == []
    assert late_buckets(archive.log, now_ms=archive.now_ms + LATE_MS) == [bucket]
    assert not checking._ended(archive.log, archive.now_ms + LATE_MS).holds
    held = Bucket.at(HELD, archive.now_ms)
    everybody = tuple(UserName(name) for name in sorted(archive.officers))
    recipients = Recipients(names=everybody, quorum=archive.quorum, bucket=held.name)
    reshared(archive, scope, recipients)
    (ending,) = end_buckets(archive.log, now_ms=archive.now_ms)
    assert (ending.hold, len(ending.records)) == (None, 1)
    assert checking._ended(archive.log, archive.now_ms + LATE_MS).holds
    archive.tick()
    assert archive.site.audit(archive.log.signed).findings == ()
    for officer in archive.officers.values():
        gone = officer.destroy_ended_keys(now_ms=archive.now_ms, held_are_reshared=True)
        assert bucket in gone
    # What is held opens with the keys of the later bucket; the rest is gone.
    request = archive.opened(scope)
    assert read(archive, request) == {CANARY, "understood"}
    with pytest.raises(InvalidError):
        archive.ask(archive.scope(CLINIC))


HELD_BY: dict[str, Callable[[Archive], Scope]] = {
    "conversation": lambda archive: archive.scope(WARD),
    "person": lambda archive: archive.scope(people=["bob"]),
    "patient": lambda archive: archive.scope(patient="4711"),
    "period": lambda archive: archive.scope(people=["archive"]),
}
"""The words by which a hold names the ward's talk."""


@pytest.mark.parametrize("word", HELD_BY)
def test_what_a_hold_names_by_any_word_opens_until_it_is_lifted_and_then_for_nobody(
    archive: Archive, word: str
) -> None:
    with archive.log.store.transaction():
        archive.index.add_patient("4711", WARD)
    scope = HELD_BY[word](archive)
    letters = archive.officers["olga"].hold(
        scope, case="2026-118", reason="suit", now_ms=archive.now_ms
    )
    archive.post("olga", letters)
    archive.tick()
    bucket = Bucket.at(CLINICAL, archive.now_ms)
    (ending,) = end_buckets(archive.log, now_ms=bucket.ends_ms())
    assert ending.hold is not None
    for officer in archive.officers.values():
        assert officer.destroy_ended_keys(now_ms=bucket.ends_ms()) == []
    request = archive.opened(scope)
    assert read(archive, request) >= {CANARY, "understood"}
    (hold,) = archive.officers["omar"].holds()
    archive.post("omar", archive.officers["omar"].lift(hold, reason="over", now_ms=archive.now_ms))
    archive.tick()
    (ending,) = end_buckets(archive.log, now_ms=bucket.ends_ms())
    assert ending.hold is None
    archive.witness()
    assert archive.site.audit(archive.log.signed).findings == ()
    for officer in archive.officers.values():
        assert officer.destroy_ended_keys(now_ms=bucket.ends_ms()) == [bucket]
    with pytest.raises(InvalidError):
        archive.ask(archive.scope(WARD))


def test_a_hold_on_another_period_holds_nothing(archive: Archive) -> None:
    scope = replace(archive.scope(WARD), from_ms=1, until_ms=1000)
    letters = archive.officers["olga"].hold(
        scope, case="2026-118", reason="suit", now_ms=archive.now_ms
    )
    archive.post("olga", letters)
    archive.tick()
    (ending,) = end_buckets(archive.log, now_ms=ended(archive).ends_ms())
    assert (ending.hold, len(ending.records)) == (None, 1)


AFTER = tuple(UserName(name) for name in ("olga", "omar", "oona", "otto", "ophelia"))
"""The officers once Ophelia has followed on Odin."""


def follow_on_odin(archive: Archive) -> None:
    """Let Ophelia publish keys; whatever is shared anew may then be shared with her."""
    archive.appoint("ophelia")
    archive.casework = archive.new_casework()
    archive.record([archive.certificate(archive.devices["ophelia"])])
    bucket = Bucket.at(CLINICAL, archive.now_ms)
    archive.post(
        "ophelia",
        archive.officers["ophelia"].begin(
            now_ms=archive.now_ms, classes=[CLINICAL], buckets=[bucket]
        ),
    )


def test_an_officer_is_replaced_and_the_new_one_opens(archive: Archive) -> None:
    scope = archive.scope(WARD)
    follow_on_odin(archive)
    reshared(archive, scope, Recipients(names=AFTER, quorum=archive.quorum))
    del archive.officers["odin"]
    archive.casework = archive.new_casework()
    request = archive.opened(scope, names=("omar", "otto", "ophelia"))
    assert read(archive, request) == {CANARY, "understood"}


def odin_is_replaced(archive: Archive, users: tuple[str, ...] = AFTER) -> bool:
    officers = SealedTo(quorum=archive.quorum, users=users)
    return is_replaced("odin", officers=officers, store=archive.log.store)


def test_an_officer_is_replaced_once_everything_was_shared_without_them(archive: Archive) -> None:
    quiet = archive.talk(bytes(31) + b"\7")  # Nothing is said there: nothing to share anew.
    assert archive.index.epochs(quiet.group_id)
    follow_on_odin(archive)
    after = Recipients(names=AFTER, quorum=archive.quorum)
    assert not odin_is_replaced(archive)
    reshared(archive, archive.scope(WARD), after)
    assert not odin_is_replaced(archive)
    reshared(archive, archive.scope(CLINIC), after)
    assert odin_is_replaced(archive)
    assert not odin_is_replaced(archive, (*AFTER, "odin"))


def test_what_was_shared_anew_with_the_officer_too_replaces_nobody(archive: Archive) -> None:
    follow_on_odin(archive)
    everybody = Recipients(names=(*AFTER, UserName("odin")), quorum=archive.quorum)
    reshared(archive, archive.scope(WARD), everybody)
    reshared(archive, archive.scope(CLINIC), everybody)
    assert not odin_is_replaced(archive)


def test_whose_shares_were_shredded_at_their_end_holds_nothing_more(archive: Archive) -> None:
    assert not odin_is_replaced(archive)
    end_buckets(archive.log, now_ms=ended(archive).ends_ms())
    assert odin_is_replaced(archive)


def test_nothing_is_shared_anew_for_a_review(archive: Archive) -> None:
    request = archive.opened(archive.scope(WARD))
    permit = archive.handing_out().permit(request, now_ms=archive.now_ms)
    recipients = Recipients(names=(), quorum=archive.quorum)
    with (
        empty_worker(archive, permit.request.session_key) as resharing,
        pytest.raises(InvalidError),
    ):
        resharing.run(permit, 1, recipients, now_ms=archive.now_ms)


def test_an_officer_without_a_key_of_the_bucket_gets_no_share(archive: Archive) -> None:
    everybody = tuple(UserName(name) for name in sorted(archive.officers))
    recipients = Recipients(names=everybody, quorum=archive.quorum, bucket=b"held 2027Q1")
    with pytest.raises(InvalidError):
        reshared(archive, archive.scope(WARD), recipients)


def test_too_few_shares_are_not_shared_anew(archive: Archive) -> None:
    request = archive.opened(archive.scope(WARD), purpose=Purpose.RESHARE)
    handing = archive.handing_out()
    permit = handing.permit(request, now_ms=archive.now_ms)
    number = handing.announce(permit, verifier=bytes(32))
    archive.take_up()
    archive.witness()
    other = archive.sessions.begin()
    everybody = tuple(UserName(name) for name in sorted(archive.officers))
    with empty_worker(archive, other) as resharing, pytest.raises((SessionError, CryptoError)):
        resharing.run(
            permit,
            number,
            Recipients(names=everybody, quorum=archive.quorum),
            now_ms=archive.now_ms,
        )


def test_a_hold_on_what_was_not_shared_anew_keeps_the_bucket_whole(archive: Archive) -> None:
    letters = archive.officers["olga"].hold(
        archive.scope(CLINIC), case="c", reason="r", now_ms=archive.now_ms
    )
    archive.post("olga", letters)
    with pytest.raises(HeldError):
        shred(archive.log, Bucket.at(CLINICAL, archive.now_ms).name, now_ms=archive.now_ms)
