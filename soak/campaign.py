"""Round after round: the ward talks, something breaks, it is mended, and all must be well."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

from demo.night import STEP_S, Night, found, messages_kept, registrar, staff
from demo.programs import DemoError, run
from demo.stage import Stage
from soak.faults import Deck, Fault
from soak.invariant import Seen, files_with, is_in_memory, judge, seen_in
from soak.mix import Mix, Talk
from soak.paging import Paging
from soak.ward import ARCHIVE, DEVICES, Handset, Ward

WELL_S = 240.0
"""Seconds after which everything must be well again, on a machine that is busy."""

LOOK_S = 1.0
QUIET_S = (2.0, 8.0)
"""Seconds of traffic before a fault, and after it before it is mended, from and to."""

DEVICE_FULL, ARCHIVE_FULL = '"disk_f', "StoreFullError"
"""What a device and the archive say when they end because their disk is full: a store that may not
know what has reached it goes on from what it finds at the next start."""

WHOLE = 100_000
"""Messages of a conversation that are looked at when all of it is."""


class Campaign:
    """A soak, from founding to the last check.

    Attributes:
        faults: How often each kind was played.
        failures: What did not hold, in words.
        checks: How often everything was looked at.
    """

    def __init__(self, night: Night, ward: Ward, *, seed: int, rate: float) -> None:
        self.faults: Counter[str] = Counter()
        self.failures: list[str] = []
        self.checks = 0
        self.slowest_s = 0.0
        self._night = night
        self._ward = ward
        self._stage: Stage = night.stage
        self._deck = Deck(seed)
        self._mix = Mix(ward, seed=seed, words=night.words, rate=rate)
        self._paging = Paging(ward, self._mix, seed=seed)

    @property
    def sent(self) -> int:
        """How many messages devices have taken."""
        return self._mix.sent

    @property
    def pages(self) -> int:
        """How many pages devices have taken."""
        return self._paging.made

    @property
    def shown(self) -> int:
        """How often a message was shown."""
        return sum(len(handset.shown) for handset in self._ward.handsets.values())

    async def begin(self) -> None:
        """Found the hospital, enrol everybody, and start every conversation."""
        self._ward.build()
        await found(self._night)
        await staff(self._night)
        file = self._ward.hospital.folder / "oncall.toml"
        file.write_text(registrar(second=f"{STEP_S}s"))
        async with self._ward.hospital.console("boris") as console:
            await console.do(f"admin oncall apply {file}", code=True)
        await self._mix.begin()
        self._stage.scene("The soak")

    async def go_on(self, *, until_s: float) -> None:
        """Play rounds until the time is over, and look at everything once more."""
        await self._check("before anything broke")
        while time.monotonic() < until_s:
            await self._round()
        await self._check("at the end", whole=True)

    async def _round(self) -> None:
        faults = self._deck.draw()
        lasts_s = self._deck.lasts_s()
        names = " and ".join(fault.name for fault in faults)
        self._paging.diligent = False
        self._stage.tell(f"next: {names}, for {lasts_s:.0f} s")
        async with _beside(self._mix.go_on(), self._paging.go_on(), self._paging.answer()):
            await asyncio.sleep(QUIET_S[0])
            await self._break(faults)
            await asyncio.sleep(lasts_s)
            await self._mend(faults)
            await asyncio.sleep(QUIET_S[0])
        self.faults.update(fault.name for fault in faults)
        await self._check(f"{names}, {lasts_s:.0f} s")

    async def _break(self, faults: list[Fault]) -> None:
        for fault in faults:
            await fault.begin(self._ward)

    async def _mend(self, faults: list[Fault]) -> None:
        # Side by side: a device that starts is waited for until it is on, which needs the relay.
        await asyncio.gather(*(self._end(fault) for fault in faults))

    async def _end(self, fault: Fault) -> None:
        try:
            await fault.end(self._ward)
        except DemoError as error:
            self._fail(f"{fault.name}: {error}")

    # Looking.

    async def _check(self, after: str, *, whole: bool = False) -> None:
        began_s = time.monotonic()
        self.checks += 1
        self._paging.diligent = True
        await self._bring_back()
        async with _beside(self._paging.answer()):
            await self._probe()
            wrong = await self._settled(whole=whole)
        wrong += await self._archive_wrong()
        wrong += self._canaries()
        for what in wrong:
            self._fail(f"{after}: {what}")
        for talk in self._mix.talks:
            talk.sure.clear()
            talk.unsure.clear()
        self._ward.filled.clear()
        took_s = time.monotonic() - began_s
        self.slowest_s = max(self.slowest_s, took_s)
        verdict = f"{len(wrong)} WRONG" if wrong else "well"
        self._stage.tell(f"{after}: {verdict} after {took_s:.0f} s; {self.sent} sent so far")

    def _fail(self, what: str) -> None:
        self.failures.append(what)
        self._stage.tell(f"NOT SO: {what}")

    async def _bring_back(self) -> None:
        """Start what has ended by itself, which nothing may."""
        hospital = self._ward.hospital
        if not hospital.relay.runs:
            self._fail(f"the relay ended by itself: {_end_of(hospital.relay.log)}")
            await self._ward.start_relay()
        if not hospital.archive.runs:
            said = _end_of(hospital.archive.log)
            if not (ARCHIVE in self._ward.filled and ARCHIVE_FULL in said):
                self._fail(f"the archive ended by itself: {said}")
            await self._ward.start_archive()
        for handset in self._ward.handsets.values():
            if not handset.runs:
                await self._bring_back_handset(handset)

    async def _bring_back_handset(self, handset: Handset) -> None:
        why = handset.last_words() if handset.wanted else "it did not come back"
        if not (DEVICES in self._ward.filled and DEVICE_FULL in why):
            self._fail(f"{handset.user}'s device ended by itself: {why}")
        with contextlib.suppress(DemoError):
            await self._ward.start_handset(handset)

    async def _probe(self) -> None:
        """Have somebody say something in every conversation: who is in an old epoch cannot read."""
        for number, talk in enumerate(self._mix.talks):
            sender = talk.stays[(self.checks + number) % len(talk.stays)]
            handset = self._ward.handsets[sender]
            with contextlib.suppress(DemoError):
                await self._mix.say(handset, talk, "send", to=talk.id)

    async def _settled(self, *, whole: bool) -> list[str]:
        """Return what is still wrong once everything should be well."""
        ends_s = time.monotonic() + WELL_S
        wrong = await self._wrong(whole=whole)
        while wrong and time.monotonic() < ends_s:
            await asyncio.sleep(LOOK_S)
            await self._bring_back()
            wrong = await self._wrong(whole=whole)
        return wrong

    async def _wrong(self, *, whole: bool) -> list[str]:
        try:
            wrong = [what for talk in self._mix.talks for what in await self._talk(talk, whole)]
            wrong += await self._paging.settle()
            for handset in self._ward.handsets.values():
                status = await handset.ask("status")
                if status["unsent"] or not status["online"]:
                    wrong.append(f"{handset.user}: {status['unsent']} unsent")
                if status["faults"]:
                    wrong.append(f"{handset.user}: {status['faults']} faults")
        except DemoError as error:
            return [str(error)]
        ids = {bytes.fromhex(talk.id) for talk in self._mix.talks}
        kept = messages_kept(self._ward.hospital.relay_data, ids)
        return [*wrong, f"{kept} messages still with the relay"] if kept else wrong

    async def _talk(self, talk: Talk, whole: bool) -> list[str]:
        name = talk.title.split(" canary")[0] or " and ".join(talk.stays)
        limit = WHOLE if whole else 2 * (len(talk.sure) + len(talk.unsure)) + 40
        threads = await asyncio.gather(*(self._thread(user, talk, limit) for user in talk.people))
        shown = dict(zip(talk.people, threads, strict=True))
        sure, unsure = ((), talk.texts) if whole else (talk.sure, talk.unsure)
        found = judge(shown, sure=sure, unsure=unsure, stays=talk.stays)
        return [f"{name}: {what}" for what in found]

    async def _thread(self, user: str, talk: Talk, limit: int) -> list[Seen]:
        handset: Handset = self._ward.handsets[user]
        answer = await handset.try_to("show", **{"in": talk.id}, limit=limit)
        return seen_in(answer.get("messages", ()), self._mix.canary)

    async def _archive_wrong(self) -> list[str]:
        """Return what the archive's own audit finds, once all of it is under a checkpoint."""
        ends_s = time.monotonic() + WELL_S
        while True:
            try:
                said = await run(
                    *("wardline-archive", "verify", "--config"),
                    self._ward.hospital.archive_file,
                    host=self._ward.hospital.site.archive,
                )
            except DemoError as error:
                return [f"the archive: {error}"]
            facts = dict(line.rsplit(" ", 1) for line in said.splitlines())
            witnessed = facts["records"] == facts["last witnessed"]
            if witnessed or time.monotonic() > ends_s:
                break
            await asyncio.sleep(LOOK_S)
        return [] if witnessed else [f"the archive: not all under a checkpoint: {facts}"]

    def _canaries(self) -> list[str]:
        """Return where a word of a message lies that should not."""
        canary = self._mix.canary
        where = files_with(self._ward.hospital.folder, canary)
        if is_in_memory(self._ward.hospital.relay.pid, canary):
            where.append("the relay's memory")
        return [f"a text lies in {name}" for name in where]


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-300:]


@contextlib.asynccontextmanager
async def _beside(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Let some work go on meanwhile, and end it afterwards; what broke it is raised."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
