"""Of two Commits in one epoch one wins, and the other learns which."""

from __future__ import annotations

import asyncio
import operator
import random
from functools import partial
from pathlib import Path

from protocol import frames
from protocol.errors import Code
from protocol.identifiers import ConversationId
from tests.depth import DEPTH
from tests.scenarios.process import serving
from tests.scenarios.ward import assembled, ward
from tests.server import harness
from tests.server.harness import Client

SOCKET_RACES = 30 * DEPTH
RACES = 1000 * DEPTH


async def test_members_race_through_the_real_process_and_never_fork(tmp_path: Path) -> None:
    async with (
        serving(tmp_path / "relay", harness.hospital()) as at,
        ward(at, "ann/phone", "bob/phone") as (ann, bob, recorder),
    ):
        conversation = await assembled([ann, bob, recorder])
        for epoch in range(1, SOCKET_RACES + 1):
            racers = random.sample([ann, bob], 2)
            ids = await asyncio.gather(*(racer.stage(conversation) for racer in racers))
            for member in (ann, bob, recorder):
                await member.reaches(conversation, epoch + 1)
            for racer in racers:
                await racer.until(partial(operator.not_, racer.outbox))
            won = [
                racer.accepted[number]
                for racer, number in zip(racers, ids, strict=True)
                if number in racer.accepted
            ]
            lost = [
                racer.refused[number]
                for racer, number in zip(racers, ids, strict=True)
                if number in racer.refused
            ]
            assert lost in ([], [(Code.COMMIT_CONFLICT, won[0][1])])
            assert len(won) + len(lost) == 2
        states = {m.talks[conversation].mls.epoch_authenticator for m in (ann, bob, recorder)}
        assert len(states) == 1


async def test_a_thousand_random_races_have_one_winner_each(tmp_path: Path) -> None:
    # Over loopback sockets into a relay of this process; the Commits are headers without MLS.
    of = harness.hospital()
    async with harness.running(tmp_path, of) as site:
        (*racers, recorder), conversation = await site.meeting(
            *(f"user{n}/phone" for n in range(5))
        )
        for epoch in range(1, RACES + 1):
            racing = random.sample(racers, random.randint(2, 5))
            made = [commit(racer, conversation, epoch) for racer in racing]
            for racer, (_, message) in zip(racing, made, strict=True):
                await racer.send(frames.AppendCommit(message=message, welcome=b""))
                await asyncio.sleep(random.choice((0, 0, 0.0005)))
            ids = [number for number, _ in made]
            said = await asyncio.gather(
                *(answer(racer, number) for racer, number in zip(racing, ids, strict=True))
            )
            won = [frame for frame in said if isinstance(frame, frames.Accepted)]
            lost = [frame for frame in said if isinstance(frame, frames.RefusedMessage)]
            assert len(won) == 1
            (winner,) = won[0].sequences
            assert [(f.code, f.detail) for f in lost] == [(Code.COMMIT_CONFLICT, winner)] * len(
                lost
            )
            await harness.confirm(recorder, conversation, sequence=winner, epoch=epoch + 1)
            for client in (*racers, recorder):
                client.early.clear()


def commit(client: Client, conversation: ConversationId, epoch: int) -> tuple[int, bytes]:
    return harness.commit_message(client, conversation, epoch=epoch, added=[], removed=[])


async def answer(client: Client, number: int) -> frames.Frame:
    """Return what the relay says of a message."""
    return await client.expect(
        frames.Frame,
        lambda frame: (
            number in getattr(frame, "message_ids", ()) or getattr(frame, "message_id", 0) == number
        ),
    )
