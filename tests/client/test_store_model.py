"""The store beside a model in memory, through random lives with restarts and failures."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from client.messages import Effect, PersonMark, PersonState, Retraction, Revision
from client.mls_records import Staged
from client.store import Entry, Sealed, Store
from crypto.errors import EpochError, KeyUsedError
from crypto.mls import Group, StagedCommit
from tests.client.ward import (
    CAT,
    KEY,
    LOG,
    PATH,
    WARD,
    assembled,
    bobs,
    draft,
    entry,
    said,
    saved,
)
from tests.crypto.mls.clients import accept
from tests.crypto.mls.clients import saved as records
from tests.depth import DEPTH

WORDS = st.sampled_from(["amber", "birch", "cedar", "amber birch", "Cedar"])


@dataclass
class Line:
    """One message as it should be."""

    text: str
    at_ms: int
    order: tuple[int, int]
    mine: int = 0
    former: list[str] = field(default_factory=list)
    read: int = 0
    retracted: bool = False


class RefusedError(Exception):
    """What a caller's own code may raise while it seals."""


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.store = Store.create(self.directory / PATH, KEY)
        ann, self.bob = assembled()
        self.store.began(WARD, ann)
        self.lines: list[Line] = []
        self.theirs: dict[int, Line] = {}
        self.outbox: list[int] = []
        self.sequence = 0
        self.last_id = 0
        self.read: list[bytes] = []
        self.staged: dict[bytes, Group] = {}

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.directory)

    def step(self, *effects: Effect, **fields: object) -> Entry:
        """Return the log's next entry, with no key used."""
        self.sequence += 1
        group = saved(self.store)
        made = Entry(
            log=LOG,
            sequence=self.sequence,
            conversation=WARD,
            before=group,
            after=group,
            effects=effects,
        )
        return replace(made, **fields)  # type: ignore[arg-type]

    @rule(texts=st.lists(WORDS, min_size=1, max_size=4), at_ms=st.integers(0, 50))
    def hear(self, texts: list[str], at_ms: int) -> None:
        entries: list[Entry] = []
        group = saved(self.store)
        for text in texts:
            self.sequence += 1
            self.bob, message = self.bob.encrypt(text.encode())
            entries.append(entry(group, message, self.sequence, at_ms=at_ms))
            after = entries[-1].after
            assert after is not None
            group = after
            self.read.append(message)
            line = Line(text=text, at_ms=at_ms, order=(0, self.sequence))
            self.theirs[self.sequence] = line
            self.lines.append(line)
        received = self.store.received(entries)
        assert [message.content.text for message in received.messages] == texts
        assert received.through == {LOG: self.sequence}

    @rule(text=WORDS, at_ms=st.integers(0, 50), fails=st.booleans())
    def send(self, text: str, at_ms: int, fails: bool) -> None:
        before = saved(self.store)

        def seal(message_id: int, previous_id: int) -> Sealed:
            group, message = before.encrypt(text.encode())
            if fails:
                raise RefusedError(message_id, previous_id)
            return Sealed(group=group, message=message)

        if fails:
            with pytest.raises(RefusedError):
                self.store.sending(WARD, before, draft(text, at_ms), seal=seal)
            return
        self.store.sending(WARD, before, draft(text, at_ms), seal=seal)
        self.last_id += 1
        self.outbox.append(self.last_id)
        self.lines.append(Line(text=text, at_ms=at_ms, order=(1, self.last_id), mine=self.last_id))

    @precondition(lambda self: self.outbox)
    @rule(accepts=st.booleans(), twice=st.booleans())
    def answer(self, accepts: bool, twice: bool) -> None:
        message_id = self.outbox.pop(0)
        line = next(line for line in self.lines if line.mine == message_id)
        if accepts:
            self.sequence += 1
            line.order = (0, self.sequence)
        for _ in range(1 + twice):
            if accepts:
                self.store.accepted({message_id: self.sequence})
            else:
                self.store.refused(message_id)

    @precondition(lambda self: self.theirs)
    @rule(data=st.data(), text=WORDS, kind=st.sampled_from(["edit", "retract", "read"]))
    def change(self, data: st.DataObject, text: str, kind: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.theirs)))
        line = self.theirs[number]
        target = bobs(number)
        effect: Effect
        if kind == "edit":
            effect = Revision(target=target, at_ms=1, content=said(text))
            if not line.retracted:
                line.former.append(line.text)
                line.text = text
        elif kind == "retract":
            effect = Retraction(target=target)
            line.text, line.former, line.retracted = "", [], True
        else:
            state = data.draw(st.sampled_from(PersonState))
            effect = PersonMark(target=target, person=CAT, state=state, at_ms=1)
            line.read = max(line.read, state)
        self.store.received([self.step(effect)])

    @rule()
    def stage(self) -> None:
        bob, commit = self.bob.commit(authenticate=accept)
        self.bob = bob
        after, received = saved(self.store).process(commit.message, authenticate=accept)
        assert isinstance(received, StagedCommit)
        assert commit.group is not None
        reference = b"%d" % (self.sequence + 1)
        staged = Staged(reference=reference, about=b"", group=received.group)
        self.store.received([self.step(after=after, stages=staged)])
        self.staged[reference] = commit.group
        self.read.append(commit.message)

    @precondition(lambda self: self.staged)
    @rule(data=st.data(), merges=st.booleans())
    def decide(self, data: st.DataObject, merges: bool) -> None:
        reference = data.draw(st.sampled_from(sorted(self.staged)))
        if not merges:
            self.store.received([self.step(drops=(reference,))])
            del self.staged[reference]
            return
        found = {one.reference: one.group for one in self.store.groups.staged(WARD)}
        following = found[reference]
        assert following is not None
        merged = saved(self.store).merge(following)
        self.store.received([self.step(after=merged, drops=tuple(self.staged))])
        self.bob = self.bob.merge(self.staged[reference])
        self.staged.clear()

    @rule(before_ms=st.integers(0, 40))
    def purge(self, before_ms: int) -> None:
        def stays(line: Line) -> bool:
            return line.at_ms >= before_ms or line.mine in self.outbox

        gone = [line for line in self.lines if not stays(line)]
        assert self.store.purge(before_ms) == len(gone)
        self.lines = [line for line in self.lines if stays(line)]
        self.theirs = {number: line for number, line in self.theirs.items() if stays(line)}

    @rule()
    def restart(self) -> None:
        kept = records(saved(self.store))
        self.store.close()
        self.store = Store.open(self.directory / PATH, KEY)
        assert records(saved(self.store)) == kept

    @precondition(lambda self: self.read)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        message = data.draw(st.sampled_from(self.read[-5:]))
        with pytest.raises((KeyUsedError, EpochError)):
            saved(self.store).process(message, authenticate=accept)

    @invariant()
    def is_as_the_model(self) -> None:
        lines = sorted(self.lines, key=lambda line: line.order)
        page = self.store.messages.page(WARD, limit=10_000)
        assert [message.content.text for message in page] == [line.text for line in lines]
        assert [message.revisions for message in page] == [len(line.former) for line in lines]
        for number, line in self.theirs.items():
            history = self.store.messages.history(bobs(number))
            assert [version.content.text for version in history] == line.former
            people = self.store.messages.people(bobs(number))
            assert people.get(CAT, (0, 0))[0] == line.read
        hits = self.store.messages.search("CED")
        assert len(hits) == sum("cedar" in line.text.casefold() for line in lines)
        assert self.store.cursor(LOG) == self.sequence
        waiting = self.store.outbox.to_send(self.last_id)
        assert [outgoing.message_id for outgoing in waiting] == self.outbox
        assert self.store.outbox.last_id == self.last_id
        staged = self.store.groups.staged(WARD)
        assert {one.reference for one in staged} == set(self.staged)


StoreMachine.TestCase.settings = settings(
    max_examples=12 * DEPTH, stateful_step_count=25, deadline=None
)
TestStoreMachine = StoreMachine.TestCase
