"""The store as one would write it on paper: lists and dictionaries, nothing bounded or durable.

It stands behind the same interface, so that it serves as the model which the real one is compared
with and as the store of tests that are about something else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from msgspec.structs import astuple

from protocol.identifiers import CONTROL_LOG, DeviceId, OrganisationId, inbox_log
from server.store import (
    BODY_BYTES_MAX,
    GENERATION_BITS,
    GENERATION_MS,
    INBOX,
    REPEAT_WINDOW,
    STOP_MS_MAX,
    AdoptLog,
    Answer,
    Append,
    Appended,
    BeginServing,
    Change,
    ChangeReaders,
    Commit,
    CreateLog,
    EndDevice,
    Entry,
    EntryState,
    Expire,
    Fact,
    Head,
    Lapsed,
    LimitError,
    LogKey,
    MessageIdError,
    NotStagedError,
    Page,
    Pending,
    PutFacts,
    Reader,
    Receipt,
    RemoveLog,
    StaleEpochError,
    StoreError,
    UnknownLogError,
)
from server.upkeep import MARKS

T = TypeVar("T")


@dataclass
class Held:
    entry: Entry
    expires: bool = True
    born_ms: int | None = None


@dataclass
class Place:
    acked: int
    expires: bool
    until: int = 0
    resumes: int = 0
    lapsed: bool = False
    own: tuple[int, int] = (0, 0)

    @property
    def ends(self) -> bool:
        return bool(self.until and not self.resumes)


@dataclass
class MemoryLog:
    epoch: int
    head: int = 0
    winner: int = 0
    staged: tuple[int, Commit] | None = None
    ends: int | None = None
    references: list[tuple[DeviceId, int]] = field(default_factory=list)
    held: dict[int, Held] = field(default_factory=dict)
    places: dict[DeviceId, Place] = field(default_factory=dict)

    def set(self, seq: int, *, state: EntryState, empty: bool = False) -> None:
        if seq in self.held:
            entry = self.held[seq].entry
            body = b"" if empty else entry.body
            self.held[seq].entry = Entry(
                seq=entry.seq,
                prev=entry.prev,
                kind=entry.kind,
                state=state,
                sender=entry.sender,
                message_id=entry.message_id,
                at_ms=entry.at_ms,
                priority=entry.priority,
                epoch=entry.epoch,
                body=body,
            )


METHODS = {
    AdoptLog: "adopt",
    BeginServing: "resume",
    ChangeReaders: "change_readers",
    CreateLog: "create",
    EndDevice: "end_device",
    Expire: "expire",
    PutFacts: "put",
    RemoveLog: "remove",
}


class MemoryStore:
    """See ``server.store.Store``."""

    awaiting_archive = False
    was_restored = False

    def __init__(self) -> None:
        self.logs: dict[LogKey, MemoryLog] = {}
        self.answers: dict[
            tuple[OrganisationId, DeviceId], dict[int, tuple[MemoryLog, int, int]]
        ] = {}
        self.values: dict[tuple[OrganisationId, bytes], bytes] = {}
        self.age_ms = 0
        self.marked_ms: int | None = None
        self.wall_ms: int | None = None
        self.monotonic_ms: int | None = None
        self.floor = 0

    def after(self, last: int) -> int:
        return max(last + 1, self.floor)

    def submit(self, requests: Sequence[Append], done: Callable[[list[Answer]], None]) -> None:
        answers: list[Answer] = []
        for request in requests:
            try:
                answers.append(self.add(request))
            except StoreError as refusal:
                answers.append(refusal)
        asyncio.get_running_loop().call_soon(done, answers)

    async def append(self, request: Append) -> Appended:
        return self.add(request)

    def add(self, request: Append) -> Appended:
        log = self.log(request.log)
        if len(request.body) > BODY_BYTES_MAX:
            raise LimitError("body")
        answers = self.answers.setdefault((request.log.organisation, request.sender), {})
        last = max(answers, default=0)
        number = request.message_id
        if number and number <= last - REPEAT_WINDOW:
            raise MessageIdError(last - REPEAT_WINDOW + 1)
        if number and number in answers:
            answered, seq, prev = answers[number]
            # Not by its name: one that was removed and made again is another log.
            if answered is not log:
                raise MessageIdError(number + 1)
            return Appended(seq=seq, prev=prev, repeat=True)
        self.check(log, request)
        prev, seq = log.head, self.after(log.head)
        staged = isinstance(request.effect, Commit)
        self.hold(log, request, seq, state=EntryState.STAGED if staged else EntryState.EFFECTIVE)
        if number:
            answers[number] = (log, seq, prev)
        for fact in request.facts:
            self.change_fact(request.log.organisation, fact)
        inboxes = self.effect(log, request, seq)
        place = log.places.get(request.sender)
        if place:
            place.own = (place.own[0] if place.own[1] == prev and prev else prev, seq)
        if place and place.acked == prev:
            self.move(request.log, request.sender, seq)
        self.sweep(request.log)
        return Appended(seq=seq, prev=prev, inboxes=inboxes)

    def check(self, log: MemoryLog, request: Append) -> None:
        effect, epoch = request.effect, request.epoch
        staged = log.staged[0] if log.staged else None
        if isinstance(effect, Commit) and epoch is None:
            raise LimitError("epoch")
        later = (
            isinstance(effect, Commit)
            and epoch is not None
            and log.winner < self.floor
            and epoch > log.epoch > 0
        )
        if epoch is not None and (
            (epoch != log.epoch and not later) or (isinstance(effect, Commit) and staged)
        ):
            winner = staged if epoch in (log.epoch, log.ends) else None
            if epoch == log.epoch - 1 and log.winner:
                winner = log.winner
            raise StaleEpochError(log.epoch, winner)
        if isinstance(effect, Commit):
            if effect.welcome is not None:
                for reader in effect.joins:
                    self.log(LogKey(request.log.organisation, inbox_log(reader.device)))
        elif effect is not None and effect.commit != staged:
            raise NotStagedError(staged)

    def hold(self, log: MemoryLog, request: Append, seq: int, *, state: EntryState) -> None:
        entry = Entry(
            seq=seq,
            prev=log.head,
            kind=request.kind,
            state=state,
            sender=request.sender,
            message_id=request.message_id,
            at_ms=request.at_ms,
            priority=request.priority,
            epoch=request.epoch,
            body=request.body,
        )
        log.head = seq
        log.held[seq] = Held(entry, request.expires)

    def effect(self, log: MemoryLog, request: Append, seq: int) -> tuple[tuple[DeviceId, int], ...]:
        effect = request.effect
        if effect is None:
            return ()
        if isinstance(effect, Commit):
            log.staged, log.ends = (seq, effect), request.epoch
            log.references = []
            if effect.welcome is None:
                return ()
            for reader in effect.joins:
                inbox = self.log(LogKey(request.log.organisation, inbox_log(reader.device)))
                welcome = Append(
                    log=request.log,
                    sender=request.sender,
                    message_id=request.message_id,
                    at_ms=request.at_ms,
                    kind=effect.welcome_kind,
                    priority=effect.welcome_priority,
                    body=effect.welcome,
                    epoch=request.epoch,
                )
                self.hold(inbox, welcome, self.after(inbox.head), state=EntryState.STAGED)
                log.references.append((reader.device, inbox.head))
            return tuple(log.references)
        assert log.staged is not None
        commit_seq, commit = log.staged
        log.staged = None
        confirmed = isinstance(effect, Receipt)
        state = EntryState.EFFECTIVE if confirmed else EntryState.VOIDED
        log.set(commit_seq, state=state, empty=not confirmed)
        self.settle_references(request.log.organisation, log, state)
        if confirmed:
            assert log.ends is not None
            log.epoch = log.ends + 1
            log.winner = commit_seq
            self.change_places(log, commit, commit_seq, after=seq - 1)
        return ()

    def change_places(self, log: MemoryLog, commit: Commit, seq: int, *, after: int) -> None:
        for device in commit.leaves:
            place = log.places.get(device)
            if place and (place.lapsed or place.acked >= seq):
                del log.places[device]
            elif place:
                place.until, place.resumes = seq, 0
        for reader in commit.joins:
            place = log.places.get(reader.device)
            if place is None or place.lapsed:
                log.places[reader.device] = Place(after, reader.expires)
                continue
            place.expires = reader.expires
            if place.ends and place.until != seq:
                place.resumes = after
            else:
                place.until = place.resumes = 0

    def sweep(self, key: LogKey) -> None:
        log = self.logs[key]
        places = [place.acked for place in log.places.values() if not place.lapsed]
        if key.id != CONTROL_LOG and places:
            for seq in [seq for seq in log.held if seq <= min(places)]:
                del log.held[seq]

    def move(self, key: LogKey, device: DeviceId, seq: int) -> None:
        log = self.logs.get(key)
        place = log.places.get(device) if log else None
        if log is None or place is None or place.lapsed:
            return
        place.acked = max(place.acked, min(seq, log.head))
        if place.ends and place.acked >= place.until:
            del log.places[device]
        elif place.until and place.acked >= place.until:
            place.acked = max(place.acked, place.resumes)
            place.until = place.resumes = 0
        self.sweep(key)

    def acknowledge(self, log: LogKey, device: DeviceId, seq: int) -> int | None:
        known = self.logs.get(log)
        place = known.places.get(device) if known else None
        if known and place and seq > known.head and seq >= self.floor:
            return place.acked
        if known and place and not place.lapsed:
            reached = min(seq, known.head)
            # What the device appended itself goes with what stood right before it.
            self.move(
                log, device, max(reached, place.own[1]) if place.own[0] <= reached else reached
            )
        return None

    async def change(self, change: Change[T]) -> T:
        made: T = getattr(self, METHODS[type(change)])(*astuple(change))
        return made

    async def settle(self) -> None:
        pass

    def create(self, log: LogKey, epoch: int, readers: Sequence[Reader]) -> Head:
        if log not in self.logs:
            self.logs[log] = MemoryLog(epoch)
            self.add_readers(self.logs[log], readers)
        return self.describe(log)

    def add_readers(self, log: MemoryLog, readers: Sequence[Reader]) -> None:
        for reader in readers:
            after = log.head if reader.after is None else min(reader.after, log.head)
            place = log.places.get(reader.device)
            if place is None or place.lapsed:
                log.places[reader.device] = Place(after, reader.expires)
            else:
                place.until, place.resumes, place.expires = 0, 0, reader.expires

    def log(self, key: LogKey) -> MemoryLog:
        if key not in self.logs:
            raise UnknownLogError
        return self.logs[key]

    def describe(self, key: LogKey) -> Head:
        log = self.logs[key]
        return Head(
            seq=log.head,
            epoch=log.epoch,
            staged=log.staged[0] if log.staged else None,
            ends=log.ends if log.staged else None,
            entries=len(log.held),
            held_bytes=sum(len(held.entry.body) for held in log.held.values()),
        )

    async def read(
        self, log: LogKey, device: DeviceId, *, after: int, entries_max: int, bytes_max: int
    ) -> Page:
        known = self.log(log)
        place = known.places.get(device)
        if place is None or place.lapsed:
            raise UnknownLogError
        start = after if log.id == CONTROL_LOG else max(after, place.acked)
        until = place.until if place.ends else known.head
        held = sorted(known.held.items())
        ahead = [h.entry for seq, h in held if start < seq <= until]
        further: list[Entry] = []
        if place.resumes:
            further = [entry for entry in ahead if entry.seq > place.resumes]
            ahead = [entry for entry in ahead if entry.seq <= place.until]
            if ahead:
                until = place.until
            else:
                ahead, further, start = further, [], max(start, place.resumes)
        given: list[Entry] = []
        size = 0
        for entry in ahead[:entries_max]:
            size += len(entry.body)
            if given and size > bytes_max:
                break
            given.append(entry)
        last = given[-1].seq if given else start
        more = len(given) < len(ahead) or bool(further)
        return Page(entries=tuple(given), damaged=(), last=last, more=more)

    def pending(self, organisation: OrganisationId, device: DeviceId) -> Sequence[Pending]:
        found = []
        for key, log in self.logs.items():
            place = log.places.get(device)
            if key.organisation != organisation or place is None:
                continue
            head = place.until if place.ends else log.head
            if head > place.acked or place.lapsed:
                waiting = [h.entry.priority for s, h in log.held.items() if s > place.acked]
                priority = max(waiting, default=0)
                found.append(
                    Pending(
                        log=key,
                        cursor=place.acked,
                        head=head,
                        waiting=len(waiting),
                        priority=priority,
                        lapsed=place.lapsed,
                    )
                )
        found.sort(key=lambda p: (p.log.id[0] != INBOX, -p.priority))
        return found

    def head(self, log: LogKey) -> Head | None:
        return self.describe(log) if log in self.logs else None

    def last_id(self, organisation: OrganisationId, device: DeviceId) -> int:
        return max(self.answers.get((organisation, device), {}), default=0)

    def readers(self, log: LogKey) -> Collection[DeviceId]:
        places = self.logs[log].places.items() if log in self.logs else ()
        return {device: None for device, p in places if not (p.lapsed or p.ends)}.keys()

    def change_readers(self, log: LogKey, add: Sequence[Reader], end: Sequence[DeviceId]) -> None:
        known = self.log(log)
        for device in end:
            known.places.pop(device, None)
        self.add_readers(known, add)
        self.sweep(log)

    def end_device(self, organisation: OrganisationId, device: DeviceId) -> None:
        for key, log in self.logs.items():
            if key.organisation == organisation and key.id[0] != INBOX:
                log.places.pop(device, None)
                self.sweep(key)

    def remove(self, log: LogKey, unused: bool) -> None:
        known = self.logs.get(log)
        if known is None or (unused and (known.head or known.epoch)):
            return
        del self.logs[log]
        self.unstage(log, known)

    def unstage(self, key: LogKey, log: MemoryLog) -> None:
        """What was staged is so no more; whether it stood, the archive knows."""
        if log.staged:
            log.set(log.staged[0], state=EntryState.EFFECTIVE)
            self.settle_references(key.organisation, log, EntryState.EFFECTIVE)
            log.staged = None

    def settle_references(
        self, organisation: OrganisationId, log: MemoryLog, state: EntryState
    ) -> None:
        for device, at in log.references:
            inbox = self.logs.get(LogKey(organisation, inbox_log(device)))
            if inbox and at in inbox.held and inbox.held[at].entry.state == EntryState.STAGED:
                inbox.set(at, state=state, empty=state == EntryState.VOIDED)

    def expire(self, after_ms: int, wall_ms: int, monotonic_ms: int) -> Sequence[Lapsed]:
        if self.monotonic_ms is not None:
            self.age_ms += max(0, monotonic_ms - self.monotonic_ms)
        elif self.wall_ms is not None:
            self.age_ms += min(max(0, wall_ms - self.wall_ms), STOP_MS_MAX)
        self.wall_ms, self.monotonic_ms = wall_ms, monotonic_ms
        self.mark(after_ms)
        limit_ms = self.age_ms - after_ms
        lost: list[Lapsed] = []
        for key, log in self.logs.items():
            births = {seq: held.born_ms for seq, held in log.held.items()}
            old = [seq for seq, born in births.items() if born is not None and born <= limit_ms]
            if key.id == CONTROL_LOG or not old:
                continue
            if key.id[0] == INBOX:
                for seq in old:
                    if log.held[seq].expires and log.held[seq].entry.state != EntryState.VOIDED:
                        log.set(seq, state=EntryState.EXPIRED, empty=True)
            else:
                lost += self.lapse(key, log, max(old))
        return lost

    def mark(self, after_ms: int) -> None:
        """What came since the last mark counts from this one: it may stay longer, never shorter."""
        if self.marked_ms is None or self.age_ms - self.marked_ms >= max(1, after_ms // MARKS):
            self.marked_ms = self.age_ms
            for log in self.logs.values():
                for held in log.held.values():
                    held.born_ms = self.age_ms if held.born_ms is None else held.born_ms

    def lapse(self, key: LogKey, log: MemoryLog, overdue: int) -> list[Lapsed]:
        lost = []
        for device, place in list(log.places.items()):
            if place.lapsed or not place.expires or place.acked >= overdue:
                continue
            if place.ends:
                del log.places[device]
            else:
                place.lapsed = True
                lost.append(Lapsed(log=key, device=device, cursor=place.acked))
        if all(place.lapsed for place in log.places.values()):
            for seq in [seq for seq in log.held if seq <= overdue]:
                del log.held[seq]
        self.sweep(key)
        return lost

    def change_fact(self, organisation: OrganisationId, fact: Fact) -> None:
        if fact.value is None:
            self.values.pop((organisation, fact.key), None)
        else:
            self.values[organisation, fact.key] = fact.value

    def put(self, organisation: OrganisationId, facts: Sequence[Fact]) -> None:
        for fact in facts:
            self.change_fact(organisation, fact)

    async def facts(
        self, organisation: OrganisationId, prefix: bytes = b""
    ) -> Mapping[bytes, bytes]:
        return {
            key: value
            for (owner, key), value in sorted(self.values.items())
            if owner == organisation and key.startswith(prefix)
        }

    def adopt(self, log: LogKey, last: int, epoch: int, readers: Sequence[Reader]) -> Head:
        known = self.logs.setdefault(log, MemoryLog(epoch))
        known.head = max(known.head, last)
        if epoch > known.epoch:
            self.unstage(log, known)
            known.epoch, known.winner = epoch, 0
        if epoch == known.epoch:
            names = {reader.device for reader in readers}
            known.places = {d: place for d, place in known.places.items() if d in names}
            self.add_readers(known, readers)
        self.sweep(log)
        return self.describe(log)

    def resume(self, wall_ms: int) -> None:
        self.awaiting_archive = False
        given = max([self.floor, *(log.head for log in self.logs.values())])
        generation = max(wall_ms // GENERATION_MS, (given >> GENERATION_BITS) + 1)
        self.floor = generation << GENERATION_BITS

    async def backup(self, target: Path) -> None:
        raise NotImplementedError("nothing here outlives the process")

    async def close(self) -> None:
        pass


def restarted(store: MemoryStore) -> MemoryStore:
    """Forget what a restart forgets: the monotonic clock's last value, and own last entries."""
    store.monotonic_ms = None
    for log in store.logs.values():
        for place in log.places.values():
            place.own = (0, 0)
    return store
