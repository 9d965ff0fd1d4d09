"""Wipe orders as administrators and authority make them, and a relay that hands over anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace
from websockets.asyncio.server import ServerConnection

from client.link import Address
from crypto.names import Role
from crypto.statement import (
    Purpose,
    StatementType,
    countersign_statement,
)
from protocol import frames
from protocol.commands import WipeOrder, WipeReason
from protocol.identifiers import inbox_log
from protocol.inbox import Item, ItemKind
from tests.client.relay import PIN, lying
from tests.server.harness import Hospital, Person, now_ms

YEAR_MS = 365 * 24 * 3600 * 1000


def administrator(of: Hospital, name: str = "adam/desk") -> Person:
    return of.people.get(name) or of.enrol(name, Role.ADMINISTRATOR)


def body_of(person: Person, **changes: object) -> bytes:
    fields: dict[str, object] = {
        "device": person.name,
        "connection_key": person.keys.connection_key.public_key,
        "reason": WipeReason.STOLEN,
    }
    return WipeOrder(**{**fields, **changes}).encode()  # type: ignore[arg-type]


def single_signed(
    of: Hospital,
    body: bytes,
    *,
    issued_ms: int | None = None,
    lifetime_ms: int = YEAR_MS,
    by: Person | None = None,
) -> bytes:
    return of.signed(
        StatementType.WIPE_ORDER,
        body,
        by=(by or administrator(of)).signatory(Purpose.ADMINISTRATOR),
        issued_ms=now_ms() if issued_ms is None else issued_ms,
        lifetime_ms=lifetime_ms,
    )


def countersigned(of: Hospital, statement: bytes, *, at_ms: int | None = None) -> bytes:
    at_ms = now_ms() if at_ms is None else at_ms
    return countersign_statement(statement, trust=of.trust, at_ms=at_ms, signatory=of.signatory())


def order_for(of: Hospital, person: Person) -> bytes:
    """Return the complete order to wipe a device."""
    return countersigned(of, single_signed(of, body_of(person)))


@dataclass
class Handed:
    """What a relay that hands over orders is told.

    Attributes:
        posted: The items that devices posted.
        acknowledged: How far they got.
    """

    posted: list[bytes] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)


def entry_of(person: Person, body: bytes, *, sequence: int = 1, at_ms: int = 0) -> frames.Deliver:
    return frames.Deliver(
        log=inbox_log(person.name),
        sequence=sequence,
        predecessor=sequence - 1,
        at_ms=at_ms,
        kind=frames.EntryKind.MESSAGE,
        body=body,
    )


def item(statement: bytes, kind: ItemKind = ItemKind.STATEMENT) -> bytes:
    return Item(kind=kind, body=statement).encode()


@asynccontextmanager
async def handing(
    folder: Path, entries: Sequence[frames.Frame], *, answer: frames.Refused | None = None
) -> AsyncIterator[tuple[Address, Handed]]:
    """Run what has the relay's key, and hands every device that connects these entries."""
    handed = Handed()

    async def ordering(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(frames.encode(frames.Challenge(version=1, nonce=bytes(32), pin=PIN)))
        await socket.recv()
        for frame in (frames.Ordered(), *entries):
            await socket.send(frames.encode(frame))
        async for data in socket:
            assert isinstance(data, bytes)
            frame = frames.decode(data, sender=frames.Sender.CLIENT)
            if isinstance(frame, frames.Post):
                handed.posted.append(frame.statement)
                done = answer and replace(answer, ref=frame.ref)
                await socket.send(frames.encode(done or frames.Done(ref=frame.ref)))
            elif isinstance(frame, frames.Acknowledge):
                handed.acknowledged.append(frame.through)

    async with lying(folder, ordering) as address:
        yield address, handed
