"""A device among frames that its relay makes up, and then an honest relay: by a seed.

``python -m tests.adversary.made_up [--first SEED] [--seeds COUNT]`` is the long form, which ``make
fuzz`` runs: it appends a line to the evidence. ``test_made_up_frames.py`` plays a few of them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from client import engine, following, link, sending, steward
from client.errors import ActError, ClosedError
from client.messages import State
from protocol import limits
from protocol.errors import Code
from protocol.identifiers import ConversationId, DeviceId
from protocol.policy import Policy
from release.evidence import Evidence, append
from tests.adversary.between import Between
from tests.client.devices import Ward, ward
from tests.server.harness import hospital

VICTIM = "bob/phone"
TURNS = 4
LIES_A_TURN = 25
"""Frames made up while everybody says something once; so many turns are played."""

RECONNECTS = 5
"""Connections within which a device must stand with the others, once its relay is honest."""

PROBES = 4
"""Messages within which it must hear them again: what was said while it was out is not for it."""

EACH_S = 12.0
"""Seconds until the network breaks anyhow, as every network does; no measure of speed."""

TOLD = 20
"""Failed seeds that the evidence names."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """How a seed ended.

    Attributes:
        wrong: What did not hold.
        made: Frames that were made up, by kind.
        locked: How often the relay's word ended the session, as a suspension does.
        lost: Messages of others that the lies cost, each told as a fault.
    """

    wrong: list[str] = field(default_factory=list)
    made: Counter[str] = field(default_factory=Counter)
    locked: int = 0
    lost: int = 0


def hurry(patch: pytest.MonkeyPatch) -> None:
    """Let pauses and waits be short: what counts is what follows them."""
    patch.setattr(following, "WAIT_MS", 300)
    patch.setattr(limits, "RECEIPT_SILENCE_MS", 300)
    patch.setattr(steward, "RANK_MS", 30)
    patch.setattr(steward, "LOST_MS", 1_500)
    patch.setattr(steward, "AGAIN_MS", 500)
    patch.setattr(sending, "PAUSE_MAX_MS", 200)
    patch.setattr(sending, "STALE_S", 0.5)
    patch.setattr(link, "FIRST_PAUSE_S", 0.02)
    patch.setattr(link, "LONGEST_PAUSE_S", 0.2)
    patch.setattr(link, "ASKED_MOST_S", 0.2)
    patch.setattr(engine, "SHUT_OUT_MS", 200)


class Astray:
    """One seed: a conversation of three, of whom one hears a relay that makes frames up."""

    def __init__(self, here: Ward, between: Between, random: Random) -> None:
        self.here = here
        self.between = between
        self.random = random
        self.outcome = Outcome()
        self.bob = here[VICTIM]
        self._said: dict[ConversationId, list[str]] = {}
        self._guard: asyncio.Task[None] | None = None

    async def play(self) -> Outcome:
        """Play it, and return what came of it."""
        here, bob = self.here, self.bob
        conversation = await here.talk("ann/phone", VICTIM, "cat/phone")
        await self._say("ann/phone", conversation, "before")
        await bob.sees(conversation, "before")
        self._guard = asyncio.create_task(self._live_on())
        try:
            await self._lied_to(conversation)
            await self._heals(conversation)
            await self._is_heard(conversation)
            await self._is_reached()
        finally:
            self._guard.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._guard
        self.outcome.made = self.between.made
        return self.outcome

    async def _live_on(self) -> None:
        """Open the device again where the relay said that it is suspended, as its person does."""
        while self.bob.task is not None:
            await asyncio.wait({self.bob.task})
            error = self.bob.task.exception()
            if not isinstance(error, ClosedError) or error.code is not Code.REVOKED:
                self.outcome.wrong.append(f"the program ended: {error!r}")
                return
            self.outcome.locked += 1
            self.bob.task = asyncio.create_task(self.bob.device.run())

    # -- its parts -----------------------------------------------------------------------------

    async def _lied_to(self, conversation: ConversationId) -> None:
        self.between.lie()
        for turn in range(TURNS):
            wanted = self.between.made.total() + LIES_A_TURN
            await self._say("ann/phone", conversation, f"ann {turn}")
            with contextlib.suppress(ActError):
                await self.bob.say(conversation, f"bob {turn}")
            await self.here["cat/phone"].sees(conversation, f"ann {turn}")
            while self.between.made.total() < wanted and not self.outcome.wrong:
                before = self.between.made.total()
                await asyncio.sleep(0.1)
                if self.between.made.total() == before:
                    await self.between.cut()
        self.between.honest()
        if self.random.random() < 0.5:
            await self.between.cut()

    async def _heals(self, conversation: ConversationId) -> None:
        """Say something until it is heard; from then on all of it must be."""
        for probe in range(PROBES):
            text = f"do you hear me {probe}"
            await self._say("ann/phone", conversation, text)
            if await self._comes(lambda t=text: t in self._heard(conversation), cuts=1):
                break
        else:
            self.outcome.wrong.append("deaf")
        texts = [f"after {number}" for number in range(4)]
        for text in texts:
            await self._say("ann/phone", conversation, text)
        if not await self._comes(lambda: set(texts) <= set(self._heard(conversation))):
            self.outcome.wrong.append(f"not shown: {set(texts) - set(self._heard(conversation))}")
        self._judge(conversation)

    def _judge(self, conversation: ConversationId) -> None:
        said, heard = self._said[conversation], self._heard(conversation)
        if [text for text in said if text in heard] != heard:
            self.outcome.wrong.append(f"of {said} it shows {heard}")
        self.outcome.lost = len(set(said) - set(heard))
        if self.outcome.lost and not self.bob.engine.store.faults.all():
            self.outcome.wrong.append("a hole was not told")

    async def _is_heard(self, conversation: ConversationId) -> None:
        async def said() -> bool:
            with contextlib.suppress(ActError):
                await self.bob.say(conversation, "I hear you")
                return True
            return False

        for _ in range(RECONNECTS):
            if await said():
                break
            await asyncio.sleep(0.5)
        for name in ("ann/phone", "cat/phone"):
            there = self.here[name]
            if not await self._comes(lambda t=there: "I hear you" in t.texts(conversation)):
                self.outcome.wrong.append(f"{name} does not hear it")

    async def _is_reached(self) -> None:
        """Begin another conversation with the device, and set a policy."""
        try:
            async with asyncio.timeout(EACH_S * 2):
                other = await self.here.talk("ann/phone", VICTIM)
        except TimeoutError:
            self.outcome.wrong.append("not let into another conversation")
            return
        await self._say("ann/phone", other, "elsewhere")
        if not await self._comes(lambda: self._heard(other) == ["elsewhere"]):
            self.outcome.wrong.append("does not hear another conversation")
        version = self.bob.device.policy.version + 1
        try:
            async with asyncio.timeout(EACH_S * 2):
                await self.here.govern(Policy(version=version))
        except TimeoutError:
            self.outcome.wrong.append("does not learn a policy")

    # -- what it does --------------------------------------------------------------------------

    async def _say(self, name: str, conversation: ConversationId, text: str) -> None:
        self._said.setdefault(conversation, []).append(text)
        await self.here[name].say(conversation, text)

    def _heard(self, conversation: ConversationId) -> list[str]:
        """Return what the victim shows of others, in its order."""
        return [
            one.text
            for one in self.bob.shown(conversation)
            if not one.own and one.state is not State.REFUSED
        ]

    async def _comes(self, holds: object, *, cuts: int = RECONNECTS) -> bool:
        """Tell whether something comes to hold, by the connections that it may take."""
        assert callable(holds)
        for _ in range(cuts + 1):
            try:
                async with asyncio.timeout(EACH_S):
                    while not holds():
                        if self.outcome.wrong:
                            return bool(holds())
                        await asyncio.sleep(0.02)
            except TimeoutError:
                await self.between.cut()
            else:
                return True
        return False


async def astray(folder: Path, seed: int, patch: pytest.MonkeyPatch) -> tuple[Outcome, Between]:
    """Play a seed."""
    random = Random(seed)
    hurry(patch)
    between = Between(patch, DeviceId(VICTIM), random)
    async with ward(folder, hospital(), "ann/phone", VICTIM, "cat/phone") as here:
        return await Astray(here, between, random).play(), between


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=200)
    return parser.parse_args()


def main() -> int:
    """Play seeds; return 1 where something did not hold."""
    arguments = _arguments()
    began_s = time.perf_counter()
    failed: list[int] = []
    made: Counter[str] = Counter()
    locked = lost = 0
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            outcome, _ = asyncio.run(astray(Path(folder), seed, patch))
        made.update(outcome.made)
        locked, lost = locked + outcome.locked, lost + outcome.lost
        if outcome.wrong:
            failed.append(seed)
            sys.stdout.write(f"seed {seed}: {'; '.join(outcome.wrong)}\n")
            sys.stdout.flush()
    line = append(
        Evidence(
            run="made-up-frames",
            seed=arguments.first,
            count=arguments.seeds,
            failures=len(failed),
            duration_s=time.perf_counter() - began_s,
            more={
                "frames": made.total(),
                "made": dict(sorted(made.items())),
                "locked": locked,
                "lost and told": lost,
                "failed": failed[:TOLD],
            },
        )
    )
    sys.stdout.write(f"{line}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
