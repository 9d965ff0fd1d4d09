"""From the rows to the ledger: what every start does, and every recovery from a failed write.

Damage is kept as small as it can be named. An entry whose body is damaged is found when it is read;
one whose head is damaged is known by its answer's row, where that is still there; a log that lacks
a cursor is closed by itself. Whatever cannot be laid to one log could be the end of any, and a
number given twice is a fork: then the whole store awaits the archive.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from protocol.identifiers import DeviceId, LogId, OrganisationId
from server import records
from server.ledger import Cursor, Device, Ledger, Log, Staged
from server.sqlite_schema import NO_FACTS, check
from server.store import DamagedError, LogKey

Sent = dict[int, tuple[int, int]]
"""The log and number of each row whose answer is remembered."""


def load(db: sqlite3.Connection) -> Ledger:
    """Build the ledger from the rows.

    Raises:
        DamagedError: This is no store.
        sqlite3.Error: The database itself cannot be read.
    """
    check(db)
    ledger = Ledger()
    counts = _load_tail(db, ledger)
    _load_devices(db, ledger)
    missing_readers = _load_logs(db, ledger)
    _load_cursors(db, ledger, missing_readers)
    sent = _load_sent(db, ledger)
    _load_entries(db, ledger, sent)
    _load_staged(db, ledger)
    _load_marks(db, ledger)
    for log in ledger.logs.values():
        log.damaged = log.damaged or missing_readers[log.no] != 0
        log.settle_readers()
    if counts != _counts(ledger):
        ledger.awaiting = True
    return ledger


def _counts(ledger: Ledger) -> list[int]:
    return [
        ledger.entries,
        ledger.sent,
        len(ledger.logs),
        len(ledger.devices),
        len(ledger.references),
    ]


def _rows(
    db: sqlite3.Connection, ledger: Ledger, table: str, unseal: Callable[[int, bytes], Any]
) -> Iterator[tuple[int, Any]]:
    """Give the readable rows of a table; set the others apart."""
    query = f"SELECT id, record FROM {table} ORDER BY id"  # noqa: S608 - a table of ours
    for row, record in _ascending(ledger, db.execute(query)):
        try:
            yield row, unseal(row, records.as_bytes(record, table))
        except DamagedError:
            ledger.unreadable.setdefault(table, []).append(row)


def _ascending(ledger: Ledger, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Give the rows of a scan; one out of order says that a page's own index is damaged.

    Such a row can stand for another that no scan finds, while their count is what it should be.
    """
    last = -1
    for row in rows:
        if row[0] <= last:
            ledger.awaiting = True
        last = row[0]
        yield row


def _values(tag: str) -> Callable[[int, bytes], list[Any]]:
    return lambda row, record: records.unseal_values(tag, row, record)


def _load_tail(db: sqlite3.Connection, ledger: Ledger) -> list[int]:
    for row, values in _rows(db, ledger, "tail", _values("tail")):
        if row == 1:
            (
                ledger.next_row,
                ledger.next_log,
                ledger.next_device,
                ledger.next_cursor,
                *counts,
                ledger.awaiting,
                ledger.clock.age_ms,
                ledger.clock.wall_ms,
                ledger.floor,
            ) = values
            return list(counts)
    return []


def _load_devices(db: sqlite3.Connection, ledger: Ledger) -> None:
    for row, (organisation, name) in _rows(db, ledger, "device", _values("device")):
        ledger.add_device(Device(row, (OrganisationId(organisation), DeviceId(name))))
        ledger.next_device = max(ledger.next_device, row + 1)


def _load_logs(db: sqlite3.Connection, ledger: Ledger) -> dict[int, int]:
    """Take in the logs and give how many cursors each should have."""
    readers = {}
    for row, values in _rows(db, ledger, "log", _values("log")):
        organisation, name, epoch, head, winner, staged, welcome, count = values
        key = LogKey(OrganisationId(organisation), LogId(name))
        log = Log(row, key, epoch=epoch, head=head, winner=winner)
        # Until the row with its details is found, a staged Commit is one that cannot be confirmed.
        # Its Welcome is no less staged for that.
        log.damaged = staged != 0
        if staged:
            ledger.staged_welcomes |= {welcome} - {0}
        ledger.add_log(log)
        ledger.next_log = max(ledger.next_log, row + 1)
        readers[row] = count
    return readers


def _load_cursors(db: sqlite3.Connection, ledger: Ledger, missing: dict[int, int]) -> None:
    def unseal(row: int, record: bytes) -> tuple[int, ...]:
        return records.unseal(records.CURSOR, b"c", row, record)

    for row, (number, reader, acked, until, resumes, flags) in _rows(db, ledger, "cursor", unseal):
        log = ledger.log_numbers.get(number)
        device = ledger.device_numbers.get(reader)
        if log is None or device is None:
            ledger.unreadable.setdefault("cursor", []).append(row)
            continue
        expires = bool(flags & records.EXPIRES)
        cursor = Cursor(row, log, device, acked=acked, expires=expires)
        cursor.until, cursor.resumes = until, resumes
        cursor.lapsed = bool(flags & records.LAPSED)
        log.cursors[device.key[1]] = device.cursors[log] = cursor
        # Whatever deletes an entry leaves a cursor behind it or writes the log's row: so the head
        # needs no write of its own at each append.
        log.head = max(log.head, acked)
        missing[number] -= 1
        ledger.next_cursor = max(ledger.next_cursor, row + 1)


def _load_sent(db: sqlite3.Connection, ledger: Ledger) -> Sent:
    def unseal(row: int, record: bytes) -> tuple[int, ...]:
        return records.unseal(records.SENT, b"s", row, record)

    sent: Sent = {}
    for row, (sender, message_id, log, seq, prev) in _rows(db, ledger, "sent", unseal):
        device = ledger.device_numbers.get(sender)
        if device is None:
            continue
        device.remember(message_id, log, seq, prev, row)
        ledger.sent += 1
        ledger.next_row = max(ledger.next_row, row + 1)
        sent[row] = (log, seq)
    return sent


def _load_entries(db: sqlite3.Connection, ledger: Ledger, sent: Sent) -> None:
    welcome_sizes = _load_welcomes(db)
    query = (
        "SELECT id, welcome, substr(record, 1, ?), length(record) FROM entry ORDER BY id",
        (records.ENTRY_HEAD_BYTES,),
    )
    for row, welcome, record, length in _ascending(ledger, db.execute(*query)):
        ledger.entries += 1
        ledger.next_row = max(ledger.next_row, row + 1)
        size = (length or 0) - records.ENTRY_HEAD_BYTES
        try:
            head = records.open_entry_head(row, records.as_bytes(record, "entry"))
        except DamagedError:
            _quarantine(ledger, row, sent.get(row))
            continue
        log = ledger.log_numbers.get(head.log)
        if log is None or (welcome or 0) != head.welcome:
            _quarantine(ledger, row, (head.log, head.seq))
            continue
        if head.welcome:
            log.welcomes[head.seq] = head.welcome
            ledger.references[head.welcome] = ledger.references.get(head.welcome, 0) + 1
            size = welcome_sizes.get(head.welcome, 0)
        _hold(ledger, log, row, head.seq, size=size, priority=head.priority)
        if head.pinned:
            log.pinned.add(head.seq)


def _hold(ledger: Ledger, log: Log, row: int, seq: int, *, size: int, priority: int) -> None:
    if log.seqs and seq <= log.seqs[-1]:
        ledger.awaiting = True
    head = log.head
    log.hold(row, seq, size=max(size, 0), priority=priority)
    log.head = max(head, seq)


def _quarantine(ledger: Ledger, row: int, known: tuple[int, int] | None) -> None:
    """Keep the place of an entry that cannot be read, where it is known."""
    log = ledger.log_numbers.get(known[0]) if known else None
    if log is None or known is None:
        ledger.unreadable.setdefault("entry", []).append(row)
        ledger.awaiting = True
        return
    _hold(ledger, log, row, known[1], size=0, priority=0)
    log.quarantine.add(known[1])


def _load_welcomes(db: sqlite3.Connection) -> dict[int, int]:
    query = "SELECT id, length(record) FROM welcome"
    return {row: (length or 0) - records.BODY_SUM_BYTES for row, length in db.execute(query)}


def _load_staged(db: sqlite3.Connection, ledger: Ledger) -> None:
    for row, (seq, welcome, joins, leaves, references, *epoch) in _rows(
        db, ledger, "staged", _values("staged")
    ):
        log = ledger.log_numbers.get(row)
        if log is None:
            continue
        log.staged = Staged(
            seq,
            # An earlier program's row has none: it was the log's.
            epoch=epoch[0] if epoch else log.epoch,
            welcome=welcome,
            joins=[(number, expires) for number, expires in joins],
            leaves=leaves,
            references=[(number, at) for number, at in references],
        )
        log.damaged = False


def _load_marks(db: sqlite3.Connection, ledger: Ledger) -> None:
    # A mark that cannot be read only lets things stay longer.
    ledger.marks = [(row, values[0]) for row, values in _rows(db, ledger, "mark", _values("mark"))]
    ledger.unreadable.pop("mark", None)


def tally_facts(db: sqlite3.Connection) -> bytes:
    """Give the sum over all facts, which no missing, added or older one leaves as it is."""
    tally = NO_FACTS
    query = "SELECT name, substr(record, 1, ?) FROM fact"
    for name, record in db.execute(query, (len(NO_FACTS),)):
        tally = mix(tally, records.as_bytes(name, "fact"), records.as_bytes(record, "fact"))
    return tally


def mix(tally: bytes, name: bytes, record: bytes) -> bytes:
    """Put a fact into the tally, or take it out: its name and the digest of its value."""
    size = len(NO_FACTS)
    one = records.body_sum(record[:size] + name)
    return (int.from_bytes(tally, "big") ^ int.from_bytes(one, "big")).to_bytes(size, "big")


def read_tally(db: sqlite3.Connection) -> bytes:
    """Give the tally that the last change of facts left.

    Raises:
        DamagedError: It is not what was written.
    """
    found = db.execute("SELECT record FROM tail WHERE id = 2").fetchone()
    if found is None:
        raise DamagedError("fact")
    record = records.as_bytes(found[0], "fact")
    tally: bytes = records.unseal_values("tail", 2, record)[0]
    return tally
