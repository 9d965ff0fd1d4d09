"""Signed statements into logs: verdicts on Commits, notes, certificates and their requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from crypto.enrolment import verify_request
from crypto.errors import InvalidError
from crypto.names import Role
from crypto.statement import (
    StatementType,
    VerifiedStatement,
    statement_id,
    statement_type,
    verify_outcast_statement,
    verify_statement,
)
from protocol import limits
from protocol.audit import EventKind
from protocol.authenticated_data import Priority
from protocol.commands import CommitVerdict, decode_verdict, decode_wipe_receipt
from protocol.errors import Code
from protocol.frames import Deliver, EntryKind, Frame, Post
from protocol.group_context import WardlineContext
from protocol.identifiers import (
    CONTROL_LOG,
    ConversationId,
    DeviceId,
    LogId,
    inbox_log,
    log_id,
    user_of,
)
from protocol.inbox import Item, ItemKind, decode_item
from protocol.standing import order_key
from server import access, opening
from server import store as storage
from server.answers import Refusal, answer, ensure
from server.attention import QUIETLY, Notice
from server.conversations import verdict_facts
from server.directory import DELIVERED, RECEIPT, StagedFact, receipt_fact
from server.store import RELAY, Appended, LogKey, Receipt, Void

if TYPE_CHECKING:
    from server.connection import Connection
    from server.relay import Relay


def post(relay: Relay, connection: Connection, frame: Frame) -> None:
    """Take a signed statement for a log."""
    asked = cast("Post", frame)
    work = _post(relay, connection, asked)
    connection.spawn(answer(relay, connection, asked.ref, work), ref=asked.ref)


async def _post(relay: Relay, connection: Connection, asked: Post) -> None:
    log = log_id(asked.log)
    wait_ms = relay.post_wait_ms(connection, size=len(asked.statement))
    if wait_ms:
        raise Refusal(Code.RATE_LIMITED, wait_ms)
    if log.startswith(b"c"):
        if statement_type(asked.statement) is StatementType.PAGE_ANSWER:
            # Also of a locked device: whoever is on call takes a page before they unlock.
            await relay.pages.answer(connection, log, asked.statement)
            return
        ensure(None if connection.is_open else Code.NO_SUCH)
        await _to_conversation(relay, connection, log, asked.statement)
    elif log == CONTROL_LOG and connection.is_open:
        await relay.take_request(relay, connection, asked.statement)
    elif not log.startswith(b"i"):
        raise Refusal(Code.NO_SUCH)
    elif log == inbox_log(connection.device_id):
        await _wipe_receipt(relay, connection, asked.statement)
    else:
        ensure(None if connection.is_open else Code.NO_SUCH)
        await _to_inbox(relay, connection, DeviceId(log[1:].decode()), asked.statement)


async def append_own(
    relay: Relay,
    key: LogKey,
    body: bytes,
    *,
    kind: EntryKind = EntryKind.MESSAGE,
    effect: Receipt | Void | None = None,
    facts: tuple[storage.Fact, ...] = (),
    expires: bool = True,
    at_ms: int | None = None,
    priority: Priority = Priority.URGENT,
    notice: Notice = QUIETLY,
    settled: Callable[[], None] = lambda: None,
) -> Appended:
    """Append an entry of the relay's own and publish it; its time is now where none is given.

    Args:
        relay: The relay.
        key: The log.
        body: The entry's body.
        kind: What it is.
        effect: What it does to the log.
        facts: Changed with it.
        expires: Whether it goes, in an inbox, when nobody fetched it in time.
        at_ms: When it was taken in, where that was not now: the archive tells it to a restored
            relay, and readers judge a statement as of then.
        priority: How urgent it is to whoever catches up.
        notice: Whom it may disturb.
        settled: Called once it is durable, before anybody is told.

    Raises:
        StoreError: The store refuses it or failed.
    """
    request = storage.Append(
        log=key,
        sender=RELAY,
        message_id=0,
        at_ms=relay.now_ms() if at_ms is None else at_ms,
        kind=kind,
        priority=priority,
        body=body,
        effect=effect,
        expires=expires,
        facts=facts,
    )
    placed = await relay.store.append(request)
    settled()
    entry = Deliver(
        log=key.id,
        sequence=placed.seq,
        predecessor=placed.prev,
        at_ms=request.at_ms,
        kind=kind,
        body=body,
    )
    if key.id.startswith(b"i"):
        relay.delivery.nudge(key.organisation, [DeviceId(key.id[1:].decode())])
    else:
        relay.delivery.publish(key, entry, sender=RELAY, notice=notice)
    return placed


# Conversations.


async def _to_conversation(
    relay: Relay, connection: Connection, log: LogId, statement: bytes
) -> None:
    kind = statement_type(statement)
    if kind not in (
        StatementType.EPOCH_RECEIPT,
        StatementType.VOID,
        StatementType.DEVICE_REQUEST,
    ):
        raise Refusal(Code.INVALID)
    verified = verify_statement(
        statement, expected=kind, trust=connection.organisation.trust, at_ms=relay.now_ms()
    )
    check_signer(connection, verified)
    key = LogKey(connection.organisation.id, log)
    if kind is StatementType.DEVICE_REQUEST:
        await _note(relay, connection, key, statement)
        return
    verdict = decode_verdict(verified.body)
    if verdict.conversation != log[1:]:
        raise InvalidError("a verdict stands in the log of its conversation")
    await _judge(relay, connection, key, verdict=verdict, statement=statement, kind=kind)


def check_signer(connection: Connection, verified: VerifiedStatement) -> None:
    """Refuse what another device has signed.

    Raises:
        InvalidError: The signer is not the device of the connection.
    """
    identity = verified.signers[0].identity
    if identity is None or identity.name != connection.device_id:
        raise InvalidError("a device posts what it has signed itself")


async def _note(relay: Relay, connection: Connection, key: LogKey, statement: bytes) -> None:
    user = user_of(connection.device_id)
    reads = any(user_of(device) == user for device in relay.store.readers(key))
    ensure(access.may_note(user_reads=reads or _has_lapsed(relay, connection, key)))
    await append_own(relay, key, statement)


def _has_lapsed(relay: Relay, connection: Connection, key: LogKey) -> bool:
    """Tell whether a device came back after too long a time, to ask to be added again."""
    waiting = relay.store.pending(key.organisation, connection.device_id)
    return any(pending.lapsed and pending.log == key for pending in waiting)


async def _judge(
    relay: Relay,
    connection: Connection,
    key: LogKey,
    *,
    verdict: CommitVerdict,
    statement: bytes,
    kind: StatementType,
) -> None:
    """Let a receipt or a void take effect on the staged Commit that it names."""
    organisation, head = connection.organisation, relay.store.head(key)
    staged = organisation.staged.get(verdict.conversation)
    if staged is None or head is None or head.ends is None:
        raise Refusal(Code.NO_SUCH)
    context = organisation.contexts.get(verdict.conversation) or WardlineContext.decode(
        staged.context
    )
    confirmed = kind is StatementType.EPOCH_RECEIPT
    ensure(_may_judge(relay, connection, key, staged=staged, context=context, receipt=confirmed))
    if (verdict.commit_hash, verdict.epoch) != (staged.commit_hash, head.ends + 1):
        raise InvalidError("a verdict names the Commit that it judges")
    await append_own(
        relay,
        key,
        statement,
        kind=EntryKind.RECEIPT if confirmed else EntryKind.VOID,
        effect=Receipt(commit=verdict.sequence) if confirmed else Void(commit=verdict.sequence),
        facts=verdict_facts(verdict.conversation, staged, confirmed=confirmed),
    )
    if organisation.staged.get(verdict.conversation) is staged:
        del organisation.staged[verdict.conversation]
    if confirmed:
        _confirmed(relay, connection, key, staged=staged)
    relay.delivery.release(key)


def _may_judge(
    relay: Relay,
    connection: Connection,
    key: LogKey,
    *,
    staged: StagedFact,
    context: WardlineContext,
    receipt: bool,
) -> Code | None:
    if not receipt:
        return access.may_void(connection.device_id, context)
    return access.may_confirm(
        connection.device_id,
        context,
        committer=DeviceId(staged.committer),
        silence_ms=relay.now_ms() - staged.at_ms,
        silence_limit_ms=limits.RECEIPT_SILENCE_MS,
        reads=connection.device_id in relay.store.readers(key),
    )


def _confirmed(relay: Relay, connection: Connection, key: LogKey, *, staged: StagedFact) -> None:
    """Note the new context, tell the removed that their cursors have ended, let in who joins."""
    organisation = connection.organisation
    if staged.context:
        conversation = ConversationId(key.id[1:])
        organisation.contexts[conversation] = WardlineContext.decode(staged.context)
    for device in set(staged.leaves) - set(staged.joins):
        removed = relay.delivery.connection(organisation.id, DeviceId(device))
        if removed is not None:
            removed.ended(key.id, Code.REMOVED)
    if staged.joins:
        relay.pages.joined(key, staged.joins)
    for device in staged.joins:
        joined = relay.delivery.connection(organisation.id, DeviceId(device))
        if joined is not None and relay.delivery.is_held(key, joined.device_id):
            joined.rejoin(key.id)


# Inboxes.


async def _to_inbox(relay: Relay, connection: Connection, device: DeviceId, data: bytes) -> None:
    """Carry a certificate from the authority, a request for one, or a statement."""
    item = decode_item(data)
    if item.kind is ItemKind.CERTIFICATE:
        ensure(access.may_certify(connection.device.identity.roles))
        await certify(relay, connection, device, item.body)
    elif item.kind is ItemKind.REQUEST:
        await _request(relay, connection, device, item)
    else:
        await _state(relay, connection, device, item)


async def _request(relay: Relay, connection: Connection, device: DeviceId, item: Item) -> None:
    organisation = connection.organisation
    asked = verify_request(item.body, trust=organisation.trust, at_ms=relay.now_ms())
    target = organisation.devices.get(device)
    if target is None or Role.RECORDER not in target.identity.roles:
        raise Refusal(Code.NO_SUCH)
    if asked.claim.user != user_of(connection.device_id):
        raise InvalidError("a device asks for its own person's certificates")
    await append_own(relay, LogKey(organisation.id, inbox_log(device)), item.encode())


async def _state(relay: Relay, connection: Connection, device: DeviceId, item: Item) -> None:
    """Carry what a recorder and a device state to each other."""
    organisation = connection.organisation
    target = organisation.devices.get(device)
    if target is None:
        raise Refusal(Code.NO_SUCH)
    kind = statement_type(item.body)
    ensure(access.may_state(kind, by=connection.device.identity.roles, to=target.identity.roles))
    verified = verify_statement(
        item.body, expected=kind, trust=organisation.trust, at_ms=relay.now_ms()
    )
    check_signer(connection, verified)
    await append_own(relay, LogKey(organisation.id, inbox_log(device)), item.encode())


async def certify(
    relay: Relay, connection: Connection, device: DeviceId, certificate: bytes
) -> None:
    """Take a certificate into the directory and put it into its device's inbox.

    Raises:
        CryptoError: The certificate is not the authority's, or another device's.
        StoreError: The store refuses it or failed.
    """
    organisation = connection.organisation
    async with organisation.changes:
        admission = organisation.admitted(certificate, now_ms=relay.now_ms())
        if admission.device.id != device or admission.device.certificate != certificate:
            raise InvalidError("a certificate goes to the device that it names")
        await opening.register(relay, organisation, admission)
        item = Item(kind=ItemKind.CERTIFICATE, body=certificate)
        await append_own(relay, LogKey(organisation.id, inbox_log(device)), item.encode())


async def _wipe_receipt(relay: Relay, connection: Connection, data: bytes) -> None:
    """Put into the control log that a device has its order to wipe, or has carried it out.

    The device is revoked, and its certificate may have ended while it lay in a drawer: it says
    something by this, and gets nothing. The connection has just proved that same key.
    """
    organisation = connection.organisation
    device = connection.device
    since_ms = organisation.trust.revocations.since_ms(device.identity)
    if not connection.ordered or since_ms is None:
        raise Refusal(Code.NO_SUCH)
    statement = decode_item(data).body
    kind = statement_type(statement)
    if kind not in _SAID:
        raise Refusal(Code.INVALID)
    verified = verify_outcast_statement(
        statement,
        expected=kind,
        trust=organisation.trust,
        at_ms=relay.now_ms(),
    ).statement
    check_signer(connection, verified)
    receipt = decode_wipe_receipt(verified.body)
    order = organisation.standing.get(order_key(device.id))
    if receipt.device != device.id or order is None:
        raise InvalidError("a receipt names the device that signs it, which was ordered to wipe")
    if receipt.order != statement_id(order.statement):
        raise InvalidError("a receipt names the order that stands")
    prefix, event = _SAID[kind]
    known = organisation.receipts if prefix == RECEIPT else organisation.delivered
    async with organisation.changes:
        if known.get(device.id) == receipt.order:
            raise Refusal(Code.STALE_STATEMENT)
        fact = receipt_fact(receipt, prefix=prefix)
        await append_own(relay, LogKey(organisation.id, CONTROL_LOG), statement, facts=(fact,))
        known[device.id] = receipt.order
    relay.audit(organisation, event, device=device.id)


_SAID = {
    StatementType.WIPE_DELIVERY: (DELIVERED, EventKind.WIPE_DELIVERED),
    StatementType.WIPE_RECEIPT: (RECEIPT, EventKind.WIPE_CONFIRMED),
}
"""What a wiped device says: under which prefix it is kept, and the audit log's word for it."""
