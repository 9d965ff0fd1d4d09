"""The real store against the one on paper, through random walks with restarts in between."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from server import sqlite_schema
from server.sqlite_store import SqliteStore
from server.store import (
    AdoptLog,
    Append,
    ChangeReaders,
    Commit,
    CreateLog,
    EndDevice,
    Expire,
    Fact,
    LogKey,
    PutFacts,
    Reader,
    Receipt,
    RemoveLog,
    Store,
    StoreError,
    Void,
)
from tests.server.memory_store import MemoryStore, restarted
from tests.server.stores import (
    CONTROL,
    DEVICES,
    EVERYTHING,
    ORGANISATION,
    THEATRE,
    WARD,
    inbox,
    message,
    reader,
)

LOGS = (WARD, THEATRE, CONTROL, *(inbox(device) for device in DEVICES))
AFTER_MS = 100_000

logs = st.sampled_from(LOGS)
conversations = st.sampled_from((WARD, THEATRE))
devices = st.sampled_from(DEVICES)
some_devices = st.lists(devices, unique=True, max_size=3)
numbers = st.integers(1, 300)
bodies = st.binary(max_size=40)


def outcome(answer: Any) -> Any:
    """A refusal as its class and fields, anything else as it is."""
    return (type(answer), vars(answer)) if isinstance(answer, StoreError) else answer


class StoreMachine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        # Nothing here is about the disk: memory spares it thousands of syncs.
        memory = Path("/dev/shm")
        self.directory = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self.path = self.directory / "relay.db"
        sqlite_schema.create(self.path)
        self.runner = asyncio.Runner()
        self.model = MemoryStore()
        self.real = self.runner.run(SqliteStore.open(self.path))
        self.wall_ms, self.monotonic_ms = 1_700_000_000_000, 5_000
        self.next = dict.fromkeys(DEVICES, 1)

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.runner.run(self.real.close())
            self.runner.close()
            shutil.rmtree(self.directory)

    def both(self, act: Callable[[Store], Awaitable[Any]]) -> Any:
        async def run(store: Store) -> Any:
            try:
                return await act(store)
            except StoreError as refusal:
                return refusal

        real = self.runner.run(run(self.real))
        model = self.runner.run(run(self.model))
        assert outcome(real) == outcome(model)
        return real

    @rule(log=logs, readers=some_devices, epoch=st.integers(0, 2))
    def create(self, log: LogKey, readers: list[Any], epoch: int) -> None:
        chosen = [reader(device) for device in readers]
        self.both(lambda store: store.change(CreateLog(log, epoch=epoch, readers=chosen)))

    def send(self, request: Append) -> None:
        self.both(lambda store: store.append(request))

    @rule(log=logs, sender=devices, body=bodies, priority=st.integers(0, 7), back=st.integers(0, 3))
    def say(self, log: LogKey, sender: Any, body: bytes, priority: int, back: int) -> None:
        head = self.model.head(log)
        epoch = head.epoch if head and log in (WARD, THEATRE) else None
        number = max(1, self.next[sender] - back)
        self.next[sender] = max(self.next[sender], number + 1)
        self.send(message(sender, number, log=log, body=body, epoch=epoch, priority=priority))

    @rule(log=conversations, sender=devices, number=numbers, epoch=st.integers(0, 4))
    def say_anything(self, log: LogKey, sender: Any, number: int, epoch: int) -> None:
        self.next[sender] = max(self.next[sender], number + 1)
        self.send(message(sender, number, log=log, epoch=epoch))

    @rule(
        log=conversations,
        sender=devices,
        joins=some_devices,
        leaves=some_devices,
        welcome=st.none() | bodies,
        late=st.booleans(),
    )
    def commit(
        self,
        log: LogKey,
        sender: Any,
        joins: list[Any],
        leaves: list[Any],
        welcome: Any,
        late: bool,
    ) -> None:
        head = self.model.head(log)
        epoch = max(0, (head.epoch if head else 0) - late)
        effect = Commit(
            joins=tuple(reader(device) for device in joins),
            leaves=tuple(leaves),
            welcome=welcome,
            welcome_kind=7,
            welcome_priority=3,
        )
        self.next[sender] += 1
        self.send(message(sender, self.next[sender] - 1, log=log, epoch=epoch, effect=effect))

    @rule(log=conversations, sender=devices, void=st.booleans(), wrong=st.booleans())
    def decide(self, log: LogKey, sender: Any, void: bool, wrong: bool) -> None:
        head = self.model.head(log)
        staged = (head.staged if head else None) or 1
        effect = (Void if void else Receipt)(commit=staged + wrong)
        self.next[sender] += 1
        self.send(message(sender, self.next[sender] - 1, log=log, epoch=None, effect=effect))

    @rule(device=devices, body=bodies)
    def order(self, device: Any, body: bytes) -> None:
        self.next[device] += 1
        number = self.next[device] - 1
        self.send(message(device, number, log=inbox(device), body=body, epoch=None, expires=False))

    @rule(log=logs, device=devices, seq=st.integers(0, 30))
    def acknowledge(self, log: LogKey, device: Any, seq: int) -> None:
        async def act(store: Store) -> int | None:
            stands = store.acknowledge(log, device, seq)
            await store.settle()
            return stands

        self.both(act)

    @rule(log=logs, add=some_devices, end=some_devices, after=st.none() | st.integers(0, 9))
    def change_readers(self, log: LogKey, add: list[Any], end: list[Any], after: Any) -> None:
        readers = [Reader(device=device, after=after) for device in add]
        self.both(lambda store: store.change(ChangeReaders(log, add=readers, end=end)))

    @rule(device=devices)
    def end_device(self, device: Any) -> None:
        self.both(lambda store: store.change(EndDevice(ORGANISATION, device)))

    @rule(log=logs)
    def remove(self, log: LogKey) -> None:
        self.both(lambda store: store.change(RemoveLog(log)))

    @rule(passed_ms=st.integers(-5, AFTER_MS), wall_jump_ms=st.integers(-(10**10), 10**12))
    def expire(self, passed_ms: int, wall_jump_ms: int) -> None:
        self.monotonic_ms += passed_ms
        self.wall_ms = max(1, self.wall_ms + wall_jump_ms)
        self.both(self.tick)

    async def tick(self, store: Store) -> Any:
        lost = await store.change(
            Expire(after_ms=AFTER_MS, wall_ms=self.wall_ms, monotonic_ms=self.monotonic_ms)
        )
        return sorted(lost, key=lambda one: (one.log, one.device))

    @rule(key=st.binary(min_size=1, max_size=2), value=st.none() | bodies)
    def put(self, key: bytes, value: bytes | None) -> None:
        self.both(lambda store: store.change(PutFacts(ORGANISATION, [Fact(key=key, value=value)])))

    @rule(log=logs, last=st.integers(0, 30), epoch=st.integers(0, 5), readers=some_devices)
    def adopt(self, log: LogKey, last: int, epoch: int, readers: list[Any]) -> None:
        chosen = [reader(device) for device in readers]
        self.both(lambda store: store.change(AdoptLog(log, last=last, epoch=epoch, readers=chosen)))

    @rule(
        log=logs,
        device=devices,
        after=st.integers(0, 20),
        entries_max=st.integers(1, 4),
        bytes_max=st.integers(0, 60),
    )
    def read(self, log: LogKey, device: Any, after: int, entries_max: int, bytes_max: int) -> None:
        self.both(
            lambda store: store.read(
                log, device, after=after, entries_max=entries_max, bytes_max=bytes_max
            )
        )

    @rule()
    def restart(self) -> None:
        self.runner.run(self.real.close())
        self.real = self.runner.run(SqliteStore.open(self.path))
        restarted(self.model)

    @invariant()
    def everything_is_equal(self) -> None:
        if not hasattr(self, "real"):
            return
        for log in LOGS:
            assert self.real.head(log) == self.model.head(log)
            assert set(self.real.readers(log)) == set(self.model.readers(log))
        for device in DEVICES:
            pending = self.real.pending(ORGANISATION, device)
            known = {(p.log, p.cursor, p.head, p.waiting, p.lapsed) for p in pending}
            model = self.model.pending(ORGANISATION, device)
            assert known == {(p.log, p.cursor, p.head, p.waiting, p.lapsed) for p in model}
            for log in LOGS:
                self.both(lambda store, d=device, k=log: store.read(k, d, after=0, **EVERYTHING))  # type: ignore[misc]
        self.both(lambda store: store.facts(ORGANISATION))


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


SERVER = Path(sqlite_schema.__file__).parent
CHOOSE = {"checking", "pipeline", "program"}
"""Who may name the engine: what starts and checks it, and the queue in front of its writer."""


def test_nothing_but_the_program_knows_with_what_the_store_is_made() -> None:
    engine = re.compile(r"^\s*(?:from|import) .*\b(?:sqlite\w*|aiosqlite)\b", re.MULTILINE)
    knowing = {file.stem for file in SERVER.glob("*.py") if engine.search(file.read_text())}
    assert {name for name in knowing if not name.startswith("sqlite_")} == CHOOSE


def test_the_interface_is_what_the_decisions_say_of_it() -> None:
    decisions = (SERVER.parent / "docs" / "decisions.md").read_text()
    told = decisions.split("**Thirteen methods.** ")[1].split("A second implementation")[0]
    named = re.findall(r"`([a-z_]+)`", told)
    methods = [name for name, one in vars(Store).items() if callable(one) and name[0] != "_"]
    assert sorted(named) == sorted(methods)
    assert len(methods) == 13
