"""What a device believes of what lies in its inbox: the archive's word only with its proof."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from archive.batch import Entry
from archive.record import RecordType
from client.book import Book
from client.followed import Cause
from client.gossip import Gossip
from client.inbox import Inbox
from client.rooms import Rooms
from client.store import Store
from crypto.statement import Purpose, StatementType
from protocol.archived import Archived, archived_message
from protocol.authenticated_data import Checkpoint
from protocol.commands import SetLogPolicy
from protocol.frames import Deliver, EntryKind
from protocol.identifiers import inbox_log
from protocol.inbox import Item, ItemKind
from tests.archive.logs import BUCKET, NOW_MS, Site
from tests.client.ward import ANN, WARD, anns, send
from tests.server.harness import RECORDER, Hospital, hospital, now_ms


@dataclass
class Desk:
    """A device that has sent two messages, and the archive that has both.

    Attributes:
        number: The first message's id, which the relay has answered.
        archived: What the archive says of it.
        waiting: The second one's, whose answer is out.
        early: What the archive says of that one.
    """

    store: Store
    of: Hospital
    log: Site
    number: int
    archived: Archived
    waiting: int
    early: Archived

    def __post_init__(self) -> None:
        policy = SetLogPolicy(
            version=1,
            log_key=self.log.signer.verifier.encode(),
            witness_keys=(self.log.witness.key.verifier.encode(),),
        )
        trusted = SimpleNamespace(log_policy=policy, trust=self.of.trust)
        self.gossip = Gossip(self.store)
        book = cast("Book", SimpleNamespace(trusted=trusted))
        self.inbox = Inbox(self.store, book, cast("Rooms", None), self.gossip)
        self.trusted: Any = trusted

    def told(
        self,
        archived: Archived,
        *,
        by: str = RECORDER,
        behind_ms: int = 0,
        issued_ms: int | None = None,
    ) -> int:
        """Let a statement come; return of how many messages it was believed."""
        signatory = self.of.people[by].signatory(Purpose.RECORDER)
        statement = self.of.signed(
            StatementType.ARCHIVED, archived.encode(), by=signatory, issued_ms=issued_ms
        )
        entry = Deliver(
            log=inbox_log(ANN),
            sequence=self.store.cursor(inbox_log(ANN)) + 1,
            predecessor=self.store.cursor(inbox_log(ANN)),
            at_ms=now_ms() - behind_ms,
            kind=EntryKind.MESSAGE,
            body=Item(kind=ItemKind.STATEMENT, body=statement).encode(),
        )
        found = self.inbox.take(entry, now_ms=now_ms() - behind_ms, patient=False)
        return len(found.changes)

    @property
    def is_archived(self) -> bool:
        return self.store.evidence.is_archived(anns(self.number))


@pytest.fixture
def desk(store: Store, tmp_path: Path) -> Desk:
    of = hospital()
    of.enrol("bob/phone")
    (tmp_path / "archive").mkdir()
    site = Site(tmp_path / "archive")
    number, waiting = send(store, "one"), send(store, "two")
    bodies = [store.outbox.sealed(one) or b"" for one in (number, waiting)]
    store.accepted({number: 1})
    log = site.create()
    entries = [
        Entry(type=RecordType.MESSAGE, body=sealed, bucket=BUCKET, group_id=WARD, epoch=1)
        for sealed in bodies
    ]
    with log.recording(entries, now_ms=NOW_MS) as recorded:
        indices, salts = recorded.indices, recorded.salts
    note = log.publish()
    archived, early = (
        Archived(
            note=note,
            messages=(
                archived_message(
                    proof,
                    conversation=WARD,
                    sequence=sequence,
                    record=log.read(index).encode(),
                    salt=salts[index],
                ),
            ),
        )
        for sequence, (index, proof) in enumerate(
            zip(indices, log.receipts(indices, note), strict=True), start=1
        )
    )
    log.close()
    assert hashlib.sha256(bodies[0]).digest() == store.evidence.hash_of(WARD, 1)
    return Desk(
        store=store,
        of=of,
        log=site,
        number=number,
        archived=archived,
        waiting=waiting,
        early=early,
    )


def test_a_message_is_shown_as_archived_by_its_proof(desk: Desk) -> None:
    assert desk.told(desk.archived) == 1
    assert desk.is_archived
    assert desk.gossip.newest is not None
    assert desk.told(desk.archived) == 0


def test_a_clock_that_is_behind_loses_no_proof(desk: Desk) -> None:
    assert desk.told(desk.archived, behind_ms=24 * 3600 * 1000) == 1
    assert desk.is_archived


def test_a_signers_clock_that_is_before_its_certificate_loses_no_proof(desk: Desk) -> None:
    behind_ms = 1800 * 1000
    told = desk.told(desk.archived, behind_ms=behind_ms, issued_ms=now_ms() - behind_ms)
    assert told == 1
    assert desk.is_archived


def test_a_clock_that_is_behind_loses_no_command(desk: Desk) -> None:
    policy: SetLogPolicy = desk.trusted.log_policy
    book = Book(desk.store, root=desk.of.root, me=ANN)
    statement = desk.of.signed(StatementType.COMMAND, policy.encode(), by=desk.of.signatory())
    behind_ms = now_ms() - 24 * 3600 * 1000
    taken = book.take(statement, sequence=1, at_ms=now_ms(), now_ms=behind_ms)
    assert taken is not None
    assert taken.verified
    assert book.trusted.log_policy == policy


def test_a_proof_that_comes_before_the_relays_answer_stands_for_it(desk: Desk) -> None:
    settled: list[tuple[int, int]] = []

    def settle(number: int, sequence: int) -> None:
        settled.append((number, sequence))
        desk.store.accepted({number: sequence})

    desk.inbox.on_recorded = settle
    assert desk.told(desk.early) == 1
    assert settled == [(desk.waiting, 2)]
    assert desk.store.evidence.is_archived(anns(desk.waiting))
    # The answer comes after all, or the proof once more: nothing is new.
    desk.store.accepted({desk.waiting: 2})
    assert desk.told(desk.early) == 0
    assert desk.store.evidence.is_archived(anns(desk.waiting))
    assert len(settled) == 1


def test_proofs_of_what_nobody_is_shown_take_no_room_from_others(desk: Desk) -> None:
    (message,) = desk.archived.messages
    for sequence in range(1_000, 1_300):
        marks = replace(desk.archived, messages=(replace(message, sequence=sequence),))
        assert desk.told(marks) == 0
    desk.inbox.on_recorded = lambda number, sequence: desk.store.accepted({number: sequence})
    assert desk.told(desk.early) == 1


def test_the_recorders_word_without_a_proof_is_not_believed(desk: Desk, tmp_path: Path) -> None:
    (message,) = desk.archived.messages
    (tmp_path / "other").mkdir()
    other = Site(tmp_path / "other").create()
    unsigned = replace(desk.archived, note=other.publish())
    other.close()
    flipped = bytes([message.record[-1] ^ 1])
    changed = replace(message, record=message.record[:-1] + flipped)
    elsewhere = replace(message, sequence=2)
    for forged in (
        unsigned,
        replace(desk.archived, messages=(changed,)),
        replace(desk.archived, messages=(replace(message, salt=bytes(len(message.salt))),)),
        replace(desk.archived, messages=(elsewhere,)),
    ):
        assert desk.told(forged) == 0
    assert not desk.is_archived


def test_nobody_but_the_recorder_says_what_is_archived(desk: Desk) -> None:
    assert desk.told(desk.archived, by="bob/phone") == 0
    desk.trusted.log_policy = None
    assert desk.told(desk.archived) == 0
    assert not desk.is_archived


def test_two_trees_of_one_size_are_told_to_the_person(desk: Desk) -> None:
    size = 2
    assert desk.gossip.told(Checkpoint(tree_size=size, root_hash=bytes(32)), now_ms=now_ms())
    desk.told(desk.archived)
    assert [fault.cause for fault in desk.store.faults.all()] == [Cause.SPLIT_VIEW]
