"""The store of the relay: logs, cursors and the few facts that must change together with them.

Everything that the relay carries is an entry in an append-only log, and everyone who should have it
is a reader with a cursor on that log. ``Store`` is the whole interface; nothing outside an
implementation may know with what engine it is made. Three rules hold for every implementation:

*Durable before answered.* An awaited call returns only when its effect would survive a power cut.
What was answered is never lost, and what was refused has left no trace.

*One request, one transaction.* A Commit with its Welcome, the references to it in the inboxes and
the staged change of cursors, or an entry with the facts that it changes, happen together or not at
all.

*Bounded state decides repeats.* A sender numbers its messages with a counter. The store remembers
the answers to the last ``REPEAT_WINDOW`` numbers of each device: a repeat inside the window gets
the first answer, whatever has become of the entry, and one before it is refused, never appended
twice.

A Commit is *staged* when it is appended: it has won its epoch, no other Commit enters, messages of
the epoch are still accepted. Its ``Receipt`` opens the next epoch and makes the change of cursors
effective; its ``Void`` empties the Commit and its Welcomes and leaves the epoch open. Whether a
device may append, confirm or void is not the store's to judge: the front has decided before it
asks.

Source: the architecture's sections 2 (the log) and 4 (receipts).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

from msgspec import Struct

from protocol import limits
from protocol.identifiers import DeviceId, LogId, OrganisationId

T = TypeVar("T")

REPEAT_WINDOW = limits.IN_FLIGHT_MESSAGES
"""Message numbers remembered for each device: as many as a sender may have unanswered."""

ID_BYTES_MAX = 255
"""Longest identifier of an organisation, log, device or fact, in bytes: beyond every real one."""

BODY_BYTES_MAX = limits.WELCOME_BYTES
"""Largest body of an entry, Welcome or fact, in bytes: nothing that arrives in a frame is
longer."""

READERS_MAX = limits.MEMBERS
"""Most readers named in one request: a Commit that adds a whole conversation."""

PRIORITY_MAX = 7
"""Highest priority: the store keeps one number a log and priority, so they must be few."""

NUMBER_MAX = (1 << 63) - 1
"""Largest sequence number, message number or epoch: what any database's integer holds."""

RELAY = DeviceId("")
"""The sender of the relay's own entries; they carry message number 0 and are never repeated."""


INBOX = ord("i")
"""First octet of an inbox's id: there, what expires leaves a mark instead of ending the cursor."""

CONTROL = ord("o")
"""First octet of a control log's id: kept whole, as a new device reads it from the start."""


class LogKey(NamedTuple):
    """The name of a log: ``id`` says of what kind it is (see ``protocol.identifiers``)."""

    organisation: OrganisationId
    id: LogId


class EntryState(IntEnum):
    """How an entry stands."""

    EFFECTIVE = 0
    STAGED = 1
    """A Commit, or a Welcome of one, that has no receipt yet."""
    VOIDED = 2
    """A Commit or Welcome that was voided: its body is gone, its number stays, no hole shows."""
    EXPIRED = 3
    """In an inbox: nobody fetched it in time, and its body is gone."""


# Values that are made for every message are msgspec structs: frozen and slotted as dataclasses are,
# at a tenth of the time to build one.


class Reader(Struct, frozen=True, kw_only=True):
    """A device that is to have a log's entries.

    Attributes:
        device: The device.
        expires: ``False`` for the archive alone: its cursor holds entries until it has them.
        after: The number behind which a new cursor starts; ``None`` for the log's head. Who joins
            by a Commit starts at its receipt whatever this says.
    """

    device: DeviceId
    expires: bool = True
    after: int | None = None


class Commit(Struct, frozen=True, kw_only=True):
    """The effect of an entry that is a Commit: wins its epoch, or is refused.

    Attributes:
        joins: Who gets a reference to the Welcome now (the recorder must be able to join the first
            epoch before it can confirm it) and a cursor at the receipt. The cursor starts at the
            receipt: what is sent before it is not encrypted to them.
        leaves: Whose cursors end, at the receipt, with this Commit as the last entry they get.
        welcome: The one encoded Welcome for all who join; ``None`` puts nothing into inboxes.
        welcome_kind: ``kind`` of the inbox entries.
        welcome_priority: ``priority`` of the inbox entries.
    """

    joins: tuple[Reader, ...] = ()
    leaves: tuple[DeviceId, ...] = ()
    welcome: bytes | None = None
    welcome_kind: int = 0
    welcome_priority: int = 0


class Receipt(Struct, frozen=True, kw_only=True):
    """The effect of an entry that confirms the staged Commit ``commit`` (its sequence number)."""

    commit: int


class Void(Struct, frozen=True, kw_only=True):
    """The effect of an entry that discards the staged Commit ``commit`` (its sequence number)."""

    commit: int


class Fact(Struct, frozen=True, kw_only=True):
    """One row of what the front keeps beside the logs (directory, policies), opaque to the store.

    Attributes:
        key: Name within the organisation, 1 to 255 bytes.
        value: At most ``BODY_BYTES_MAX`` bytes; ``None`` removes the fact.
    """

    key: bytes
    value: bytes | None


class Append(Struct, frozen=True, kw_only=True, gc=False):
    """A request to append one entry.

    Attributes:
        log: The log, which must exist.
        sender: The authenticated device, or ``RELAY``.
        message_id: The sender's counter, 1 to ``NUMBER_MAX``; 0 only for ``RELAY``.
        at_ms: Wall-clock time in ms since the epoch, shown to readers; decides nothing.
        kind: 0 to 255, opaque: the protocol's ``EntryKind``.
        priority: 0 to ``PRIORITY_MAX``, higher is more urgent; opaque otherwise.
        body: At most ``BODY_BYTES_MAX`` bytes.
        epoch: The MLS epoch of a message or Commit; ``None`` for whatever belongs to no epoch.
        effect: What the entry does beside being there; ``None`` for a message.
        expires: ``False``, in an inbox alone, for what must wait however long: a wipe order.
        facts: Changed in the same transaction.
    """

    log: LogKey
    sender: DeviceId
    message_id: int
    at_ms: int
    kind: int
    priority: int
    body: bytes
    epoch: int | None = None
    effect: Commit | Receipt | Void | None = None
    expires: bool = True
    facts: tuple[Fact, ...] = ()


class Appended(Struct, frozen=True, kw_only=True, gc=False):
    """The answer to an append.

    Attributes:
        seq: The entry's sequence number.
        prev: Its predecessor's, 0 for the first.
        repeat: Whether the entry was there before: deliver nothing again.
        inboxes: For a Commit with a Welcome, each joining device's inbox entry number.
    """

    seq: int
    prev: int
    repeat: bool = False
    inboxes: tuple[tuple[DeviceId, int], ...] = ()


class Entry(Struct, frozen=True, kw_only=True):
    """An entry as a reader gets it.

    Attributes:
        seq: Its sequence number.
        prev: Its predecessor's; a reader that does not have that one sees a hole.
        kind: The ``kind`` of the append.
        state: Whether it stands.
        sender: The device that appended it, or ``RELAY``; for a Welcome, who sent the Commit.
        message_id: The sender's number.
        at_ms: The ``at_ms`` of the append.
        priority: The ``priority`` of the append.
        epoch: The ``epoch`` of the append.
        body: The bytes of the append, verified; empty where ``state`` says that they are gone.
    """

    seq: int
    prev: int
    kind: int
    state: EntryState
    sender: DeviceId
    message_id: int
    at_ms: int
    priority: int
    epoch: int | None
    body: bytes


class Page(Struct, frozen=True, kw_only=True):
    """What one read gave, in order.

    Attributes:
        entries: At least one where there is one to read, however large.
        damaged: Numbers in the range read whose bytes failed their checksum: quarantined, ask the
            archive. They are acknowledged like any other.
        last: The number up to which this page is complete.
        more: Whether the reader has entries behind ``last``.
    """

    entries: tuple[Entry, ...]
    damaged: tuple[int, ...]
    last: int
    more: bool


class Pending(Struct, frozen=True, kw_only=True):
    """A log in which a device has something to fetch, or which it has lost.

    Attributes:
        log: The log.
        cursor: The last number the device has acknowledged.
        head: The last number that it may read.
        waiting: Entries held behind ``cursor``; numbers have gaps and do not count them.
        priority: The highest priority among what is pending.
        lapsed: The device's cursor expired: it must be removed and added again.
    """

    log: LogKey
    cursor: int
    head: int
    waiting: int
    priority: int
    lapsed: bool


class Lapsed(Struct, frozen=True, kw_only=True):
    """A reader that lost its cursor at ``cursor`` because it did not fetch in time."""

    log: LogKey
    device: DeviceId
    cursor: int


class Head(Struct, frozen=True, kw_only=True):
    """Where a log stands.

    Attributes:
        seq: The last sequence number given.
        epoch: The open epoch.
        staged: The number of the Commit that awaits its receipt, or ``None``.
        ends: The epoch that this Commit ends, or ``None``: ``epoch``, unless the store was restored
            and its members knew of a later one.
        entries: Entries held.
        held_bytes: Bytes of their bodies, without Welcomes.
    """

    seq: int
    epoch: int
    staged: int | None
    entries: int
    held_bytes: int
    ends: int | None = None


class Change(Struct, Generic[T], frozen=True):
    """What ``Store.change`` does, as a value: an engine that has replicas sends it to them.

    Raises, by ``Store.change``:
        LimitError: An identifier, epoch or number of readers is out of range.
        AwaitingArchiveError: The store was restored; no change is made but ``AdoptLog``,
            ``PutFacts`` and ``BeginServing``.
        StoreFullError: There is no room.
        StoreFailedError: The disk failed.
    """


class CreateLog(Change[Head], frozen=True):
    """Make a log, or give the head of the one that exists, unchanged."""

    log: LogKey
    epoch: int = 0
    readers: Sequence[Reader] = ()


class ChangeReaders(Change[None], frozen=True):
    """Add readers and end others at once, outside any Commit.

    Raises: UnknownLogError where there is no such log.
    """

    log: LogKey
    add: Sequence[Reader] = ()
    end: Sequence[DeviceId] = ()


class EndDevice(Change[None], frozen=True):
    """End a device's cursors at once in all logs but its inbox, where its wipe order waits."""

    organisation: OrganisationId
    device: DeviceId


class RemoveLog(Change[None], frozen=True):
    """Delete a log with all that it holds; no effect where there is none.

    Attributes:
        log: The log.
        unused: Only one to which nothing was ever appended.
    """

    log: LogKey
    unused: bool = False


class Expire(Change[Sequence[Lapsed]], frozen=True, kw_only=True):
    """Let go of what nobody fetched for ``after_ms``; asked for about once a minute.

    Age is counted on the store's own clock: the monotonic one while it runs, and across a stop the
    wall clock's difference, never negative and never more than ``STOP_MS_MAX``. So a wall clock
    that jumps deletes nothing early; at worst something stays longer.

    Gives the readers that lost their cursors by this; ``Store.pending`` goes on telling them.
    """

    after_ms: int
    wall_ms: int
    monotonic_ms: int


class PutFacts(Change[None], frozen=True):
    """Change facts together, outside any append."""

    organisation: OrganisationId
    facts: Sequence[Fact]


class AdoptLog(Change[Head], frozen=True):
    """Take over what the archive knows of a log, after a restore or damage.

    Numbers go on behind the greater of ``last`` and our own last; an epoch beyond ours discards a
    Commit that was staged here. Cursors that stay keep their place, new ones start at the head.
    Where our own epoch is the later one, the readers are those that are here.
    """

    log: LogKey
    last: int
    epoch: int
    readers: Sequence[Reader]


class BeginServing(Change[None], frozen=True):
    """Begin to serve, once every log and order has been fed in.

    Numbers go on in a new *generation*, beyond all that the lost store can have given: see
    ``GENERATION_BITS``. The first entry of a log after that names as its predecessor the last one
    that is known here, so a reader that was ahead of this store misses nothing that comes.

    Attributes:
        wall_ms: Wall-clock time in ms since the epoch; of two restores the later must have the
            later time, or be of a store that knows of the earlier.
    """

    wall_ms: int


class StoreError(Exception):
    """Base of what a store raises."""


class RefusedError(StoreError):
    """The request cannot be granted as the log stands; the sender's to mend."""


class UnknownLogError(RefusedError):
    """There is no such log, or the device does not read it: the two are answered alike."""

    def __init__(self) -> None:
        super().__init__("no such log")


class LimitError(RefusedError):
    """A request breaks a limit of this module.

    Attributes:
        field: The field of the request.
    """

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} is out of range")
        self.field = field


class StaleEpochError(RefusedError):
    """A message or Commit of an epoch that is not open, or a Commit that lost its epoch.

    Attributes:
        epoch: The epoch that is open.
        winner: The number of the Commit that won the request's epoch; ``None`` where that is not
            known any more or has not happened: read the log.
    """

    def __init__(self, epoch: int, winner: int | None) -> None:
        super().__init__(f"epoch {epoch} is open")
        self.epoch = epoch
        self.winner = winner


class NotStagedError(RefusedError):
    """A receipt or void names a Commit that is not the staged one.

    Attributes:
        staged: The number of the staged Commit, or ``None``.
    """

    def __init__(self, staged: int | None) -> None:
        super().__init__("that commit is not staged")
        self.staged = staged


class MessageIdError(RefusedError):
    """A message number before the window of repeats, or one used for another log.

    Attributes:
        lowest: The lowest number that the store can judge for this device.
    """

    def __init__(self, lowest: int) -> None:
        super().__init__("the message number is used or too old")
        self.lowest = lowest


class StoreFullError(StoreError):
    """No room on the disk: nothing was written; ask again later."""

    def __init__(self) -> None:
        super().__init__("no room on the disk")


class StoreFailedError(StoreError):
    """The disk or database failed: whether the request took effect is learnt by repeating it."""

    def __init__(self) -> None:
        super().__init__("the store failed")


class StoreInUseError(StoreError):
    """Another process has the store open: two would each give the same numbers."""

    def __init__(self) -> None:
        super().__init__("another process has the store open")


class DamagedError(StoreError):
    """Bytes on the disk are not those that were written.

    Attributes:
        where: The table or file, never its content.
    """

    def __init__(self, where: str) -> None:
        super().__init__(f"{where} is damaged")
        self.where = where


class AwaitingArchiveError(StoreError):
    """The store was restored, or cannot trust its own end: the archive must be asked first."""

    def __init__(self) -> None:
        super().__init__("the archive must be asked first")


Answer = Appended | StoreError
"""What became of an append."""


class Store(Protocol):
    """Logs with cursors. Made for one event loop; the plain methods answer from memory."""

    @property
    def awaiting_archive(self) -> bool:
        """Whether the archive must be asked first: until then nearly all is refused."""

    def change(self, change: Change[T]) -> Awaitable[T]:
        """Make a change of logs, readers or facts, and give what came of it once it is durable.

        Raises: as ``Change`` and the change's own class say.
        """

    @property
    def was_restored(self) -> bool:
        """Whether it ever began again from a backup, and may lack what it once had."""

    def submit(self, requests: Sequence[Append], done: Callable[[list[Answer]], None]) -> None:
        """Append entries, each with all its effects, and call ``done`` once all are durable.

        A sender that had everything before its entry has passed the entry too: it holds what it
        sent, and a repeat gets the first answer. The requests share a batch but not a fate: each is
        granted or refused by itself. Appends to one log take numbers in the order of the calls.
        ``done`` runs on the event loop and gets the answers in the order of ``requests``; a refusal
        is given, not raised:

            UnknownLogError: There is no such log, or a joining device has no inbox.
            LimitError: A field is out of range.
            StaleEpochError: The epoch is not open, or another Commit has won it.
            NotStagedError: The receipt or void does not name the staged Commit.
            MessageIdError: The number is before the window, or was used for another log.
            DamagedError: The log's own state failed its checksum: ``AdoptLog`` mends it.
            AwaitingArchiveError: The store was restored.
            StoreFullError: There is no room.
            StoreFailedError: The disk failed.
        """

    async def append(self, request: Append) -> Appended:
        """Append one entry.

        Raises: what ``submit`` gives.
        """

    def acknowledge(self, log: LogKey, device: DeviceId, seq: int) -> int | None:
        """Move a cursor forward to ``seq``; what all have passed is deleted at once.

        Never moves back, never beyond the log's head; an unknown log or reader is ignored, as a
        device may acknowledge what it was removed from. Nothing is waited for: it becomes durable
        within a tenth of a second, and one that a crash undoes only means that the device is
        offered the entry again.

        Returns:
            Where the cursor stands, if ``seq`` is a number that no entry ever had, also before a
            restore: then nothing moves, as whoever says so cannot have read what is here.
        """

    async def settle(self) -> None:
        """Return once everything asked before is durable, acknowledgements included.

        Raises:
            StoreFullError: There was no room.
            StoreFailedError: The disk failed.
        """

    async def read(
        self, log: LogKey, device: DeviceId, *, after: int, entries_max: int, bytes_max: int
    ) -> Page:
        """Give the device's entries behind number ``after``, in order.

        Args:
            log: The log.
            device: A reader of it; one whose cursor has ended reads no further than its end.
            after: The last number that the device has; never read before its cursor.
            entries_max: Most entries wanted, at least 1.
            bytes_max: Most bytes of bodies wanted; the first entry is given whatever its size.

        Raises:
            UnknownLogError: There is no such log, or the device does not read it.
            DamagedError: The log's own state failed its checksum.
            AwaitingArchiveError: The store was restored.
            StoreFailedError: The disk failed.
        """

    def pending(self, organisation: OrganisationId, device: DeviceId) -> Sequence[Pending]:
        """Give the logs in which the device has something to fetch: inbox, then by priority."""

    def head(self, log: LogKey) -> Head | None:
        """Tell where a log stands, or ``None`` where there is none."""

    def last_id(self, organisation: OrganisationId, device: DeviceId) -> int:
        """Give the highest message number seen of a device, 0 for none."""

    def readers(self, log: LogKey) -> Collection[DeviceId]:
        """Give a live view of those whom the log's next entry is for; empty for no such log."""

    async def facts(
        self, organisation: OrganisationId, prefix: bytes = b""
    ) -> Mapping[bytes, bytes]:
        """Give the facts of an organisation whose keys begin with ``prefix``, verified.

        Raises:
            DamagedError: A fact failed its checksum.
            StoreFailedError: The disk failed.
        """

    async def backup(self, target: Path) -> None:
        """Write a consistent copy to ``target`` while serving; opened, it awaits the archive.

        Raises:
            StoreFullError: There is no room.
            StoreFailedError: The disk failed.
        """

    async def close(self) -> None:
        """Make everything asked before durable and let go of the files."""


GENERATION_BITS = 32
"""A number's lower bits count entries, the upper ones are a generation: 0 for a store that was
never restored, the minute of its restore for another. No log gives 2**32 numbers a minute, so a
generation is beyond whatever an earlier one can have come to, however old the backup was."""

GENERATION_MS = 60_000
"""One generation's step, in ms."""

GENERATION_MAX = (1 << (63 - GENERATION_BITS)) - 1
"""Last generation: some four thousand years from the epoch."""

STOP_MS_MAX = 24 * 3600 * 1000
"""Most that one stop of the relay ages its entries, in ms: a wrong clock at start costs a day."""
