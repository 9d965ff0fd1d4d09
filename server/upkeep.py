"""What happens to logs beside appends: readers come and go, time passes, the archive is asked.

Source: the architecture, section 2 (expiry, restore).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from protocol.identifiers import DeviceId, OrganisationId
from server import records
from server.appending import change_facts, check_facts, check_readers
from server.ledger import Batch, Ledger, Log, lapse
from server.store import (
    GENERATION_BITS,
    GENERATION_MAX,
    GENERATION_MS,
    ID_BYTES_MAX,
    INBOX,
    NUMBER_MAX,
    READERS_MAX,
    EntryState,
    Fact,
    Head,
    Lapsed,
    LimitError,
    LogKey,
    Reader,
)

MARKS = 720
"""Marks of age kept for one period of expiry: thirty days are told apart to the hour."""


def create(
    ledger: Ledger, key: LogKey, *, epoch: int, readers: Sequence[Reader], batch: Batch
) -> Head:
    """Make a log, or give the head of the one that exists.

    Raises:
        LimitError: Something is out of range.
        AwaitingArchiveError: The archive must be asked first.
    """
    ledger.check_serving()
    log = ledger.logs.get(key)
    if log is None:
        _check_log(key, epoch, tuple(readers))
        log = ledger.create(key, epoch=epoch, batch=batch)
        _add(ledger, log, readers, batch)
        log.settle_readers()
    return log.describe()


def _add(ledger: Ledger, log: Log, readers: Sequence[Reader], batch: Batch) -> None:
    for reader in readers:
        after = log.head if reader.after is None else min(reader.after, log.head)
        ledger.add_reader(log, reader, after=after, batch=batch)


def _check_log(key: LogKey, epoch: int, readers: tuple[Reader, ...]) -> None:
    if not (0 < len(key.organisation) <= ID_BYTES_MAX and 0 < len(key.id) <= ID_BYTES_MAX):
        raise LimitError("log")
    if not 0 <= epoch < NUMBER_MAX:
        raise LimitError("epoch")
    check_readers(readers)


def change_readers(
    ledger: Ledger, key: LogKey, *, add: Sequence[Reader], end: Sequence[DeviceId], batch: Batch
) -> None:
    """Add readers and end others at once.

    Raises:
        UnknownLogError: There is no such log.
        LimitError: A reader is out of range.
        DamagedError: The log's own state is damaged.
        AwaitingArchiveError: The archive must be asked first.
    """
    log = ledger.log(key)
    check_readers(tuple(add))
    for device in end:
        ledger.end_reader(log, device, batch)
    _add(ledger, log, add, batch)
    ledger.readers_changed(log, batch)


def end_device(
    ledger: Ledger, organisation: OrganisationId, device: DeviceId, batch: Batch
) -> None:
    """End a device's cursors everywhere but in its inbox.

    Raises:
        AwaitingArchiveError: The archive must be asked first.
    """
    ledger.check_serving()
    known = ledger.devices.get((organisation, device))
    for log in list(known.cursors) if known else []:
        if log.key.id[0] != INBOX:
            ledger.end_reader(log, device, batch)
            ledger.readers_changed(log, batch)


def remove(ledger: Ledger, key: LogKey, *, unused: bool, batch: Batch) -> None:
    """Delete a log with all that it holds, or only if nothing was ever appended to it.

    Raises:
        AwaitingArchiveError: The archive must be asked first.
    """
    ledger.check_serving()
    log = ledger.logs.get(key)
    if log is None or (unused and (log.head or log.epoch)):
        return
    del ledger.logs[key]
    del ledger.log_numbers[log.no]
    for device in list(log.cursors):
        ledger.end_reader(log, device, batch)
    ledger.delete(log, log.head, batch)
    if log.staged:
        ledger.unstage(log, batch)
    batch.logs.pop(log, None)
    log.removed = True
    batch.drop("log", [log.no])


def put(organisation: OrganisationId, facts: Sequence[Fact], batch: Batch) -> None:
    """Change facts.

    Raises:
        LimitError: A key or value is out of range.
    """
    check_facts(tuple(facts))
    change_facts(organisation, tuple(facts), batch)


def expire(
    ledger: Ledger, *, after_ms: int, wall_ms: int, monotonic_ms: int, batch: Batch
) -> list[Lapsed]:
    """Let time pass, and let go of what nobody fetched for ``after_ms``.

    Raises:
        AwaitingArchiveError: The archive must be asked first.
    """
    ledger.check_serving()
    ledger.clock.tick(wall_ms=wall_ms, monotonic_ms=monotonic_ms)
    # Also where nothing expires: a stop must not forget how old things were.
    batch.put("tail", 1, ledger.tail())
    cut = _cut(ledger, after_ms, batch)
    lost: list[Lapsed] = []
    for log in list(ledger.logs.values()):
        if log.is_kept or log.damaged or log.first == len(log.rows) or log.rows[log.first] >= cut:
            continue
        overdue = log.seqs[bisect_left(log.rows, cut, log.first) - 1]
        if log.is_inbox:
            _expire_inbox(ledger, log, overdue, batch)
        else:
            lost += _expire(ledger, log, overdue, batch)
    return lost


def _cut(ledger: Ledger, after_ms: int, batch: Batch) -> int:
    """Give the row before which everything is overdue, and mark where the present begins."""
    marks = ledger.marks
    age = ledger.clock.age_ms
    if not marks or age - marks[-1][0] >= max(1, after_ms // MARKS):
        marks.append((age, ledger.next_row))
        batch.put("mark", age, records.seal_values("mark", age, ledger.next_row))
    passed = [mark for mark in marks if mark[0] <= age - after_ms]
    if not passed:
        return 0
    # Only the last mark passed says anything that the earlier ones do not.
    batch.drop("mark", [at for at, _ in passed[:-1]])
    del marks[: len(passed) - 1]
    return passed[-1][1]


def _expire(ledger: Ledger, log: Log, overdue: int, batch: Batch) -> list[Lapsed]:
    """End cursors that are behind; the archive's holds what it has not got."""
    for device, cursor in list(log.cursors.items()):
        # Who was removed long ago has nothing to come back to, and nothing to be told.
        if cursor.ends and cursor.expires and cursor.acked < overdue:
            ledger.end_reader(log, device, batch)
    lost = lapse(log, overdue, batch)
    log.settle_readers()
    batch.logs[log] = None
    # The log's row keeps its head, so that numbers never start again when no cursor and no entry
    # is left to tell it.
    through = overdue if log.slowest < 0 else log.slowest
    ledger.sweep(log, through, batch)
    return lost


def _expire_inbox(ledger: Ledger, log: Log, overdue: int, batch: Batch) -> None:
    """Take the bodies of what is overdue; orders stay until they have ended."""
    start = bisect_left(log.seqs, max(log.expired + 1, log.seqs[log.first]), log.first)
    stop = bisect_left(log.seqs, overdue + 1, start)
    for seq in log.seqs[start:stop]:
        if seq not in log.pinned:
            ledger.empty(log, seq, state=int(EntryState.EXPIRED), batch=batch)
    log.expired = overdue


def adopt(
    ledger: Ledger,
    key: LogKey,
    *,
    last: int,
    epoch: int,
    readers: Sequence[Reader],
    batch: Batch,
) -> Head:
    """Take over what the archive knows of a log.

    Where the log is whole and further than the archive's own, because that was restored too, its
    readers are those of its last Commit: who was removed by that does not come back.

    Raises:
        LimitError: Something is out of range.
    """
    _check_log(key, epoch, ())
    # The control log's are as many as there are devices.
    for at in range(0, len(readers), READERS_MAX):
        check_readers(tuple(readers[at : at + READERS_MAX]))
    if not 0 <= last < NUMBER_MAX:
        raise LimitError("last")
    log = ledger.logs.get(key)
    if log is None:
        log = ledger.create(key, epoch=epoch, batch=batch)
    log.head = max(log.head, last)
    if epoch > log.epoch:
        log.epoch = epoch
        log.winner = 0
        if log.staged:
            ledger.unstage(log, batch)
    if log.damaged or epoch == log.epoch:
        for device in set(log.cursors) - {reader.device for reader in readers}:
            ledger.end_reader(log, device, batch)
        _add(ledger, log, readers, batch)
    log.damaged = False
    batch.logs[log] = None
    batch.drop("cursor", ledger.unreadable.pop("cursor", []))
    ledger.readers_changed(log, batch)
    return log.describe()


def resume(ledger: Ledger, *, wall_ms: int, batch: Batch) -> None:
    """Begin to serve in a new generation; rows that cannot be read any more are let go of."""
    ledger.awaiting = False
    given = max([ledger.floor, *(log.head for log in ledger.logs.values())])
    generation = max(wall_ms // GENERATION_MS, (given >> GENERATION_BITS) + 1)
    ledger.floor = min(generation, GENERATION_MAX) << GENERATION_BITS
    for table, rows in ledger.unreadable.items():
        batch.drop(table, rows)
    ledger.unreadable = {}
    batch.put("tail", 1, ledger.tail())
