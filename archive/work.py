"""What a batch of entries leads to, on its way into one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from archive.batch import Entry
from archive.index import EpochPlace, Followed, Index, Place
from archive.intray import taken
from archive.live import Live, Untold, Verdict
from archive.log import MAX_BATCH, Log, Recorded
from archive.roster import Roster
from client.followed import View
from client.rules import Demand
from crypto.mls import KeyPackageSecrets
from protocol.identifiers import ConversationId, DeviceId, LogId, UserName

ROOM = 8
"""Records that one entry may lead to: a Commit, its keys, roster, evidence, and what came with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One record to be.

    Attributes:
        entry: What is recorded.
        sequence: Its number in its conversation's log, 0 for the archive's own.
        sent_ms: When the relay took it in, or now.
        tell: The device that is told once it is archived.
        reseals: Whether it takes the place of an epoch's sealed keys.
        log: The relay's log that it stands in, for what belongs to no conversation.
    """

    entry: Entry
    sequence: int = 0
    sent_ms: int
    tell: DeviceId | None = None
    reseals: bool = False
    log: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """An epoch whose keys are sealed.

    Attributes:
        roster: Who is in it.
        keys_at: Place of its ``EPOCH_KEYS`` among the pieces.
        roster_at: Place of its ``ROSTER``.
        users: People who are in it.
        verdict: The signed receipt that waits for the keys; ``None`` where there is one already.
        began_ms: When it was sealed.
    """

    roster: Roster
    keys_at: int
    roster_at: int
    users: frozenset[str]
    verdict: bytes | None = field(repr=False)
    began_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a ``Work`` was: lists only grow, so their lengths say it.

    Attributes:
        lengths: Of its lists.
        copies: Of everything else.
    """

    lengths: tuple[int, ...]
    copies: tuple[Any, ...] = field(repr=False)


@dataclass(kw_only=True)
class Work:
    """Everything that one transaction will change; nothing of it is in force before.

    Attributes:
        pieces: Records.
        views: Conversations, after.
        followed: How far logs were taken in.
        sealed: Epochs whose keys were sealed.
        voids: A Commit's void by conversation, with the place of its evidence.
        settled: Conversations whose Commit was decided.
        officer_keys: Officer, bucket, public key, and when it was issued.
        patients: Reference and conversation.
        attachments: The relay's name of an upload, and its conversation.
        packages: Key packages that were used.
        answered: Message ids of the recorder's own that were answered.
        taken: Entries of the intray, and their place among the pieces.
        letters: Official content: where, its sender, one letter, when it came.
        bereft: People who left a conversation for one reason alone: no device of theirs stands.
        let_in: Requests and commands that were followed, and are not followed again.
        wanted: Recorded messages of which their senders asked for a proof anew.
    """

    pieces: list[Piece] = field(default_factory=list)
    views: dict[ConversationId, View] = field(default_factory=dict)
    followed: dict[LogId, Followed] = field(default_factory=dict)
    sealed: list[Sealed] = field(default_factory=list)
    voids: dict[ConversationId, tuple[bytes, int]] = field(default_factory=dict)
    settled: set[ConversationId] = field(default_factory=set)
    officer_keys: list[tuple[str, bytes, bytes, int]] = field(default_factory=list)
    patients: list[tuple[str, bytes]] = field(default_factory=list)
    attachments: list[tuple[str, bytes]] = field(default_factory=list)
    packages: list[KeyPackageSecrets] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    taken: list[tuple[int, int]] = field(default_factory=list)
    letters: list[tuple[ConversationId, DeviceId, bytes, int]] = field(default_factory=list)
    bereft: list[tuple[UserName, ConversationId]] = field(default_factory=list)
    let_in: list[Demand] = field(default_factory=list)
    wanted: list[Untold] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        """Whether one entry more might not go into the transaction."""
        return len(self.pieces) > MAX_BATCH - ROOM

    def mark(self) -> Mark:
        """Return a place to go back to where the next entry breaks off halfway."""
        lengths = tuple(len(getattr(self, name)) for name in _LISTS)
        return Mark(lengths=lengths, copies=tuple(copy(getattr(self, name)) for name in _OTHERS))

    def go_back(self, mark: Mark) -> None:
        """Undo what was added since ``mark``."""
        for name, length in zip(_LISTS, mark.lengths, strict=True):
            del getattr(self, name)[length:]
        for name, value in zip(_OTHERS, mark.copies, strict=True):
            setattr(self, name, value)

    def add(self, piece: Piece) -> int:
        """Add a record; return its place."""
        self.pieces.append(piece)
        return len(self.pieces) - 1


_OTHERS = ("views", "followed", "voids", "settled")
_LISTS = tuple(name for name in Work.__dataclass_fields__ if name not in _OTHERS)


def commit(work: Work, *, log: Log, index: Index, live: Live, now_ms: int) -> None:
    """Make all of it durable in one transaction, or nothing.

    Raises:
        ArchiveError: Nothing has changed.
        HistoryError: The log does not continue what was signed.
    """
    entries = [piece.entry for piece in work.pieces]
    try:
        with log.recording(entries, now_ms=now_ms) as recorded:
            _index(work, index, recorded)
            _keep(work, live, recorded)
            for number, place in work.taken:
                taken(log.store, number, recorded.indices[place])
    except BaseException:
        live.forget_memory()
        raise
    live.remember(work.views.values())


def _index(work: Work, index: Index, recorded: Recorded) -> None:
    index.add_places(_places(work, recorded))
    for one in work.sealed:
        place = EpochPlace(
            epoch=one.roster.epoch,
            keys=recorded.indices[one.keys_at],
            roster=recorded.indices[one.roster_at],
            began_ms=one.began_ms,
        )
        index.add_epoch(one.roster, place, users=one.users)
    for piece, at in zip(work.pieces, recorded.indices, strict=True):
        if piece.reseals:
            index.reseal(piece.entry.group_id, piece.entry.epoch, keys=at)
    for officer, bucket, public_key, issued_ms in work.officer_keys:
        index.add_officer_key(officer, bucket, public_key, issued_ms=issued_ms)
    for reference, group_id in work.patients:
        index.add_patient(reference, group_id)
    for blob, group_id in work.attachments:
        index.add_attachment(blob, group_id)
    index.follow(work.followed)


def _places(work: Work, recorded: Recorded) -> Mapping[bytes, list[Place]]:
    places: dict[bytes, list[Place]] = {}
    for piece, at in zip(work.pieces, recorded.indices, strict=True):
        entry = piece.entry
        name = entry.group_id or piece.log
        if name:
            place = Place(
                index=at,
                type=entry.type,
                epoch=entry.epoch,
                sequence=piece.sequence,
                sent_ms=piece.sent_ms,
            )
            places.setdefault(name, []).append(place)
    return places


def _keep(work: Work, live: Live, recorded: Recorded) -> None:
    for view in work.views.values():
        live.save(view)
    for conversation in work.settled:
        live.drop_verdicts(conversation)
    for verdict in _verdicts(work, recorded):
        live.put_verdict(verdict)
    for own in work.packages:
        live.use_package(own)
    for message_id in work.answered:
        live.drop_outbox(message_id)
    live.add_untold((*_untold(work, recorded), *work.wanted))
    for user, conversation in work.bereft:
        live.add_bereft(user, conversation)
    for demand in work.let_in:
        live.add_let_in(demand)


def _verdicts(work: Work, recorded: Recorded) -> Iterator[Verdict]:
    for one in work.sealed:
        if one.verdict is not None:
            yield Verdict(
                conversation=ConversationId(one.roster.group_id),
                statement=one.verdict,
                index=recorded.indices[one.keys_at],
            )
    for conversation, (statement, place) in work.voids.items():
        yield Verdict(conversation=conversation, statement=statement, index=recorded.indices[place])


def _untold(work: Work, recorded: Recorded) -> Iterator[Untold]:
    """Yield messages to be told of; one that was recorded before was told of then."""
    for piece, at in zip(work.pieces, recorded.indices, strict=True):
        salt = recorded.salts.get(at)
        if piece.tell is not None and salt is not None:
            yield Untold(
                index=at,
                device=piece.tell,
                conversation=ConversationId(piece.entry.group_id),
                sequence=piece.sequence,
                salt=salt,
            )
