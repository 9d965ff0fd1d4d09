"""What a device finds when it comes back, and what one that reads nothing costs."""

from __future__ import annotations

import asyncio
import operator
from functools import partial
from pathlib import Path

from protocol import frames
from protocol.authenticated_data import Priority
from protocol.frames import EntryKind
from protocol.identifiers import ConversationId, conversation_log
from tests.scenarios import plain
from tests.scenarios.members import Member
from tests.scenarios.process import Installation, serving
from tests.scenarios.ward import assembled, ward
from tests.server import harness

PENDING_BYTES = 128 * 1024 * 1024
SIZE_BYTES = 60_000
GROWTH_BYTES = PENDING_BYTES // 2
"""Memory by which the relay may grow while all that waits for a reader that reads nothing: its
write buffer, the pages of the database, and what the allocator keeps are 20 to 30 MB however much
it is."""


async def test_who_comes_back_gets_the_most_urgent_conversation_first_and_each_in_order(
    tmp_path: Path,
) -> None:
    async with (
        serving(tmp_path / "relay", harness.hospital()) as at,
        ward(at, "ann/phone", "bob/phone") as (ann, bob, recorder),
    ):
        everybody = [ann, bob, recorder]
        routine, urgent, stat = [await assembled(everybody) for _ in range(3)]
        await bob.disconnect()
        for number in range(4):
            for conversation, priority in (
                (routine, Priority.ROUTINE),
                (urgent, Priority.URGENT if number == 3 else Priority.ROUTINE),
                (stat, Priority.STAT if number == 0 else Priority.INFO),
            ):
                text = f"{priority.name} {number}".encode()
                await ann.say(conversation, text, priority=priority)
        await ann.until(partial(operator.not_, ann.outbox))
        order = await logs_in_order(bob)
        wanted = [conversation_log(conversation) for conversation in (stat, urgent, routine)]
        assert order == [log for log in wanted for _ in range(4)]


async def logs_in_order(member: Member) -> list[bytes]:
    """Come back as a device that only listens, and return the logs of the messages that come."""
    client = await member.at.opened(member.person)
    found: list[bytes] = []
    numbers: dict[bytes, int] = {}
    while len(found) < 12:
        entry = await client.expect(frames.Deliver)
        assert entry.sequence > numbers.get(entry.log, 0)
        numbers[entry.log] = entry.sequence
        if entry.kind == EntryKind.MESSAGE and entry.log[:1] == b"c":
            found.append(entry.log)
    await client.socket.close()
    return found


async def test_a_reader_that_reads_nothing_costs_no_memory_and_misses_nothing(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path / "relay", harness.hospital()) as at:
        (ann, bob, recorder), conversation = await plain.meeting(at, "ann/phone", "bob/phone")
        reading = asyncio.create_task(plain.keep_up(recorder))
        await bob.socket.close()
        early = await plain.fill(ann, conversation, messages=64, size=SIZE_BYTES)
        # It connects, and what its socket can hold is all that it takes for a long time.
        stalled = await at.opened(at.hospital.people["bob/phone"], max_queue=1)
        before = at.resident_bytes()
        peak, late = await watched(at, ann, conversation)
        assert peak - before < GROWTH_BYTES
        got = [await stalled.expect(frames.Deliver, is_message) for _ in (*early, *late)]
        assert [entry.sequence for entry in got] == [*early, *late]
        reading.cancel()


def is_message(entry: frames.Deliver) -> bool:
    return entry.kind == EntryKind.MESSAGE and entry.log[:1] == b"c"


async def watched(
    at: Installation, sender: harness.Client, conversation: ConversationId
) -> tuple[int, list[int]]:
    """Send ``PENDING_BYTES`` and return the most memory that the relay had meanwhile."""
    peak, sequences = 0, []
    for _ in range(PENDING_BYTES // SIZE_BYTES // 64):
        sequences += await plain.fill(sender, conversation, messages=64, size=SIZE_BYTES)
        peak = max(peak, at.resident_bytes())
    return peak, sequences
