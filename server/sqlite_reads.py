"""Reading entries and facts: chosen in memory, fetched in one query, verified, then given."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable

import aiosqlite
from msgspec import Struct

from protocol.identifiers import DeviceId, OrganisationId
from server import records
from server.appending import fact_prefix
from server.ledger import Ledger, Log
from server.store import (
    DamagedError,
    Entry,
    EntryState,
    Page,
    UnknownLogError,
)
from storage.database import DATABASE_ERRORS

ENTRIES = """
    SELECT entry.id, entry.record, welcome.id, welcome.record
    FROM entry LEFT JOIN welcome ON welcome.id = entry.welcome
    WHERE entry.id IN (SELECT value FROM json_each(?)) ORDER BY entry.id
"""

STATES = tuple(EntryState)

Row = tuple[int, bytes, int | None, bytes | None]


class Selection(Struct, frozen=True, kw_only=True):
    """The entries that one read is to give: their numbers, and the rows to look under."""

    log: Log
    seqs: tuple[int, ...]
    staged: tuple[int, ...]
    staged_welcomes: frozenset[int]
    rows: tuple[int, ...]
    last: int
    more: bool


def select(
    ledger: Ledger,
    log: Log,
    device: DeviceId,
    *,
    after: int,
    entries_max: int,
    bytes_max: int,
    committed: int,
) -> Selection:
    """Choose what the reader gets next, up to row ``committed``, which is on the disk.

    Raises:
        UnknownLogError: The device does not read this log.
    """
    cursor = log.cursors.get(device)
    if cursor is None or cursor.lapsed:
        raise UnknownLogError
    place = after if log.is_kept else max(after, cursor.wanted)
    start, end = _span(log, place, committed=committed)
    follows = False
    if cursor.until:
        whole, end = end, min(end, bisect_right(log.seqs, cursor.until, log.first))
        if cursor.resumes and start >= end:
            place = max(place, cursor.resumes)
            start, end = _span(log, place, committed=committed)
        elif cursor.resumes:
            follows = _span(log, cursor.resumes, committed=committed)[0] < whole
    stop = start
    room = bytes_max
    while stop < end and stop - start < entries_max:
        room -= log.sizes[stop]
        if room < 0 and stop > start:
            break
        stop += 1
    seqs = tuple(log.seqs[start:stop])
    return Selection(
        log=log,
        seqs=seqs,
        # Kept from before the rows are fetched: a Commit that is decided meanwhile is still given
        # as staged, never one that is about to be voided as effective.
        staged=log.staged_seqs(),
        staged_welcomes=frozenset(ledger.staged_welcomes if log.is_inbox else ()),
        rows=tuple(log.rows[start:stop]),
        last=log.seqs[stop - 1] if stop > start else place,
        more=stop < end or follows,
    )


def _span(log: Log, after: int, *, committed: int) -> tuple[int, int]:
    """Return from where to where the entries behind a number lie that are on the disk."""
    return bisect_right(log.seqs, after, log.first), bisect_right(log.rows, committed, log.first)


async def read(reader: aiosqlite.Connection, ledger: Ledger, selection: Selection) -> Page:
    """Fetch what was chosen; what fails its checksum is named instead of given.

    Raises:
        sqlite3.Error: The database cannot be read at all.
    """
    found = {row[0]: row for row in await _fetch(reader, selection.rows)} if selection.rows else {}
    log = selection.log
    entries: list[Entry] = []
    damaged: list[int] = []
    for seq, number in zip(selection.seqs, selection.rows, strict=True):
        try:
            entry = _entry(ledger, selection, seq, found.get(number))
            entries.append(entry)
        except DamagedError:
            # A row that all have acknowledged meanwhile is not damaged but gone.
            if log.index_of(seq) is not None:
                log.quarantine.add(seq)
                damaged.append(seq)
    return Page(
        entries=tuple(entries),
        damaged=tuple(damaged),
        last=selection.last,
        more=selection.more,
    )


async def forget(reader: aiosqlite.Connection) -> None:
    """Let the reading connection forget the pages that it has read.

    Raises:
        sqlite3.Error: The database cannot be read at all.
    """
    await reader.execute_fetchall("PRAGMA shrink_memory")


async def _fetch(reader: aiosqlite.Connection, rows: Iterable[int]) -> list[Row]:
    numbers = list(rows)
    try:
        return [
            tuple(row) for row in await reader.execute_fetchall(ENTRIES, (json.dumps(numbers),))
        ]
    except DATABASE_ERRORS:
        if len(numbers) == 1:
            return []
    # A page in between cannot be read: it takes with it what lies on it, and nothing else.
    return [found for number in numbers for found in await _fetch(reader, [number])]


def _entry(ledger: Ledger, selection: Selection, seq: int, row: Row | None) -> Entry:
    if row is None:
        raise DamagedError("entry")
    head, body = records.open_entry(row[0], records.as_bytes(row[1], "entry"))
    device = ledger.device_numbers.get(head.device)
    if device is None or (head.log, head.seq) != (selection.log.no, seq):
        raise DamagedError("entry")
    if head.welcome:
        if row[2] != head.welcome:
            raise DamagedError("welcome")
        body = records.open_welcome(head.welcome, records.as_bytes(row[3], "welcome"))
    state = STATES[head.state]
    staged = seq in selection.staged or head.welcome in selection.staged_welcomes
    if staged and state is EntryState.EFFECTIVE:
        state = EntryState.STAGED
    return Entry(
        seq=seq,
        prev=head.prev,
        kind=head.kind,
        state=state,
        sender=device.key[1],
        message_id=head.message_id,
        at_ms=head.at_ms,
        priority=head.priority,
        epoch=head.epoch - 1 if head.epoch else None,
        body=body,
    )


async def read_facts(
    reader: aiosqlite.Connection, organisation: OrganisationId, prefix: bytes
) -> dict[bytes, bytes]:
    """Give the facts whose keys begin with ``prefix``.

    Raises:
        DamagedError: One of them is not what was written.
        sqlite3.Error: The database cannot be read.
    """
    ours = fact_prefix(organisation)
    low = ours + prefix
    # Longer than any key can go on: so nothing that begins with the prefix lies behind it.
    high = low + b"\xff" * 256
    query = "SELECT name, record FROM fact WHERE name >= ? AND name <= ? ORDER BY name"
    rows = await reader.execute_fetchall(query, (low, high))
    return {
        records.as_bytes(name, "fact")[len(ours) :]: records.open_fact(
            name, records.as_bytes(record, "fact")
        )
        for name, record in rows
    }
