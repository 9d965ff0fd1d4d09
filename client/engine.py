"""The loop of a device: connect, take in, send, keep membership and keys, and come back.

One connection at a time, and on it, side by side: what comes, what goes, and what is to be kept in
order. The first that fails ends the others; then the device waits a little and connects again. What
is on the disk is all that goes over from one connection to the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

from client.book import STANDING, Book
from client.changes import Changes
from client.delivering import Delivering
from client.errors import (
    AbsentError,
    ClosedError,
    FullError,
    LinkError,
    LostError,
    NotConnectedError,
    RefusedError,
    RolledBackError,
    UnreachableError,
)
from client.following import Event, Following, MissingError
from client.inbox import OrderedError
from client.key_packages import Identity, KeyKeeping
from client.link import Address, Backoff, Credentials, Link
from client.membership import RECORDER_USER, Membership, recorder_of
from client.proofs import Proofs
from client.records import decode_known, encode_known
from client.rights import Rights
from client.rooms import Rooms
from client.sending import Sending
from client.steward import Steward
from client.store import Store
from client.tasks import together
from client.trusted import Taken
from client.views import Change, ChangeKind
from client.witness import Witness
from client.witnessed import Witnessed
from crypto.certificate import Root
from crypto.statement import StatementType
from crypto.trust import DeviceIdentity
from protocol import frames
from protocol.errors import Code
from protocol.frames import Deliver, Frame
from protocol.group_context import WardlineContext
from protocol.identifiers import ConversationId, DeviceId, LogId, conversation_log, user_of
from protocol.policy import Action, is_ruled
from protocol.session import State

Clock = Callable[[], int]
"""Gives now, milliseconds since the epoch."""

BATCH = 512
"""Frames taken in at once: so many share the store's sync, and the screen waits no longer."""

QUIET_S = 0.25
"""Seconds without anything new after which a device counts as caught up."""

TICK_S = 1.0
"""Seconds between looks at what waits for something that does not come."""

KEEPING_S = 600.0
"""Seconds between looks at keys, certificate and this person's devices."""

FULL_S = 30.0
"""Seconds to wait where the device's disk is full."""

SHUT_OUT_MS = 30_000
"""How long, in ms, until a device asks again that is not let in: the person, or the program, must
do something first, or a relay says so that lies."""

AHEAD_MOST = 1 << 32
"""Messages by which another copy of this store can be ahead: what is beyond is made up."""

_SHUT_OUT = (Code.REPLACED, Code.VERSION, Code.NOT_PROVED, Code.OUTDATED)

_log = logging.getLogger(__name__)


class Engine:
    """All parts of a device, and the loop that drives them.

    Attributes:
        rights: What the policy lets this device's person do.
        witnessed: What time it is by the relay and this device's clock.
        link: The present connection, proved and open; ``None`` without one.
        catching_up: Entries taken in since the connection opened while more were waiting.
        disk_full: Whether the last connection ended for lack of room on this disk.
        shut_out: Why the relay does not let this device in; ``None`` while it does.
        on_ordered: Does what a wipe order says, on the connection that is given.
    """

    def __init__(
        self,
        store: Store,
        *,
        credentials: Credentials,
        address: Address,
        root: Root,
        clock: Clock,
    ) -> None:
        self.store = store
        self.address = address
        self.credentials = credentials
        self.clock = clock
        self.me = credentials.device
        self.changes = Changes()
        self.identity = Identity.of(credentials, store=store, root=root)
        self.book = Book(store, root=root, me=self.me)
        self.rooms = Rooms(store, self.book, me=self.me)
        self.following = Following(store, self.book, self.rooms, changes=self.changes, me=self.me)
        self.membership = Membership(
            store,
            self.book,
            self.rooms,
            identity=self.identity,
            changes=self.changes,
            clock=clock,
        )
        self.steward = Steward(
            store,
            self.book,
            self.rooms,
            membership=self.membership,
            identity=self.identity,
            clock=clock,
        )
        self.sending = Sending(
            store, self.rooms, standing=self.membership, changes=self.changes, me=self.me
        )
        self.delivering = Delivering(self.rooms, self.sending, clock=clock)
        self.keys = KeyKeeping(store, self.book, self.identity)
        self.witness = Witness(store, self.book, self.following.gossip, identity=self.identity)
        self.witnessed = Witnessed(clock)
        self.proofs = Proofs(store, self.book, identity=self.identity)
        self.link: Link | None = None
        self.catching_up = 0
        self.disk_full = False
        self.shut_out: ClosedError | AbsentError | None = None
        self.on_ordered: Callable[[Link], Awaitable[None]] | None = None
        self.on_taken: Callable[[Taken, Deliver], None] = lambda *_: None
        self.on_ring: Callable[[Frame], None] = lambda _: None
        self.on_newcomers: Callable[[ConversationId], None] = lambda _: None
        self._caught_up = asyncio.Event()
        self._decided = asyncio.Event()
        self._met: set[DeviceId] = set()
        self._opened = asyncio.Event()
        self._kept = asyncio.Event()
        self._removed: set[ConversationId] = set()
        self._lapsed: set[ConversationId] = set()
        self._tie()

    def _tie(self) -> None:
        """Let each part tell the others what they act on."""
        following, sending, membership = self.following, self.sending, self.membership
        self.rights = Rights(self.book, self.rooms, self.identity, clock=self.clock)
        following.unanswered = sending.is_under_way
        following.accepted = following.inbox.on_recorded = sending.came_back
        following.on_event = self._event
        following.on_control = self._control
        following.on_came = self.delivering.came
        following.inbox.on_certificate = self._certified
        following.inbox.on_statement = self._stated
        sending.on_own = following.own
        sending.check = self.rights.check_sending
        sending.clock = self.clock
        sending.checkpoint = lambda: following.gossip.newest
        sending.on_blocked = membership.cast_out
        sending.on_refused = membership.refused
        sending.on_behind = self.steward.behind
        sending.on_passed = self.steward.passed
        self.steward.is_stale = sending.is_stale
        membership.on_sent = sending.wake

    # -- what one part tells the others --------------------------------------------------------

    def _event(self, event: Event) -> None:
        self.steward.event(event)
        if event.epoch:
            self.membership.moved(event.room.conversation)
        if event.leaving and event.room.conversation in self._removed:
            self._left(event.room.conversation)
        if event.epoch:
            self.sending.moved(event.room.conversation)
        if event.roster is not None and self._hands_over(event):
            self.on_newcomers(event.room.conversation)

    def _hands_over(self, event: Event) -> bool:
        """Tell whether it is this device that tells newcomers what they were not there for."""
        roster, context = event.roster, self.rooms.context(event.room)
        newcomers = {*roster.added, *roster.renewed} if roster is not None else set()
        if context is None or not newcomers:
            return False
        members = self.rooms.members(event.room)
        # By who has it and may say it: one policy holds for all, so all come to the same giver.
        able = {name for name, one in members.items() if self._may_tell(one, context)}
        before = sorted(able - newcomers - {context.recorder})
        if not before or self._is_first(event):
            return False
        # Whoever let them in is there now; the first of all may sleep.
        giver = roster.by if roster is not None and roster.by in before else before[0]
        return giver == self.me

    def _may_tell(self, device: DeviceIdentity, context: WardlineContext) -> bool:
        return not is_ruled(context.conversation_type) or self.rights.talks(device)

    def _is_first(self, event: Event) -> bool:
        group = self.rooms.group(event.room.conversation)
        return group is None or group.epoch <= 1

    def _control(self, taken: Taken, entry: Deliver) -> None:
        self.steward.revoked()
        self.on_taken(taken, entry)

    def _certified(self, der: bytes) -> None:
        if self.keys.certified(der, now_ms=self.clock()):
            self.credentials = replace(self.credentials, certificate=der)

    def _stated(self, kind: StatementType, statement: bytes) -> None:
        self.witness.asked(kind, statement, now_ms=self.clock())

    # -- the loop ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect and stay connected until cancelled.

        A relay's word, which nobody has signed, costs the connection: whoever is not let in asks
        again. That the device is revoked ends it, for nothing may stay open then: whoever opens it
        again asks for the order.

        Raises:
            ClosedError: The relay says that the device is revoked.
        """
        backoff = Backoff()
        while True:
            began = time.monotonic()
            pause_ms = 0
            try:
                await self._connected()
            except ClosedError as error:
                if error.code is Code.REVOKED:
                    raise
                pause_ms = error.detail
                if error.code in _SHUT_OUT:
                    pause_ms = self._is_shut_out(error)
            except AbsentError as error:
                pause_ms = self._is_shut_out(error)
            except MissingError:
                # What is missing is read again at once; where it stays missing, that is noted.
                backoff.held(float("inf"))
            except RolledBackError as error:
                if error.seen - error.have <= AHEAD_MOST:
                    self._start_over(error.seen)
            except FullError:
                # Nothing of it was kept or acknowledged: the relay gives it again.
                self.disk_full = True
                pause_ms = int(FULL_S * 1000)
            except (LinkError, OrderedError) as error:
                _log.info("disconnected", extra={"reason": type(error).__name__})
            finally:
                self._disconnected()
            backoff.held(time.monotonic() - began)
            await asyncio.sleep(backoff.pause_s(at_least_ms=pause_ms))

    def _is_shut_out(self, why: ClosedError | AbsentError) -> int:
        """Note why this device is not let in, and return how long to wait, in ms."""
        self.shut_out = why
        self._decided.set()
        self.changes.tell(Change(kind=ChangeKind.STATUS))
        return SHUT_OUT_MS

    async def _connected(self) -> None:
        """Be connected once, from the proof to the end.

        Raises:
            LinkError: The connection did not come about, or has ended.
        """
        link = await Link.open(self.address, replace(self.credentials))
        try:
            if link.state is State.ORDERED:
                if self.on_ordered is None:
                    raise ClosedError(Code.REVOKED)
                await self.on_ordered(link)
                return
            if link.state is State.ABSENT:
                raise AbsentError
            if link.state is not State.OPEN:
                raise UnreachableError
            await self._serve(link)
        finally:
            await link.close()

    async def _serve(self, link: Link) -> None:
        self.witnessed.hear(link.now_ms)
        self.sending.connected(link.last_id)
        self.link, self.shut_out = link, None
        self._opened.set()
        self.changes.tell(Change(kind=ChangeKind.STATUS))
        await together(
            self._receive(link),
            self.sending.pump(link),
            self._keep(link),
            self.membership.work(link.ask),
            self.steward.work(link.ask),
            self.delivering.work(),
            self.witness.work(link.ask, clock=self.clock),
            self._ask_for_proofs(link),
        )

    def _disconnected(self) -> None:
        self.link = None
        self.catching_up = 0
        self._caught_up.clear()
        self._kept.clear()
        self._lapsed.clear()
        self.following.lost()
        self.changes.tell(Change(kind=ChangeKind.STATUS))

    def _start_over(self, last_id: int) -> None:
        """Let go of keys that another copy of this store may have used; ask to be added again."""
        _log.warning("rolled back")
        for conversation in self.store.groups.conversations():
            known = decode_known(self.store.followed(conversation))
            self.store.note(
                conversation, encode_known(replace(known, away=True, lapsed=False, chains={}))
            )
            self.rooms.forget(conversation)
        self.store.start_over(last_id)
        self.membership.start_over()
        self.steward.start_over()
        self.keys.start_over()

    # -- what comes ----------------------------------------------------------------------------

    async def _receive(self, link: Link) -> None:
        while True:
            try:
                timeout_s = TICK_S if self._caught_up.is_set() else QUIET_S
                async with asyncio.timeout(timeout_s):
                    first = await link.receive()
            except TimeoutError:
                await self._quiet(link)
                continue
            batch = [first]
            while len(batch) < BATCH and (more := link.receive_now()) is not None:
                batch.append(more)
            await self._take(batch, link)
            if not self._caught_up.is_set():
                self.catching_up += len(batch)
                self.changes.tell(Change(kind=ChangeKind.STATUS))

    async def _quiet(self, link: Link) -> None:
        """Look at what waits, where nothing comes."""
        await self._acknowledge(link, await self.following.again(link.ask, now_ms=self.clock()))
        if not self._caught_up.is_set() and self._kept.is_set():
            self.catching_up = 0
            self.disk_full = False
            self._caught_up.set()
            self._decided.set()
            self._stands_again()
            self.sending.release_all()
            self.changes.tell(Change(kind=ChangeKind.STATUS))

    async def _take(self, batch: Iterable[Frame], link: Link) -> None:
        """Take frames in, in their order, entries that come together in one transaction."""
        entries: list[Deliver] = []
        for frame in batch:
            if isinstance(frame, Deliver):
                entries.append(frame)
                continue
            await self._follow(entries, link)
            entries = []
            self._answered(frame)
            await self._acknowledge(link, await self.following.again(link.ask, now_ms=self.clock()))
        await self._follow(entries, link)

    async def _follow(self, entries: list[Deliver], link: Link) -> None:
        if entries:
            through = await self.following.take(entries, link.ask, now_ms=self.clock())
            await self._acknowledge(link, through)

    async def _acknowledge(self, link: Link, through: dict[LogId, int]) -> None:
        """Tell the relay what is on this disk."""
        for log, cursor in through.items():
            await link.send(frames.Acknowledge(log=log, through=cursor))

    def _answered(self, frame: Frame) -> None:
        if isinstance(frame, frames.Accepted):
            self.sending.accepted(frame)
        elif isinstance(frame, frames.RefusedMessage):
            self.sending.refused(frame)
        elif isinstance(frame, frames.Ended):
            self._ended(frame)
        elif isinstance(frame, frames.Behind):
            self.following.led_back(LogId(frame.log), frame.through, now_ms=self.clock())
        else:
            self.on_ring(frame)

    def _ended(self, frame: frames.Ended) -> None:
        """A log has nothing more for this device: it was removed there, or away for too long."""
        if frame.log[:1] != b"c":
            return
        conversation = ConversationId(frame.log[1:])
        room = self.rooms.get(conversation)
        if frame.code == Code.REMOVED:
            # Believed together with a signed Commit, before which it may come, and never alone.
            self._removed.add(conversation)
            if room.known.ended:
                self._left(conversation)
            return
        if frame.code == Code.EXPIRED:
            self._lapsed.add(conversation)
            room.known = replace(room.known, lapsed=True)
            self.store.note(conversation, encode_known(room.known))
            self.steward.wake()

    def _stands_again(self) -> None:
        """Believe that this device has its places where the relay says no longer that it has not.

        Whoever has lost one is told on each connection.
        """
        for conversation in self.rooms.met():
            room = self.rooms.get(conversation)
            if room.known.lapsed and conversation not in self._lapsed:
                room.known = replace(room.known, lapsed=False)
                self.store.note(conversation, encode_known(room.known))

    def _left(self, conversation: ConversationId) -> None:
        room = self.rooms.get(conversation)
        self.store.left(conversation, encode_known(room.known))
        self._removed.discard(conversation)
        for kind in (ChangeKind.MEMBERS, ChangeKind.CONVERSATIONS):
            self.changes.tell(Change(kind=kind, conversation=conversation))

    # -- what is kept in order -----------------------------------------------------------------

    async def _keep(self, link: Link) -> None:
        while True:
            now_ms = self.clock()
            await self._learn_standing(link)
            await self.keys.publish(link.ask, now_ms=now_ms)
            await self._look_after_own(link)
            await self.keys.renew(recorder_of(self.book), link.ask, now_ms=now_ms)
            self._kept.set()
            self.witness.wake()
            await asyncio.sleep(KEEPING_S)

    async def _ask_for_proofs(self, link: Link) -> None:
        # Those that wait in the inbox have been taken in by then.
        await self._caught_up.wait()
        while True:
            await self.proofs.ask_again(link.ask, now_ms=self.clock())
            await asyncio.sleep(KEEPING_S)

    async def _learn_standing(self, link: Link) -> None:
        """Learn what stands in the organisation, where this device has not been told yet."""
        after = int.from_bytes(self.store.settings.get(STANDING) or b"", "big")
        gone_back = False
        while True:
            number = after
            answer = await link.ask(lambda ref, n=number: frames.Standing(ref=ref, after=n))  # type: ignore[misc]
            if not isinstance(answer, frames.Statements):
                return
            for entry in answer.entries:
                await self.book.find_signers(entry.statement, link.ask, now_ms=self.clock())
                self.book.take(entry.statement, sequence=0, at_ms=entry.at_ms, now_ms=self.clock())
            after = max((entry.number for entry in answer.entries), default=number)
            if after == number or (after < number and gone_back):
                # Nothing more, or a relay that promises more and gives none.
                break
            # Whoever has been told of a number that never was is told everything, once.
            gone_back = gone_back or after < number
            self.store.settings.put(STANDING, after.to_bytes(8, "big"))
            if not answer.more:
                break
        self.steward.revoked()
        self.changes.tell(Change(kind=ChangeKind.DIRECTORY))

    async def _look_after_own(self, link: Link) -> None:
        """Learn of this person's devices; let in which the recorder has not let in.

        And of the recorder's, by which a certificate is renewed: who is in no conversation, as an
        administrator may be, meets it nowhere else.
        """
        now_ms = self.clock()
        try:
            users = (user_of(self.me), RECORDER_USER)
            await self.book.look_up(users, link.ask, now_ms=now_ms)
        except RefusedError:
            return
        self._adopt(now_ms)
        self.changes.tell(Change(kind=ChangeKind.DIRECTORY))

    def _adopt(self, now_ms: int) -> None:
        """Let in this person's other devices that the recorder has had time enough for."""
        for one in self.book.trusted.devices_of(user_of(self.me)):
            device = DeviceId(one.name)
            if device == self.me or not self.book.trusted.is_usable(one, at_ms=now_ms):
                continue
            if device in self._met:
                self.steward.adopt(device)
            self._met.add(device)

    # -- for the facade ------------------------------------------------------------------------

    async def caught_up(self, timeout_s: float) -> None:
        """Return once the relay serves this device and all that waited has been taken in.

        Raises:
            NotConnectedError: That took longer.
            ClosedError: The relay does not let this device in as it is.
            AbsentError: It was away for so long that password and code are asked for.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not self._caught_up.is_set():
                    if self.shut_out is not None:
                        raise self.shut_out
                    self._decided.clear()
                    await self._decided.wait()
        except TimeoutError:
            raise NotConnectedError from None

    async def ask(self, make: Callable[[int], Frame]) -> Frame:
        """Send a request on the present connection and return its answer.

        Raises:
            NotConnectedError: There is none, or it ended.
            RefusedError: The request had no effect.
        """
        if self.link is None:
            raise NotConnectedError
        try:
            return await self.link.ask(make)
        except LostError:
            raise NotConnectedError from None

    async def authenticate(self, password: str, code: str) -> None:
        """Prove password and one-time code, and hand back the policy that a relay has forgotten.

        Relay and archive may both have been restored; where they were not, it is refused.

        Raises:
            NotConnectedError: There is no connection.
            RefusedError: One is wrong, or it is too early for another try.
        """
        if self.link is None:
            raise NotConnectedError
        await self.link.authenticate(password, code)
        trusted = self.book.trusted
        if trusted.signed_policy and trusted.may(self.me, Action.COMMAND):
            statement = trusted.signed_policy
            with contextlib.suppress(RefusedError):
                await self.ask(lambda ref: frames.Command(ref=ref, statement=statement))

    async def token(self) -> bytes:
        """Return the token of an open connection, waiting for one."""
        while self.link is None or not self.link.token:
            self._opened.clear()
            await self._opened.wait()
        return self.link.token

    def cursor(self, conversation: ConversationId) -> int:
        """Return up to where a conversation's log is on this disk."""
        return self.store.cursor(conversation_log(conversation))
