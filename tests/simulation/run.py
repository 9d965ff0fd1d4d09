"""One run by its seed: things happen, then everything is mended, and the invariant is judged."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from unittest import mock

from client import errors
from client.messages import State
from client.views import Roster
from client.words import Text
from protocol.group_context import ConversationType
from protocol.identifiers import ConversationId, UserName, user_of
from soak.invariant import Seen, judge, seen_in
from tests.client.devices import Running
from tests.simulation.clock import StuckError, virtual_time
from tests.simulation.world import ARCHIVE, DEVICES, World, installed

REFUSALS = tuple(
    found
    for found in vars(errors).values()
    if isinstance(found, type) and issubclass(found, Exception)
)
"""What a device may say to somebody who asks for what cannot be now."""

EVENTS = 60
"""What happens in a run, beside what it causes."""

WELL_S = 1800.0
"""Seconds of the run's own clock within which everything must be well again."""

LOOK_S = 5.0
CANARY = "canary"
JUMPS_MS = (-3_600_000, -60_000, -500, 500, 60_000, 3_600_000)
AWAY_S = (1.0, 120.0)


@dataclass(kw_only=True)
class Outcome:
    """What a run came to.

    Attributes:
        failures: What did not hold, in words.
        digest: Of what was sent when.
        frames: How many messages went over the network.
        sent: How many texts devices took.
        records: Records of the archive's log.
        played: How often each event happened.
        lasted_s: By the run's own clock.
    """

    failures: list[str] = field(default_factory=list)
    digest: str = ""
    frames: int = 0
    sent: int = 0
    records: int = 0
    played: Counter[str] = field(default_factory=Counter)
    lasted_s: float = 0.0


@dataclass(kw_only=True)
class Talk:
    """A conversation, and what was said in it.

    Attributes:
        stays: Users who are in it all the time.
        taken: Who wrote what a device has taken, by tag.
    """

    id: ConversationId
    stays: set[str]
    taken: dict[str, str] = field(default_factory=dict)

    @property
    def sure(self) -> list[str]:
        """Tags of what nothing excuses the loss of: its writer was never removed."""
        return [tag for tag, user in self.taken.items() if user in self.stays]


class Run:
    """A run under way.

    Attributes:
        pause_s: Mean seconds between two events.
    """

    pause_s = 1.5

    def __init__(self, world: World, dice: random.Random) -> None:
        self.world = world
        self.dice = dice
        self.talks: list[Talk] = []
        self.outcome = Outcome()
        self._later: set[asyncio.Task[None]] = set()

    # What happens.

    async def play(self) -> None:
        """Let things happen, mend everything, and judge."""
        await self.world.begin()
        await self._start()
        events = self.events()
        names = list(events)
        weights = [weight for weight, _ in events.values()]
        for _ in range(EVENTS):
            (name,) = self.dice.choices(names, weights)
            self.outcome.played[name] += 1
            with contextlib.suppress(*REFUSALS):
                await events[name][1]()
            await asyncio.sleep(self.dice.expovariate(1 / self.pause_s))
        await self._mend()
        await self._judge()

    def events(self) -> dict[str, tuple[int, Callable[[], Awaitable[None]]]]:
        """Return what happens, how often, and how."""
        return {
            "said": (30, self._say),
            "begun": (2, self._start),
            "members changed": (5, self._change),
            "line cut": (6, self._cut),
            "device away": (5, self._away),
            "device killed": (5, self._kill),
            "relay killed": (3, self._kill_relay),
            "archive killed": (3, self._kill_archive),
            "clock wrong": (2, self._jump),
            "network worse": (3, self._worse),
        }

    def _soon(self, after_s: float, do: Callable[[], Awaitable[None]]) -> None:
        async def later() -> None:
            await asyncio.sleep(after_s)
            await do()

        task = asyncio.get_running_loop().create_task(later())
        self._later.add(task)

    def _one(self) -> str:
        return self.dice.choice(DEVICES)

    def _away_s(self) -> float:
        return self.dice.uniform(*AWAY_S)

    async def _start(self) -> None:
        users = sorted({user_of(name) for name in DEVICES})
        starter = self.world.devices.get(f"{self.dice.choice(users)}/phone")
        if starter is None:
            return
        others = [user for user in users if user != starter.device.user]
        invited = self.dice.sample(others, self.dice.randint(1, len(others)))
        kind = ConversationType.DIRECT if len(invited) == 1 else ConversationType.GROUP
        made = await starter.device.start(kind, [UserName(one) for one in sorted(invited)])
        if not any(talk.id == made for talk in self.talks):
            self.talks.append(Talk(id=made, stays={starter.device.user, *invited}))

    async def _say(self) -> None:
        running = self.world.devices.get(self._one())
        if running is None:
            return
        known = {one.conversation for one in running.device.conversations() if not one.ended}
        talks = [talk for talk in self.talks if talk.id in known]
        if talks:
            await self._tell(running, self.dice.choice(talks))

    async def _tell(self, running: Running, talk: Talk) -> str:
        self.outcome.sent += 1
        tag = f"{CANARY}-{self.outcome.sent}."
        await running.device.send(talk.id, Text(text=f"Potassium 6.1 {tag}"))
        talk.taken[tag] = running.device.user
        return tag

    async def _change(self) -> None:
        """The owner of a group removes somebody, or lets somebody in."""
        groups = [talk for talk in self.talks if len(talk.stays) > 2]
        if not groups:
            return
        talk = self.dice.choice(groups)
        for running in self.world.devices.values():
            members = {one.user: one for one in running.device.members(talk.id)}
            own = members.get(running.device.user)
            if own is None or not own.is_owner:
                continue
            who = self.dice.choice(sorted({user_of(name) for name in DEVICES} - {own.user}))
            talk.stays.discard(who)
            remove, add = ([who], []) if who in members else ([], [who])
            await running.device.change_members(talk.id, add=add, remove=remove)
            return

    async def _cut(self) -> None:
        self.world.network.cut(self._one())

    async def _away(self) -> None:
        name = self.dice.choice((*DEVICES, ARCHIVE))
        self.world.network.unreachable.add(name)
        self.world.network.cut(name)
        self._soon(self._away_s(), lambda: self._back(name))

    async def _back(self, name: str) -> None:
        self.world.network.unreachable.discard(name)

    async def _kill(self) -> None:
        name = self._one()
        if name in self.world.devices:
            await self.world.kill(name)
            self._soon(self._away_s(), lambda: self._restart(name))

    async def _restart(self, name: str) -> None:
        if name not in self.world.devices:
            self.world.start(name)

    async def _kill_relay(self) -> None:
        if self.world.network.relay is not None:
            await self.world.kill_relay()
            self._soon(self._away_s(), self._restart_relay)

    async def _restart_relay(self) -> None:
        if self.world.network.relay is None:
            await self.world.start_relay()

    async def _kill_archive(self) -> None:
        if self.world.archive is not None:
            await self.world.kill_archive()
            self._soon(self._away_s(), self._restart_archive)

    async def _restart_archive(self) -> None:
        if self.world.archive is None:
            await self.world.start_archive()

    async def _jump(self) -> None:
        name = self._one()
        self.world.ahead_ms[name] = self.dice.choice(JUMPS_MS)
        self._soon(self._away_s(), lambda: self._set_right(name))

    async def _set_right(self, name: str) -> None:
        self.world.ahead_ms.pop(name, None)

    async def _worse(self) -> None:
        self.world.network.worse = 0.5
        self._soon(self._away_s(), self._better)

    async def _better(self) -> None:
        self.world.network.worse = 0.0

    # What must hold.

    async def _mend(self) -> None:
        for task in self._later:
            await task
        self.world.network.worse = 0.0
        for line in self.world.network.lines:
            line.cut()

    async def _judge(self) -> None:
        for talk in self.talks:
            await self._probe(talk)
        ends_s = asyncio.get_running_loop().time() + WELL_S
        wrong = self._wrong()
        while wrong and asyncio.get_running_loop().time() < ends_s:
            await asyncio.sleep(LOOK_S)
            wrong = self._wrong()
        self.outcome.failures += wrong
        await self._audit()

    async def _probe(self, talk: Talk) -> None:
        """Have somebody say something: who is in an old epoch cannot read it."""
        for name in DEVICES:
            running = self.world.devices[name]
            known = {one.conversation for one in running.device.conversations() if not one.ended}
            if running.device.user in talk.stays and talk.id in known:
                with contextlib.suppress(*REFUSALS):
                    await self._tell(running, talk)
                    return

    def _wrong(self) -> list[str]:
        wrong = [
            f"talk {number}: {what}"
            for number, talk in enumerate(self.talks)
            for what in self._talk(talk)
        ]
        for name, running in self.world.devices.items():
            status = running.device.status
            if status.unsent or not status.online:
                wrong.append(f"{name}: {status.unsent} unsent, online {status.online}")
            if running.task is not None and running.task.done():
                wrong.append(f"{name}: ended by itself: {running.task.exception()!r}")
        archive = self.world.archive
        if archive is not None and archive.done():
            wrong.append(f"the archive ended by itself: {archive.exception()!r}")
        if self.world.waiting():
            wrong.append(f"{self.world.waiting()} entries still with the relay")
        if CANARY.encode() in self.world.kept():
            wrong.append("a text lies with the relay")
        return wrong

    def _talk(self, talk: Talk) -> list[str]:
        threads = {str(name): self._thread(self.world.devices[name], talk) for name in DEVICES}
        stays = [name for name in DEVICES if user_of(name) in talk.stays]
        either = [f"{CANARY}-{number}." for number in range(1, self.outcome.sent + 1)]
        wrong = judge(threads, sure=talk.sure, unsure=either, stays=stays)
        epochs = {self.world.devices[name].epoch(talk.id) for name in stays}
        if len(epochs) > 1:
            wrong.append(f"epochs {sorted(epochs)}")
        return wrong

    def _thread(self, running: Running, talk: Talk) -> list[Seen]:
        shown = [
            {"text": one.text, "own": one.key.sender == running.device.me, "archived": one.archived}
            for one in running.device.messages(talk.id, limit=10_000)
            if not isinstance(one.content, Roster) and one.state is not State.REFUSED
        ]
        return seen_in(shown, CANARY)

    async def _audit(self) -> None:
        """Audit the archive's log, which the relay has cosigned to its end."""
        await self.world.kill_archive()
        audit = self.world.audited()
        self.outcome.failures += [f"archive: {one.fault} at {one.index}" for one in audit.findings]
        self.outcome.records = audit.size


def simulate(seed: int, kind: type[Run] = Run) -> Outcome:
    """Play the run of a seed, in which things of a kind happen."""
    logging.disable(logging.CRITICAL)
    dice = random.Random(seed)
    random.seed(seed)
    # What programs draw is drawn from the seed; the libraries' keys and nonces are their own.
    drawn = random.Random(f"drawn {seed}")
    with (
        virtual_time() as loop,
        mock.patch.object(random, "_urandom", drawn.randbytes),
        mock.patch("os.urandom", drawn.randbytes),
        installed(dice) as world,
    ):
        run = kind(world, dice)
        try:
            loop.run_until_complete(_played(run))
        except StuckError:
            run.outcome.failures.append("nothing will ever happen again")
        run.outcome.lasted_s = loop.time()
    outcome = run.outcome
    outcome.digest = world.network.trace.digest()
    outcome.frames = world.network.trace.frames
    return outcome


async def _played(run: Run) -> None:
    try:
        await run.play()
    except Exception as error:
        run.outcome.failures.append(f"{type(error).__name__}: {error}")
    finally:
        await run.world.end()
        run.outcome.failures += run.world.crashes
