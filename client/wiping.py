"""A device's own wipe: the order verified here, everything destroyed, the receipt sent.

The relay hands a revoked device its order and nothing else. What it hands over is believed for one
reason: the authority has signed it last, for this device by the key that it connects with. The
authority verifies the administrators and keeps the limits before it does; the relay and an
administrator alone cannot make such an order, and one for another device, or for an earlier one of
this name, is none here. So the root, which lies beside the locked store, is all that is wanted.

A device that is only suspended finds no order and destroys nothing.

What was begun is finished: at every start by ``resume``. The receipt is sent once nothing can be
read any more, and the connection key, which signs it, goes last.

Source: the architecture, section 6.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from client import connection as connections
from client import wipe
from client.connection import Connection
from client.errors import (
    DamagedError,
    LinkError,
    RefusedError,
    SuspendedError,
    UnlockError,
    UnreachableError,
)
from client.link import Link
from client.profile import Profile, profiles, remove_unfinished
from client.store import Store
from client.wipe import WipeState
from crypto.certificate import Root, fingerprint
from crypto.errors import CryptoError, VerificationError
from crypto.statement import (
    Purpose,
    Signatory,
    StatementType,
    sign_statement,
    statement_id,
    verify_countersigned_statement,
)
from crypto.statement_types import RULES
from protocol import frames
from protocol.commands import WipeOrder, WipeReason, WipeReceipt, decode_wipe_order
from protocol.errors import WAITS
from protocol.frames import Deliver, EntryKind
from protocol.identifiers import inbox_log
from protocol.inbox import Item, ItemKind, decode_item
from protocol.session import State

ORDER_S = 5.0
"""Seconds without an order after which a device takes it that it is suspended: the relay sends what
there is at once, and a device that errs here asks again when it connects again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiped:
    """What the person is told afterwards.

    Attributes:
        reason: The administrator's.
        receipted: Whether the relay has the receipt; else it is sent at the next start.
    """

    reason: WipeReason
    receipted: bool


def verify_order(statement: bytes, record: Connection, *, root: Root, now_ms: int) -> WipeOrder:
    """Return an order that this device is to follow.

    Args:
        statement: As it came.
        record: The device.
        root: The pinned root.
        now_ms: Now.

    Raises:
        CryptoError: It is none, or not for this device.
    """
    verified = verify_countersigned_statement(
        statement, expected=StatementType.WIPE_ORDER, root=root, at_ms=now_ms
    )
    order = decode_wipe_order(verified.body)
    if (order.device, order.connection_key) != (
        record.device,
        record.connection_key.public_key,
    ):
        raise VerificationError
    return order


async def obey(profile: Profile, *, clock: Callable[[], int]) -> Wiped:
    """Connect as the locked device that it is, and follow the order that waits.

    Raises:
        SuspendedError: There is none: the device is suspended, or restored by now.
        UnreachableError: There is no relay.
        LostError: The connection ended; nothing was destroyed, or what was begun is resumed.
        StoreError: The connection file is damaged.
    """
    record = connections.read(profile)
    link = await Link.open(record.address, record.credentials())
    try:
        return await carry_out(link, profile, clock=clock)
    finally:
        await link.close()


async def carry_out(
    link: Link, profile: Profile, *, clock: Callable[[], int], store: Store | None = None
) -> Wiped:
    """Follow the order that waits, on a connection that stands in ``ORDERED``.

    The process that held an open store ends soon after: its memory is what is left of it.

    Args:
        link: The connection; the caller closes it.
        profile: The device's.
        clock: Milliseconds since the epoch.
        store: The open store, where it is; it is closed.

    Raises:
        SuspendedError: No order comes that this device is to follow.
        LostError: The connection ended before one came.
        StoreError: The connection file is damaged, or the disk fails; what was begun is resumed.
    """
    record = connections.read(profile)
    if link.state is not State.ORDERED:
        raise SuspendedError
    entry, order = await _order(link, record, clock=clock)
    await _tell(link, record, decode_item(entry.body).body, now_ms=clock())
    wipe.begin(profile, decode_item(entry.body).body, store=store)
    receipted = False
    with suppress(LinkError):
        receipted = await _receipted(link, profile, record, now_ms=clock())
        await link.send(frames.Acknowledge(log=entry.log, through=entry.sequence))
    if receipted:
        wipe.finish(profile)
    return Wiped(reason=order.reason, receipted=receipted)


async def resume(root: Path, *, clock: Callable[[], int]) -> None:
    """Finish what was begun under ``root``, wipes above all; for every start of the program.

    Destroying comes first, for all of them; then the receipts, where the relay is reached. Those
    that are not sent now are sent at the next start.
    """
    remove_unfinished(root, now_ms=clock())
    begun = [profile for profile in profiles(root) if profile.wiping]
    for profile in begun:
        wipe.resume(profile)
    for profile in begun:
        if not wipe.owes_receipt(profile):
            wipe.finish(profile)
        elif wipe.state(profile) is WipeState.DESTROYED:
            with suppress(LinkError, UnlockError):
                await _report(profile, clock=clock)


async def _report(profile: Profile, *, clock: Callable[[], int]) -> None:
    """Send the receipt of a wipe that has destroyed everything, and end it."""
    try:
        record = connections.read(profile)
    except DamagedError:
        # Without its key nothing can be signed: what is left is of no use to anybody.
        wipe.finish(profile)
        return
    link = await Link.open(record.address, record.credentials())
    try:
        if link.state is not State.ORDERED:
            raise UnreachableError
        if await _receipted(link, profile, record, now_ms=clock()):
            wipe.finish(profile)
    finally:
        await link.close()


async def _order(
    link: Link, record: Connection, *, clock: Callable[[], int]
) -> tuple[Deliver, WipeOrder]:
    """Return the first entry that is an order for this device, with what it says."""
    root = record.pinned_root()
    while True:
        try:
            async with asyncio.timeout(ORDER_S):
                frame = await link.receive()
        except TimeoutError:
            raise SuspendedError from None
        if not isinstance(frame, Deliver) or frame.kind != EntryKind.MESSAGE:
            continue
        # A device from a drawer may not know the time. The relay's is believed forward alone: so
        # it can make an order look expired, which it could withhold as well.
        now_ms = max(clock(), frame.at_ms)
        with suppress(CryptoError):
            item = decode_item(frame.body)
            if item.kind is ItemKind.STATEMENT:
                return frame, verify_order(item.body, record, root=root, now_ms=now_ms)


async def _tell(link: Link, record: Connection, order: bytes, *, now_ms: int) -> None:
    """Say that the order has come, waiting for nobody: what it asks is done in any case."""
    statement = _statement(StatementType.WIPE_DELIVERY, record, order, now_ms=now_ms)
    item = Item(kind=ItemKind.STATEMENT, body=statement)
    with suppress(LinkError):
        await link.tell(
            lambda ref: frames.Post(ref=ref, log=inbox_log(record.device), statement=item.encode())
        )


async def _receipted(link: Link, profile: Profile, record: Connection, *, now_ms: int) -> bool:
    """Send the receipt; return whether no more can be done for it."""
    log = inbox_log(record.device)
    try:
        order = wipe.order(profile)
        statement = _statement(StatementType.WIPE_RECEIPT, record, order, now_ms=now_ms)
        item = Item(kind=ItemKind.STATEMENT, body=statement)
    except (DamagedError, CryptoError):
        return True
    try:
        await link.ask(lambda ref: frames.Post(ref=ref, log=log, statement=item.encode()))
    except RefusedError as error:
        return error.code not in WAITS
    return True


def _statement(kind: StatementType, record: Connection, order: bytes, *, now_ms: int) -> bytes:
    body = WipeReceipt(device=record.device, order=statement_id(order)).encode()
    return sign_statement(
        kind,
        body,
        organisation=record.address.organisation,
        issued_ms=now_ms,
        lifetime_ms=RULES[kind].lifetime_ms,
        signatory=Signatory(
            purpose=Purpose.CONNECTION,
            fingerprint=fingerprint(record.certificate),
            key=record.connection_key,
        ),
    )
