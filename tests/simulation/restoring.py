"""Runs in which relay and archive are restored, one, the other, both, and one after another.

What only a lost disk had is lost; what is judged is that everybody goes on: nobody is stuck in an
old epoch, nothing waits for ever, nothing is shown twice, and what is said afterwards reaches all
and is archived.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from protocol.identifiers import user_of
from tests.simulation.run import Run, Talk
from tests.simulation.world import ARCHIVE, DEVICES

LONG_S = (1.0, 600.0)
"""How long a restored program stays away, in seconds."""

WELL_AGAIN_S = 900.0
"""In how many seconds after the last loss everybody is in again who was left in an old epoch: some
Commits follow each other until then, and each waits for a silent recorder."""


class Restoring(Run):
    """A run in which disks are lost."""

    pause_s = 20.0

    def events(self) -> dict[str, tuple[int, Callable[[], Awaitable[None]]]]:
        """Return what happens, and how often."""
        return {
            "said": (24, self._say),
            "line cut": (4, self._cut),
            "device away": (5, self._away),
            "device away for all of it": (3, self._away_long),
            "device killed": (3, self._kill),
            "relay killed": (1, self._kill_relay),
            "archive killed": (2, self._kill_archive),
            "relay copied": (3, self._copy_relay),
            "archive copied": (3, self._copy_archive),
            "both copied": (2, self._copy_both),
            "relay restored": (3, self._restore_relay),
            "archive restored": (3, self._restore_archive),
            "both restored": (3, self._restore_both),
        }

    async def _away_long(self) -> None:
        name = self.dice.choice((*DEVICES, ARCHIVE))
        self.world.network.unreachable.add(name)
        self.world.network.cut(name)
        self._soon(self.dice.uniform(*LONG_S), lambda: self._back(name))

    def _has_begun(self) -> bool:
        """Tell whether every conversation stands: one that no copy has is lost with the disks."""
        return all(
            any(running.epoch(talk.id) > 0 for running in self.world.devices.values())
            for talk in self.talks
        )

    async def _copy_relay(self) -> None:
        if self._has_begun():
            self.world.copy_relay()

    async def _copy_archive(self) -> None:
        if self._has_begun():
            self.world.copy_archive()

    async def _copy_both(self) -> None:
        await self._copy_relay()
        await self._copy_archive()

    async def _restore_relay(self) -> None:
        world = self.world
        if world.network.relay is not None and world.relay_copies and world.may_restore:
            await world.kill_relay()
            world.restore_relay(self.dice.choice(world.relay_copies))
            self._soon(self._away_s(), self._restart_relay)

    async def _restore_archive(self) -> None:
        if self.world.archive is not None and self.world.archive_copies:
            await self.world.kill_archive()
            self.world.restore_archive(self.dice.choice(self.world.archive_copies))
            self._soon(self._away_s(), self._restart_archive)

    async def _restore_both(self) -> None:
        await self._restore_relay()
        await self._restore_archive()

    # What must hold.

    async def _judge(self) -> None:
        """Let somebody of each conversation speak, which shows who is out; then all must have it.

        Whoever was out cannot read what was said meanwhile.
        """
        for pause_s in (self.dice.uniform(*LONG_S), WELL_AGAIN_S):
            for talk in self.talks:
                await self._probe(talk)
            await asyncio.sleep(pause_s)
        for talk in self.talks:
            talk.taken.clear()
        await super()._judge()

    def _talk(self, talk: Talk) -> list[str]:
        wrong = []
        wanted = set(talk.taken)
        for name in DEVICES:
            if user_of(name) not in talk.stays:
                continue
            thread = self._thread(self.world.devices[name], talk)
            tags = [one.tag for one in thread]
            if len(set(tags)) < len(tags):
                wrong.append(f"{name}: {len(tags) - len(set(tags))} shown twice")
            if wanted - set(tags):
                wrong.append(f"{name}: {sorted(wanted - set(tags))} missing")
            unproved = [one.tag for one in thread if one.own and not one.archived]
            if set(unproved) & wanted:
                wrong.append(f"{name}: {unproved} without the archive's proof")
        epochs = {
            self.world.devices[name].epoch(talk.id)
            for name in DEVICES
            if user_of(name) in talk.stays
        }
        if len(epochs) > 1:
            wrong.append(f"epochs {sorted(epochs)}")
        return wrong
