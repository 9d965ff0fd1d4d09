"""Conversations of devices that encrypt nothing, for what is about amounts and not about MLS."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Sequence

from crypto.statement import StatementType
from protocol import frames
from protocol.identifiers import ConversationId
from tests.scenarios.process import Installation
from tests.server import harness
from tests.server.harness import Client


async def confirmed(
    committer: Client, recorder: Client, number: int, message: bytes, *, epoch: int
) -> None:
    """Have the recorder confirm a Commit that the relay has accepted."""
    accepted = await committer.expect(frames.Accepted, lambda a: number in a.message_ids)
    done = await harness.verdict(
        recorder,
        conversation_of(message),
        sequence=accepted.sequences[accepted.message_ids.index(number)],
        epoch=epoch,
        kind=StatementType.EPOCH_RECEIPT,
        commit_hash=hashlib.sha256(message).digest(),
    )
    assert isinstance(done, frames.Done), done


def conversation_of(message: bytes) -> bytes:
    """Return the conversation in a message's header."""
    return message[5:37]


async def meeting(at: Installation, *names: str) -> tuple[list[Client], ConversationId]:
    """Return clients that share a confirmed conversation; the recorder is the last one."""
    people = [at.hospital.people.get(name) or at.hospital.enrol(name) for name in names]
    people.append(at.hospital.people[harness.RECORDER])
    clients = [await at.opened(person) for person in people]
    conversation = ConversationId(secrets.token_bytes(32))
    await admit(clients[0], clients[-1], conversation, clients[1:])
    return clients, conversation


async def admit(
    creator: Client, recorder: Client, conversation: ConversationId, others: Sequence[Client]
) -> None:
    """Create a conversation of the clients."""
    joined = [client.person.name for client in others]
    number, message = harness.commit_message(
        creator, conversation, epoch=0, added=joined, removed=[]
    )
    await creator.send(frames.AppendCommit(message=message, welcome=b"\x00\x01\x00\x03welcome"))
    await confirmed(creator, recorder, number, message, epoch=1)


async def fill(
    sender: Client, conversation: ConversationId, *, messages: int, size: int, ahead: int = 64
) -> list[int]:
    """Send many messages and return their numbers."""
    sequences: list[int] = []
    for first in range(0, messages, ahead):
        for _ in range(min(ahead, messages - first)):
            body = secrets.token_bytes(size)
            await sender.send(harness.message(sender, conversation, epoch=1, body=body))
        wanted = min(first + ahead, messages)
        while len(sequences) < wanted:
            sequences += (await sender.expect(frames.Accepted)).sequences
    return sequences


async def keep_up(client: Client) -> None:
    """Acknowledge everything as it comes, until cancelled."""
    while True:
        entry = await client.expect(frames.Deliver)
        await client.send(frames.Acknowledge(log=entry.log, through=entry.sequence))
        await asyncio.sleep(0)
