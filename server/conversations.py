"""Messages and Commits into conversations: checked, gathered into batches, answered after the sync.

What arrives in one turn of the event loop is handed to the store together, and what one sync made
durable is answered and delivered together.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING, cast

import msgspec

from crypto.errors import DecodeError, InvalidError
from protocol import limits
from protocol.authenticated_data import CommitData
from protocol.errors import Code
from protocol.frames import (
    Accepted,
    Acknowledge,
    Append,
    AppendCommit,
    Deliver,
    EntryKind,
    Frame,
    RefusedMessage,
)
from protocol.group_context import WardlineContext
from protocol.identifiers import (
    ConversationId,
    DeviceId,
    LogId,
    conversation_log,
    inbox_log,
    user_of,
)
from protocol.policy import is_ruled
from protocol.routing import Routed, check_welcome, route
from server import access, refusals
from server import store as storage
from server.directory import Organisation, StagedFact, context_fact, staged_fact
from server.guests import may_change_guests
from server.store import (
    Answer,
    Appended,
    CreateLog,
    LogKey,
    Reader,
    RemoveLog,
)

if TYPE_CHECKING:
    from server.connection import Connection
    from server.relay import Relay


class Pending(msgspec.Struct, kw_only=True):
    """A message on its way through the store.

    Attributes:
        connection: Who sent it.
        routed: Its header.
        request: What the store is asked.
        staged: For a Commit, what becomes known of it.
    """

    connection: Connection
    routed: Routed
    request: storage.Append
    staged: StagedFact | None = None


class Appender:
    """Gathers one turn's appends, hands them to the store, answers and publishes."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._gathered: list[Pending] = []
        self.accepted = 0

    def add(self, pending: Pending) -> None:
        """Take one message along with this turn's batch."""
        if not self._gathered:
            self._relay.loop.call_soon(self._submit)
        self._gathered.append(pending)

    def _submit(self) -> None:
        batch, self._gathered = self._gathered, []
        self._relay.store.submit([pending.request for pending in batch], partial(self._done, batch))

    def _done(self, batch: list[Pending], answers: list[Answer]) -> None:
        placed: dict[Connection, tuple[list[int], list[int]]] = {}
        for pending, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Appended):
                connection = pending.connection
                if connection not in placed:
                    placed[connection] = ([], [])
                ids, sequences = placed[connection]
                ids.append(pending.request.message_id)
                sequences.append(answer.seq)
                if not answer.repeat:
                    self._publish(pending, answer)
                elif pending.request.facts:
                    self._relay.pages.not_started(pending.request.log)
            else:
                self._refuse(pending, answer)
        self.accepted += len(batch)
        for connection, (ids, sequences) in placed.items():
            if connection.is_open:
                connection.send(Accepted(message_ids=tuple(ids), sequences=tuple(sequences)))

    def _refuse(self, pending: Pending, error: storage.StoreError) -> None:
        if pending.request.facts:
            self._relay.pages.not_started(pending.request.log)
        code, detail = refusals.of(error)
        if pending.staged is not None and isinstance(error, storage.StaleEpochError):
            code, detail = Code.COMMIT_CONFLICT, error.winner or 0
        refuse(
            self._relay, pending.connection, pending.request.message_id, code=code, detail=detail
        )
        if pending.staged is not None and pending.routed.epoch == 0:
            # A creation that was refused leaves no log behind for whoever comes next.
            self._relay.run(_discard(self._relay, pending.request.log))

    def _publish(self, pending: Pending, answer: Appended) -> None:
        relay, request = self._relay, pending.request
        entry = Deliver(
            log=request.log.id,
            sequence=answer.seq,
            predecessor=answer.prev,
            at_ms=request.at_ms,
            kind=request.kind,
            body=request.body,
        )
        if request.facts and pending.staged is None:
            relay.pages.started(pending.connection.organisation, request.log, request.facts)
        notice = relay.notice(pending.connection.organisation, pending.routed)
        relay.delivery.publish(request.log, entry, sender=request.sender, notice=notice)
        if pending.staged is not None:
            _staged(relay, pending, answer)


def refuse(
    relay: Relay, connection: Connection, message_id: int, *, code: Code, detail: int = 0
) -> None:
    """Answer that a message is not in its log, and why."""
    relay.count(f"refused_{code.name.lower()}")
    if code is Code.RATE_LIMITED:
        connection.stream.tire()
    if connection.is_open:
        connection.send(RefusedMessage(message_id=message_id, code=code, detail=detail))


def refuse_unused(relay: Relay, connection: Connection, message: bytes, *, code: Code) -> None:
    """Answer that a message was not even looked at, by the id that its header gives."""
    try:
        message_id = route(message).data.message_id
    except (DecodeError, InvalidError):
        connection.close(Code.MALFORMED)
        return
    refuse(relay, connection, message_id, code=code)


def is_of_page(connection: Connection, frame: Frame) -> bool:
    """Tell whether a message goes into a page, or a Commit begins one: no policy keeps it out."""
    if not isinstance(frame, Append | AppendCommit):
        return False
    try:
        routed = route(frame.message)
    except (DecodeError, InvalidError):
        return False
    kind = connection.organisation.kind_of(routed.conversation)
    commit = routed.data.commit
    if kind is None and commit is not None and commit.context is not None:
        kind = commit.context.conversation_type
    return not is_ruled(kind)


def append(relay: Relay, connection: Connection, frame: Frame) -> None:
    """Take an application or proposal message."""
    body = cast("Append", frame).message
    try:
        routed = route(body)
    except (DecodeError, InvalidError):
        # Its message id is inside what could not be read, so there is nothing to refuse by.
        connection.close(Code.MALFORMED)
        return
    data, key = routed.data, _log(connection, routed)
    code, detail = _refusal(relay, connection, routed, key=key, size=len(body))
    facts: tuple[storage.Fact, ...] = ()
    if code is None and data.acknowledgement_asked:
        code, facts = relay.pages.start(connection, key, routed)
    if code is not None:
        refuse(relay, connection, data.message_id, code=code, detail=detail)
        return
    request = storage.Append(
        log=key,
        sender=connection.device_id,
        message_id=data.message_id,
        at_ms=relay.now_ms(),
        kind=EntryKind.MESSAGE,
        priority=data.priority,
        body=body,
        epoch=routed.epoch,
        facts=facts,
    )
    relay.appender.add(Pending(connection=connection, routed=routed, request=request))


def _refusal(
    relay: Relay, connection: Connection, routed: Routed, *, key: LogKey, size: int
) -> tuple[Code | None, int]:
    """Return why a message of ``size`` bytes is not taken, and the number beside it."""
    # Counted first: what is refused costs an answer too.
    wait_ms = relay.message_wait_ms(connection, routed.data.priority, size=size)
    if wait_ms:
        return Code.RATE_LIMITED, wait_ms
    if size > limits.MESSAGE_BYTES:
        return Code.OVERSIZED, limits.MESSAGE_BYTES
    code = access.may_append(
        connection.device_id,
        routed.content_type,
        reads=connection.device_id in relay.store.readers(key),
        context=connection.organisation.contexts.get(routed.conversation),
    )
    if code is None and relay.is_full(key, routed.data.priority):
        return Code.BACKLOG, relay.pause_ms()
    return code, 0


def append_commit(relay: Relay, connection: Connection, frame: Frame) -> None:
    """Take a Commit with its Welcome; the first one creates its conversation."""
    commit = cast("AppendCommit", frame)
    try:
        routed = route(commit.message)
        if routed.data.commit is None:
            raise InvalidError("a Commit says how it changes the cursors")
        if commit.welcome:
            check_welcome(commit.welcome)
    except (DecodeError, InvalidError):
        connection.close(Code.MALFORMED)
        return
    message_id, change = routed.data.message_id, routed.data.commit
    wait_ms = relay.commit_wait_ms(connection, size=len(commit.message) + len(commit.welcome))
    code = Code.RATE_LIMITED if wait_ms else _may_commit(relay, connection, routed, change)
    if code is None and (bool(change.added) is not bool(commit.welcome)):
        code = Code.INVALID
    creates = relay.store.head(_log(connection, routed)) is None
    if code is None and creates:
        wait_ms = relay.creation_wait_ms(connection)
        code = Code.RATE_LIMITED if wait_ms else None
    if code is not None:
        refuse(relay, connection, message_id, code=code, detail=wait_ms)
    elif not creates:
        _stage(relay, connection, commit, routed)
    else:
        connection.spawn(_create(relay, connection, commit, routed))


def _log(connection: Connection, routed: Routed) -> LogKey:
    return LogKey(connection.organisation.id, conversation_log(routed.conversation))


def _may_commit(
    relay: Relay, connection: Connection, routed: Routed, change: CommitData
) -> Code | None:
    organisation, device = connection.organisation, connection.device_id
    key = _log(connection, routed)
    unknown = [d for d in (*change.added, *change.removed) if d not in organisation.devices]
    if unknown or (change.context and change.context.organisation != organisation.id):
        return Code.INVALID
    if any(organisation.is_revoked(organisation.devices[added]) for added in change.added):
        return Code.INVALID
    exists = relay.store.head(key) is not None
    if not exists or (routed.epoch == 0 and routed.conversation not in organisation.contexts):
        if change.context is None or routed.epoch != 0 or _taken(relay, key, device):
            return Code.NO_SUCH
        recorders = organisation.recorders()
        code = access.may_create(device, change.context, added=change.added, recorders=recorders)
        return code or _may_bring(connection, change.context, change, readers=())
    context, readers = organisation.contexts.get(routed.conversation), relay.store.readers(key)
    code = access.may_commit(
        context,
        change.context,
        reads=device in readers,
        added=change.added,
        removed=change.removed,
    )
    if context is not None:
        code = code or _may_bring(connection, context, change, readers=readers)
    if code is not None or context is None:
        return code
    return may_change_guests(
        context,
        change,
        conversation=routed.conversation,
        readers=readers,
        trust=organisation.trust,
        policy=organisation.policy,
        at_ms=relay.now_ms(),
    )


def _may_bring(
    connection: Connection,
    context: WardlineContext,
    change: CommitData,
    *,
    readers: Collection[DeviceId],
) -> Code | None:
    """May these people come in, as far as the policy says?"""
    devices, present = connection.organisation.devices, {user_of(one) for one in readers}
    newcomers = [one for one in change.added if user_of(one) not in present]
    return access.may_bring(
        context.conversation_type,
        [devices[one].identity.roles for one in newcomers],
        connection.organisation.policy,
        by=connection.device.identity.roles,
    )


def _taken(relay: Relay, key: LogKey, device: DeviceId) -> bool:
    """Tell whether a log exists that this device does not read."""
    return relay.store.head(key) is not None and device not in relay.store.readers(key)


async def _create(
    relay: Relay, connection: Connection, commit: AppendCommit, routed: Routed
) -> None:
    """Make the log; its first readers are the creator and the recorder, who judges the Commit.

    A verdict names the Commit's number and hash, which the recorder's Welcome does not tell.
    """
    key, organisation = _log(connection, routed), connection.organisation
    context = cast("CommitData", routed.data.commit).context
    first = [connection.device_id, *([context.recorder] if context else [])]
    try:
        await relay.store.change(
            CreateLog(key, epoch=0, readers=[_reader(organisation, d) for d in first])
        )
    except storage.StoreError as error:
        code, detail = refusals.of(error)
        refuse(relay, connection, routed.data.message_id, code=code, detail=detail)
        return
    _stage(relay, connection, commit, routed)


async def _discard(relay: Relay, key: LogKey) -> None:
    with contextlib.suppress(storage.StoreError):
        await relay.store.change(RemoveLog(key, unused=True))


def _reader(organisation: Organisation, device: DeviceId) -> Reader:
    return Reader(device=device, expires=device not in organisation.recorders())


def _stage(relay: Relay, connection: Connection, commit: AppendCommit, routed: Routed) -> None:
    organisation, change = connection.organisation, cast("CommitData", routed.data.commit)
    now_ms = relay.now_ms()
    staged = StagedFact(
        committer=connection.device_id,
        at_ms=now_ms,
        commit_hash=hashlib.sha256(commit.message).digest(),
        context=b"" if change.context is None else change.context.encode(),
        joins=change.added,
        leaves=change.removed,
    )
    request = storage.Append(
        log=_log(connection, routed),
        sender=connection.device_id,
        message_id=routed.data.message_id,
        at_ms=now_ms,
        kind=EntryKind.COMMIT,
        priority=routed.data.priority,
        body=commit.message,
        epoch=routed.epoch,
        effect=storage.Commit(
            joins=tuple(_reader(organisation, device) for device in change.added),
            leaves=change.removed,
            welcome=commit.welcome or None,
            welcome_kind=EntryKind.WELCOME,
            welcome_priority=routed.data.priority,
        ),
        facts=(staged_fact(routed.conversation, staged),),
    )
    pending = Pending(connection=connection, routed=routed, request=request, staged=staged)
    relay.appender.add(pending)


def _staged(relay: Relay, pending: Pending, answer: Appended) -> None:
    """Note a Commit that has won its epoch, and tell those who are to join."""
    organisation, staged = pending.connection.organisation, cast("StagedFact", pending.staged)
    organisation.staged[pending.routed.conversation] = staged
    relay.delivery.hold(pending.request.log, organisation.held_back(staged))
    relay.delivery.nudge(organisation.id, [device for device, _ in answer.inboxes])


def acknowledge(relay: Relay, connection: Connection, frame: Frame) -> None:
    """Move the device's cursor, over what it may have read; tell one that was led astray."""
    acknowledged = cast("Acknowledge", frame)
    log = LogId(acknowledged.log)
    own = log == inbox_log(connection.device_id)
    if connection.is_open or (own and connection.reads_to_the_end):
        key = LogKey(connection.organisation.id, log)
        stands = relay.store.acknowledge(key, connection.device_id, acknowledged.through)
        if stands is not None and connection.is_open:
            connection.led_astray(log, stands)


def verdict_facts(
    conversation: ConversationId, staged: StagedFact, *, confirmed: bool
) -> tuple[storage.Fact, ...]:
    """Return the facts that a receipt or void changes together with the log."""
    gone = staged_fact(conversation, None)
    if not (confirmed and staged.context):
        return (gone,)
    return (gone, context_fact(conversation, WardlineContext.decode(staged.context)))
