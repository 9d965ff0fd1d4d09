"""What the store knows of its logs in memory, and the rows that a batch of changes leaves behind.

The ledger holds heads, epochs, cursors and where each entry's row lies, never a body. It is built
at start from the rows and is from then on ahead of the disk by the one batch that is being written:
the same planning changes the ledger and fills a ``Batch``, an engine writes the batch in one
transaction, and where that fails the ledger is thrown away and built again from the rows. So there
is no second path that undoes, and recovery is the path that every start takes.

Rows are numbered in the order of arrival over all logs: an append touches the last page of a table
whatever its log, and age is a cut through the numbers.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from protocol.identifiers import DeviceId, OrganisationId
from server import records
from server.ageing import AgeClock
from server.store import (
    CONTROL,
    INBOX,
    PRIORITY_MAX,
    REPEAT_WINDOW,
    AwaitingArchiveError,
    DamagedError,
    Head,
    Lapsed,
    LogKey,
    MessageIdError,
    NotStagedError,
    Pending,
    Reader,
    UnknownLogError,
)

COMPACT_ENTRIES = 1024
"""Deleted entries at an index's front that are worth moving the rest for."""


class Batch:
    """The rows that one transaction writes and drops. Numbers say which; no engine is assumed."""

    __slots__ = ("cursors", "drops", "emptied", "entries", "facts", "logs", "rows", "sent")

    def __init__(self) -> None:
        self.entries: list[tuple[int, int | None, bytes]] = []
        self.sent: list[tuple[int, bytes]] = []
        self.rows: dict[str, dict[int, bytes]] = {}
        self.drops: dict[str, list[int]] = {}
        self.emptied: list[tuple[int, int]] = []
        self.facts: list[tuple[bytes, bytes | None]] = []
        self.cursors: dict[Cursor, None] = {}
        self.logs: dict[Log, None] = {}

    def __bool__(self) -> bool:
        return bool(
            self.entries
            or self.cursors
            or self.drops
            or self.logs
            or self.facts
            or self.rows
            or self.emptied
        )

    def put(self, table: str, row: int, record: bytes) -> None:
        """Write ``row`` of ``table``, or write over it."""
        self.rows.setdefault(table, {})[row] = record

    def drop(self, table: str, rows: Iterable[int]) -> None:
        """Remove rows of ``table`` after everything else was written."""
        self.drops.setdefault(table, []).extend(rows)

    def seal(self) -> None:
        """Turn what was marked as changed into rows."""
        for cursor in self.cursors:
            if cursor.log.cursors.get(cursor.device.key[1]) is cursor:
                self.put("cursor", cursor.row, cursor.record())
        for log in self.logs:
            if not log.removed:
                self.put("log", log.no, log.record())


class Device:
    """A device that sends or reads: its number, its cursors, and its last answers."""

    __slots__ = ("cursors", "key", "last", "no", "ring")

    def __init__(self, no: int, key: tuple[OrganisationId, DeviceId]) -> None:
        self.no = no
        self.key = key
        self.cursors: dict[Log, Cursor] = {}
        self.last = 0
        self.ring: array[int] | None = None

    def answered(self, message_id: int) -> tuple[int, int, int] | None:
        """Give (log, seq, prev) of a number that was answered before.

        Raises:
            MessageIdError: The number is before the window.
        """
        if message_id > self.last:
            return None
        if message_id + REPEAT_WINDOW <= self.last:
            raise MessageIdError(self.last - REPEAT_WINDOW + 1)
        at = message_id % REPEAT_WINDOW * 5
        ring = self.ring
        if ring is None or ring[at] != message_id:
            return None
        return ring[at + 1], ring[at + 2], ring[at + 3]

    def remember(self, message_id: int, log: int, seq: int, prev: int, row: int) -> int:
        """Keep an answer; give the row of the one that it pushes out of the window, or 0."""
        ring = self.ring
        if ring is None:
            ring = self.ring = array("q", bytes(5 * 8 * REPEAT_WINDOW))
        at = message_id % REPEAT_WINDOW * 5
        pushed = ring[at + 4]
        ring[at] = message_id
        ring[at + 1] = log
        ring[at + 2] = seq
        ring[at + 3] = prev
        ring[at + 4] = row
        if message_id > self.last:
            self.last = message_id
        return pushed


class Cursor:
    """A reader's place in a log. ``wanted`` runs ahead of ``acked`` until a batch moves it.

    ``until`` is the Commit that removed the reader, which it may read up to; ``resumes`` is the
    place at which it goes on after that, where it was let in again meanwhile. Both are 0 for none.
    ``own`` is the last run of entries that the device itself appended: the number before it, and
    its last. It is not kept on the disk: after a restart such a run waits for the next entry.
    """

    __slots__ = (
        "acked",
        "device",
        "expires",
        "lapsed",
        "log",
        "own",
        "resumes",
        "row",
        "until",
        "wanted",
    )

    def __init__(self, row: int, log: Log, device: Device, *, acked: int, expires: bool) -> None:
        self.row = row
        self.log = log
        self.device = device
        self.acked = acked
        self.wanted = acked
        self.until = 0
        self.resumes = 0
        self.own = (0, 0)
        self.expires = expires
        self.lapsed = False

    def appended(self, seq: int, *, after: int) -> bool:
        """Note an entry of the device's own; tell whether the cursor passes it at once."""
        before, last = self.own
        self.own = (before if last == after and last else after, seq)
        if self.wanted != after:
            return False
        self.wanted = seq
        return True

    def want(self, place: int) -> bool:
        """Note that everything up to ``place`` is acknowledged; tell whether that is news.

        An acknowledgement that an append overtook comes before the device's own entries: they go
        with it, or the last words of a conversation would stay until somebody speaks.
        """
        before, last = self.own
        reached = max(place, last) if before <= place else place
        if reached <= self.wanted:
            return False
        self.wanted = reached
        return True

    def record(self) -> bytes:
        """Give the cursor's row."""
        flags = records.EXPIRES * self.expires | records.LAPSED * self.lapsed
        return records.seal(
            records.CURSOR,
            b"c",
            self.row,
            self.log.no,
            self.device.no,
            self.acked,
            self.until,
            self.resumes,
            flags,
        )

    @property
    def ends(self) -> bool:
        """Whether the reader was removed, and has at most the rest to read."""
        return self.until != 0 and self.resumes == 0


class Staged:
    """A Commit that awaits its receipt: who comes, who goes, and where its Welcome lies.

    ``epoch`` is the one that it ends: the log's own, or one that a restored log does not know of.
    """

    __slots__ = ("epoch", "joins", "leaves", "references", "seq", "welcome")

    def __init__(
        self,
        seq: int,
        *,
        epoch: int,
        welcome: int,
        joins: list[tuple[int, bool]],
        leaves: list[int],
        references: list[tuple[int, int]],
    ) -> None:
        self.seq = seq
        self.epoch = epoch
        self.welcome = welcome
        self.joins = joins
        self.leaves = leaves
        self.references = references

    def record(self, log: int) -> bytes:
        """Give the row, which has the log's number."""
        return records.seal_values(
            "staged",
            log,
            self.seq,
            self.welcome,
            self.joins,
            self.leaves,
            self.references,
            self.epoch,
        )


class Log:
    """One log: its head and epoch, its cursors, and the rows, numbers and sizes of what it holds.

    The three arrays run in parallel from index ``first``; what lies before it is deleted.
    """

    __slots__ = (
        "cursors",
        "damaged",
        "epoch",
        "expired",
        "first",
        "head",
        "held_bytes",
        "key",
        "live",
        "marks",
        "no",
        "pinned",
        "quarantine",
        "removed",
        "rows",
        "seqs",
        "sizes",
        "slowest",
        "slowest_count",
        "staged",
        "was_staged",
        "welcomes",
        "winner",
    )

    def __init__(self, no: int, key: LogKey, *, epoch: int, head: int = 0, winner: int = 0) -> None:
        self.no = no
        self.key = key
        self.epoch = epoch
        self.head = head
        self.winner = winner
        self.staged: Staged | None = None
        self.was_staged = 0
        self.cursors: dict[DeviceId, Cursor] = {}
        self.live: dict[DeviceId, Cursor] = {}
        self.slowest = -1
        self.slowest_count = 0
        self.rows: array[int] = array("q")
        self.seqs: array[int] = array("q")
        self.sizes: array[int] = array("I")
        self.first = 0
        self.held_bytes = 0
        self.marks = [0] * (PRIORITY_MAX + 1)
        self.welcomes: dict[int, int] = {}
        self.pinned: set[int] = set()
        self.quarantine: set[int] = set()
        self.expired = 0
        self.damaged = False
        self.removed = False

    @property
    def is_inbox(self) -> bool:
        """Whether this is a device's inbox."""
        return self.key.id[0] == INBOX

    @property
    def is_kept(self) -> bool:
        """Whether nothing here is ever deleted."""
        return self.key.id[0] == CONTROL

    def record(self) -> bytes:
        """Give the log's row."""
        return records.seal_values(
            "log",
            self.no,
            self.key.organisation,
            self.key.id,
            self.epoch,
            self.head,
            self.winner,
            self.staged.seq if self.staged else 0,
            self.staged.welcome if self.staged else 0,
            len(self.cursors),
        )

    def describe(self) -> Head:
        """Give what is told outside."""
        return Head(
            seq=self.head,
            epoch=self.epoch,
            staged=self.staged.seq if self.staged else None,
            ends=self.staged.epoch if self.staged else None,
            entries=len(self.seqs) - self.first,
            held_bytes=self.held_bytes,
        )

    def staged_seqs(self) -> tuple[int, int]:
        """Give the number of the Commit that is staged, and of one whose end is being written."""
        return (self.staged.seq if self.staged else 0, self.was_staged)

    def winner_of(self, epoch: int) -> int | None:
        """Give the number of the Commit that won ``epoch``, where it is still known."""
        if self.staged and epoch in (self.epoch, self.staged.epoch):
            return self.staged.seq
        if epoch == self.epoch - 1 and self.winner:
            return self.winner
        return None

    def may_be_behind(self, floor: int) -> bool:
        """Tell whether its members may be in a later epoch than is known here.

        After a restore, until a Commit is confirmed: ``floor`` is where numbers began then.
        """
        return self.epoch > 0 and self.winner < floor

    def hold(self, row: int, seq: int, *, size: int, priority: int) -> None:
        """Take an entry into the index."""
        self.head = seq
        self.rows.append(row)
        self.seqs.append(seq)
        self.sizes.append(size)
        self.held_bytes += size
        self.marks[priority] = seq

    def index_of(self, seq: int) -> int | None:
        """Give the index of an entry that is held."""
        at = bisect_left(self.seqs, seq, self.first)
        return at if at < len(self.seqs) and self.seqs[at] == seq else None

    def release(self, through: int) -> array[int]:
        """Let go of all entries up to number ``through`` and give their rows."""
        start = self.first
        stop = bisect_right(self.seqs, through, start)
        gone = self.rows[start:stop]
        self.held_bytes -= sum(self.sizes[start:stop])
        self.first = stop
        if (stop >= COMPACT_ENTRIES and stop * 2 >= len(self.seqs)) or stop == len(self.seqs):
            del self.rows[:stop], self.seqs[:stop], self.sizes[:stop]
            self.first = 0
        return gone

    def settle_readers(self) -> None:
        """Find anew who reads on, and the slowest of all."""
        cursors = self.cursors.items()
        self.live = {device: c for device, c in cursors if not (c.lapsed or c.ends)}
        self.settle_slowest()

    def settle_slowest(self) -> None:
        """Find the slowest cursor anew: -1 where there is none, as nothing is passed by none."""
        places = [cursor.acked for cursor in self.cursors.values() if not cursor.lapsed]
        self.slowest = min(places, default=-1)
        self.slowest_count = places.count(self.slowest)


class Ledger:
    """All logs and devices of one store, and the next numbers to give."""

    def __init__(self) -> None:
        self.logs: dict[LogKey, Log] = {}
        self.log_numbers: dict[int, Log] = {}
        self.devices: dict[tuple[OrganisationId, DeviceId], Device] = {}
        self.device_numbers: dict[int, Device] = {}
        self.references: dict[int, int] = {}
        self.staged_welcomes: set[int] = set()
        self.unsettled: list[tuple[Log, int]] = []
        self.next_row = 1
        self.next_log = 1
        self.next_device = 1
        self.next_cursor = 1
        self.entries = 0
        self.sent = 0
        self.awaiting = False
        self.floor = 0
        self.unreadable: dict[str, list[int]] = {}
        self.clock = AgeClock()
        self.marks: list[tuple[int, int]] = []
        self.passed: dict[Cursor, None] = {}

    def tail(self) -> bytes:
        """Give the row that every batch writes: the next numbers, and how many rows there are."""
        return records.seal_values(
            "tail",
            1,
            self.next_row,
            self.next_log,
            self.next_device,
            self.next_cursor,
            self.entries,
            self.sent,
            len(self.logs),
            len(self.devices),
            len(self.references),
            self.awaiting,
            self.clock.age_ms,
            self.clock.wall_ms,
            self.floor,
        )

    def after(self, last: int) -> int:
        """Give the number behind ``last``, in the generation of now."""
        return max(last + 1, self.floor)

    def check_serving(self) -> None:
        """Raise where the archive must be asked first.

        Raises:
            AwaitingArchiveError: It must.
        """
        if self.awaiting:
            raise AwaitingArchiveError

    def log(self, key: LogKey) -> Log:
        """Give a log that can be worked with.

        Raises:
            UnknownLogError: There is none.
            DamagedError: Its state is damaged.
            AwaitingArchiveError: The archive must be asked first.
        """
        self.check_serving()
        log = self.logs.get(key)
        if log is None:
            raise UnknownLogError
        if log.damaged:
            raise DamagedError("log")
        return log

    def device(self, key: tuple[OrganisationId, DeviceId], batch: Batch) -> Device:
        """Give a device, known from now on."""
        device = self.devices.get(key)
        if device is None:
            device = Device(self.next_device, key)
            self.next_device += 1
            self.add_device(device)
            batch.put("device", device.no, records.seal_values("device", device.no, *key))
        return device

    def add_device(self, device: Device) -> None:
        """Take a device in."""
        self.devices[device.key] = device
        self.device_numbers[device.no] = device

    def add_log(self, log: Log) -> None:
        """Take a log in."""
        self.logs[log.key] = log
        self.log_numbers[log.no] = log

    def create(self, key: LogKey, *, epoch: int, batch: Batch) -> Log:
        """Make a log."""
        log = Log(self.next_log, key, epoch=epoch)
        self.next_log += 1
        self.add_log(log)
        batch.logs[log] = None
        return log

    def row(self) -> int:
        """Give the next row's number."""
        row = self.next_row
        self.next_row = row + 1
        return row

    def add_reader(self, log: Log, reader: Reader, *, after: int, batch: Batch) -> None:
        """Give ``reader`` a cursor at ``after``; one that has a live cursor keeps its place."""
        cursor = log.cursors.get(reader.device)
        if cursor is None:
            device = self.device((log.key.organisation, reader.device), batch)
            cursor = Cursor(self.next_cursor, log, device, acked=after, expires=reader.expires)
            self.next_cursor += 1
            log.cursors[reader.device] = cursor
            device.cursors[log] = cursor
        elif cursor.lapsed:
            cursor.acked = cursor.wanted = after
            cursor.own = (0, 0)
            cursor.lapsed = False
        cursor.until = cursor.resumes = 0
        cursor.expires = reader.expires
        batch.cursors[cursor] = None
        batch.logs[log] = None

    def readmit(self, log: Log, reader: Reader, *, commit: int, after: int, batch: Batch) -> None:
        """Give a cursor at ``after`` to who joins by ``commit``.

        Who was removed by an earlier Commit and has yet to read up to it reads that first, and then
        goes on at ``after``: what was said in between is not theirs. Who leaves and joins in one
        Commit, as a device that lost its state does, keeps its place.
        """
        cursor = log.cursors.get(reader.device)
        was_out = cursor is not None and not cursor.lapsed and cursor.ends
        if cursor is None or not was_out or cursor.until == commit:
            self.add_reader(log, reader, after=after, batch=batch)
            return
        cursor.resumes = after
        cursor.expires = reader.expires
        batch.cursors[cursor] = None
        batch.logs[log] = None

    def end_reader(self, log: Log, device: DeviceId, batch: Batch) -> None:
        """End a cursor at once."""
        cursor = log.cursors.pop(device, None)
        if cursor is not None:
            del cursor.device.cursors[log]
            batch.cursors.pop(cursor, None)
            batch.drop("cursor", [cursor.row])
            batch.logs[log] = None

    def readers_changed(self, log: Log, batch: Batch) -> None:
        """Delete what the cursors that there are now have all passed."""
        log.settle_readers()
        self.sweep(log, log.slowest, batch)

    def move(self, cursor: Cursor, batch: Batch) -> None:
        """Bring a cursor to where its device has acknowledged, and delete what all have passed."""
        log = cursor.log
        if log.cursors.get(cursor.device.key[1]) is not cursor:
            return  # ended since it was to be moved
        place = min(cursor.wanted, log.head)
        cursor.wanted = place
        before = cursor.acked
        if place <= before or cursor.lapsed or log.removed or log.damaged:
            return
        cursor.acked = place
        batch.cursors[cursor] = None
        if cursor.ends and place >= cursor.until:
            self.end_reader(log, cursor.device.key[1], batch)
            self.readers_changed(log, batch)
            return
        if cursor.until and place >= cursor.until:
            cursor.acked = cursor.wanted = max(place, cursor.resumes)
            cursor.until = cursor.resumes = 0
        if before == log.slowest:
            log.slowest_count -= 1
            if not log.slowest_count:
                log.settle_slowest()
                self.sweep(log, log.slowest, batch)

    def sweep(self, log: Log, through: int, batch: Batch) -> None:
        """Delete a log's entries up to ``through``, and each Welcome with its last reference."""
        if log.is_kept or log.first == len(log.seqs) or log.seqs[log.first] > through:
            return
        self.delete(log, through, batch)

    def delete(self, log: Log, through: int, batch: Batch) -> None:
        """Delete a log's entries up to ``through`` whatever its kind."""
        gone = log.release(through)
        self.entries -= len(gone)
        batch.drop("entry", gone)
        for seq in [seq for seq in log.welcomes if seq <= through]:
            self.dereference(log.welcomes.pop(seq), batch)
        if log.pinned:
            log.pinned = {seq for seq in log.pinned if seq > through}

    def unstage(self, log: Log, batch: Batch) -> Staged:
        """Take away what is staged, because it was confirmed or voided, or never will be."""
        staged = log.staged
        if staged is None:
            raise NotStagedError(None)
        log.staged = None
        log.was_staged = staged.seq
        self.unsettled.append((log, staged.welcome))
        batch.drop("staged", [log.no])
        batch.logs[log] = None
        return staged

    def settle(self) -> None:
        """Note that the batch is on the disk: only now is what it decided no longer staged."""
        for log, welcome in self.unsettled:
            log.was_staged = 0
            self.staged_welcomes.discard(welcome)
        self.unsettled.clear()

    def dereference(self, welcome: int, batch: Batch) -> None:
        """Drop one reference to a Welcome."""
        left = self.references[welcome] - 1
        if left:
            self.references[welcome] = left
        else:
            del self.references[welcome]
            batch.drop("welcome", [welcome])

    def empty(self, log: Log, seq: int, *, state: int, batch: Batch) -> None:
        """Take the body from an entry that is still held, and leave its number."""
        at = log.index_of(seq)
        if at is None:
            return
        batch.emptied.append((log.rows[at], state))
        log.held_bytes -= log.sizes[at]
        log.sizes[at] = 0
        welcome = log.welcomes.pop(seq, 0)
        if welcome:
            self.dereference(welcome, batch)

    def pending(self, organisation: OrganisationId, device: DeviceId) -> list[Pending]:
        """Give the logs in which a device has something to fetch: inbox, then by priority."""
        known = self.devices.get((organisation, device))
        if known is None:
            return []
        found = []
        for log, cursor in known.cursors.items():
            head = cursor.until if cursor.ends else log.head
            if head <= cursor.wanted and not cursor.lapsed:
                continue
            priority = max((p for p, seq in enumerate(log.marks) if seq > cursor.wanted), default=0)
            found.append(
                Pending(
                    log=log.key,
                    cursor=cursor.wanted,
                    head=head,
                    waiting=len(log.seqs) - bisect_right(log.seqs, cursor.wanted, log.first),
                    priority=priority,
                    lapsed=cursor.lapsed,
                )
            )
        found.sort(key=lambda p: (p.log.id[0] != INBOX, -p.priority))
        return found


def lapse(log: Log, overdue: int, batch: Batch) -> list[Lapsed]:
    """Take the cursor from every reader that may lose it and has not come to number ``overdue``."""
    lost = []
    for device, cursor in list(log.cursors.items()):
        if cursor.lapsed or not cursor.expires or cursor.acked >= overdue:
            continue
        cursor.lapsed = True
        batch.cursors[cursor] = None
        lost.append(Lapsed(log=log.key, device=device, cursor=cursor.acked))
    return lost
