"""What a hostile client must not have changed, and a well-behaved client beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from protocol import frames
from protocol.errors import MEANINGS, Code
from protocol.frames import Frame
from protocol.identifiers import AUDIT_LOG, ConversationId
from server.sqlite_store import SqliteStore
from tests.server import harness
from tests.server.harness import Client, Hospital, Rates, Site


class Picture(NamedTuple):
    """All that the relay keeps, but the audit log, in which refusals belong."""

    heads: dict[Any, tuple[int, int, int | None, int]]
    cursors: dict[Any, tuple[int, int]]
    facts: Mapping[bytes, Mapping[bytes, bytes]]
    blobs: int

    def of(
        self, organisation: bytes
    ) -> tuple[dict[Any, Any], dict[Any, Any], Mapping[bytes, bytes]]:
        """Return one organisation's part."""
        return (
            {key: head for key, head in self.heads.items() if key.organisation == organisation},
            {at: place for at, place in self.cursors.items() if at[0].organisation == organisation},
            self.facts[organisation],
        )


async def picture(site: Site) -> Picture:
    """Return what is kept now, once everything that was asked for is on disk."""
    store = site.relay.store
    assert isinstance(store, SqliteStore)
    await store.settle()
    logs = {key: log for key, log in store._pipeline.ledger.logs.items() if key.id != AUDIT_LOG}
    heads = {}
    for key in logs:
        head = store.head(key)
        assert head is not None
        heads[key] = (head.seq, head.epoch, head.staged, head.entries)
    cursors = {
        (key, device): (cursor.acked, cursor.until)
        for key, log in logs.items()
        for device, cursor in log.cursors.items()
    }
    facts = {
        one: await store.facts(organisation.id)
        for one, organisation in site.relay.organisations.items()
    }
    return Picture(heads, cursors, facts, len(site.relay.blobs._blobs))


class Ward(NamedTuple):
    """A running relay with a conversation of well-behaved devices."""

    site: Site
    ann: Client
    bob: Client
    recorder: Client
    conversation: ConversationId

    async def is_served(self) -> None:
        """Assert that a message still goes from one well-behaved device to another."""
        number = self.ann.person.counter + 1
        body = f"still here {number:06d}".encode()
        await self.ann.send(harness.message(self.ann, self.conversation, epoch=1, body=body))
        await self.ann.expect(frames.Accepted, lambda a: number in a.message_ids)
        await self.bob.expect(frames.Deliver, lambda e: e.body.endswith(body))
        await self.recorder.expect(frames.Deliver, lambda e: e.body.endswith(body))
        assert not self.site.relay.counters["faults"]


@asynccontextmanager
async def ward(
    folder: Path, *others: Hospital, rates: Rates = harness.FAST, **settings: Any
) -> AsyncIterator[Ward]:
    """Run a relay on which ann, bob and the recorder share a conversation."""
    async with harness.running(
        folder, harness.hospital(), *others, rates=rates, **settings
    ) as site:
        (ann, bob, recorder), conversation = await site.meeting("ann/phone", "bob/phone")
        yield Ward(site, ann, bob, recorder, conversation)


def closing(frame: Frame) -> Code:
    """Return why a connection was closed: by a code that is documented to close."""
    assert isinstance(frame, frames.Close), frame
    code = Code(frame.code)
    assert MEANINGS[code].closes
    return code


def refusal(frame: Frame) -> Code:
    """Return why something was refused: by a code that is documented not to close."""
    assert isinstance(frame, frames.Refused | frames.RefusedMessage), frame
    code = Code(frame.code)
    assert not MEANINGS[code].closes
    return code
