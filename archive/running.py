"""The archive's process: one connection outward, and after it the next, beside whoever looks on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from archive import copying, events, witnessing
from archive.connection import Connection
from archive.installation import Installation, record_certificates
from archive.reconciling import reconcile
from archive.recorder import HoleError
from archive.settling import settle
from archive.team import Team, assembled
from client.clocks import now_ms
from client.errors import ClosedError, LinkError
from client.link import Backoff, Link
from client.tasks import together
from protocol.session import State

LOOK_S = 1.0
"""How often, in seconds, what runs is looked after, whether a relay is there or not."""


async def serve(archive: Installation, *, clock: Callable[[], int] = now_ms) -> None:
    """Record for an installation until cancelled: connect, and connect again.

    Args:
        archive: Open.
        clock: Gives this host's time, in ms since the epoch.

    Raises:
        ArchiveError: The log cannot be written, does not go on, or another instance signs.
        ConfigurationError: A file beside the configuration cannot be used.
    """
    witness = await witnessing.pinned(archive)
    bereft = copying.is_restored(archive.files)
    if bereft:
        await settle(archive, witness, clock=clock)
    with (
        contextlib.closing(archive.open_log(witness)) as log,
        archive.desk() as desk,
        archive.mirror() as mirror,
    ):
        archive.cosigners().check(log, archive.authority.trust)
        team = assembled(archive, log, desk, clock=clock, mirror=mirror)
        team.gathering.name_witnesses(now_ms=clock())
        team.recorder.begin_again(bereft=bereft)
        record_certificates(team.recorder, now_ms=clock())
        beside = () if team.machine is None else (team.machine.run(clock),)
        try:
            await together(_connecting(team), _watched(team), *beside)
        finally:
            team.reviewing.close()


async def _watched(team: Team) -> None:
    """Look around until the log cannot be written: an archive without alarms must not go on."""
    while True:
        try:
            team.watch.step(now_ms=team.clock())
        except OSError as error:  # Of the files that tell how it is; the log's own are mapped.
            events.warn("status_not_written", error=type(error).__name__)
        await asyncio.sleep(LOOK_S)


async def _connecting(team: Team) -> None:
    backoff = Backoff()
    while True:
        started_s = time.monotonic()
        least_ms = await _connected(team)
        team.progress.connected = False
        backoff.held(time.monotonic() - started_s)
        await asyncio.sleep(backoff.pause_s(at_least_ms=least_ms))


async def _connected(team: Team) -> int:
    """Serve one connection; return the pause in ms that the relay asks for."""
    archive, link = team.installation, None
    try:
        link = await Link.open(archive.address, archive.credentials())
        team.progress.connected = True
        events.tell("connected")
        if link.state is State.RECONCILING:
            # It tells no time before it serves.
            team.steward.unpublish()
            await reconcile(link, team.recorder, now_ms=team.clock())
        else:
            team.progress.relay_clock.hear(link.now_ms)
            await Connection(link, team).serve()
    except ClosedError as error:
        events.warn("closed", code=error.code.name)
        return error.detail
    except HoleError:
        events.warn("hole")
    except LinkError as error:
        events.warn("disconnected", error=type(error).__name__)
    finally:
        if link is not None:
            with contextlib.suppress(LinkError):
                await link.close()
    return 0
