"""What breaks: each fault begins, lasts, and ends; after that all must be well again."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from soak.network import RELAY
from soak.ward import ARCHIVE, CLINICIANS, DEVICES, PLACES, Handset, Ward

LASTS_S = (3.0, 30.0)
"""Seconds that a fault lasts, from and to."""

CLOCKS_S = (-86_400.0, -3600.0, -90.0, -1.0, 1.0, 90.0, 3600.0, 86_400.0)
"""By how many seconds a clock jumps."""

FLAP_S = 1.0


@dataclass(kw_only=True)
class Fault(ABC):
    """Something that breaks.

    Attributes:
        name: What is counted, as ``relay killed``.
        touches: What it breaks; two faults at once never touch the same.
    """

    name: str
    touches: frozenset[str]

    @abstractmethod
    async def begin(self, ward: Ward) -> None:
        """Break it."""

    @abstractmethod
    async def end(self, ward: Ward) -> None:
        """Mend it."""


@dataclass(kw_only=True)
class Ended(Fault):
    """A program that is killed, or asked to end."""

    what: str
    kill: bool = True

    async def begin(self, ward: Ward) -> None:
        """End the program."""
        service = ward.hospital.relay if self.what == RELAY else ward.hospital.archive
        await (service.kill() if self.kill else service.stop())

    async def end(self, ward: Ward) -> None:
        """Start it again."""
        await (ward.start_relay() if self.what == RELAY else ward.start_archive())


@dataclass(kw_only=True)
class Frozen(Fault):
    """A program that gets no time."""

    what: str

    async def begin(self, ward: Ward) -> None:
        """Stop the process."""
        ward.signal(self.what, signal.SIGSTOP)

    async def end(self, ward: Ward) -> None:
        """Let it go on."""
        ward.signal(self.what, signal.SIGCONT)


@dataclass(kw_only=True)
class Batteries(Fault):
    """Devices that die in the middle of what they do."""

    users: tuple[str, ...]

    def _handsets(self, ward: Ward) -> list[Handset]:
        return [ward.handsets[user] for user in self.users]

    async def begin(self, ward: Ward) -> None:
        """Kill them."""
        await asyncio.gather(*(handset.kill() for handset in self._handsets(ward)))

    async def end(self, ward: Ward) -> None:
        """Start them again."""
        await asyncio.gather(*(ward.start_handset(handset) for handset in self._handsets(ward)))


@dataclass(kw_only=True)
class Cut(Fault):
    """Cables that are pulled."""

    hosts: tuple[str, ...]

    async def begin(self, ward: Ward) -> None:
        """Pull them."""
        for host in self.hosts:
            ward.network.cut(host)

    async def end(self, ward: Ward) -> None:
        """Put them back."""
        for host in self.hosts:
            ward.network.join(host)


@dataclass(kw_only=True)
class Flapping(Cut):
    """Cables with a loose contact."""

    _task: asyncio.Task[None] | None = field(default=None, init=False)

    async def begin(self, ward: Ward) -> None:
        """Pull them and put them back, again and again."""
        self._task = asyncio.create_task(self._flap(ward))

    async def _flap(self, ward: Ward) -> None:
        while True:
            await super().begin(ward)
            await asyncio.sleep(FLAP_S)
            await super().end(ward)
            await asyncio.sleep(FLAP_S)

    async def end(self, ward: Ward) -> None:
        """Put them back for good."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await super().end(ward)


@dataclass(kw_only=True)
class OneWay(Fault):
    """A host that hears and is not heard, or is heard and does not hear."""

    host: str
    heard: bool

    async def begin(self, ward: Ward) -> None:
        """Lose one direction."""
        (ward.network.deafen if self.heard else ward.network.mute)(self.host)

    async def end(self, ward: Ward) -> None:
        """Have both again."""
        (ward.network.undeafen if self.heard else ward.network.unmute)(self.host)


@dataclass(kw_only=True)
class WrongClock(Fault):
    """A host whose wall clock jumps, and jumps back."""

    host: str
    offset_s: float

    async def begin(self, ward: Ward) -> None:
        """Set it wrong."""
        ward.set_clock(self.host, self.offset_s)

    async def end(self, ward: Ward) -> None:
        """Set it right."""
        ward.set_clock(self.host, 0)


@dataclass(kw_only=True)
class FullDisk(Fault):
    """A disk without room. The relay goes on by itself; the archive and devices may say so and end.

    The archive is started again as its unit does it, a device as its person does.
    """

    what: str

    async def begin(self, ward: Ward) -> None:
        """Fill it."""
        ward.filled.add(self.what)
        await asyncio.to_thread(ward.disks[self.what].fill)

    async def end(self, ward: Ward) -> None:
        """Give the room back; who has ended is started by the check that follows."""
        ward.disks[self.what].free()


def _touching(*what: str) -> frozenset[str]:
    return frozenset(what)


class Deck:
    """Every kind of fault in turn, shuffled by seed, sometimes two at once."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(f"faults {seed}")  # noqa: S311 - repeatable, nothing secret
        self._cards: list[Fault] = []

    def draw(self) -> list[Fault]:
        """Return what breaks next: one fault, or two that have nothing in common."""
        first = self._next()
        if self._dice.random() < 0.3:
            second = self._next()
            if not first.touches & second.touches:
                return [first, second]
            self._cards.append(second)
        return [first]

    def lasts_s(self) -> float:
        """Return how many seconds the next fault lasts."""
        return self._dice.uniform(*LASTS_S)

    def _next(self) -> Fault:
        if not self._cards:
            self._cards = self._all()
            self._dice.shuffle(self._cards)
        return self._cards.pop()

    def _all(self) -> list[Fault]:
        dice = self._dice
        place = dice.choice(PLACES)
        users = tuple(dice.sample(CLINICIANS, 3))
        clock_of = dice.choice(PLACES)
        everybody = (ARCHIVE, *PLACES)
        return [
            Ended(name="relay killed", touches=_touching(RELAY), what=RELAY),
            Ended(name="relay stopped", touches=_touching(RELAY), what=RELAY, kill=False),
            Ended(name="archive killed", touches=_touching(ARCHIVE), what=ARCHIVE),
            Ended(name="archive stopped", touches=_touching(ARCHIVE), what=ARCHIVE, kill=False),
            Frozen(name="relay frozen", touches=_touching(RELAY), what=RELAY),
            Frozen(name="archive frozen", touches=_touching(ARCHIVE), what=ARCHIVE),
            Batteries(name="devices killed", touches=_touching(*PLACES), users=users),
            Cut(name="ward cut off", touches=_touching(place), hosts=(place,)),
            Cut(name="archive cut off", touches=_touching(ARCHIVE), hosts=(ARCHIVE,)),
            Cut(name="relay cut off", touches=_touching(*everybody), hosts=everybody),
            Flapping(name="ward's cable loose", touches=_touching(place), hosts=(place,)),
            Flapping(name="archive's cable loose", touches=_touching(ARCHIVE), hosts=(ARCHIVE,)),
            OneWay(name="ward not heard", touches=_touching(place), host=place, heard=False),
            OneWay(name="ward does not hear", touches=_touching(place), host=place, heard=True),
            OneWay(name="archive not heard", touches=_touching(ARCHIVE), host=ARCHIVE, heard=False),
            OneWay(
                name="archive does not hear", touches=_touching(ARCHIVE), host=ARCHIVE, heard=True
            ),
            *(
                WrongClock(
                    name=f"{what}'s clock wrong",
                    touches=_touching(host),
                    host=host,
                    offset_s=dice.choice(CLOCKS_S),
                )
                for what, host in ((RELAY, RELAY), (ARCHIVE, ARCHIVE), ("ward", clock_of))
            ),
            FullDisk(name="relay's disk full", touches=_touching(RELAY), what=RELAY),
            FullDisk(name="archive's disk full", touches=_touching(ARCHIVE), what=ARCHIVE),
            FullDisk(name="devices' disks full", touches=_touching(*PLACES), what=DEVICES),
        ]
