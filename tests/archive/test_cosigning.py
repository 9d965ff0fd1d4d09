"""Officers' devices as witnesses: a log that was set back or forked is found by one that knows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from archive.cosigning import AGAIN_MS, ASK_MS, Cosigners
from archive.errors import HistoryError
from crypto.checkpoint import Checkpoint
from crypto.errors import CryptoError
from crypto.names import Role
from crypto.note import SignatureType, SignerKey, VerifierKey
from crypto.statement import Purpose, StatementType, verify_statement
from crypto.witness import NOT_CONSISTENT, STALE, TreeHead
from protocol.cosigning import COSIGNED, Cosignature, witness_name
from protocol.identifiers import DeviceId
from tests.archive.logs import Site
from tests.archive.witnesses import House
from tests.flipped import flipped
from tests.server.harness import now_ms

OLGA = DeviceId("olga/desk")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


def said(house: House, answer: bytes) -> Cosignature:
    verified = verify_statement(
        answer, expected=StatementType.COSIGNATURE, trust=house.of.trust, at_ms=now_ms()
    )
    return Cosignature.decode(verified.body)


def holds(cosigners: Cosigners, house: House, device: DeviceId = OLGA) -> int:
    found = cosigners.of(device).holds(house.log.verifier)
    return 0 if found is None else found.size


def test_a_log_that_grows_is_cosigned_from_what_the_device_holds(house: House) -> None:
    olga = house.device()
    for size in (10, 20, 30):
        answer = house.round(olga)
        assert said(house, answer).status == COSIGNED
        assert house.takes(answer) == OLGA
        assert holds(house.cosigners, house) == size
    keys = house.cosigners.keys(house.of.trust, now_ms=now_ms())
    assert [VerifierKey.decode(key).name for key in keys] == [witness_name(OLGA)]


def set_back(house: House) -> Site:
    """Return the log as it was at 10, with its head and its relay's memory; it grew to 30."""
    olga = house.device()
    house.takes(house.round(olga))
    head = house.site.witness.head
    copy = house.site.copied(head=True)
    house.round(olga, more=20)
    house.site.witness.head = TreeHead(size=head.size, root=head.root)
    return copy


def test_a_log_set_back_with_its_relay_is_found_by_the_one_device_that_knows(house: House) -> None:
    log = house.opened(set_back(house))
    answer = house.round(house.device(), log=log)
    # The relay cosigned it: nobody but the officer's device knows better.
    assert house.site.witness.head.size == log.signed.size == 20
    assert said(house, answer).status == STALE
    with pytest.raises(HistoryError):
        house.takes(answer, log=log)
    # It is on the disk: the next start finds it without asking.
    with pytest.raises(HistoryError):
        house.cosigners.check(log, house.of.trust)
    house.cosigners.check(house.log, house.of.trust)


def test_a_fork_that_has_outgrown_what_the_device_holds_is_refused_and_found(house: House) -> None:
    log = house.opened(set_back(house))
    olga = house.device()
    house.round(house.device("omar/desk"), "omar/desk", log=log, more=40)
    with pytest.raises(HistoryError):
        house.takes(house.round(olga, log=log, more=1), log=log)
    # Also where the archive goes on regardless, from the size that the device has.
    answer = house.answer(olga, log.publish(), log=log)
    assert said(house, answer).status == NOT_CONSISTENT
    assert olga.held(log.verifier.name) is not None
    assert Checkpoint.decode(olga.contradictions()[0].text).size == log.signed.size
    with pytest.raises(HistoryError):
        house.takes(answer, log=log)


def test_what_an_officer_claims_without_the_logs_signature_stops_nobody(house: House) -> None:
    olga = house.device()
    house.takes(house.round(olga))
    good = said(house, house.round(olga))
    other = SignerKey.generate(witness_name(DeviceId("omar/desk")), SignatureType.COSIGNATURE)
    claims = [
        replace(good, key=other.verifier.encode()),
        replace(good, key=house.site.witness.key.verifier.encode()),
        replace(good, key=house.site.signer.verifier.encode()),
        replace(good, note=good.note.replace(b"\n20\n", b"\n9999\n")),
        replace(good, note=b"\n".join(good.note.splitlines()[:-1]) + b"\n"),
        replace(good, note=b"none"),
    ]
    by = house.of.people[OLGA].signatory(Purpose.OFFICER)
    for claim in claims:
        statement = house.of.signed(StatementType.COSIGNATURE, claim.encode(), by=by)
        with pytest.raises(CryptoError):
            house.takes(statement)
    with pytest.raises(CryptoError):
        house.takes(flipped(house.round(olga)))
    assert holds(house.cosigners, house) == 10


def test_only_this_organisations_officers_count(house: House) -> None:
    ann = house.device("ann/desk")
    assert house.cosigners.devices(house.of.trust, now_ms=now_ms()) == []
    with pytest.raises(CryptoError):
        house.takes(house.round(ann, "ann/desk"))
    house.of.enrol("omar/phone", Role.CLINICIAN)
    house.device()
    assert house.cosigners.devices(house.of.trust, now_ms=now_ms()) == [OLGA]


def test_a_device_is_asked_at_a_start_then_daily_and_weekly_while_it_is_silent(
    house: House,
) -> None:
    olga, began = house.device(), now_ms()
    trust = house.of.trust

    def due(at_ms: int) -> bool:
        return OLGA in house.cosigners.due(trust, now_ms=at_ms)

    assert due(began)
    house.cosigners.asked(OLGA, now_ms=began)
    assert not due(began + ASK_MS)
    assert due(began + AGAIN_MS)
    house.takes(house.round(olga))
    assert not due(began + ASK_MS - 1)
    assert due(began + ASK_MS)
    again = house.witnesses("restarted")
    assert again.due(trust, now_ms=began + 1) == [OLGA]


def test_what_it_held_of_the_log_before_is_nothing_of_a_new_one(house: House) -> None:
    house.takes(house.round(house.device()))
    new = SignerKey.generate("archive.hospital.example/new", SignatureType.ED25519).verifier
    assert house.cosigners.of(OLGA).holds(new) is None
    assert list(house.cosigners.held(house.of.trust, new)) == []
    assert len(house.cosigners.keys(house.of.trust, now_ms=now_ms())) == 1


def test_an_answer_about_the_log_before_says_nothing_of_a_new_one(house: House) -> None:
    late = house.round(house.device())
    (house.folder / "new").mkdir()
    signer = SignerKey.generate("archive.hospital.example/new", SignatureType.ED25519)
    new = Site(house.folder / "new", signer=signer).create()
    house.stores.append(new)
    assert house.takes(late, log=new) == OLGA
    assert holds(house.cosigners, house) == 0
