"""Members in a conversation, for stories that begin when it has begun."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from protocol.identifiers import ConversationId
from tests.scenarios.members import Member, Recorder
from tests.scenarios.process import Installation
from tests.server import harness


@asynccontextmanager
async def ward(at: Installation, *names: str) -> AsyncIterator[list[Member]]:
    """Connect devices with published key packages, and the recorder as the last of them."""
    people = [at.hospital.people.get(name) or at.hospital.enrol(name) for name in names]
    recorder = Recorder(at.hospital.people[harness.RECORDER], at)
    members = [*(Member(person, at) for person in people), recorder]
    for member in members:
        await member.connect()
        await member.publish(8)
    try:
        yield members
    finally:
        for member in members:
            await member.disconnect()


async def assembled(members: list[Member]) -> ConversationId:
    """Return a conversation of all of them, confirmed for everybody."""
    conversation = members[0].begin()
    await members[0].change(conversation, add=[member.name for member in members[1:]])
    for member in members[1:]:
        await member.joins(conversation)
    return conversation


async def all_see(members: list[Member], conversation: ConversationId, text: bytes) -> None:
    for member in members:
        await member.sees(conversation, text)
