"""From what the relay delivers to what stands in the store: in order, in batches, with every hole.

An entry has its effect once everything before it in its log has: what comes too early waits. It is
acknowledged once its effect is on the disk. One that cannot be handled never stops the others: its
cause is noted, and whatever heals it is begun.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from client import thread
from client.book import Ask, Book
from client.changes import Changes
from client.errors import FullError
from client.follow import follow, members_of
from client.followed import (
    GENERATION,
    Action,
    Cause,
    Fault,
    Followed,
    Judgement,
    Said,
    StagedCommit,
    View,
    Wants,
    has_forgotten,
    misses,
)
from client.gossip import Gossip
from client.inbox import Inbox
from client.messages import LOCAL_KINDS, Content, Effect, MessageKey, NewMessage
from client.mls_records import GROUPS_IN_MEMORY
from client.numbers import Numbers, gives_back, is_nothing
from client.records import (
    Known,
    encode_known,
    encode_roster,
    staged_record,
    with_read,
    with_roster,
)
from client.rooms import Room, Rooms
from client.rules import Demand, context_of
from client.store import Entry, Store
from client.trusted import Taken
from client.views import Change, ChangeKind, Roster
from crypto.errors import DecodeError, InvalidError
from crypto.mls import Group
from protocol.content import Kind
from protocol.frames import Attention, Deliver, EntryKind
from protocol.identifiers import (
    CONTROL_LOG,
    ConversationId,
    DeviceId,
    LogId,
    UserName,
    user_of,
)
from protocol.routing import route

ROSTER_KIND = LOCAL_KINDS
"""Kind of the row that a change of members has in a thread."""

WAIT_MS = 10_000
"""How long an entry waits, in ms, for what must come first: then the log is read again from the
cursor, and what is missing on the next connection too is done without, and noted."""

HELD_MOST = 4_096
"""Entries of one log that wait in memory; more come again from the relay, as none of them is
acknowledged."""

ROOMS_MOST = GROUPS_IN_MEMORY // 2
"""Conversations that one transaction changes: the group that each goes on from stays loaded."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that others act on, once it is on the disk.

    Attributes:
        room: Where.
        judgement: A Commit that may be confirmed.
        demand: A request for the steward.
        epoch: Whether another epoch began, or a staged Commit was dropped.
        leaving: Whether a lawful Commit takes this device out.
        roster: Who came and went.
        rejoin: Whether this device must be added again.
        forgotten: From where on a restored relay has lost what this device has read.
    """

    room: Room
    judgement: Judgement | None = None
    demand: Demand | None = None
    epoch: bool = False
    leaving: bool = False
    roster: Roster | None = None
    rejoin: bool = False
    forgotten: int | None = None


@dataclass(slots=True)
class _Waiting:
    """Entries of a log that wait, and since when."""

    since_ms: int
    entries: deque[Deliver] = field(default_factory=deque)


@dataclass(slots=True)
class _Batch:
    """What was followed and is not on the disk yet."""

    entries: list[Entry] = field(default_factory=list)
    views: dict[ConversationId, View] = field(default_factory=dict)
    known: dict[ConversationId, Known] = field(default_factory=dict)
    position: dict[LogId, int] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    alerts: list[Change] = field(default_factory=list)
    healed: list[tuple[LogId, int]] = field(default_factory=list)
    came: dict[ConversationId, MessageKey] = field(default_factory=dict)


class MissingError(Exception):
    """A log skips numbers: connect again, and read from the cursor."""


class Following:
    """Takes entries in.

    Attributes:
        on_event: Told what others act on.
        on_page: Told the relay's entries about a page.
        on_came: Told the last message of others that came into a conversation.
        on_control: Told what came of an entry of the control log.
        accepted: Told the number of what this device sent and got back.
        unanswered: Tells whether messages of this device are on their way into a conversation.
    """

    def __init__(
        self, store: Store, book: Book, rooms: Rooms, *, changes: Changes, me: DeviceId
    ) -> None:
        self._store = store
        self._book = book
        self._rooms = rooms
        self._changes = changes
        self._me = me
        self._user = user_of(me)
        self._batch = _Batch()
        self._waiting: dict[LogId, _Waiting] = {}
        self._reread: set[tuple[LogId, int]] = set()
        self._unwelcomed: set[tuple[LogId, int]] = set()
        self._numbers = Numbers()
        self._doubted: set[LogId] = set()  # Something was kept back: read twice, then believed.
        self.gossip = Gossip(store)
        self.inbox = Inbox(store, book, rooms, self.gossip)
        self.on_event: Callable[[Event], None] = lambda _: None
        self.on_page: Callable[[ConversationId, Deliver], None] = lambda *_: None
        self.on_came: Callable[[MessageKey], None] = lambda _: None
        self.on_control: Callable[[Taken, Deliver], None] = lambda *_: None
        self.unanswered: Callable[[ConversationId], bool] = lambda _: False
        self.accepted: Callable[[int, int], None] = lambda *_: None

    # -- taking in -----------------------------------------------------------------------------

    async def take(self, entries: Iterable[Deliver], ask: Ask, *, now_ms: int) -> dict[LogId, int]:
        """Take entries in, and return the cursors to acknowledge.

        Raises:
            MissingError: A log skips numbers.
            LostError: The connection ended.
        """
        touched: set[LogId] = set()
        for entry in entries:
            touched.add(LogId(entry.log))
            await self._one(entry, ask, now_ms=now_ms)
        self.flush()
        return {log: cursor for log in touched if (cursor := self._store.cursor(log))}

    async def again(self, ask: Ask, *, now_ms: int) -> dict[LogId, int]:
        """Try what waits once more.

        Raises:
            MissingError: A log skips numbers.
            LostError: The connection ended.
        """
        touched = set(self._waiting)
        for log in list(self._waiting):
            await self._drain(log, ask, now_ms=now_ms)
        self.flush()
        return {log: cursor for log in touched if (cursor := self._store.cursor(log))}

    def led_back(self, log: LogId, through: int, *, now_ms: int) -> None:
        """Follow a log from where the relay says that it stands for this device.

        It never gave what was acknowledged, so somebody else did: numbers far ahead, behind which
        all that followed would count as read. What this device has, has no effect twice.
        """
        self.flush()
        if through >= self._position(log):
            return
        self._store.led_back(log, through, cause=Cause.HOLE, at_ms=now_ms)
        self._batch.position.pop(log, None)
        self._waiting.pop(log, None)
        _log.warning("led astray", extra={"cause": Cause.HOLE.name})

    @property
    def waits(self) -> bool:
        """Whether entries wait for something."""
        return bool(self._waiting)

    def lost(self) -> None:
        """Let go of what waits: the next connection brings it again."""
        self._waiting.clear()
        self._batch = _Batch()

    async def _one(self, entry: Deliver, ask: Ask, *, now_ms: int) -> None:
        log = LogId(entry.log)
        waiting = self._waiting.get(log)
        if waiting is not None:
            # What finds no room leaves a hole, which is read again.
            if len(waiting.entries) < HELD_MOST:
                waiting.entries.append(entry)
            if entry.sequence < waiting.entries[0].sequence:
                await self._drain(log, ask, now_ms=now_ms)
            return
        if await self._try(entry, ask, now_ms=now_ms, patient=True):
            self._waiting[log] = _Waiting(now_ms, deque([entry]))

    async def _drain(self, log: LogId, ask: Ask, *, now_ms: int) -> None:
        """Take in what waits as far as it goes; after ``WAIT_MS`` without what is missing."""
        waiting = self._waiting[log]
        # Where the clock was ahead when it began to wait, it begins now.
        waiting.since_ms = min(waiting.since_ms, now_ms)
        patient = now_ms - waiting.since_ms < WAIT_MS
        waiting.entries = deque(sorted(waiting.entries, key=lambda one: one.sequence))
        while waiting.entries:
            entry = waiting.entries[0]
            if await self._try(entry, ask, now_ms=now_ms, patient=patient):
                if patient:
                    return
                self._pass_over(entry)
                continue
            waiting.entries.popleft()
            ahead = {(log, one.sequence) for one in list(waiting.entries)[:1]}
            waiting.since_ms, patient = now_ms, not ahead & self._unwelcomed
        del self._waiting[log]

    async def _try(self, entry: Deliver, ask: Ask, *, now_ms: int, patient: bool) -> bool:
        """Take one entry in; tell whether it waits for something that must come first."""
        log = LogId(entry.log)
        position = self._position(log)
        behind = entry.sequence <= position
        if behind or self._store.owns(log, entry.sequence):
            contested = self._numbers.contests(entry, behind=behind)
            if contested and behind:
                await self._late(entry, ask, now_ms=now_ms)
            if behind or not contested:
                return False  # It had its effect.
        if not self._follows(log, position, entry):
            return True
        if not log.startswith(b"c"):
            self._numbers.remember(log, entry.sequence, kind=entry.kind, body=entry.body)
        if log == CONTROL_LOG:
            await self._control(entry, ask, now_ms=now_ms)
            return False
        if not patient and (log, entry.sequence) not in self._unwelcomed:
            wants = self._handle(entry, now_ms=now_ms, patient=True)
            if wants is None:
                return False
            if wants.welcome or wants.policy:
                # Without it, what was said until this device is let in anew would never come: the
                # next connection may bring it, as what was kept back before the policy changed.
                waits = self._waiting[log].entries if wants.welcome else (entry,)
                self._unwelcomed |= {(log, one.sequence) for one in waits}
                self._doubted.update([log] if wants.policy else ())
                raise MissingError
        wants = self._handle(entry, now_ms=now_ms, patient=patient)
        asked: Wants | None = None  # Who comes is known first, then whose word lets them in.
        while wants is not None and wants.looked_up and wants != asked:
            self.flush()
            await self._book.satisfy(wants, entry.body, ask, now_ms=now_ms)
            asked, wants = wants, self._handle(entry, now_ms=now_ms, patient=patient)
        if wants is not None and wants.looked_up:
            # Nobody knows them: it is judged without.
            wants = self._handle(entry, now_ms=now_ms, patient=False)
        return wants is not None

    def own(self, conversation: ConversationId, sequence: int, kind: int, body: bytes) -> None:
        """Note that the relay calls a number this device's own."""
        self._numbers.remember(LogId(b"c" + conversation), sequence, kind=kind, body=body)

    async def _late(self, entry: Deliver, ask: Ask, *, now_ms: int) -> None:
        """Take in what comes under a number that was used: one of the two was made up, or both."""
        self._numbers.forget(entry)
        if entry.log == CONTROL_LOG:
            await self._control(entry, ask, now_ms=now_ms)
            return
        self.flush()
        wants = self._handle(entry, now_ms=now_ms, patient=True)
        if wants is not None:
            await self._book.satisfy(wants, entry.body, ask, now_ms=now_ms)
            self._handle(entry, now_ms=now_ms, patient=False)

    async def _control(self, entry: Deliver, ask: Ask, *, now_ms: int) -> None:
        self.flush()
        await self._book.find_signers(entry.body, ask, now_ms=now_ms)
        taken = self._book.take(
            entry.body, sequence=entry.sequence, at_ms=entry.at_ms, now_ms=now_ms
        )
        if entry.sequence > self._store.cursor(CONTROL_LOG):
            self._store.passed(CONTROL_LOG, entry.sequence)
        self._doubted.clear()
        if taken is not None:
            self.on_control(taken, entry)
        for kind in (ChangeKind.CONTROL, ChangeKind.DIRECTORY):
            self._changes.tell(Change(kind=kind))

    # -- order ---------------------------------------------------------------------------------

    def _position(self, log: LogId) -> int:
        return max(self._batch.position.get(log, 0), self._store.cursor(log))

    def _follows(self, log: LogId, position: int, entry: Deliver) -> bool:
        """Tell whether nothing is missing before an entry.

        A restored relay goes on far beyond all numbers that it gave before, and names as the
        predecessor the last one that it knows of: where that is behind, nothing is missing.
        """
        first = max(position, entry.predecessor >> GENERATION << GENERATION) + 1
        missing = range(first, entry.predecessor + 1)
        if position == 0 and not self._store.has_begun(log):
            return self._comes_first(log, entry)
        if all(self._store.owns(log, one) for one in missing[:HELD_MOST]):
            return True
        if not log.startswith(b"c"):
            return False
        room = self._rooms.get(ConversationId(log[1:]))
        known, view = self._known(room), self._view(room)
        # Who goes and comes back in one Commit is given nothing between it and its receipt.
        ends = entry.kind == EntryKind.RECEIPT
        back = any(self._me in it.roster.renewed or (ends and it.welcome) for it in view.staged)
        return known.ended or known.returning or back or view.group is None

    def _comes_first(self, log: LogId, entry: Deliver) -> bool:
        """Tell whether a log may begin with an entry: it is read from where one came in.

        Who came in by a Welcome is given the verdict on it before anything else: without that it
        would read nothing, and miss nothing.
        """
        if not log.startswith(b"c") or entry.kind in (EntryKind.RECEIPT, EntryKind.VOID):
            return True
        view = self._view(self._rooms.get(ConversationId(log[1:])))
        return view.group is not None or not any(staged.welcome for staged in view.staged)

    def _pass_over(self, entry: Deliver) -> None:
        """Go on over a hole that was there on the connection before as well.

        Raises:
            MissingError: It is new.
        """
        log = LogId(entry.log)
        position = self._position(log)
        if entry.predecessor <= position:
            return  # It waited for something else, and is followed without.
        if (log, position) not in self._reread:
            self._reread.add((log, position))
            raise MissingError
        self._store.faults.note(log, position + 1, cause=Cause.HOLE, detail=0, at_ms=entry.at_ms)
        _log.warning("hole", extra={"cause": Cause.HOLE.name})
        self._batch.position[log] = entry.predecessor

    # -- one entry -----------------------------------------------------------------------------

    def _handle(self, entry: Deliver, *, now_ms: int, patient: bool) -> Wants | None:
        log = LogId(entry.log)
        if log.startswith(b"c"):
            patient = patient and not (entry.kind == EntryKind.WITHHELD and log in self._doubted)
            return self._in_conversation(entry, now_ms=now_ms, patient=patient)
        return self._in_inbox(entry, now_ms=now_ms, patient=patient)

    def _in_inbox(self, entry: Deliver, *, now_ms: int, patient: bool) -> Wants | None:
        self.flush()
        found = self.inbox.take(entry, now_ms=now_ms, patient=patient)
        if found.wants is not None:
            return found.wants
        for room in found.rooms:
            self._rooms.forget(room.conversation)
            if found.judgement is not None:
                self.on_event(Event(room=room, judgement=found.judgement))
            waiting = self._waiting.get(LogId(b"c" + room.conversation))
            if waiting is not None:
                waiting.since_ms = now_ms
        self._changes.tell(*found.changes)
        return None

    def _in_conversation(self, entry: Deliver, *, now_ms: int, patient: bool) -> Wants | None:
        room = self._rooms.get(ConversationId(entry.log[1:]))
        views = self._batch.views
        if len(views) >= ROOMS_MOST and room.conversation not in views:
            self.flush()
        if entry.kind == EntryKind.PAGE:
            # Kept before the cursor passes it; one that comes again changes nothing.
            self.on_page(room.conversation, entry)
            before = self._view(room)
            self._add(room, entry, Followed(view=before), before=before, effects=())
            return None
        if self._is_own(room, entry):
            return None
        before, followed = self._followed(room, entry, now_ms=now_ms, patient=patient)
        if followed.wants is not None:
            return followed.wants
        if gives_back(followed) and self._store.owns(LogId(entry.log), entry.sequence):
            return None
        followed = self._heard(followed, now_ms=now_ms)
        if followed.knows:
            # Who is known is on the disk before whatever rests on it.
            self._book.know(followed.knows, now_ms=now_ms)
        effects = self._effects(room, entry, followed)
        self._add(room, entry, followed, before=before, effects=effects)
        return None

    def _followed(
        self, room: Room, entry: Deliver, *, now_ms: int, patient: bool
    ) -> tuple[View, Followed]:
        """Return what is known before an entry, and what comes of it."""
        before = self._view(room)
        followed = follow(before, entry, judge=self._book.judge, now_ms=now_ms, patient=patient)
        if followed.said is None or thread.plain(followed.said.plaintext):
            return before, followed
        # It refers to what stands before it, and that is judged from the disk.
        self.flush()
        after = self._view(room)
        if after.group is before.group:
            return before, followed
        # What waited for an epoch that has just begun was sealed: whoever went on from the group
        # as it was before would give the same key to the next message.
        return after, follow(after, entry, judge=self._book.judge, now_ms=now_ms, patient=patient)

    def _heard(self, followed: Followed, *, now_ms: int) -> Followed:
        """Compare what a message says of the archive with what is known of it."""
        checkpoint = None if followed.said is None else followed.said.data.checkpoint
        if checkpoint is None or self.gossip.told(checkpoint, now_ms=now_ms):
            return followed
        split = Fault(cause=Cause.SPLIT_VIEW, action=Action.REPORT)
        return replace(followed, faults=(*followed.faults, split))

    def _is_own(self, room: Room, entry: Deliver) -> bool:
        """Tell whether it is what this device sent, come back before its answer did."""
        if not self.unanswered(room.conversation):
            return False
        try:
            number = route(entry.body).data.message_id
        except (DecodeError, InvalidError):
            return False
        if self._store.outbox.sealed(number) != entry.body:
            return False
        self.flush()
        self.accepted(number, entry.sequence)
        return True

    def _view(self, room: Room) -> View:
        view = self._batch.views.get(room.conversation)
        return self._rooms.view(room) if view is None else view

    def _known(self, room: Room) -> Known:
        return self._batch.known.get(room.conversation, room.known)

    def _effects(self, room: Room, entry: Deliver, followed: Followed) -> tuple[Effect, ...]:
        if followed.said is not None:
            return self._said(room, followed.said, entry)
        if followed.roster is not None:
            return (_roster_row(room.conversation, followed.roster, entry),)
        return ()

    def _said(self, room: Room, said: Said, entry: Deliver) -> tuple[Effect, ...]:
        outcome = thread.judge(
            thread.Said(
                conversation=room.conversation,
                sender=said.sender,
                plaintext=said.plaintext,
                at_ms=said.at_ms,
                place=said.sequence,
                priority=said.data.priority,
                target=said.data.target,
                acknowledgement_asked=said.data.acknowledgement_asked,
            ),
            messages=self._store.messages,
            setting=self._rooms.setting(room),
        )
        content = outcome.content
        if content is not None and content.kind in (Kind.MODERATORS, Kind.MUTE):
            room.moderation = None
        known = self._known(room)
        if outcome.read_through is not None and outcome.read_through > known.read_through:
            self._batch.known[room.conversation] = with_read(known, outcome.read_through)
        key = MessageKey(
            conversation=room.conversation,
            sender=said.sender,
            message_id=said.data.named,
        )
        # What is said again to who has it sounds once: the relay has it said as often as it likes.
        is_new = key not in self._batch.came.values() and self._store.messages.get(key) is None
        if content is not None and not outcome.standing.hidden and is_new:
            self._notice(room, said, entry)
        return outcome.incoming(key, said.at_ms, message_hash=said.message_hash)

    def _notice(self, room: Room, said: Said, entry: Deliver) -> None:
        """Note how a message is to reach this person."""
        if user_of(said.sender) == self._user:
            return
        self._batch.came[room.conversation] = MessageKey(
            conversation=room.conversation,
            sender=said.sender,
            message_id=said.data.named,
        )
        if entry.attention == Attention.HELD:
            known = self._known(room)
            held = {**known.held, said.sequence: entry.until_ms}
            self._batch.known[room.conversation] = replace(known, held=held)
        elif entry.attention == Attention.ALERT:
            self._batch.alerts.append(
                Change(
                    kind=ChangeKind.ALERT,
                    conversation=room.conversation,
                    messages=(self._batch.came[room.conversation],),
                    priority=said.data.priority,
                )
            )

    # -- the batch -----------------------------------------------------------------------------

    def _add(
        self,
        room: Room,
        entry: Deliver,
        followed: Followed,
        *,
        before: View,
        effects: tuple[Effect, ...],
    ) -> None:
        batch, conversation = self._batch, room.conversation
        known = self._after(room, followed, before=before.group, at_ms=entry.at_ms)
        log = LogId(entry.log)
        counted = misses(followed.faults, returning=before.group is None and known.away)
        batch.entries.append(
            Entry(
                log=log,
                sequence=entry.sequence,
                conversation=conversation,
                before=before.group,
                after=followed.view.group,
                effects=effects,
                stages=None if followed.stages is None else staged_record(followed.stages),
                drops=followed.drops,
                faults=tuple((fault.cause, fault.missing) for fault in counted),
                at_ms=entry.at_ms,
                late=entry.sequence <= self._position(log),
                forks=followed.forks,
            )
        )
        for fault in counted:
            _log.warning("fault", extra={"cause": fault.cause.name})
        if followed.said is not None:
            self._heal(log, before, followed.said)
        if is_nothing(followed):
            self._numbers.remember(log, entry.sequence, kind=entry.kind, body=entry.body)
        if has_forgotten(entry, self._position(log)):
            batch.events.append(Event(room=room, forgotten=entry.predecessor))
        batch.views[conversation] = followed.view
        batch.known[conversation] = known
        batch.position[log] = max(batch.position.get(log, 0), entry.sequence)
        self._tell_others(room, followed)

    def _after(self, room: Room, followed: Followed, *, before: Group | None, at_ms: int) -> Known:
        known = self._known(room)
        demands = {key: one for key, one in followed.view.demands.items() if one.by is not None}
        view = followed.view
        known = replace(known, chains=dict(view.chains), demands=demands, withheld=view.withheld)
        if followed.roster is not None:
            known = with_roster(known, followed.roster, at_ms=at_ms)
        group = followed.view.group
        if followed.roster is not None and group is not None:
            (extension,) = group.context.extensions
            known = replace(known, context=extension.extension_data, confirmed=True)
            if self._people(group) - self._people(before):
                known = replace(known, company=group.epoch)
        if followed.removed or self._leaves(followed.stages):
            # The relay holds the Commit back from whom it removes until its receipt, and gives
            # them nothing after it: not the receipt either.
            known = replace(known, ended=True)
        elif self._leaves(followed.settled):
            known = replace(known, ended=False)
        if followed.joined:
            known = replace(known, ended=False, away=False, lapsed=False)
        if any(fault.action is Action.REJOIN for fault in followed.faults):
            known = replace(known, away=True)
        return known

    def _people(self, group: Group | None) -> set[UserName]:
        """Return who reads what is said in an epoch; the archive has it in any case."""
        if group is None:
            return set()
        recorder = context_of(group.context.extensions).recorder
        members = members_of(group, self._book.judge).values()
        return {UserName(one.user) for one in members if one.name != recorder}

    def _leaves(self, staged: StagedCommit | None) -> bool:
        """Tell whether a lawful Commit takes this device out for good."""
        if staged is None or staged.refused is not None or staged.welcome:
            return False
        return staged.group is None and self._me in staged.roster.removed

    def _heal(self, log: LogId, before: View, said: Said) -> None:
        chain = before.chains.get(said.sender)
        if chain is not None and said.data.message_id in chain.missing:
            self._batch.healed.append((log, said.data.message_id))

    def _tell_others(self, room: Room, followed: Followed) -> None:
        rejoin = any(fault.action is Action.REJOIN for fault in followed.faults)
        moved = followed.roster is not None or bool(followed.drops)
        leaving = self._leaves(followed.stages)
        if followed.judgement or followed.demand or moved or rejoin or leaving:
            self._batch.events.append(
                Event(
                    room=room,
                    judgement=followed.judgement,
                    demand=followed.demand,
                    epoch=moved or leaving,
                    leaving=leaving,
                    roster=followed.roster,
                    rejoin=rejoin,
                )
            )

    def flush(self) -> None:
        """Write what was followed; then show it, and let others act on it."""
        batch, self._batch = self._batch, _Batch()
        if not batch.entries:
            # A hole that was passed over stays passed over.
            self._batch.position = batch.position
            return
        try:
            states = {where: encode_known(known) for where, known in batch.known.items()}
            received = self._store.received(batch.entries, states=states)
        except BaseException as error:
            for conversation in batch.views:
                self._rooms.forget(conversation)
            if isinstance(error, FullError):
                # Nothing of it is kept, so nothing is shown; that somebody calls is heard anyhow.
                self._changes.tell(*(replace(alert, messages=()) for alert in batch.alerts))
            raise
        self._forget_passed()
        for conversation, known in batch.known.items():
            self._rooms.get(conversation).known = known
        shown: dict[ConversationId, list[MessageKey]] = {}
        for message in received.messages:
            shown.setdefault(message.key.conversation, []).append(message.key)
        for conversation, keys in shown.items():
            self._changes.tell(
                Change(kind=ChangeKind.MESSAGES, conversation=conversation, messages=tuple(keys))
            )
        self._changes.tell(*batch.alerts)
        self._pass_on(batch)
        # Last: where the disk has no room for it, all that was kept has still rung.
        for log, missing in batch.healed:
            self._store.faults.forgive(log, cause=Cause.HOLE, detail=missing)

    def _forget_passed(self) -> None:
        """Let go of what was noted of numbers that lie behind by now."""
        cursor = self._store.cursor
        self._reread = {(log, at) for log, at in self._reread if cursor(log) <= at}
        self._unwelcomed = {(log, at) for log, at in self._unwelcomed if cursor(log) < at}

    def _pass_on(self, batch: _Batch) -> None:
        for key in batch.came.values():
            self.on_came(key)
        for event in batch.events:
            self._tell_epoch(event)
            self.on_event(event)

    def _tell_epoch(self, event: Event) -> None:
        if event.epoch or event.rejoin:
            for kind in (ChangeKind.MEMBERS, ChangeKind.CONVERSATIONS):
                self._changes.tell(Change(kind=kind, conversation=event.room.conversation))


def _roster_row(conversation: ConversationId, roster: Roster, entry: Deliver) -> NewMessage:
    """Return the row of a thread that says who came and went."""
    key = MessageKey(conversation=conversation, sender=DeviceId(""), message_id=entry.sequence)
    content = Content(kind=ROSTER_KIND, data=encode_roster(roster), text="")
    return NewMessage(key=key, at_ms=entry.at_ms, content=content)
