"""After a restore: nobody is served until the archive has told what may have been forgotten.

An old backup knows fewer numbers, earlier epochs, and orders that had since been carried out. The
recorder tells each log's last number, epoch and readers, and every command since; then it resumes.
What is refused of that leaves nobody free whom it was directed against: see ``server.telling``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from crypto.errors import CryptoError
from crypto.statement import statement_type
from crypto.trust import CLOCK_SKEW_MS
from protocol.errors import Code
from protocol.frames import Adopt, Frame, Replay, Resume
from protocol.group_context import WardlineContext
from protocol.identifiers import CONTROL_LOG, ConversationId, DeviceId, device_id, log_id
from protocol.inbox import Item, ItemKind, decode_item
from server import control, events, opening
from server.answers import Refusal, answer
from server.directory import Organisation, context_fact, held_fact, owed_fact, staged_fact
from server.store import (
    AdoptLog,
    BeginServing,
    LogKey,
    PutFacts,
    Reader,
)
from server.telling import Telling, Told, concerned

if TYPE_CHECKING:
    from server.connection import Connection
    from server.relay import Relay


def adopt(relay: Relay, connection: Connection, frame: Frame) -> None:
    """Take over where a log stands."""
    asked = cast("Adopt", frame)
    work = _adopt(relay, connection.organisation, asked)
    connection.spawn(answer(relay, connection, asked.ref, work), ref=asked.ref)


def _telling(relay: Relay, organisation: Organisation) -> Telling:
    if organisation.owed is None:
        raise Refusal(Code.NO_SUCH)
    return relay.tellings[organisation.id]


async def _adopt(relay: Relay, organisation: Organisation, asked: Adopt) -> None:
    telling, log = _telling(relay, organisation), log_id(asked.log)
    # Until it is in: a log that stands where the backup left it could fork.
    telling.missing.add(log)
    recorders = organisation.recorders()
    key = LogKey(organisation.id, log)
    names = set(asked.readers)
    if log == CONTROL_LOG:
        # All devices read it, and one frame names no more than a conversation has: it is told in
        # parts. Who is in none of them loses the place by the command that says why.
        names |= set(relay.store.readers(key))
    readers = [
        Reader(device=device_id(name), expires=name not in recorders) for name in sorted(names)
    ]
    context = WardlineContext.decode(asked.context) if log.startswith(b"c") else None
    head = await relay.store.change(
        AdoptLog(key, last=asked.last, epoch=asked.epoch, readers=readers)
    )
    # An archive that was restored as well may be behind: what a later Commit made of it stands.
    if context is not None and head.epoch == asked.epoch:
        conversation = ConversationId(log[1:])
        telling.facts += [context_fact(conversation, context), staged_fact(conversation, None)]
        organisation.contexts[conversation] = context
        organisation.staged.pop(conversation, None)
    telling.missing.discard(log)


def replay(relay: Relay, connection: Connection, frame: Frame) -> None:
    """Take in a command or certificate that the archive has and an old backup may lack."""
    asked = cast("Replay", frame)
    work = _replay(relay, connection.organisation, asked)
    connection.spawn(answer(relay, connection, asked.ref, work), ref=asked.ref)


async def _replay(relay: Relay, organisation: Organisation, asked: Replay) -> None:
    telling = _telling(relay, organisation)
    try:
        item = _readable(asked, latest_ms=relay.now_ms() + CLOCK_SKEW_MS)
    except (CryptoError, Refusal):
        telling.refused += 1
        telling.unplaced += 1
        raise
    telling.items.append(Told(item=item, at_ms=asked.at_ms, sequence=asked.sequence))


def _readable(asked: Replay, *, latest_ms: int) -> Item:
    if not 0 < asked.at_ms <= latest_ms:
        raise Refusal(Code.INVALID)
    item = decode_item(asked.item)
    if item.kind is ItemKind.REQUEST:
        raise Refusal(Code.INVALID)
    if item.kind is ItemKind.STATEMENT:
        statement_type(item.body)
    return item


def resume(relay: Relay, connection: Connection, frame: Frame) -> None:
    """Serve again."""
    asked = cast("Resume", frame)
    work = _resume(relay, connection.organisation)
    connection.spawn(answer(relay, connection, asked.ref, work), ref=asked.ref)


async def _resume(relay: Relay, told: Organisation) -> None:
    """Take in what an organisation's archive has told, in order, and serve that organisation.

    The store takes commands only once it serves. Connections are refused until nothing is owed any
    more, which is on the disk as its own fact: who is stopped in the middle is told all again.

    Raises:
        Refusal: Some of it was refused, as many as its detail says, and all else is in. The archive
            is to hear of it before anybody is served; it resumes again, and is served then unless
            something was refused that concerns nobody in particular.
        StoreError: The store failed; what was told waits.
    """
    telling = _telling(relay, told)
    async with telling.taking:
        if relay.store.awaiting_archive:
            await relay.store.change(BeginServing(wall_ms=relay.now_ms()))
        await relay.secrets.resume()
        await relay.store.change(PutFacts(told.id, telling.facts))
        await relay.prepare(told)
        await _take_all_in(relay, told, telling)
        _judge(relay, telling)
        await relay.store.change(PutFacts(told.id, [owed_fact(None)]))
        told.owed = None
    await control.redo_orders(relay)
    relay.start(told)
    # After the answer: whoever told the relay connects again, as what it is from now on.
    relay.loop.call_soon(_send_home, relay, told)


def _judge(relay: Relay, telling: Telling) -> None:
    """Refuse to serve where the archive has yet to hear of something, or an operator to decide."""
    shut = telling.unplaced + len(telling.missing)
    if telling.refused and not telling.reported:
        telling.reported = True
        raise Refusal(Code.INVALID, telling.refused + len(telling.missing))
    if shut and not relay.despite_refusals:
        events.warn("shut", count=shut)
        raise Refusal(Code.INVALID, shut)


def _send_home(relay: Relay, told: Organisation) -> None:
    for connection in relay.delivery.connections(told.id):
        connection.close(Code.DRAINING)


async def _take_all_in(relay: Relay, organisation: Organisation, telling: Telling) -> None:
    """Take in what one organisation's archive has told.

    One that is refused keeps nothing behind it out: an order to wipe may stand there.
    """
    while telling.items:
        told = telling.items[0]
        try:
            await _take_in(relay, organisation, told)
        except (Refusal, CryptoError) as error:
            telling.refused += 1
            events.warn("replay_refused", error=type(error).__name__)
            await _refused(relay, organisation, telling, told.item)
        telling.items.pop(0)


async def _take_in(relay: Relay, organisation: Organisation, told: Told) -> None:
    """Take in a certificate, or a command unless the backup had it."""
    if told.item.kind is ItemKind.CERTIFICATE:
        async with organisation.changes:
            admission = organisation.admitted(told.item.body, now_ms=told.at_ms)
            await opening.register(relay, organisation, admission)
        return
    if 0 < told.sequence <= cast("int", organisation.owed):
        return
    try:
        await control.take_in(relay, organisation, told.item.body, at_ms=told.at_ms)
    except Refusal as refusal:
        if refusal.code is not Code.STALE_STATEMENT:
            raise


async def _refused(relay: Relay, organisation: Organisation, telling: Telling, item: Item) -> None:
    """Hold whom a refused item was directed against; note where that could be anybody."""
    names = concerned(item, organisation)
    if names is None:
        telling.unplaced += 1
    elif names:
        await _hold(relay, organisation, names, teller=telling.teller)


async def _hold(
    relay: Relay, organisation: Organisation, names: frozenset[str], *, teller: DeviceId
) -> None:
    """Suspend devices and users' devices, those also that have yet to come into the directory."""
    known = [
        device.id
        for device in organisation.devices.values()
        if not names.isdisjoint((device.id, device.identity.user)) and device.id != teller
    ]
    change = control.suspending(relay, organisation, tuple(known), suspended=True)
    held = [held_fact(name, held=True) for name in sorted(names)]
    await relay.store.change(PutFacts(organisation.id, [*held, *change.facts]))
    organisation.held |= names
    change.apply()
    await change.afterwards()
    relay.count("held")
    events.warn("held", count=len(names))
