"""What nobody fetched goes after thirty days; what the archive lacks never does."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from protocol import frames
from protocol.errors import Code
from protocol.frames import EntryKind
from protocol.identifiers import conversation_log
from tests.server import harness

DAY_MS = 24 * 3600 * 1000


def later(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    """Let the relay's clock of ages stand some days ahead."""
    began_ns = time.monotonic_ns()
    monkeypatch.setattr(
        "server.relay.time.monotonic_ns", lambda: began_ns + int(days * DAY_MS) * 1_000_000
    )


async def test_what_was_not_fetched_in_thirty_days_is_gone_and_its_device_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        (ann, bob, recorder), conversation = await site.meeting("ann/phone", "bob/phone")
        log = conversation_log(conversation)
        for away in (bob, recorder):
            await away.socket.close()
        await site.relay.expire()
        await ann.send(harness.message(ann, conversation, epoch=1, body=b"for bob"))
        number = (await ann.expect(frames.Accepted)).sequences[0]
        await ann.send(frames.Acknowledge(log=log, through=number))

        later(monkeypatch, 29.5)
        await site.relay.expire()
        assert bob.person.name in site.relay.store.readers(site.key(log))
        later(monkeypatch, 31)
        await site.relay.expire()
        assert bob.person.name not in site.relay.store.readers(site.key(log))

        back = await site.open(bob.person)
        ended = await back.expect(frames.Ended)
        assert (ended.log, ended.code) == (log, Code.EXPIRED)
        await back.answer(lambda ref: frames.Lookup(ref=ref, users=()))
        assert not [e for e in back.early if isinstance(e, frames.Deliver) and e.log == log]

        archive = await site.open(recorder.person)
        kept = await archive.expect(frames.Deliver, lambda e: e.sequence == number)
        assert kept.kind == EntryKind.MESSAGE
        assert b"for bob" in kept.body
        later(monkeypatch, 400)
        await site.relay.expire()
        assert recorder.person.name in site.relay.store.readers(site.key(log))
