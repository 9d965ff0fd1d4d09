"""What the archive's program does when nobody would hear of its alarms any more."""

from __future__ import annotations

import random
from unittest import mock

from archive.errors import StoreFullError
from archive.watch import Watch
from tests.simulation.clock import virtual_time
from tests.simulation.world import World, installed
from tests.waiting import comes_true


def test_an_archive_whose_watch_finds_no_room_ends_and_does_not_record_unwatched() -> None:
    async def played(world: World) -> None:
        await world.begin()
        running = world.archive
        assert running is not None
        with mock.patch.object(Watch, "step", side_effect=StoreFullError):
            await comes_true(running.done)
        assert isinstance(running.exception(), StoreFullError)
        await world.end()

    with virtual_time() as loop, installed(random.Random(1)) as world:
        loop.run_until_complete(played(world))
        assert [one for one in world.crashes if "StoreFullError" in one] == world.crashes != []
