"""How an archive that was away catches up, from a real relay over a real socket, while people talk.

python -m bench.catchup [directory]     QUICK=1 ends within a minute

The archive's process is stopped, messages wait for it at the relay, and it is started as the
service manager does, with the settings by which it forgets. What is counted is its own CPU time
from the first of these messages to the checkpoint, cosigned by the relay, that covers the last.
Meanwhile somebody goes on talking in another conversation, and waits for the archive's receipts.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from archive.founding import RECORDER
from archive.intray import Intray, witnessed
from bench.recorder import WANTED, WORDS
from bench.report import Figure, Spent, report
from crypto.checkpoint import Checkpoint
from protocol.content import Text, encode
from protocol.identifiers import ConversationId, DeviceId
from tests.scenarios.blackbox import BlackBox, hospital_with_archive
from tests.scenarios.test_archive import Device, gathered

QUICK = bool(os.environ.get("QUICK"))
WAITING = 3_000 if QUICK else 60_000
CONVERSATIONS = 4
IN_FLIGHT = 30
PAUSE_S = 0.1
WAIT_S = 600.0


@dataclass(kw_only=True)
class Live:
    """Somebody who talks while the archive catches up.

    Attributes:
        device: Whose.
        conversation: Where.
        said: When each message was accepted, by its number in the log.
        told: When its receipt came.
    """

    device: Device
    conversation: ConversationId
    said: dict[int, float]
    told: dict[int, float]

    async def talk(self) -> None:
        """Say something now and then, until cancelled."""
        while True:
            number = await self.device.say(self.conversation, encode(Text(text=WORDS)))
            await accepted(self.device, [number])
            self.said[self.device.accepted[number][1]] = time.perf_counter()
            self.look()
            await asyncio.sleep(PAUSE_S)

    def look(self) -> None:
        """Note the receipts that have come."""
        for archived in self.device.archived[len(self.told) :]:
            for one in archived.messages:
                self.told.setdefault(one.sequence, time.perf_counter())

    @property
    def waits_s(self) -> list[float]:
        """How long those waited that have their receipt."""
        return [
            at_s - self.said[number] for number, at_s in self.told.items() if number in self.said
        ]


async def accepted(device: Device, numbers: Sequence[int]) -> None:
    """Wait until the relay has messages."""
    await device.until(lambda: all(number in device.accepted for number in numbers))


async def wait_for(device: Device, talks: list[ConversationId]) -> None:
    """Let messages come to the relay."""
    text = encode(Text(text=WORDS))
    for first in range(0, WAITING, IN_FLIGHT):
        sent = [
            await device.say(talks[number % len(talks)], text)
            for number in range(first, min(first + IN_FLIGHT, WAITING))
        ]
        await accepted(device, sent)


def size_of(intray: Intray) -> tuple[int, int]:
    """Return how many records there are, and how many are witnessed."""
    note = witnessed(intray.store)
    return intray.store.size(), 0 if note is None else Checkpoint.decode(note.text).size


async def caught_up(box: BlackBox) -> Spent:
    """Start the archive; return what it took until all is witnessed."""
    intray = box.intray()
    before = intray.store.size()
    box.start()
    process = psutil.Process(box.pid)
    started = 0.0
    used = 0.0
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                records, under = size_of(intray)
                if not started and records > before + 64:
                    started, used = time.perf_counter(), _cpu_s(process)
                    before = records
                if started and under >= before + WAITING - 64:
                    wall_s, cpu_s = time.perf_counter() - started, _cpu_s(process) - used
                    return Spent(done=WAITING, wall_s=wall_s, cpu_s=cpu_s)
                await asyncio.sleep(0.02)
    finally:
        intray.close()


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def figures(folder: Path) -> AsyncIterator[Figure]:
    async with hospital_with_archive(folder, ["ann/phone", "ben/phone"]) as (_, at, box):
        (ann,), first = await gathered(at, "ann/phone")
        (ben,), elsewhere = await gathered(at, "ben/phone")
        talks = [first]
        for _ in range(CONVERSATIONS - 1):
            talk = ann.begin()
            await ann.change(talk, add=[DeviceId(RECORDER)])
            talks.append(talk)
        await box.stop()
        await wait_for(ann, talks)
        live = Live(device=ben, conversation=elsewhere, said={}, told={})
        talking = asyncio.create_task(live.talk())
        spent = await caught_up(box)
        await ben.until(lambda: ben.archived)
        live.look()
        talking.cancel()
        name = "messages caught up from a relay over its socket, to their witnessed checkpoint"
        for figure in spent.rates(name, of="the archive's CPU", wanted=WANTED):
            yield figure
        yield Figure(
            name="longest wait for a receipt of a message that was said meanwhile",
            value=max(live.waits_s),
            unit=f"s, one run, {len(live.said)} said, {len(live.told)} receipts",
        )


async def main(folder: Path) -> int:
    return report([figure async for figure in figures(folder)])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        sys.exit(asyncio.run(main(Path(name))))
