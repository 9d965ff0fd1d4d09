"""The index, the intray and the archive's own bodies: what is found again is what was put in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.alarms import Alarm
from archive.batch import Entry
from archive.evidence import Evidence, Gap, Heartbeat, Relayed
from archive.index import EpochPlace, Followed, Index, Place
from archive.intray import WITNESSED, Intray, taken, waiting
from archive.live import Live
from archive.log import Log
from archive.record import RecordType
from archive.roster import Roster
from archive.shredding import ARCHIVE_BUCKET
from archive.watch import metrics
from crypto.errors import DecodeError, InvalidError, UsageError
from crypto.merkle import leaf_hash
from protocol.group_context import ConversationType, WardlineContext
from protocol.identifiers import CONTROL_LOG, DeviceId, OrganisationId, UserName
from tests.archive.logs import NOW_MS, WARD, Site, messages

CONTEXT = WardlineContext(
    organisation=OrganisationId(bytes(32)),
    conversation_type=ConversationType.GROUP,
    owners=(UserName("ann"),),
    recorder=DeviceId("archive/recorder"),
    retention_class="clinical",
)


def roster(epoch: int) -> Roster:
    return Roster(
        group_id=WARD,
        epoch=epoch,
        context=CONTEXT.encode(),
        members=((0, bytes(32)), (3, b"f" * 32)),
    )


def test_records_are_found_by_conversation_and_by_when_they_were_sent(site: Site) -> None:
    log = site.create()
    index = Index(log.store)
    places = [
        Place(index=n, type=RecordType.MESSAGE, epoch=1, sequence=n, sent_ms=1000 * n)
        for n in range(5)
    ]
    with log.store.transaction():
        index.add_places({WARD: places, CONTROL_LOG: places[:1]})
        index.add_places({WARD: places})
    assert index.places(WARD) == places
    assert index.places(WARD, from_ms=1000, until_ms=3000) == places[1:3]
    assert index.places(b"x" * 32) == []


def test_epochs_people_and_settings_are_found(site: Site) -> None:
    log = site.create()
    index = Index(log.store)
    with log.store.transaction():
        for epoch in (1, 2):
            place = EpochPlace(epoch=epoch, keys=10 * epoch, roster=10 * epoch + 1, began_ms=epoch)
            index.add_epoch(roster(epoch), place, users={"ann", "ben"} if epoch == 1 else {"ann"})
    assert [one.keys for one in index.epochs(WARD)] == [10, 20]
    assert index.of_user("ben") == [(WARD, 1)]
    assert index.of_user("ann") == [(WARD, 1), (WARD, 2)]
    assert index.context(WARD) == CONTEXT
    assert index.conversations() == {WARD: CONTEXT}
    assert (index.began_ms(WARD, 2), index.began_ms(WARD, 3)) == (2, None)
    with log.store.transaction():
        index.reseal(WARD, 2, keys=99)
    assert [one.keys for one in index.epochs(WARD)] == [10, 99]


def test_the_newest_key_of_an_officer_counts_whichever_comes_last(site: Site) -> None:
    log = site.create()
    index = Index(log.store)
    with log.store.transaction():
        index.add_officer_key("o1", b"b", b"new", issued_ms=2)
        index.add_officer_key("o1", b"b", b"old", issued_ms=1)
        index.add_officer_key("o2", b"b", b"two", issued_ms=1)
        index.add_officer_key("o9", b"b", b"nine", issued_ms=1)
    found = index.officers(b"b", ["o2", "o1", "o3"])
    assert [(one.name, one.public_key) for one in found] == [(b"o2", b"two"), (b"o1", b"new")]


def test_how_far_logs_were_read_is_kept_with_their_readers(site: Site) -> None:
    log = site.create()
    known = Followed(through=7, epoch=2, readers=(DeviceId("ann/phone"), DeviceId("ben/phone")))
    with log.store.transaction():
        Index(log.store).follow({CONTROL_LOG: known})
    assert Index(log.store).followed() == {CONTROL_LOG: known}


def test_what_another_process_hands_in_gets_its_receipt_once_it_is_witnessed(site: Site) -> None:
    log = site.create()
    log.append(messages(0, 5), now_ms=NOW_MS)
    intray = Intray(site.files.log, site.database_key)
    entry = Entry(type=RecordType.VIEW, body=b"a view", bucket=ARCHIVE_BUCKET)
    number = intray.submit(entry)
    assert intray.receipt(number) is None
    ((found, wanted),) = waiting(log.store, most=10)
    assert (found, wanted) == (number, entry)
    with log.recording([wanted], now_ms=NOW_MS) as recorded:
        taken(log.store, number, recorded.indices[0])
    assert intray.receipt(number) is None
    note = log.publish()
    with log.store.transaction():
        Live(log.store).put_setting(WITNESSED, note.encode())
    proof = intray.receipt(number)
    assert proof is not None
    leaf = leaf_hash(log.read(proof.index).encode())
    assert proof.verify(leaf=leaf, key=site.signer.verifier).size == log.size
    assert waiting(log.store, most=10) == []
    intray.close()


def test_a_number_of_the_intray_is_never_given_twice(site: Site) -> None:
    log = site.create()
    intray = Intray(site.files.log, site.database_key)
    entry = Entry(type=RecordType.VIEW, body=b"a", bucket=ARCHIVE_BUCKET)
    assert [intray.submit(entry), intray.submit(entry)] == [1, 2]
    assert len(waiting(log.store, most=1)) == 1
    intray.close()


BODIES = [
    Evidence(log=b"c" + WARD, sequence=3, cause=7, body_hash=bytes(32)),
    Relayed(log=b"a", sequence=1, at_ms=2, body=b"event"),
    Heartbeat(at_ms=1, relay_ms=2, witnessed=3),
    Gap(log=b"", after=1, before=2, at_ms=3, origin=b"o", size=4),
    roster(1),
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_a_body_has_one_encoding_and_a_known_version(
    body: Evidence | Relayed | Heartbeat | Gap | Roster,
) -> None:
    data = body.encode()
    assert type(body).decode(data) == body
    with pytest.raises(InvalidError):
        type(body).decode(b"\2" + data[1:])
    with pytest.raises(DecodeError):
        type(body).decode(data + b"\0")


@given(data=st.binary(max_size=120), kind=st.sampled_from([type(body) for body in BODIES]))
def test_any_bytes_are_a_body_that_re_encodes_or_a_documented_error(
    data: bytes, kind: type[Evidence | Relayed | Heartbeat | Gap | Roster]
) -> None:
    try:
        body = kind.decode(data)
    except (DecodeError, InvalidError):
        return
    assert body.encode() == data


def test_a_roster_has_one_member_a_leaf_and_evidence_a_whole_hash() -> None:
    with pytest.raises(InvalidError):
        Roster(group_id=WARD, epoch=1, context=b"", members=((1, bytes(32)), (1, b"f" * 32)))
    with pytest.raises(UsageError):
        Evidence(log=b"a", sequence=1, cause=1, body_hash=b"short").encode()


def test_metrics_name_every_alarm_and_hold_numbers_alone() -> None:
    text = metrics({"records": 5, "connected": True, "alarms": {"GAP": 2}})
    assert "wardline_archive_records 5\n" in text
    assert "wardline_archive_connected 1\n" in text
    assert 'wardline_archive_alarm{name="GAP"} 2\n' in text
    assert text.count("wardline_archive_alarm{") == len(Alarm)


def test_a_log_has_no_live_state_at_first(site: Site) -> None:
    log: Log = site.create()
    live = Live(log.store)
    assert (live.conversations(), live.waiting(), live.outbox()) == ([], [], {})
    assert (live.packages(), live.untold_count(), live.setting("x")) == (0, 0, None)
