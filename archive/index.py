"""The index of the log: where a conversation's records, a person's epochs, a patient's chats are.

It stands in the log's encrypted database and is written in the transaction of the records that it
finds. It can be made anew from them, but for patients: their references are inside what only the
officers open, so that no more than a keyed tag of them is kept.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from archive.record import RecordType
from archive.roster import Roster
from archive.segment import Officer
from archive.store import Store
from protocol.group_context import GUESTS_VERSION, WardlineContext
from protocol.identifiers import DeviceId, LogId

_PATIENT_LABEL = b"Wardline 1 patient tag"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one of a conversation's records is.

    Attributes:
        index: In the log.
        type: What it is about.
        epoch: MLS epoch, 0 where there is none.
        sequence: Number in the conversation's log at the relay, 0 for the archive's own.
        sent_ms: When the relay took it in; for the archive's own, when it was recorded.
    """

    index: int
    type: RecordType
    epoch: int
    sequence: int
    sent_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochPlace:
    """Where an epoch's sealed keys and roster are.

    Attributes:
        epoch: Which.
        keys: Index of its ``EPOCH_KEYS`` record.
        roster: Index of its ``ROSTER`` record.
        began_ms: When it was recorded.
    """

    epoch: int
    keys: int
    roster: int
    began_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """How far a log of the relay's has been recorded: what a restored relay is told.

    Attributes:
        through: Last sequence number.
        epoch: MLS epoch that has a receipt.
        readers: Devices with a cursor there.
    """

    through: int
    epoch: int = 0
    readers: tuple[DeviceId, ...] = field(default=(), repr=False)


_WITH_GUESTS = bytes([GUESTS_VERSION])


def first_end(context: WardlineContext) -> int:
    """Return when the first guest's time is over, in ms; a context has guests."""
    return min(guest.until_ms for guest in context.guests)


class Index:
    """The index of one open store; what changes it is called inside the store's transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # Conversations.

    def conversations(self) -> dict[bytes, WardlineContext]:
        """Return every conversation's settings, by group id."""
        rows = self._store.rows("SELECT group_id, value FROM context")
        return {group_id: WardlineContext.decode(value) for group_id, value in rows}

    def places(
        self, group_id: bytes, *, from_ms: int = 0, until_ms: int = (1 << 62)
    ) -> list[Place]:
        """Return a conversation's records of a period, by when they were sent.

        Args:
            group_id: The conversation.
            from_ms: First instant.
            until_ms: The instant at which the period ends, not in it.
        """
        rows = self._store.rows(
            "SELECT idx, type, epoch, sequence, sent_ms FROM place "
            "WHERE group_id=? AND sent_ms>=? AND sent_ms<? ORDER BY sent_ms, idx",
            group_id,
            from_ms,
            until_ms,
        )
        return [
            Place(index=index, type=RecordType(kind), epoch=epoch, sequence=number, sent_ms=at_ms)
            for index, kind, epoch, number, at_ms in rows
        ]

    def add_places(self, places: Mapping[bytes, Iterable[Place]]) -> None:
        """Note records of conversations, by group id; a repeat changes nothing."""
        self._store.change_many(
            "INSERT OR IGNORE INTO place VALUES(?,?,?,?,?,?)",
            [
                (one.index, group_id, int(one.type), one.epoch, one.sequence, one.sent_ms)
                for group_id, found in places.items()
                for one in found
            ],
        )

    def epochs(self, group_id: bytes) -> list[EpochPlace]:
        """Return a conversation's sealed epochs in order."""
        rows = self._store.rows(
            "SELECT epoch, keys_idx, roster_idx, began_ms FROM epoch WHERE group_id=? "
            "ORDER BY epoch",
            group_id,
        )
        return [
            EpochPlace(epoch=epoch, keys=keys, roster=roster, began_ms=at_ms)
            for epoch, keys, roster, at_ms in rows
        ]

    def spoken(self, group_id: bytes) -> set[int]:
        """Return the epochs of a conversation in which there is a message."""
        query = "SELECT DISTINCT epoch FROM place WHERE group_id=? AND type=?"
        return {row[0] for row in self._store.rows(query, group_id, int(RecordType.MESSAGE))}

    def began_ms(self, group_id: bytes, epoch: int) -> int | None:
        """Return when an epoch was sealed, or ``None`` where it was not."""
        query = "SELECT began_ms FROM epoch WHERE group_id=? AND epoch=?"
        rows = self._store.rows(query, group_id, epoch)
        return int(rows[0][0]) if rows else None

    def context(self, group_id: bytes) -> WardlineContext | None:
        """Return a conversation's settings, or ``None`` where it has no sealed epoch."""
        rows = self._store.rows("SELECT value FROM context WHERE group_id=?", group_id)
        return WardlineContext.decode(rows[0][0]) if rows else None

    def visited(self) -> dict[bytes, int]:
        """Return the conversations with guests, and when the first one's time is over, in ms."""
        rows = self._store.rows(
            "SELECT group_id, value FROM context WHERE substr(value, 1, 1)=?", _WITH_GUESTS
        )
        return {group_id: first_end(WardlineContext.decode(value)) for group_id, value in rows}

    def add_epoch(self, roster: Roster, place: EpochPlace, *, users: Iterable[str]) -> None:
        """Note an epoch's sealed keys, its settings, and the people who were in it."""
        self._store.change(
            "REPLACE INTO epoch VALUES(?,?,?,?,?)",
            roster.group_id,
            place.epoch,
            place.keys,
            place.roster,
            place.began_ms,
        )
        self._store.change("REPLACE INTO context VALUES(?,?)", roster.group_id, roster.context)
        self._store.change_many(
            "INSERT OR IGNORE INTO member VALUES(?,?,?)",
            [(user, roster.group_id, roster.epoch) for user in sorted(set(users))],
        )

    def reseal(self, group_id: bytes, epoch: int, *, keys: int) -> None:
        """Note that an epoch's keys were shared anew, in another record."""
        self._store.change(
            "UPDATE epoch SET keys_idx=? WHERE group_id=? AND epoch=?", keys, group_id, epoch
        )

    def of_user(self, user: str) -> list[tuple[bytes, int]]:
        """Return group id and epoch of every epoch that a person was in."""
        query = "SELECT group_id, epoch FROM member WHERE user=? ORDER BY group_id, epoch"
        return [(group_id, epoch) for group_id, epoch in self._store.rows(query, user)]

    def of_patient(self, reference: str) -> list[bytes]:
        """Return the conversations about a patient."""
        query = "SELECT group_id FROM patient WHERE tag=? ORDER BY group_id"
        return [row[0] for row in self._store.rows(query, self._patient_tag(reference))]

    def add_patient(self, reference: str, group_id: bytes) -> None:
        """Note that a conversation is about a patient."""
        tag = self._patient_tag(reference)
        self._store.change("INSERT OR IGNORE INTO patient VALUES(?,?)", tag, group_id)

    def _patient_tag(self, reference: str) -> bytes:
        message = _PATIENT_LABEL + reference.encode()
        return hmac.digest(self._store.conversation_key, message, "sha256")

    def add_attachment(self, blob: str, group_id: bytes) -> None:
        """Note that a message names an attachment."""
        self._store.change("INSERT OR IGNORE INTO attachment VALUES(?,?,0)", blob, group_id)

    def unfetched(self, *, most: int) -> list[str]:
        """Return attachments that are still to be fetched, those never tried in vain first."""
        query = "SELECT blob FROM attachment WHERE fetched<=0 ORDER BY fetched DESC LIMIT ?"
        return [row[0] for row in self._store.rows(query, most)]

    def missed(self, blob: str) -> int:
        """Note that an attachment was tried in vain; return how often it was."""
        self._store.change("UPDATE attachment SET fetched=fetched-1 WHERE blob=?", blob)
        rows = self._store.rows("SELECT fetched FROM attachment WHERE blob=?", blob)
        return -int(rows[0][0]) if rows else 0

    def fetched(self, blob: str, *, gone: bool = False) -> None:
        """Note that an attachment is on the disk, or that the relay has it no more."""
        state = 2 if gone else 1
        self._store.change("UPDATE attachment SET fetched=? WHERE blob=?", state, blob)

    # Officers.

    def officers(self, bucket: bytes, among: Iterable[str]) -> list[Officer]:
        """Return those of ``among`` who have published a key for a bucket, in that order."""
        query = "SELECT officer, public_key FROM officer_key WHERE bucket=?"
        keys = dict(self._store.rows(query, bucket))
        return [
            Officer(name=user.encode("ascii"), public_key=keys[user])
            for user in among
            if user in keys
        ]

    def add_officer_key(
        self, officer: str, bucket: bytes, public_key: bytes, *, issued_ms: int
    ) -> None:
        """Keep an officer's key of a bucket, unless a newer one is there."""
        self._store.change(
            "INSERT INTO officer_key VALUES(?,?,?,?) ON CONFLICT DO UPDATE SET "
            "public_key=excluded.public_key, issued_ms=excluded.issued_ms "
            "WHERE excluded.issued_ms > officer_key.issued_ms",
            officer,
            bucket,
            public_key,
            issued_ms,
        )

    # The relay's logs.

    def followed(self) -> dict[LogId, Followed]:
        """Return how far each log of the relay's has been recorded."""
        rows = self._store.rows("SELECT log, through, epoch, readers FROM followed")
        return {
            LogId(log): Followed(through=through, epoch=epoch, readers=_names(readers))
            for log, through, epoch, readers in rows
        }

    def follow(self, logs: Mapping[LogId, Followed]) -> None:
        """Note how far logs have been recorded."""
        self._store.change_many(
            "REPLACE INTO followed VALUES(?,?,?,?)",
            [
                (log, known.through, known.epoch, "\n".join(known.readers).encode("ascii"))
                for log, known in logs.items()
            ],
        )


def _names(readers: bytes) -> tuple[DeviceId, ...]:
    return tuple(DeviceId(name) for name in readers.decode("ascii").split("\n") if name)
