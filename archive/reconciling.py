"""Telling a restored relay what it has forgotten, from what the archive has on record.

An old backup knows fewer numbers and earlier epochs, and orders that have since been carried out
stand open in it. The archive tells each log's last number, epoch and readers, and then, in their
order, every certificate and command; only then does the relay serve.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from archive import events
from archive.alarms import Alarm
from archive.index import Followed
from archive.record import RecordType
from archive.recorder import Recorder
from client.errors import RefusedError
from client.link import Link
from crypto.errors import CryptoError
from crypto.statement import StatementType, statement_type
from protocol import frames, limits
from protocol.identifiers import (
    AUDIT_LOG,
    CONTROL_LOG,
    ConversationId,
    DeviceId,
    LogId,
    inbox_log,
)
from protocol.inbox import Item, ItemKind

_DER = b"\x30"
"""First octet of a certificate among the records of the key ceremony; a statement begins with 1."""

RESUMES = 2
"""How often the relay is asked to serve: it refuses once where it refused anything it was told."""

_NOT_REPLAYED = frozenset({StatementType.WIPE_DELIVERY, StatementType.WIPE_RECEIPT})
"""What stands in the control log and commands nothing."""


async def reconcile(link: Link, recorder: Recorder, *, now_ms: int) -> None:
    """Tell a restored relay everything, and let it serve; the connection ends with it.

    Raises:
        LinkError: The connection ended before.
    """
    events.warn("reconciling")
    for log, known in sorted(recorder.followed().items()):
        readers = readers_of(recorder, log, known, now_ms=now_ms)
        # Only the control log has more readers than one frame names; the relay takes it in parts.
        for at in range(0, max(len(readers), 1), limits.MEMBERS):
            await _adopt(link, recorder, log, known, readers[at : at + limits.MEMBERS])
    for told in replayed(recorder):
        await _tell(link, recorder, told)
    for _ in range(RESUMES):
        try:
            await link.ask(lambda ref: frames.Resume(ref=ref))
        except RefusedError as error:
            _refused(recorder, error)
        else:
            return


def readers_of(
    recorder: Recorder, log: LogId, known: Followed, *, now_ms: int
) -> tuple[DeviceId, ...]:
    """Return the devices that read a log."""
    if log == CONTROL_LOG:
        standing = recorder.standing_devices(now_ms)
        return tuple(sorted(device for devices in standing.values() for device in devices))
    if log in (AUDIT_LOG, inbox_log(recorder.me.device)):
        return (recorder.me.device,)
    return known.readers


async def _adopt(
    link: Link, recorder: Recorder, log: LogId, known: Followed, readers: tuple[DeviceId, ...]
) -> None:
    context = b""
    if log.startswith(b"c"):
        settings = recorder.index.context(ConversationId(log[1:]))
        if settings is None or not readers:
            return  # It never had an epoch.
        context = settings.encode()
    try:
        await link.ask(
            lambda ref: frames.Adopt(
                ref=ref,
                log=log,
                last=known.through,
                epoch=known.epoch,
                context=context,
                readers=readers,
            )
        )
    except RefusedError as error:
        _refused(recorder, error)


async def _tell(link: Link, recorder: Recorder, told: frames.Replay) -> None:
    try:
        await link.ask(lambda ref: msgspec.structs.replace(told, ref=ref))
    except RefusedError as error:
        _refused(recorder, error)


def _refused(recorder: Recorder, error: RefusedError) -> None:
    """Let somebody look at it; what is refused is on record, and all else is told."""
    events.warn("refused", code=error.code.name, count=error.detail)
    recorder.raise_alarm(Alarm.RELAY)


def replayed(recorder: Recorder) -> Iterator[frames.Replay]:
    """Yield every certificate and command in the order in which the archive got them."""
    sent = {place.index: place for place in recorder.index.places(CONTROL_LOG)}
    for record in recorder.log.records():
        if record.type is RecordType.KEY_CEREMONY:
            body = recorder.log.body(record.index)
            if body.startswith(_DER) and body != recorder.authority.root.der:
                item = Item(kind=ItemKind.CERTIFICATE, body=body).encode()
                yield frames.Replay(ref=0, at_ms=record.at_ms, sequence=0, item=item)
        elif record.index in sent:
            body = recorder.log.body(record.index)
            if _is_command(body):
                place = sent[record.index]
                item = Item(kind=ItemKind.STATEMENT, body=body).encode()
                yield frames.Replay(ref=0, at_ms=place.sent_ms, sequence=place.sequence, item=item)


def _is_command(body: bytes) -> bool:
    try:
        return statement_type(body) not in _NOT_REPLAYED
    except CryptoError:
        return False
