"""From the logs to the connections: live to those that keep up, by cursor to those that do not.

An entry is encoded and headed once and the same bytes are written to every connected reader. A
connection that is slow, or has just come, is *behind* on a log: nothing is queued for it, it reads
pages from its cursor until it stands at the head, and is live again from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from crypto.errors import DecodeError
from crypto.statement import StatementType, statement_type
from protocol import frames
from protocol.errors import Code
from protocol.frames import Attention, Deliver, EntryKind
from protocol.identifiers import DeviceId, LogId, OrganisationId, UserName, inbox_log, user_of
from protocol.inbox import ItemKind, decode_item
from protocol.routing import is_application
from server.access import Given
from server.attention import ALERT, Notice, Word
from server.store import Entry, EntryState, LogKey, Store, StoreError
from server.transport import add, head

if TYPE_CHECKING:
    from server.connection import Connection

PAGE_ENTRIES = 128
"""Entries read at once for one connection: enough that the read's cost is shared, few enough that
a thousand connections that come back at once take turns."""

PAGE_BYTES = 128 * 1024
"""Bytes of bodies read at once, half of what a socket may hold unsent."""

_STATES = {EntryState.VOIDED: EntryKind.VOIDED, EntryState.EXPIRED: EntryKind.EXPIRED}


class Words(Protocol):
    """How an entry may reach whoever gets it."""

    def common_word(self, key: LogKey, notice: Notice) -> Word | None:
        """Return it for one that has just come, where it is the same for all readers."""

    def word(self, connection: Connection, notice: Notice) -> Word:
        """Return it for one that has just come into a conversation, and one reader."""

    def late_words(
        self, connection: Connection, log: LogId, entries: Sequence[Entry]
    ) -> Sequence[Word]:
        """Return it for each of those that are read from a log."""


class Delivery:
    """Who is connected, and what each of them gets.

    Attributes:
        delivered: Entries sent so far, for the metrics.
        damaged: Entries that could not be sent because their bytes failed their checksum.
    """

    def __init__(self, store: Store, words: Words) -> None:
        self._store = store
        self._connected: dict[OrganisationId, dict[DeviceId, Connection]] = {}
        self._held: dict[LogKey, frozenset[DeviceId]] = {}
        self._of_user: dict[tuple[OrganisationId, UserName], set[Connection]] = {}
        self._words = words
        self.delivered = 0
        self.damaged = 0

    def of_user(self, organisation: OrganisationId, user: UserName) -> list[Connection]:
        """Return the connections of a person's devices."""
        return list(self._of_user.get((organisation, user), ()))

    def connection(self, organisation: OrganisationId, device: DeviceId) -> Connection | None:
        """Return a device's connection, where it has one."""
        return self._connected.get(organisation, {}).get(device)

    def connections(self, organisation: OrganisationId) -> list[Connection]:
        """Return an organisation's connections."""
        return list(self._connected.get(organisation, {}).values())

    def everybody(self) -> list[Connection]:
        """Return all connections."""
        return [connection for place in self._connected.values() for connection in place.values()]

    def join(self, connection: Connection) -> None:
        """Take a proved connection in; an older one of the same device is closed."""
        place = self._connected.setdefault(connection.organisation.id, {})
        older = place.get(connection.device_id)
        place[connection.device_id] = connection
        name = (connection.organisation.id, user_of(connection.device_id))
        self._of_user.setdefault(name, set()).add(connection)
        if older is not None and older is not connection:
            older.close(Code.REPLACED)

    def leave(self, connection: Connection) -> None:
        """Let a connection go."""
        place = self._connected.get(connection.organisation.id, {})
        if place.get(connection.device_id) is connection:
            del place[connection.device_id]
        name = (connection.organisation.id, user_of(connection.device_id))
        others = self._of_user.get(name, set())
        others.discard(connection)
        if not others:
            self._of_user.pop(name, None)

    def hold(self, key: LogKey, devices: Iterable[DeviceId]) -> None:
        """Hold a log back from those whom a staged Commit adds or removes, until its verdict.

        Who is removed has its cursor end at the Commit: what is sent before the receipt is theirs
        only if the Commit is voided. Who joins begins at the receipt, and is a reader from the
        moment at which that is on its way to the disk, while messages before it still are too.
        """
        held = frozenset(devices)
        if held:
            self._held[key] = held

    def release(self, key: LogKey) -> None:
        """End what ``hold`` began; whoever still reads the log catches up."""
        for device in self._held.pop(key, ()):
            connection = self.connection(key.organisation, device)
            if connection is not None:
                connection.catch_up()

    def is_held(self, key: LogKey, device: DeviceId) -> bool:
        """Tell whether a log's entries are held back from a device."""
        held = self._held.get(key)
        return held is not None and device in held

    def publish(self, key: LogKey, entry: Deliver, *, sender: DeviceId, notice: Notice) -> None:
        """Send a new entry to every connected reader of its log but its sender.

        Args:
            key: The log.
            entry: The entry.
            sender: Who appended it and has it already; empty for the relay.
            notice: Whom it may disturb, and what locked devices get in its stead.
        """
        connected = self._connected.get(key.organisation)
        if not connected:
            return
        held = self._held.get(key, ())
        # One encoding for each answer that occurs: whoever is alerted, whoever is not, and those
        # for whom it is held until the same shift.
        variants: dict[Word, bytes] = {}
        word, headed = None, b""
        common = self._words.common_word(key, notice)
        for device in self._store.readers(key):
            connection = connected.get(device)
            if connection is None or device == sender:
                continue
            if device in held:
                connection.fall_behind(key.id, entry.predecessor)
                continue
            said = common or self._words.word(connection, notice)
            if said is not word:
                word = said
                headed = variants.get(said) or variants.setdefault(said, _headed(entry, said))
            if connection.keeps_up:
                connection.stream.write(headed)
                self.delivered += 1
            else:
                connection.offer(entry, headed, ring=notice.ring if said == ALERT else None)

    def hand(self, connection: Connection, entry: Deliver, headed: bytes, *, given: Given) -> None:
        """Write an entry to one reader, as much of it as they are given.

        Args:
            connection: The reader's.
            entry: The entry.
            headed: The same, encoded for this reader.
            given: How much they get of its log.
        """
        less = entry if given is Given.ALL else withheld(entry)
        connection.stream.write(headed if less is entry else head(frames.encode(less)))
        self.delivered += 1

    def nudge(self, organisation: OrganisationId, devices: Iterable[DeviceId]) -> None:
        """Let connected devices look into their inboxes."""
        for device in devices:
            connection = self.connection(organisation, device)
            if connection is not None:
                connection.look_into_inbox()

    async def page(self, connection: Connection, log: LogId) -> None:
        """Send one page of a log that a connection is behind on."""
        key = LogKey(connection.organisation.id, log)
        connection.missed.discard(log)
        after = connection.behind[log]
        try:
            page = await self._store.read(
                key,
                connection.device_id,
                after=after,
                entries_max=PAGE_ENTRIES,
                bytes_max=PAGE_BYTES,
            )
        except StoreError:
            connection.behind.pop(log, None)
            return
        # A policy that came meanwhile holds for what was read before it, too.
        if connection.closed or connection.given(log) is Given.NOTHING:
            return
        self.damaged += len(page.damaged)
        self._send(connection, log, page.entries)
        if page.more or log in connection.missed:
            # Unless it was set back meanwhile, because the peer was let in again.
            if connection.behind.get(log) == after:
                connection.behind[log] = page.last
            await asyncio.sleep(0)
            return
        connection.caught_up(log, page.last)

    def _send(self, connection: Connection, log: LogId, entries: Iterable[Entry]) -> None:
        everything = connection.reads_inbox
        wanted = [entry for entry in entries if everything or is_order(entry)]
        if not wanted:
            return
        written, whole = bytearray(), connection.given(log) is Given.ALL
        for entry, word in zip(
            wanted, self._words.late_words(connection, log, wanted), strict=True
        ):
            frame = _frame(log, entry, word)
            add(written, frame if whole else withheld(frame))
        connection.stream.write(written)
        self.delivered += len(wanted)

    def positions(self, connection: Connection) -> dict[LogId, int]:
        """Return where a connection stands in every log that has something for it.

        In the order in which they are sent: its inbox, then by the highest pending priority.
        """
        inbox = inbox_log(connection.device_id)
        places: dict[LogId, int] = {inbox: 0}
        for pending in self._store.pending(connection.organisation.id, connection.device_id):
            if pending.lapsed:
                connection.ended(pending.log.id, Code.EXPIRED)
            elif pending.log.id == inbox or connection.is_open:
                places[pending.log.id] = pending.cursor
        return places


def is_order(entry: Entry) -> bool:
    """Tell whether an entry of an inbox is a wipe order."""
    if entry.kind != EntryKind.MESSAGE:
        return False
    try:
        item = decode_item(entry.body)
        ordered = item.kind is ItemKind.STATEMENT
        return ordered and statement_type(item.body) is StatementType.WIPE_ORDER
    except DecodeError:
        return False


def withheld(entry: Deliver) -> Deliver:
    """Return an entry for who may not have what is said: of a message, that there was one.

    What changes keys stays whole, or its reader would be out of step on the day on which it may
    read again; and nobody is alerted to what they cannot read.
    """
    if entry.kind != EntryKind.MESSAGE or not is_application(entry.body):
        return entry
    return msgspec.structs.replace(
        entry, kind=EntryKind.WITHHELD, body=b"", attention=Attention.SILENT, until_ms=0
    )


def _headed(entry: Deliver, word: Word) -> bytes:
    if word is not ALERT:
        attention, until_ms = word
        entry = msgspec.structs.replace(entry, attention=attention, until_ms=until_ms)
    return head(frames.encode(entry))


def _frame(log: LogId, entry: Entry, word: Word) -> Deliver:
    attention, until_ms = word
    return Deliver(
        log=log,
        sequence=entry.seq,
        predecessor=entry.prev,
        at_ms=entry.at_ms,
        kind=_STATES.get(entry.state, entry.kind),
        body=entry.body,
        attention=attention,
        until_ms=until_ms,
    )
