"""A wall clock that jumps, at the relay's host or by somebody's hand, costs nobody anything."""

from __future__ import annotations

import secrets
from pathlib import Path

from protocol import frames
from protocol.errors import Code
from protocol.identifiers import conversation_log
from tests.adversary.witness import Ward, closing
from tests.server import harness

DAY_MS = 24 * 3600 * 1000
JUMPS_DAYS = (400, -800, 10_000, -9_600)
"""One after another; with the last of them the clock is right again."""


async def test_a_clock_that_jumps_ends_expires_and_refuses_nothing_of_who_is_here(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        (ann, bob, cat, recorder), conversation = await site.meeting(
            "ann/phone", "bob/phone", "cat/phone"
        )
        there = Ward(site, ann, bob, recorder, conversation)
        key = site.key(conversation_log(conversation))
        await cat.socket.close()
        waiting = secrets.token_bytes(32)
        await ann.send(harness.message(ann, conversation, epoch=1, body=waiting))
        await ann.expect(frames.Accepted)
        assert sum(JUMPS_DAYS) == 0
        for days in JUMPS_DAYS:
            site.later_ms += days * DAY_MS
            await site.relay.expire()
            site.relay.end_outdated()
            site.relay.keeper.look(now_s=site.relay.now_s())
            site.relay.look_at_archive()
            await site.relay.pages.forget()
            await there.is_served()
            await bob.answer(lambda ref: frames.Lookup(ref=ref, users=("ann",)))
            assert not [one for one in bob.early if isinstance(one, frames.Ended)]
            if days == JUMPS_DAYS[0]:
                # Who comes while it is wrong is told what that clock says, and loses nothing.
                early = await site.client(cat.person)
                await early.greet()
                assert closing(await early.prove()) is Code.OUTDATED
        head = site.relay.store.head(key)
        assert head is not None
        # What waits is there for who was away, once the clock is right.
        back = await site.open(cat.person)
        got = await back.expect(frames.Deliver, lambda entry: entry.body.endswith(waiting))
        assert got.log == key.id
        assert not site.relay.counters["faults"]
