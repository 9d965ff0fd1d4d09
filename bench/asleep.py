"""A laptop asleep with 10,000 waiting messages: how fast it catches up through the real relay.

Run: ``make bench-client``; prints one JSON object a line (see ``bench.report``). The relay is its
real process; who talked has gone by then, so the CPU time is the laptop's alone, TLS included.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.report import Figure, report
from protocol.identifiers import ConversationId
from tests.scenarios.devices import RealWard, real_ward
from tests.server.harness import RECORDER, hospital

MESSAGES = 10_000
WITHIN_S = 600.0
TALKS, SLEEPS = "ann/phone", "bob/laptop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """What the laptop had once it was awake.

    Attributes:
        texts: As its thread shows them.
        unread: As its list of conversations says.
        cpu_s: Of its process, from before it opened its store until it had all of them.
    """

    texts: list[str] = field(repr=False)
    unread: int
    faults: int
    cpu_s: float


async def slept(folder: Path, messages: int) -> Night:
    """Let a laptop sleep while messages are sent; return what it has after it woke."""
    async with real_ward(folder, hospital(), TALKS, SLEEPS) as here:
        conversation = await here.talk(TALKS, SLEEPS)
        await here.go(SLEEPS)
        await talked(here, conversation, messages)
        gc.collect()
        began_s = time.process_time()
        await here.come(SLEEPS, within_s=WITHIN_S)
        laptop = here[SLEEPS]
        summary = laptop.device.summary
        await laptop.until(lambda: summary(conversation).unread >= messages, within_s=WITHIN_S)
        cpu_s = time.process_time() - began_s
        return Night(
            texts=laptop.texts(conversation),
            unread=summary(conversation).unread,
            faults=laptop.device.status.faults,
            cpu_s=cpu_s,
        )


async def talked(here: RealWard, conversation: ConversationId, messages: int) -> None:
    """Say messages until the relay has them all; then nobody is there any more."""
    talker = here[TALKS]
    for number in range(messages):
        await talker.say(conversation, f"message {number}")
        if number % 100 == 0:
            await asyncio.sleep(0)
    await talker.device.settled(WITHIN_S)
    await here.go(TALKS)
    await here.go(RECORDER)


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        night = asyncio.run(slept(Path(folder), MESSAGES))
    whole = night.texts == [f"message {number}" for number in range(MESSAGES)]
    yield Figure(
        name=f"a laptop that slept over {MESSAGES:,} messages, through the real relay",
        value=MESSAGES / night.cpu_s if whole else "not all of them, once and in order",
        unit="messages a CPU second of its process",
        wanted=2_000,
        at_least=True,
    )


if __name__ == "__main__":
    sys.exit(report(figures()))
