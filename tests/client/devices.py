"""Devices of a hospital on a relay in this process, and a recorder that only judges."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from client.device import Device
from client.engine import Clock, Engine
from client.errors import RefusedError
from client.following import Event
from client.link import Address
from client.messages import State
from client.store import Draft, Seal, Sealed, Store
from client.views import Roster, Shown
from crypto.mls import Group
from crypto.statement import Purpose, StatementType
from protocol import frames
from protocol.commands import SetPolicy
from protocol.content import Text
from protocol.group_context import ConversationType
from protocol.identifiers import ConversationId, UserName, conversation_log, user_of
from protocol.policy import Policy
from tests.client.people import further
from tests.client.relay import address_of, credentials_of, serving
from tests.server.harness import RECORDER, Hospital, Person, Site, now_ms

KEY = bytes(range(32))
WAIT_S = 60.0


def opened(
    folder: Path, person: Person, of: Hospital, address: Address, *, clock: Clock = now_ms
) -> Device:
    """Return a device over its store, made anew or as it was left."""
    path = folder / f"{person.name.replace('/', '-')}.db"
    store = Store.open(path, KEY) if path.exists() else Store.create(path, KEY)
    store.settings.put("root", of.root.der)
    files = folder / f"{person.name.replace('/', '-')}-files"
    files.mkdir(exist_ok=True)
    return Device.over(
        store, credentials=credentials_of(person), address=address, clock=clock, files=files
    )


class Running:
    """A device and the task that drives it."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.task: asyncio.Task[None] | None = None

    @property
    def engine(self) -> Engine:
        return self.device.engine

    async def begin(self, *, within_s: float = WAIT_S) -> None:
        """Run, and return once what waited has been taken in."""
        self.task = asyncio.create_task(self.device.run())
        online = asyncio.create_task(self.device.online(within_s))
        await asyncio.wait([online, self.task], return_when=asyncio.FIRST_COMPLETED)
        if not online.done():
            # Whoever is not let in says why, and is not waited for.
            online.cancel()
            self.task.result()
        await online

    async def end(self) -> None:
        """Stop, as a program that is closed does."""
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task
            self.task = None

    async def until(self, holds: Callable[[], object], *, within_s: float = WAIT_S) -> None:
        """Wait until something holds, which changes tell."""
        changes = self.device.watch()
        async with asyncio.timeout(within_s):
            while not holds():
                if self.task is not None and self.task.done():
                    self.task.result()
                waiting = asyncio.ensure_future(anext(changes))
                done, _ = await asyncio.wait([waiting], timeout=0.5)
                if not done:
                    waiting.cancel()
                    with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
                        await waiting
                    changes = self.device.watch()

    # -- what it shows -------------------------------------------------------------------------

    def shown(self, conversation: ConversationId) -> list[Shown]:
        found = self.device.messages(conversation, limit=100_000)
        return [one for one in found if not isinstance(one.content, Roster)]

    def texts(self, conversation: ConversationId) -> list[str]:
        return [one.text for one in self.shown(conversation) if one.state is not State.REFUSED]

    def epoch(self, conversation: ConversationId) -> int:
        group = self.engine.rooms.group(conversation)
        return -1 if group is None else group.epoch

    async def sees(self, conversation: ConversationId, *texts: str) -> None:
        await self.until(lambda: set(texts) <= set(self.texts(conversation)))

    async def say(self, conversation: ConversationId, text: str) -> Shown:
        shown = await self.device.send(conversation, Text(text=text))
        assert shown is not None
        return shown

    async def in_epoch(self, conversation: ConversationId, epoch: int) -> None:
        await self.until(lambda: self.epoch(conversation) >= epoch)


def garble(running: Running) -> None:
    """Let the next Commit of a device be garbage, as an insider's would be."""
    store = running.engine.store
    sending = store.sending

    def garbled(conversation: ConversationId, before: Group, draft: Draft, *, seal: Seal) -> object:
        def broken(message_id: int, previous_id: int) -> Sealed:
            sealed = seal(message_id, previous_id)
            if sealed.stages is None:
                return sealed
            store.sending = sending  # type: ignore[method-assign]
            message = sealed.message[:-32] + secrets.token_bytes(32)
            stages = replace(sealed.stages, reference=hashlib.sha256(message).digest())
            return replace(sealed, message=message, stages=stages)

        return sending(conversation, before, draft, seal=broken)

    store.sending = garbled  # type: ignore[assignment,method-assign]


class Judging(Running):
    """A recorder: it confirms what is lawful, and voids what is not.

    Attributes:
        silent: Whether it keeps its verdicts to itself.
    """

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        self.silent = False
        self.kept: list[Event] = []
        self._work: set[asyncio.Task[None]] = set()
        before = device.engine.following.on_event

        def event(one: Event) -> None:
            before(one)
            if one.judgement is not None:
                self.kept.append(one)
                self.speak()

        device.engine.following.on_event = event

    def speak(self) -> None:
        if self.silent:
            return
        kept, self.kept = self.kept, []
        for one in kept:
            task = asyncio.create_task(self._judge(one))
            self._work.add(task)
            task.add_done_callback(self._work.discard)

    async def _judge(self, event: Event) -> None:
        judgement = event.judgement
        assert judgement is not None
        kind = StatementType.EPOCH_RECEIPT if judgement.confirms else StatementType.VOID
        statement = self.device.statements.sign(kind, judgement.verdict.encode(), Purpose.RECORDER)
        log = conversation_log(event.room.conversation)
        with contextlib.suppress(RefusedError):
            await self.device.ask(lambda ref: frames.Post(ref=ref, log=log, statement=statement))


class Devices(ABC):
    """A recorder and devices on some relay."""

    def __init__(self, of: Hospital, folder: Path) -> None:
        self.hospital = of
        self.folder = folder
        self.running: dict[str, Running] = {}

    @property
    @abstractmethod
    def address(self) -> Address:
        """Where the relay is."""

    @property
    def recorder(self) -> Judging:
        found = self.running[RECORDER]
        assert isinstance(found, Judging)
        return found

    def __getitem__(self, name: str) -> Running:
        return self.running[name]

    def clock(self) -> int:
        """Return the time."""
        return now_ms()

    def person(self, name: str) -> Person:
        """Return a device of a person, the first or a further one."""
        known = self.hospital.people
        if name in known:
            return known[name]
        user, _, device = name.partition("/")
        sponsor = next((one for one in known.values() if user_of(one.name) == user), None)
        return (
            self.hospital.enrol(name)
            if sponsor is None
            else further(self.hospital, sponsor, device)
        )

    async def come(self, *names: str, within_s: float = WAIT_S) -> None:
        """Let devices connect, for the first time or again."""
        for name in names:
            person = self.person(name)
            device = opened(self.folder, person, self.hospital, self.address, clock=self.clock)
            made = Judging(device) if name == RECORDER else Running(device)
            self.running[name] = made
            await made.begin(within_s=within_s)

    async def go(self, name: str) -> None:
        """Let a device disconnect and close."""
        running = self.running.pop(name)
        await running.end()
        running.device.close()

    async def govern(self, policy: Policy) -> None:
        """Set a policy, and wait until every device knows it."""
        statement = self.hospital.signed(
            StatementType.COMMAND, SetPolicy(policy=policy).encode(), by=self.hospital.signatory()
        )
        await self.recorder.device.statements.submit(statement)
        for who in self.running.values():
            await who.until(
                lambda who=who: who.device.policy.version == policy.version  # type: ignore[misc]
            )

    async def talk(
        self, *names: str, kind: ConversationType = ConversationType.GROUP, title: str = ""
    ) -> ConversationId:
        """Return a conversation of devices that are here, in its first epoch for all."""
        first = self.running[names[0]]
        users = sorted({UserName(user_of(self.running[name].device.me)) for name in names[1:]})
        conversation = await first.device.start(kind, users, title=title)
        for name in (*names, RECORDER):
            await self.running[name].in_epoch(conversation, 1)
        return conversation


class Ward(Devices):
    """Devices on a relay in this process, whose clock is the test's."""

    def __init__(self, site: Site, folder: Path) -> None:
        super().__init__(site.hospital, folder)
        self.site = site

    @property
    def address(self) -> Address:
        return address_of(self.site)

    def clock(self) -> int:
        """Return the time, which is the relay's and the test's."""
        return now_ms() + self.site.later_ms

    def later(self, ms: int) -> None:
        """Let time pass, and everybody look again at what waits for it."""
        self.site.later_ms += ms
        for running in self.running.values():
            running.engine.steward.wake()
            running.engine.membership.wake()


@asynccontextmanager
async def ward(folder: Path, of: Hospital, *names: str) -> AsyncIterator[Ward]:
    """Run a relay with a recorder and devices, all of them connected."""
    (folder / "relay").mkdir()
    async with serving(folder / "relay", of) as site:
        made = Ward(site, folder)
        try:
            await made.come(RECORDER, *names)
            yield made
        finally:
            for name in list(made.running):
                await made.go(name)
