"""An officer's device as a witness: what it holds is on its disk before it signs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from client import witness as module
from client.errors import RefusedError
from client.followed import Cause
from client.witness import MOST, PATIENCE_MS, QUESTIONS, UnknownLogError, Witness
from crypto.checkpoint import Checkpoint, sign_checkpoint
from crypto.errors import CryptoError
from crypto.names import Role
from crypto.note import Note
from crypto.statement import StatementType, verify_statement
from crypto.witness import NOT_SIGNED, STALE, AddCheckpoint
from protocol import frames
from protocol.cosigning import COSIGNED, Cosignature
from protocol.errors import Code
from protocol.identifiers import DeviceId, inbox_log
from protocol.inbox import decode_item
from tests.archive.logs import fill
from tests.archive.witnesses import House
from tests.server.harness import RECORDER, now_ms
from tests.waiting import comes_true

OLGA = DeviceId("olga/desk")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


def question(house: House, *, more: int = 10) -> bytes:
    """Return a question about a log that has grown, from what the archive knows."""
    fill(house.log, more, first=house.log.size)
    return house.asked(house.cosigners.question(OLGA, house.log, house.log.publish()))


def answer(house: House, olga: Witness, asked: bytes) -> Cosignature:
    statement = olga.answer(asked, now_ms=now_ms()).statement
    verified = verify_statement(
        statement, expected=StatementType.COSIGNATURE, trust=house.of.trust, at_ms=now_ms()
    )
    return Cosignature.decode(verified.body)


def size(answered: Cosignature, house: House) -> int:
    found = answered.verify(device=OLGA, log=house.log.verifier)
    return 0 if found is None else found.checkpoint.size


def test_what_a_device_vouched_for_outlives_its_program(house: House) -> None:
    asked = question(house)
    assert answer(house, house.device(), asked).status == COSIGNED
    again = answer(house, house.device(), asked)
    # It is one witness: the same key, and what it held, which the question does not go on from.
    assert (again.status, size(again, house)) == (STALE, 10)


def test_it_has_the_head_on_its_disk_before_it_signs(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    olga, asked = house.device(), question(house)

    def killed(*_: object, **__: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(module, "cosign", killed)
        with pytest.raises(SystemExit):
            answer(house, olga, asked)
    held = house.device().held(house.log.verifier.name)
    assert held is not None
    assert Checkpoint.decode(held.text).size == 10


def test_a_smaller_tree_never_takes_the_place_of_a_larger(house: House) -> None:
    olga = house.device()
    first, second = question(house), question(house)
    assert size(answer(house, olga, second), house) == 20
    assert size(answer(house, olga, first), house) == 20
    assert olga.contradictions() == []


def test_a_fork_is_answered_with_what_is_held_and_kept_as_a_fault(house: House) -> None:
    olga = house.device()
    assert size(answer(house, olga, question(house)), house) == 10
    origin = house.log.verifier.name
    for old_size, proof, forged in ((10, (), 10), (3, (), 10), (10, (bytes(32),), 11)):
        fork = sign_checkpoint(
            Checkpoint(origin=origin, size=forged, root=bytes(32)), house.site.signer
        )
        request = AddCheckpoint(old_size=old_size, proof=proof, note=fork)
        answered = answer(house, olga, house.asked(request))
        assert answered.status != COSIGNED
        assert size(answered, house) == 10
    # Two notes, each of which the log's own key signed against what this device holds.
    assert len(olga.contradictions()) == 2
    faults = house.device().store.faults.all()
    assert {fault[2] for fault in faults} == {Cause.SPLIT_VIEW}


def test_what_the_log_did_not_sign_is_no_evidence_against_it(house: House) -> None:
    olga = house.device()
    answer(house, olga, question(house))
    note = house.log.publish()
    bare = Note(text=note.text, signatures=note.signatures[1:])
    asked = house.asked(AddCheckpoint(old_size=10, proof=(), note=bare))
    assert answer(house, olga, asked).status == NOT_SIGNED
    assert olga.contradictions() == []


def test_nobody_but_the_recorder_asks_and_about_no_other_log(house: House) -> None:
    olga = house.device()
    house.of.enrol("eve/phone", Role.CLINICIAN)
    note = house.log.publish()
    request = AddCheckpoint(old_size=0, proof=(), note=note)
    olga.trusted.trust = house.of.trust
    with pytest.raises(CryptoError):
        olga.answer(house.asked(request, by="eve/phone"), now_ms=now_ms())
    text = note.text.replace(house.log.verifier.name.encode(), b"other.example/log")
    other = AddCheckpoint(old_size=0, proof=(), note=Note(text=text, signatures=note.signatures))
    with pytest.raises(UnknownLogError):
        olga.answer(house.asked(other), now_ms=now_ms())
    assert olga.held(house.log.verifier.name) is None


class Relay:
    """Takes what is posted, or refuses it."""

    def __init__(self) -> None:
        self.posted: list[frames.Post] = []
        self.refusals: list[Code] = []

    async def ask(self, make: Callable[[int], Any]) -> Any:
        if self.refusals:
            raise RefusedError(self.refusals.pop(0))
        self.posted.append(make(1))


async def test_a_question_waits_on_the_disk_until_its_answer_is_with_the_relay(
    house: House,
) -> None:
    olga, relay = house.device(), Relay()
    relay.refusals = [Code.RATE_LIMITED]
    olga.asked(StatementType.CHECKPOINT, question(house), now_ms=now_ms())
    olga.asked(StatementType.PAGE_ANSWER, b"for others", now_ms=now_ms())
    working = asyncio.create_task(olga.work(relay.ask, clock=now_ms))
    await comes_true(lambda: not relay.refusals)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert relay.posted == []
    again = house.device()
    working = asyncio.create_task(again.work(relay.ask, clock=now_ms))
    await comes_true(lambda: not again.store.cache.all(QUESTIONS))
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    (post,) = relay.posted
    assert post.log == inbox_log(DeviceId(RECORDER))
    assert house.takes(decode_item(post.statement).body) == OLGA


async def test_what_cannot_be_answered_waits_for_a_day_and_no_longer(house: House) -> None:
    olga, relay, now = house.device(), Relay(), now_ms()
    policy = olga.trusted.log_policy
    olga.trusted.log_policy = None
    store = olga.store
    clock = [now]
    olga.asked(StatementType.CHECKPOINT, question(house), now_ms=now)
    working = asyncio.create_task(olga.work(relay.ask, clock=lambda: clock[0]))
    await asyncio.sleep(0)
    assert len(store.cache.all(QUESTIONS)) == 1
    olga.trusted.log_policy = policy
    olga.wake()
    await comes_true(lambda: bool(relay.posted))
    olga.trusted.log_policy = None
    olga.asked(StatementType.CHECKPOINT, question(house), now_ms=now)
    clock[0] += PATIENCE_MS + 1
    olga.wake()
    await comes_true(lambda: not store.cache.all(QUESTIONS))
    assert len(relay.posted) == 1
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


def test_a_flood_of_questions_fills_no_disk(house: House) -> None:
    olga = house.device()
    for number in range(MOST + 5):
        olga.asked(StatementType.CHECKPOINT, b"%d" % number, now_ms=now_ms())
    assert len(olga.store.cache.all(QUESTIONS)) == MOST
