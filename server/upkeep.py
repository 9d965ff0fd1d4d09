"""What happens to logs beside appends: readers come and go, time passes, the archive is asked.

Source: the architecture, section 2 (expiry, restore).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

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
    AdoptLog,
    BeginServing,
    Change,
    ChangeReaders,
    CreateLog,
    EndDevice,
    EntryState,
    Expire,
    Head,
    Lapsed,
    LimitError,
    LogKey,
    PutFacts,
    Reader,
    RemoveLog,
)

T = TypeVar("T")

MARKS = 720
"""Marks of age kept for one period of expiry: thirty days are told apart to the hour."""


def apply(change: Change[T], ledger: Ledger, batch: Batch) -> T:
    """Make a change of the ledger and fill the batch with it; see ``store.Change``.

    Raises: what ``Store.change`` does.
    """
    made: T = _CHANGES[type(change)](ledger, change, batch)
    return made


def _create(ledger: Ledger, change: CreateLog, batch: Batch) -> Head:
    ledger.check_serving()
    log = ledger.logs.get(change.log)
    if log is None:
        _check_log(change.log, change.epoch, tuple(change.readers))
        log = ledger.create(change.log, epoch=change.epoch, batch=batch)
        _add(ledger, log, change.readers, batch)
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


def _change_readers(ledger: Ledger, change: ChangeReaders, batch: Batch) -> None:
    log = ledger.log(change.log)
    check_readers(tuple(change.add))
    for device in change.end:
        ledger.end_reader(log, device, batch)
    _add(ledger, log, change.add, batch)
    ledger.readers_changed(log, batch)


def _end_device(ledger: Ledger, change: EndDevice, batch: Batch) -> None:
    ledger.check_serving()
    known = ledger.devices.get((change.organisation, change.device))
    for log in list(known.cursors) if known else []:
        if log.key.id[0] != INBOX:
            ledger.end_reader(log, change.device, batch)
            ledger.readers_changed(log, batch)


def _remove(ledger: Ledger, change: RemoveLog, batch: Batch) -> None:
    ledger.check_serving()
    log = ledger.logs.get(change.log)
    if log is None or (change.unused and (log.head or log.epoch)):
        return
    del ledger.logs[change.log]
    del ledger.log_numbers[log.no]
    for device in list(log.cursors):
        ledger.end_reader(log, device, batch)
    ledger.delete(log, log.head, batch)
    if log.staged:
        ledger.unstage(log, batch)
    batch.logs.pop(log, None)
    log.removed = True
    batch.drop("log", [log.no])


def _put(_: Ledger, change: PutFacts, batch: Batch) -> None:
    check_facts(tuple(change.facts))
    change_facts(change.organisation, tuple(change.facts), batch)


def _expire(ledger: Ledger, change: Expire, batch: Batch) -> list[Lapsed]:
    ledger.check_serving()
    ledger.clock.tick(wall_ms=change.wall_ms, monotonic_ms=change.monotonic_ms)
    # Also where nothing expires: a stop must not forget how old things were.
    batch.put("tail", 1, ledger.tail())
    cut = _cut(ledger, change.after_ms, batch)
    lost: list[Lapsed] = []
    for log in list(ledger.logs.values()):
        if log.is_kept or log.damaged or log.first == len(log.rows) or log.rows[log.first] >= cut:
            continue
        overdue = log.seqs[bisect_left(log.rows, cut, log.first) - 1]
        if log.is_inbox:
            _expire_inbox(ledger, log, overdue, batch)
        else:
            lost += _expire_log(ledger, log, overdue, batch)
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


def _expire_log(ledger: Ledger, log: Log, overdue: int, batch: Batch) -> list[Lapsed]:
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


def _adopt(ledger: Ledger, change: AdoptLog, batch: Batch) -> Head:
    """Take over what the archive knows of a log.

    Where the log is whole and further than the archive's own, because that was restored too, its
    readers are those of its last Commit: who was removed by that does not come back.
    """
    key, last, epoch, readers = change.log, change.last, change.epoch, change.readers
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


def _resume(ledger: Ledger, change: BeginServing, batch: Batch) -> None:
    """Begin to serve in a new generation; rows that cannot be read any more are let go of."""
    ledger.awaiting = False
    given = max([ledger.floor, *(log.head for log in ledger.logs.values())])
    generation = max(change.wall_ms // GENERATION_MS, (given >> GENERATION_BITS) + 1)
    ledger.floor = min(generation, GENERATION_MAX) << GENERATION_BITS
    for table, rows in ledger.unreadable.items():
        batch.drop(table, rows)
    ledger.unreadable = {}
    batch.put("tail", 1, ledger.tail())


_CHANGES: Mapping[type[Change[Any]], Callable[[Ledger, Any, Batch], Any]] = MappingProxyType(
    {
        CreateLog: _create,
        ChangeReaders: _change_readers,
        EndDevice: _end_device,
        RemoveLog: _remove,
        Expire: _expire,
        PutFacts: _put,
        AdoptLog: _adopt,
        BeginServing: _resume,
    }
)
