"""After a restore: nobody is served until the archive has told what may have been forgotten.

An old backup knows fewer numbers, earlier epochs, and orders that had since been carried out. The
recorder tells each log's last number, epoch and readers, and every command since; then it resumes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from crypto.errors import CryptoError
from crypto.statement import statement_type
from protocol.errors import Code
from protocol.frames import Adopt, Frame, Replay, Resume
from protocol.group_context import WardlineContext
from protocol.identifiers import ConversationId, device_id, log_id
from protocol.inbox import Item, ItemKind, decode_item
from server import control, events, opening
from server.answers import Refusal, answer
from server.directory import Organisation, context_fact, staged_fact
from server.store import LogKey, Reader

if TYPE_CHECKING:
    from server.connection import Connection
    from server.relay import Relay


def adopt(relay: Relay, connection: Connection, frame: Frame) -> None:
    """Take over where a log stands."""
    asked = cast("Adopt", frame)
    work = _adopt(relay, connection, asked)
    connection.spawn(answer(relay, connection, asked.ref, work), ref=asked.ref)


async def _adopt(relay: Relay, connection: Connection, asked: Adopt) -> None:
    organisation = connection.organisation
    log = log_id(asked.log)
    recorders = organisation.recorders()
    readers = [
        Reader(device=device_id(name), expires=name not in recorders) for name in asked.readers
    ]
    await relay.store.adopt(
        LogKey(organisation.id, log), last=asked.last, epoch=asked.epoch, readers=readers
    )
    if log.startswith(b"c"):
        conversation = ConversationId(log[1:])
        context = WardlineContext.decode(asked.context)
        relay.adopted.append(
            (
                organisation.id,
                [context_fact(conversation, context), staged_fact(conversation, None)],
            )
        )
        organisation.contexts[conversation] = context
        organisation.staged.pop(conversation, None)


def replay(relay: Relay, connection: Connection, frame: Frame) -> None:
    """Take in a command or certificate that the archive has and an old backup may lack."""
    asked = cast("Replay", frame)
    work = _replay(relay, connection, asked)
    connection.spawn(answer(relay, connection, asked.ref, work), ref=asked.ref)


async def _replay(relay: Relay, connection: Connection, asked: Replay) -> None:
    if not 0 < asked.at_ms <= relay.now_ms():
        raise Refusal(Code.INVALID)
    item = decode_item(asked.item)
    if item.kind is ItemKind.REQUEST:
        raise Refusal(Code.INVALID)
    if item.kind is ItemKind.STATEMENT:
        statement_type(item.body)
    relay.replayed.append((connection.organisation, asked.at_ms, item))


def resume(relay: Relay, connection: Connection, frame: Frame) -> None:
    """Serve again."""
    asked = cast("Resume", frame)
    connection.spawn(
        answer(relay, connection, asked.ref, _resume(relay, connection.organisation)), ref=asked.ref
    )


async def _resume(relay: Relay, told: Organisation) -> None:
    """Take in what an organisation's archive has told, in order, and serve that organisation.

    The store takes commands only once it serves; connections of every organisation are still
    refused meanwhile, because each is noted as told last.

    Raises:
        Refusal: Some of it was refused, as many as its detail says, and all else is in. The archive
            is to hear of it before anybody is served, and resumes again: nothing waits then.
        StoreError: The store failed; what was told waits.
    """
    if relay.store.awaiting_archive:
        await relay.store.resume(wall_ms=relay.now_ms())
        await relay.secrets.resume()
    for organisation_id, facts in relay.adopted:
        if organisation_id == told.id:
            await relay.store.put(organisation_id, facts)
    await relay.begin(told)
    refused = await _take_all_in(relay, told)
    relay.adopted = [one for one in relay.adopted if one[0] != told.id]
    relay.replayed = [one for one in relay.replayed if one[0] is not told]
    if refused:
        raise Refusal(Code.INVALID, refused)
    relay.told.add(told.id)
    relay.reconciling = not relay.told >= relay.organisations.keys()
    # After the answer: whoever told the relay connects again, as what it is from now on.
    relay.loop.call_soon(_send_home, relay, told)


def _send_home(relay: Relay, told: Organisation) -> None:
    for connection in relay.delivery.connections(told.id):
        connection.close(Code.DRAINING)


async def _take_all_in(relay: Relay, told: Organisation) -> int:
    """Take in what one organisation's archive has told; return how many were refused.

    One that is refused keeps nothing behind it out: an order to wipe may stand there.
    """
    refused = 0
    for organisation, at_ms, item in relay.replayed:
        if organisation is not told:
            continue
        try:
            await _take_in(relay, organisation, item, at_ms=at_ms)
        except (Refusal, CryptoError) as error:
            refused += 1
            events.warn("replay_refused", error=type(error).__name__)
    return refused


async def _take_in(relay: Relay, organisation: Organisation, item: Item, *, at_ms: int) -> None:
    """Take in a certificate, or a command unless the backup had it."""
    if item.kind is ItemKind.CERTIFICATE:
        async with organisation.changes:
            trust, device = organisation.admitted(item.body, now_ms=at_ms)
            await opening.register(relay, organisation, device)
            organisation.trust = trust
            organisation.devices[device.id] = device
        return
    try:
        await control.take_in(relay, organisation, item.body, at_ms=at_ms)
    except Refusal as refusal:
        if refusal.code is not Code.STALE_STATEMENT:
            raise
