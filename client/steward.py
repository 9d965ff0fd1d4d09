"""The steward's work, where it stays undone.

What the recorder does for everybody (receipts, who is revoked, who asks to be added again or to be
let out) a member does when nothing has happened for a while, each a little later than the one
before it in the roster, so that not all of them do it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from client.book import Ask, Book
from client.errors import RefusedError
from client.follow import judgement_on
from client.followed import Judgement
from client.following import ROSTER_KIND, Event
from client.key_packages import Identity
from client.membership import LOST_MS, Intent, Membership
from client.pace import is_due
from client.records import decode_known, decode_roster, encode_known
from client.rooms import Room, Rooms
from client.rules import Demand
from client.store import Store
from crypto.errors import DecodeError
from crypto.statement import Purpose, StatementType
from protocol import frames, limits
from protocol.group_context import GUESTS_VERSION
from protocol.identifiers import ConversationId, DeviceId, conversation_log, user_of
from protocol.requests import DeviceRequest, RequestKind, decode_request

RANK_MS = 2_000
"""How much later each member of the roster acts than the one before it, in ms."""

RANKS = 16
"""Members that take turns; the rest acts with the last of them."""

LOOK_MS = 5_000
"""How often to look whether something is due, in ms, where nothing says when."""

AGAIN_MS = 60 * 1000
REQUEST_MS = 60 * 60 * 1000
"""How long a request to be added again stands, in ms, the first and at the most: it is made again,
after twice as long each time. The relay's word that it is in the log is no proof."""

LOST_COMMITS = 1_000
"""Changes of members that are looked through, at most, for those that a restored relay has lost:
beyond what a conversation has between two backups."""

_WITH_GUESTS = bytes([GUESTS_VERSION])

_log = logging.getLogger(__name__)


@dataclass(order=True, slots=True)
class _Duty:
    """Something to do at a time, unless it was done by then."""

    at_ms: int
    conversation: ConversationId
    judgement: Judgement | None = field(default=None, compare=False)
    demand: Demand | None = field(default=None, compare=False)
    leave: int = field(default=0, compare=False)
    known: int = field(default=0, compare=False)
    forgotten: int | None = field(default=None, compare=False)
    lost: int | None = field(default=None, compare=False)


class Steward:
    """Does for a conversation what nobody else has done.

    Attributes:
        is_stale: Tells whether the relay still says that it is in another epoch than this device.
    """

    def __init__(
        self,
        store: Store,
        book: Book,
        rooms: Rooms,
        *,
        membership: Membership,
        identity: Identity,
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._book = book
        self._rooms = rooms
        self._membership = membership
        self._identity = identity
        self._clock = clock
        self._me = identity.device
        self._user = user_of(identity.device)
        self._duties: list[_Duty] = []
        self._asked: dict[ConversationId, tuple[int, int]] = {}
        self._leaving: dict[ConversationId, int] = {}
        self._reminded = False
        self._wake = asyncio.Event()
        self.is_stale: Callable[[ConversationId], bool] = lambda _: True

    # -- what is to be done --------------------------------------------------------------------

    def event(self, event: Event) -> None:
        """Act on what the log brought."""
        room = event.room
        if event.judgement is not None and event.judgement.confirms:
            self._due(room, after_ms=limits.RECEIPT_SILENCE_MS, judgement=event.judgement)
        if event.demand is not None:
            self._due(room, after_ms=limits.RECEIPT_SILENCE_MS, demand=event.demand)
        if event.forgotten is not None:
            # By then the recorder asks to be let in, too, and confirms what lets both in.
            self._due(room, after_ms=limits.RECEIPT_SILENCE_MS, forgotten=event.forgotten)
        if event.roster is not None:
            if self._me in (*event.roster.added, *event.roster.renewed):
                self._asked.pop(room.conversation, None)
            self._await_end(room)
        self._wake.set()

    def revoked(self) -> None:
        """Look where somebody is to be removed who has just been revoked."""
        revocations = self._book.trusted.trust.revocations
        gone = set(revocations.devices)
        for conversation, data in self._store.all_followed().items():
            known = decode_known(data)
            if gone & known.since_ms.keys() - known.until_ms.keys():
                self._due(self._rooms.get(conversation), after_ms=limits.RECEIPT_SILENCE_MS)

    def _await_end(self, room: Room) -> None:
        """Show a guest out once the time is over, where the recorder has not."""
        context = self._rooms.context(room)
        if context is None or not context.guests or room.known.ended:
            return
        ends_ms = min(guest.until_ms for guest in context.guests)
        left_ms = max(0, ends_ms - self._clock())
        self._due(room, after_ms=left_ms + limits.RECEIPT_SILENCE_MS)

    def wake(self) -> None:
        """Look again whether something is to be done."""
        self._wake.set()

    def behind(self, conversation: ConversationId, epoch: int) -> None:
        """Lead a relay on that was set back and knows an earlier epoch than this device.

        By another epoch, which it takes over with its receipt: in that, everybody can speak.

        Args:
            conversation: Where.
            epoch: What the relay knows.
        """
        group = self._rooms.group(conversation)
        if group is None or self._leaving.get(conversation) == group.epoch:
            return
        self._leaving[conversation] = group.epoch
        room = self._rooms.get(conversation)
        self._due(room, after_ms=limits.RECEIPT_SILENCE_MS, leave=group.epoch, known=epoch)

    def passed(self, conversation: ConversationId) -> None:
        """Ask to be added again where the relay has passed this device's epoch, if it stays so.

        What led on comes in a moment, unless a relay was restored that has lost it.
        """
        group = self._rooms.group(conversation)
        if group is None or any(
            duty.conversation == conversation and duty.lost is not None for duty in self._duties
        ):
            return
        self._due(self._rooms.get(conversation), after_ms=LOST_MS, lost=group.epoch)

    def start_over(self) -> None:
        """Forget what was due with keys that are gone; ask to be added again."""
        self._duties.clear()
        self._leaving.clear()
        self._asked.clear()
        self._reminded = False

    # -- working -------------------------------------------------------------------------------

    async def work(self, ask: Ask) -> None:
        """Do what is due, until the connection ends.

        Raises:
            LostError: It has.
        """
        self.remind()
        while True:
            self._wake.clear()
            await self._do_duties(ask)
            await self._ask_again(ask)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s()):
                    await self._wake.wait()

    def _pause_s(self) -> float:
        now_ms = self._clock()
        soonest = min((duty.at_ms for duty in self._duties), default=now_ms + LOOK_MS)
        return max(0.05, min(soonest - now_ms, LOOK_MS) / 1000)

    def remind(self) -> None:
        """Take up again, after a start, what waited for a receipt or for the steward."""
        if self._reminded:
            return
        self._reminded = True
        for conversation in self._store.groups.staged_conversations():
            room = self._rooms.get(conversation)
            self._due(room, after_ms=limits.RECEIPT_SILENCE_MS)
        for conversation, data in self._store.all_followed().items():
            known = decode_known(data)
            if known.returning:
                self._rooms.get(conversation)
            if known.context[:1] == _WITH_GUESTS:
                self._await_end(self._rooms.get(conversation))

    # -- the steward's work --------------------------------------------------------------------

    def _due(
        self,
        room: Room,
        *,
        after_ms: int,
        judgement: Judgement | None = None,
        demand: Demand | None = None,
        leave: int = 0,
        known: int = 0,
        forgotten: int | None = None,
        lost: int | None = None,
    ) -> None:
        members = sorted(self._rooms.members(room))
        rank = members.index(self._me) if self._me in members else len(members)
        at_ms = self._clock() + after_ms + min(rank, RANKS) * RANK_MS
        self._duties.append(
            _Duty(
                at_ms,
                room.conversation,
                judgement=judgement,
                demand=demand,
                leave=leave,
                known=known,
                forgotten=forgotten,
                lost=lost,
            )
        )
        self._wake.set()

    async def _do_duties(self, ask: Ask) -> None:
        now_ms = self._clock()
        due = [duty for duty in self._duties if duty.at_ms <= now_ms]
        self._duties = [duty for duty in self._duties if duty.at_ms > now_ms]
        for duty in sorted(due):
            room = self._rooms.get(duty.conversation)
            if self._rooms.group(duty.conversation) is None:
                continue
            if duty.judgement is not None:
                await self._confirm(room, duty.judgement, ask)
            elif duty.demand is not None:
                self._follow_demand(room, duty.demand)
            elif duty.leave:
                self._leave_epoch(room, duty.leave, known=duty.known)
            elif duty.forgotten is not None:
                came = [one for one in self._came(room) if one[0] > duty.forgotten]
                self._let_in_again(room, came)
            elif duty.lost is not None:
                self._lose_epoch(room, duty.lost)
            else:
                await self._confirm_staged(room, ask)
                self._membership.cast_out(duty.conversation)

    async def _confirm_staged(self, room: Room, ask: Ask) -> None:
        view = self._rooms.view(room)
        for staged in view.staged:
            # One of this device's own of which it does not know yet whether the relay has it.
            if staged.welcome or not staged.sequence:
                continue
            judgement = judgement_on(view, staged)
            if judgement is not None and judgement.confirms:
                await self._confirm(room, judgement, ask)

    async def _confirm(self, room: Room, judgement: Judgement, ask: Ask) -> None:
        """Sign the receipt of a Commit that still waits, where the recorder was silent."""
        verdict = judgement.verdict
        waits = any(
            one.reference == verdict.commit_hash
            for one in self._store.groups.staged(room.conversation)
        )
        if not waits or not judgement.committer or user_of(judgement.committer) == self._user:
            return
        statement = self._identity.sign(
            StatementType.EPOCH_RECEIPT, verdict.encode(), Purpose.DEVICE, now_ms=self._clock()
        )
        await self._post(room.conversation, statement, ask)

    def _follow_demand(self, room: Room, demand: Demand) -> None:
        """Do what a note in the log asks for, where nobody has."""
        if demand.by is None:
            return
        try:
            request = decode_request(demand.body)
        except DecodeError:
            return
        members = self._rooms.members(room)
        if request.kind is RequestKind.RE_ADD:
            if room.known.since_ms.get(demand.by, 0) < demand.at_ms and demand.by != self._me:
                intent = Intent(renew=(demand.by,), cite=demand.hash, since_ms=demand.at_ms)
                self._membership.want(room.conversation, intent)
            return
        user = user_of(demand.by)
        if user != self._user and any(user_of(name) == user for name in members):
            self._membership.want(room.conversation, Intent(remove=(user,), cite=demand.hash))

    def _leave_epoch(self, room: Room, epoch: int, *, known: int) -> None:
        """Want another epoch, and in it the recorder, where that was set back with the relay."""
        self._leaving.pop(room.conversation, None)
        group = self._rooms.group(room.conversation)
        if group is None or group.epoch != epoch or not self.is_stale(room.conversation):
            return
        context = self._rooms.context(room)
        for demand in room.known.demands.values():
            if context is not None and demand.by == context.recorder:
                self._follow_demand(room, demand)
        self._let_in_again(room, self._came(room)[known - epoch :])
        self._membership.want(room.conversation, Intent(leave=epoch))

    def _came(self, room: Room) -> list[tuple[int, set[DeviceId]]]:
        """Return who came in by each of the last Commits, and where in the log, oldest first."""
        rows = self._store.messages.of_kind(room.conversation, ROSTER_KIND, limit=LOST_COMMITS)
        rosters = [(row.place, decode_roster(row.content.data)) for row in rows]
        return [(place, {*one.added, *one.renewed}) for place, one in rosters]

    def _let_in_again(self, room: Room, came: Sequence[tuple[int, set[DeviceId]]]) -> None:
        """Let those in once more who came by Commits that a restored relay has lost.

        It does not know them as readers and gives them nothing, nor takes from them that they ask.
        An owner may do it for everybody, and each person for their own devices.
        """
        context, members = self._rooms.context(room), self._rooms.members(room)
        if context is None:
            return
        lost = set().union(*(devices for _, devices in came)) & members.keys()
        lost -= {self._me, context.recorder}
        if self._user not in context.owners:
            lost = {device for device in lost if user_of(device) == self._user}
        if lost:
            since_ms = 1 + max(room.known.since_ms.get(device, 0) for device in lost)
            intent = Intent(renew=tuple(sorted(lost)), since_ms=since_ms)
            self._membership.want(room.conversation, intent)

    def _lose_epoch(self, room: Room, epoch: int) -> None:
        """Ask to be added again, where this device is still in an epoch that is over."""
        group = self._rooms.group(room.conversation)
        if group is None or group.epoch != epoch or room.known.ended or room.known.away:
            return
        if not self.is_stale(room.conversation):
            return
        room.known = replace(room.known, away=True)
        self._store.note(room.conversation, encode_known(room.known))
        self._asked.pop(room.conversation, None)

    def adopt(self, device: DeviceId) -> None:
        """Let a further device of this person into everything, where the recorder has not."""
        for conversation in self._store.groups.conversations():
            known = self._rooms.get(conversation).known
            if device not in known.since_ms or device in known.until_ms:
                self._membership.want(conversation, Intent(add_devices=(device,)))

    # -- asking to be added again --------------------------------------------------------------

    async def _ask_again(self, ask: Ask) -> None:
        """Ask to be added again wherever this device has lost its place."""
        now_ms = self._clock()
        for conversation in self._away():
            asked_ms, pause_ms = self._asked.get(conversation, (0, 0))
            if not is_due(asked_ms, now_ms=now_ms, each_ms=pause_ms):
                continue
            request = DeviceRequest(kind=RequestKind.RE_ADD, conversation=conversation)
            if await self._request(request, ask):
                self._asked[conversation] = now_ms, min(max(AGAIN_MS, 2 * pause_ms), REQUEST_MS)

    def _away(self) -> list[ConversationId]:
        return [
            conversation
            for conversation in self._rooms.met()
            if self._rooms.get(conversation).known.returning
        ]

    async def leave(self, conversation: ConversationId, ask: Ask) -> None:
        """Ask to be let out of a conversation with all devices of this person.

        Raises:
            RefusedError: The relay does not take the note.
            LostError: The connection ended.
        """
        request = DeviceRequest(kind=RequestKind.LEAVE, conversation=conversation)
        statement = self._identity.sign(
            StatementType.DEVICE_REQUEST, request.encode(), Purpose.DEVICE, now_ms=self._clock()
        )
        log = conversation_log(conversation)
        await ask(lambda ref: frames.Post(ref=ref, log=log, statement=statement))

    async def _request(self, request: DeviceRequest, ask: Ask) -> bool:
        statement = self._identity.sign(
            StatementType.DEVICE_REQUEST, request.encode(), Purpose.DEVICE, now_ms=self._clock()
        )
        return await self._post(request.conversation, statement, ask)

    async def _post(self, conversation: ConversationId, statement: bytes, ask: Ask) -> bool:
        """Post a statement; tell whether the relay took it."""
        log = conversation_log(conversation)
        try:
            await ask(lambda ref: frames.Post(ref=ref, log=log, statement=statement))
        except RefusedError as error:
            # Somebody else was faster, or it is not this device's any more.
            _log.info("not taken", extra={"code": error.code.name})
            return False
        return True
