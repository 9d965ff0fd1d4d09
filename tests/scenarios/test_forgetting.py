"""What all have is nowhere at the relay any more: not in its files, its log, nor its memory."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from protocol.identifiers import ConversationId
from tests.scenarios.members import Member
from tests.scenarios.process import serving
from tests.scenarios.ward import assembled, ward
from tests.server import harness

FORGOTTEN_S = 1.0
"""Seconds within which deleted bytes have left the write-ahead log (the relay's own promise)."""

OTHER_TRAFFIC_BYTES = 16 * 1024 * 1024
TEXT_BYTES = 16_000
AT_ONCE = 64
OTHERS_AT_ONCE = 3
WORD_BYTES = 8


def words(messages: Iterable[bytes]) -> set[int]:
    """Return the words by which any fifteen bytes of the messages' ciphertexts are known again.

    Wherever they lie, one of their words is aligned. The front half has what is no secret.
    """
    halves = [message[len(message) // 2 :] for message in messages]
    return {
        int.from_bytes(half[at : at + WORD_BYTES], sys.byteorder)
        for half in halves
        for at in range(len(half) - WORD_BYTES + 1)
    }


def left(contents: Iterable[tuple[str, bytes]], sought: set[int]) -> set[str]:
    """Return the names of the contents in which any of the words is found."""
    return {
        name
        for name, content in contents
        if not sought.isdisjoint(
            memoryview(content)[: len(content) // WORD_BYTES * WORD_BYTES].cast("Q")
        )
    }


def where(contents: Iterable[tuple[str, bytes]], needles: list[bytes]) -> set[str]:
    """Return the names of the contents in which any of the needles is found."""
    return {name for name, content in contents if any(needle in content for needle in needles)}


def memory(pid: int) -> Iterable[tuple[str, bytes]]:
    """Give everything that a process can write to, map by map."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as mem:
        for line in lines:
            span, rights, *rest = line.split()
            if not rights.startswith("rw"):
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            name = rest[3] if len(rest) > 3 else span
            yield name, os.pread(mem.fileno(), end - start, start)


async def say_often(
    sender: Member, conversation: ConversationId, texts: int, *, size: int, at_once: int
) -> None:
    """Send many messages of random text, ``at_once`` ahead of the first that is unanswered."""
    for first in range(0, texts, at_once):
        ids = [
            await sender.say(conversation, secrets.token_bytes(size))
            for _ in range(min(at_once, texts - first))
        ]
        await sender.until(partial(sender.accepted.get, ids[-1]))


async def told_together(
    sender: Member, conversation: ConversationId, texts: list[bytes]
) -> list[bytes]:
    """Send messages at once, wait until they are accepted, and return them as encrypted."""
    ids = [await sender.say(conversation, text) for text in texts]
    frames = [sender.outbox[number].frame for number in ids]
    await sender.until(partial(sender.accepted.get, ids[-1]))
    return [frame.message for frame in frames if frame is not None]


async def test_the_search_finds_what_is_queued_and_nothing_once_all_have_it(tmp_path: Path) -> None:
    canary = b"CANARY " + secrets.token_hex(16).encode()
    async with (
        serving(tmp_path / "relay", harness.hospital()) as at,
        ward(at, "ann/phone", "bob/phone") as (ann, bob, recorder),
    ):
        conversation = await assembled([ann, bob, recorder])
        other = await assembled([ann, bob, recorder])
        await bob.disconnect()
        # One is small, most fit into a page of the database, one does not.
        sizes = (2, 150, 150, 400, 1200, 6000)
        texts = [canary + secrets.token_hex(size).encode() for size in sizes]
        sent = [await ann.told(conversation, text) for text in texts]
        # And some come together, so that one statement of the database writes many of them.
        texts += [canary + secrets.token_hex(150).encode() for _ in range(AT_ONCE)]
        sent += await told_together(ann, conversation, texts[-AT_ONCE:])
        sought = words(sent)

        # The search can find: what is queued is on disk, and a certificate is in memory.
        for message in sent:
            found = left(at.files().items(), words([message]))
            assert any(name.startswith("data/relay.db") for name in found)
        assert where(at.files().items(), [canary]) == set()
        assert where(memory(at.pid), [ann.person.certificate]) != set()
        assert left(memory(at.pid), words([ann.person.certificate])) != set()

        await bob.connect()
        await bob.sees(conversation, texts[-1])
        for member in (ann, bob, recorder):
            await member.acknowledge_all()
        await asyncio.sleep(FORGOTTEN_S)
        assert where(at.files().items(), [canary]) | left(at.files().items(), sought) == set()

        # Less at a time than what was to be forgotten: nothing is overwritten by its like.
        count = OTHER_TRAFFIC_BYTES // TEXT_BYTES
        await say_often(ann, other, count, size=TEXT_BYTES, at_once=OTHERS_AT_ONCE)
        for contents in (list(memory(at.pid)), list(at.files().items())):
            assert where(contents, [canary]) | left(contents, sought) == set()


async def test_the_program_starts_itself_anew_where_its_memory_would_keep_what_is_freed(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path / "relay", harness.hospital()) as at:
        runs_with = at.runs_with()
        assert runs_with["MALLOC_PERTURB_"] == "165"
        # glibc may cut its settings apart where they stand.
        tunables = ":".join(f"{name}={value}" for name, value in runs_with.items())
        assert "glibc.malloc.tcache_max=160" in tunables
        assert "glibc.malloc.tcache_count=64" in tunables
