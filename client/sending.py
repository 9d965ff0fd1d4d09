"""From this device into the conversations: sealed once it may be, sent in order, answered.

A message is on the disk, sealed, before it can go out. Where it may not go out yet (the
conversation's first Commit waits, a revoked device must be removed first, this device must be added
again) it is *held*: it waits as well, and is sealed again for the epoch in which it goes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from client import thread
from client.changes import Changes
from client.errors import (
    ArchiveMissingError,
    EndedError,
    LostError,
    NotMemberError,
    NotSaidError,
    ReturningError,
)
from client.followed import Cause
from client.link import ANSWER_S, Link
from client.messages import MessageKey
from client.records import Source, decode_source, encode_source
from client.rooms import Room, Rooms
from client.store import Draft, Sealed, Store
from client.views import Change, ChangeKind
from crypto.mls import Group
from protocol.authenticated_data import AuthenticatedData, Checkpoint
from protocol.content import Kind
from protocol.errors import WAITS, Code
from protocol.frames import Accepted, Append, AppendCommit, EntryKind, Frame, RefusedMessage
from protocol.group_context import ConversationType
from protocol.identifiers import ConversationId, DeviceId
from protocol.limits import IN_FLIGHT_MESSAGES
from protocol.routing import route

PAUSE_MS = 1_000
"""How long to wait, in ms, where the relay asks for a pause and does not say how long."""

PAUSE_MAX_MS = 60_000
"""Longest pause, in ms, that a relay gets: what waits may be urgent, and asking costs little."""

STALE_S = 5.0
"""Seconds in which an epoch comes that the relay says it is in; then it is asked on another
connection whether it is."""

_WORDLESS = (Kind.RETRACTION, Kind.DELIVERED, Kind.READ, Kind.ACKNOWLEDGEMENT)
_LATER = WAITS | {Code.BACKLOG}

_log = logging.getLogger(__name__)


class Standing(Protocol):
    """Says which members of a conversation must go before anything is sent there."""

    def outcasts(self, room: Room) -> set[DeviceId]:
        """Return revoked devices that have a leaf."""


class Sending:
    """The outbox and what goes into it.

    Attributes:
        check: Refuses a kind of conversation in which the policy lets this person say nothing.
        on_blocked: Told the conversations in which something must be done before sending.
        on_refused: Told that the relay refused a Commit of an epoch, or another message (None), and
            why.
        on_behind: Told the conversations of which the relay knows an earlier epoch than this
            device, and that epoch.
        on_passed: Told those of which it knows a later one.
        on_own: Told under which number the relay has what this device sent, and what that is.
    """

    def __init__(
        self, store: Store, rooms: Rooms, *, standing: Standing, changes: Changes, me: DeviceId
    ) -> None:
        self._store = store
        self._rooms = rooms
        self._standing = standing
        self._changes = changes
        self._me = me
        self._in_flight: dict[int, ConversationId] = {}
        # Where what the relay gives back may be this device's own, before it was sent once more.
        self._unsure: set[ConversationId] = set()
        self._stale: dict[ConversationId, list[int]] = {}
        # Until when an answer must have come, or an epoch that was spoken of.
        self._due_s: dict[int, float] = {}
        self._doubted: set[int] = set()
        self._after = 0
        # By the loop's clock: the wall's may be set back by an hour before the pause is over.
        self._paused_until_s = 0.0
        self._wake = asyncio.Event()
        self.clock: Callable[[], int] = lambda: 0
        self.checkpoint: Callable[[], Checkpoint | None] = lambda: None
        self.check: Callable[[ConversationType], None] = lambda _: None
        self.on_blocked: Callable[[ConversationId], None] = lambda _: None
        self.on_refused: Callable[[ConversationId, int | None, Code], None] = lambda *_: None
        self.on_behind: Callable[[ConversationId, int], None] = lambda *_: None
        self.on_passed: Callable[[ConversationId], None] = lambda _: None
        self.on_own: Callable[[ConversationId, int, int, bytes], None] = lambda *_: None

    @property
    def unsent(self) -> int:
        """How many messages wait."""
        return self._store.outbox.size

    def waits_after(self, message_id: int) -> bool:
        """Tell whether a message that was said after another one waits."""
        return self._store.outbox.waits_after(message_id)

    def is_under_way(self, conversation: ConversationId) -> bool:
        """Tell whether something of this device is, or was, on its way into a conversation."""
        return conversation in self._unsure or conversation in self._in_flight.values()

    def is_stale(self, conversation: ConversationId) -> bool:
        """Tell whether the relay has refused what is sealed for this device's epoch."""
        return bool(self._stale.get(conversation))

    # -- saying --------------------------------------------------------------------------------

    def say(self, conversation: ConversationId, source: Source, *, now_ms: int) -> MessageKey:
        """Let a message wait in the outbox, and return its key.

        Raises:
            NotMemberError: This device has never been in the conversation.
            ReturningError: It lost its keys, and is being let in again.
            EndedError: It is no longer.
            ArchiveMissingError: The archive is not in it.
            NotAllowedError: The policy does not let this person say anything here.
            NotSaidError: This person may not say that here.
        """
        room = self._rooms.get(conversation)
        group = self._rooms.group(conversation)
        if room.known.ended:
            raise EndedError
        if group is None:
            raise ReturningError if room.known.returning else NotMemberError
        context = self._rooms.context(room)
        assert context is not None  # noqa: S101 - a group has one
        if group.epoch and context.recorder not in self._rooms.members(room):
            raise ArchiveMissingError
        self.check(context.conversation_type)
        outcome = self._judged(room, source, now_ms=now_ms)
        held = not self.is_ready(room)
        draft = Draft(
            sender=self._me,
            at_ms=now_ms,
            content=outcome.content,
            effects=outcome.effects,
            standing=outcome.standing,
            source=encode_source(source),
            held=held,
        )
        number = self._store.outbox.last_id + 1
        self._store.sending(conversation, group, draft, seal=self._seal(group, source))
        if held:
            self.on_blocked(conversation)
        key = self._key(conversation, number)
        self._told(key)
        self.wake()
        return key

    def _judged(self, room: Room, source: Source, *, now_ms: int) -> thread.Outcome:
        outcome = thread.judge(
            thread.Said(
                conversation=room.conversation,
                sender=self._me,
                plaintext=source.plaintext,
                at_ms=now_ms,
                priority=source.priority,
                target=source.target,
                acknowledgement_asked=source.acknowledgement_asked,
            ),
            messages=self._store.messages,
            setting=self._rooms.setting(room),
        )
        if outcome.refused is not None:
            raise NotSaidError(outcome.refused.value)
        room.moderation = None
        return outcome

    def is_ready(self, room: Room) -> bool:
        """Tell whether what is said now may go out."""
        group = self._rooms.group(room.conversation)
        known = room.known
        if group is None or group.epoch == 0 or known.returning or known.ended:
            return False
        return not self._standing.outcasts(room)

    def _seal(
        self, group: Group, source: Source, *, first_id: int = 0
    ) -> Callable[[int, int], Sealed]:
        def seal(message_id: int, previous_id: int) -> Sealed:
            data = AuthenticatedData(
                message_id=message_id,
                previous_id=previous_id,
                priority=source.priority,
                acknowledgement_asked=source.acknowledgement_asked,
                target=source.target,
                checkpoint=self.checkpoint(),
                first_id=0 if first_id == message_id else first_id,
            )
            after, message = group.encrypt(source.plaintext, authenticated_data=data.encode())
            return Sealed(group=after, message=message)

        return seal

    def _told(self, *keys: MessageKey) -> None:
        for key in keys:
            self._changes.tell(
                Change(kind=ChangeKind.MESSAGES, conversation=key.conversation, messages=(key,))
            )
        self._changes.tell(Change(kind=ChangeKind.STATUS))

    # -- sealing again -------------------------------------------------------------------------

    def moved(self, conversation: ConversationId) -> None:
        """Go on where another epoch began: seal again what was stale, and what was held."""
        room = self._rooms.get(conversation)
        for number in sorted(self._stale.pop(conversation, [])):
            self._again(conversation, number)
        if self.is_ready(room):
            self._release(conversation)
        self.wake()

    def release_all(self) -> None:
        """Look at everything that is held, as after a start."""
        for conversation in self._store.outbox.held_in():
            if self.is_ready(self._rooms.get(conversation)):
                self._release(conversation)
            else:
                self.on_blocked(conversation)
        self.wake()

    def _release(self, conversation: ConversationId) -> None:
        for number in self._store.outbox.waiting_in(conversation):
            waiting = self._store.outbox.find(number)
            if waiting is not None and waiting.held:
                self._again(conversation, number)

    def _again(
        self, conversation: ConversationId, number: int, *, relay_last_id: int | None = None
    ) -> None:
        waiting = self._store.outbox.find(number)
        group = self._rooms.group(conversation)
        if waiting is None or group is None:
            return
        source = decode_source(waiting.draft)
        first_id = self._store.messages.id_of(waiting.message)
        key = self._key(conversation, first_id or number)
        if not self._may_go(self._rooms.get(conversation), source):
            now_ms = self.clock()
            self._store.not_again(number, waiting, cause=Cause.NOT_AGAIN, at_ms=now_ms)
            self._told(key)
            return
        seal = self._seal(group, source, first_id=first_id)
        now = self._store.resending(number, group, seal=seal, relay_last_id=relay_last_id)
        self._answered(number)
        self._after = min(self._after, now - 1)
        self._told(key)

    def _key(self, conversation: ConversationId, message_id: int) -> MessageKey:
        return MessageKey(conversation=conversation, sender=self._me, message_id=message_id)

    def _may_go(self, room: Room, source: Source) -> bool:
        """Tell whether everybody who is in may read what goes out once more.

        What takes back, acknowledges and marks has no words: it tells who came in nothing.
        """
        is_new = source.said_in is None or source.said_in >= room.known.company
        return is_new or source.plaintext[0] in _WORDLESS

    # -- the connection ------------------------------------------------------------------------

    def connected(self, relay_last_id: int) -> None:
        """Begin with the oldest message again: which of them arrived is not known.

        Args:
            relay_last_id: The last id that the relay has accepted of this device: what it had taken
                before it was set back, and the archive has not, is sent once more.

        Raises:
            RolledBackError: The relay is ahead of this store.
        """
        self._store.outbox.to_send(relay_last_id, limit=1)
        for number in self._store.forgotten(relay_last_id):
            waiting = self._store.outbox.find(number)
            if waiting is not None and self.is_ready(self._rooms.get(waiting.conversation)):
                self._again(waiting.conversation, number, relay_last_id=relay_last_id)
        self._drop_forgotten(relay_last_id)
        self._unsure = self._store.outbox.waiting_anywhere()
        self._in_flight.clear()
        self._due_s.clear()
        self._stale.clear()
        self._after, self._paused_until_s = 0, 0.0
        self.wake()

    def _drop_forgotten(self, relay_last_id: int) -> None:
        """Drop own Commits that the relay had taken and was set back behind: no verdict comes."""
        for conversation in self._store.groups.staged_conversations():
            for staged in self._rooms.view(self._rooms.get(conversation)).staged:
                own = staged.committer == self._me and not staged.welcome
                waits = self._store.outbox.find(staged.message_id) is not None
                if own and staged.message_id > relay_last_id and not waits:
                    self._store.drop(conversation, staged.reference)

    def wake(self) -> None:
        """Look again whether something is to be sent."""
        self._wake.set()

    async def pump(self, link: Link) -> None:
        """Send what waits, in order, until the connection ends.

        Raises:
            LostError: It has, or an answer is not to be expected on it any more.
            RolledBackError: The relay is ahead of this store.
        """
        while True:
            self._wake.clear()
            pause_s = self._paused_until_s - asyncio.get_running_loop().time()
            if pause_s > 0:
                await asyncio.sleep(pause_s)
                continue
            for frame in self._next(link.last_id):
                await link.send(frame)
            try:
                async with asyncio.timeout_at(min(self._due_s.values(), default=None)):
                    await self._wake.wait()
            except TimeoutError:
                self._give_up_waiting()

    def _give_up_waiting(self) -> None:
        """Let go of a connection on which something is not answered, or not explained.

        Raises:
            LostError: It waits still.
        """
        now_s = asyncio.get_running_loop().time()
        overdue = [number for number, at_s in self._due_s.items() if at_s <= now_s]
        for number in overdue:
            del self._due_s[number]
        if any(self._store.outbox.find(number) is not None for number in overdue):
            raise LostError

    def _next(self, relay_last_id: int) -> list[Frame]:
        oldest = min(self._in_flight, default=0)
        room = IN_FLIGHT_MESSAGES - len(self._in_flight)
        if room <= 0:
            return []
        frames: list[Frame] = []
        for one in self._store.outbox.to_send(relay_last_id, after=self._after, limit=room):
            if oldest and one.message_id - oldest >= IN_FLIGHT_MESSAGES:
                break
            oldest = oldest or one.message_id
            self._after = one.message_id
            stale = one.message_id in self._stale.get(one.conversation, ())
            if stale or one.message_id in self._in_flight:
                continue
            self._in_flight[one.message_id] = one.conversation
            self._due_s[one.message_id] = asyncio.get_running_loop().time() + ANSWER_S
            waiting = self._store.outbox.find(one.message_id)
            is_commit = waiting is not None and waiting.reference is not None
            frames.append(
                AppendCommit(message=one.sealed, welcome=one.welcome)
                if is_commit
                else Append(message=one.sealed)
            )
        return frames

    def accepted(self, frame: Accepted) -> None:
        """Note that the relay has messages; what did not go out on this connection it cannot."""
        found = zip(frame.message_ids, frame.sequences, strict=False)
        self._settle({number: at for number, at in found if number in self._in_flight})

    def came_back(self, number: int, sequence: int) -> None:
        """Note that the relay has a message, as it delivered it."""
        self._settle({number: sequence})

    def _settle(self, sequences: dict[int, int]) -> None:
        found = {number: self._store.outbox.find(number) for number in sequences}
        for number, waiting in found.items():
            if waiting is not None:
                kind = EntryKind.MESSAGE if waiting.reference is None else EntryKind.COMMIT
                sealed = self._store.outbox.sealed(number) or b""
                self.on_own(waiting.conversation, sequences[number], kind, sealed)
        self._store.accepted(sequences)
        for number, waiting in found.items():
            self._answered(number)
            self._doubted.discard(number)
            if waiting is not None and waiting.message is not None:
                first_id = self._store.messages.id_of(waiting.message)
                self._told(self._key(waiting.conversation, first_id))
        self._changes.tell(Change(kind=ChangeKind.STATUS))
        self.wake()

    def _answered(self, number: int) -> None:
        self._in_flight.pop(number, None)
        self._due_s.pop(number, None)

    def refused(self, frame: RefusedMessage) -> None:
        """Do what the relay's answer asks for."""
        number = frame.message_id
        waiting = self._store.outbox.find(number)
        code = _code(frame.code)
        is_commit = waiting is not None and waiting.reference is not None
        if code is Code.STALE_EPOCH and not is_commit and self._is_of(number, epoch=frame.detail):
            # It is about what went out before this was sealed anew, and came twice: sealed once
            # more, it would not be what the relay takes, and no proof of the archive's would fit.
            return
        if number not in self._in_flight:
            return
        self._answered(number)
        if waiting is None:
            return
        conversation = waiting.conversation
        if code in _LATER:
            pause_ms = min(frame.detail or PAUSE_MS, PAUSE_MAX_MS)
            self._paused_until_s = asyncio.get_running_loop().time() + pause_ms / 1000
            self._after = min(self._after, number - 1)
        elif code is Code.STALE_EPOCH and not is_commit:
            self._went_stale(conversation, number, epoch=frame.detail)
        else:
            self._give_up(conversation, number, code, is_commit=is_commit)
        self.wake()

    def _is_of(self, number: int, *, epoch: int) -> bool:
        """Tell whether what waits under an id is sealed for an epoch."""
        sealed = self._store.outbox.sealed(number)
        return sealed is not None and route(sealed).epoch == epoch

    def _went_stale(self, conversation: ConversationId, number: int, *, epoch: int) -> None:
        group = self._rooms.group(conversation)
        if group is not None and group.epoch == epoch:
            self._again(conversation, number)
            return
        self._stale.setdefault(conversation, []).append(number)
        if number not in self._doubted:
            self._doubted.add(number)
            self._due_s[number] = asyncio.get_running_loop().time() + STALE_S
        if group is not None and group.epoch > epoch:
            # It was restored, and so was the archive: sealed again, it would be refused again.
            self.on_behind(conversation, epoch)
        elif group is not None:
            self.on_passed(conversation)

    def _give_up(
        self, conversation: ConversationId, number: int, code: Code, *, is_commit: bool
    ) -> None:
        _log.info("refused", extra={"code": code.name})
        sealed = self._store.outbox.sealed(number) if is_commit else None
        epoch = None if sealed is None else route(sealed).epoch
        waiting = self._store.outbox.find(number)
        first_id = self._store.messages.id_of(waiting.message) if waiting else 0
        self._store.refused(number)
        self._told(self._key(conversation, first_id or number))
        self.on_refused(conversation, epoch, code)


def _code(number: int) -> Code:
    try:
        return Code(number)
    except ValueError:
        return Code.INVALID
