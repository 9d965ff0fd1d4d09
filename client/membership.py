"""Who is in a conversation: what this device wants changed, until it is so.

A change is kept as an *intent* until the roster is as it says, whatever Commits that takes: one
that loses its epoch to another, or is voided, is made again from what then holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import secrets
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec

from client import rules
from client.book import Ask, Book
from client.changes import Changes
from client.errors import DamagedError, RefusedError
from client.follow import roster_of
from client.followed import GENERATION, StagedCommit
from client.judging import Leaves
from client.key_packages import Identity
from client.pace import is_due
from client.records import Known, encode_known, staged_commit, staged_record
from client.rooms import Room, Rooms
from client.store import Draft, Sealed, Store
from client.views import Change, ChangeKind
from crypto.errors import CryptoError, DecodeError, InvalidError
from crypto.mls import Add, Group, KeyPackage, Remove
from crypto.mls import StagedCommit as NextEpoch
from crypto.mls.proposal import Proposal
from crypto.mls.tree_math import LeafIndex
from crypto.names import Role
from protocol import frames
from protocol.authenticated_data import AuthenticatedData, CommitData
from protocol.emergency import Guest, guest_of, let_in
from protocol.errors import Code
from protocol.group_context import ConversationType, WardlineContext
from protocol.identifiers import (
    CONVERSATION_ID_BYTES,
    ConversationId,
    DeviceId,
    UserName,
    conversation_log,
    user_of,
)

INTENT = "intent"
"""Rows of the cache: what this device wants changed, by conversation."""

RECORDER_USER = UserName("archive")
"""Whose device the recorder is, in every organisation."""

ATTEMPTS = 6
"""Commits for one intent that may be refused or voided before it is given up."""

AGAIN_MS = 5_000
"""How long until an intent is tried again, in ms, doubled with each attempt."""

PATIENCE_MS = 15_000
"""How long a conversation of several waits, in ms, for those who have no key package yet."""

LACKED_MOST = 6
"""How often the pause is doubled while somebody has no key package: up to five minutes."""

LOST_MS = 60_000
"""How old, in ms, a Commit is whose verdict comes no more, after a restore of the relay."""

CLAIMS_AT_ONCE = 16
"""Key packages asked for at once, half of the requests that may be in flight."""

Name = TypeVar("Name", bound=str)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What is to be so in a conversation.

    Attributes:
        add: People whose every device is in.
        remove: People with no device in.
        add_devices: Devices that are in.
        remove_devices: Devices that are not.
        renew: Devices that are to go and come back.
        context: The context that it has.
        cite: Hash of the statement that demands it.
        guests: Statements of two vouchers, each of which lets somebody in.
        leave: An epoch that is to end, whoever stays; 0 for none.
        attempts: Commits for it that came to nothing.
        since_ms: When it was first wanted.
    """

    add: tuple[UserName, ...] = ()
    remove: tuple[UserName, ...] = ()
    add_devices: tuple[DeviceId, ...] = ()
    remove_devices: tuple[DeviceId, ...] = ()
    renew: tuple[DeviceId, ...] = ()
    context: bytes = b""
    cite: bytes | None = None
    guests: tuple[bytes, ...] = ()
    leave: int = 0
    attempts: int = 0
    since_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """The next Commit towards an intent.

    Attributes:
        context: The first one's, or one that changes.
        leaves: Whether another epoch is wanted, though nothing changes.
    """

    add: tuple[DeviceId, ...] = ()
    remove: tuple[DeviceId, ...] = ()
    context: WardlineContext | None = None
    cite: bytes | None = None
    leaves: bool = False

    @property
    def is_nothing(self) -> bool:
        return not (self.add or self.remove or self.context or self.leaves)


class Membership:
    """Intents, and the Commits that they take.

    Attributes:
        on_given_up: Told the conversation of an intent that came to nothing.
    """

    def __init__(
        self,
        store: Store,
        book: Book,
        rooms: Rooms,
        *,
        identity: Identity,
        changes: Changes,
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._book = book
        self._rooms = rooms
        self._identity = identity
        self._changes = changes
        self._clock = clock
        self._me = identity.device
        self._user = user_of(identity.device)
        self._not_before: dict[ConversationId, int] = {}
        self._claimed: dict[ConversationId, dict[DeviceId, KeyPackage]] = {}
        self._lacked: dict[ConversationId, int] = {}
        self._wake = asyncio.Event()
        self.on_sent: Callable[[], None] = lambda: None
        self.on_given_up: Callable[[ConversationId], None] = lambda _: None

    @property
    def is_busy(self) -> bool:
        """Whether something that was wanted is not so yet, and could be."""
        wanted = (ConversationId(row.key) for row in self._store.cache.all(INTENT))
        return any(one not in self._lacked for one in wanted)

    # -- what is wanted ------------------------------------------------------------------------

    def begin(self, context: WardlineContext) -> ConversationId:
        """Keep a group of one, which the relay does not know yet; return its conversation."""
        conversation = ConversationId(secrets.token_bytes(CONVERSATION_ID_BYTES))
        now_ms = self._clock()
        group = Group.create(
            self._identity.own_package(now_ms),
            group_id=conversation,
            extensions=rules.setting(context).extensions,
        )
        known = Known(context=context.encode(), since_ms={self._me: now_ms})
        self._store.note(conversation, encode_known(known))
        self._store.began(conversation, group)
        return conversation

    def want(self, conversation: ConversationId, intent: Intent) -> None:
        """Keep what is to be so, joined with what was wanted before."""
        kept = self.intent(conversation)
        joined = intent if kept is None else _joined(kept, intent)
        self._keep(conversation, replace(joined, since_ms=joined.since_ms or self._clock()))
        self._not_before.pop(conversation, None)
        self._wake.set()

    def intent(self, conversation: ConversationId) -> Intent | None:
        """Return what is wanted of a conversation."""
        row = self._store.cache.get(INTENT, conversation)
        if row is None:
            return None
        try:
            return msgspec.msgpack.decode(row.value, type=Intent)
        except msgspec.MsgspecError:
            raise DamagedError("database") from None

    def outcasts(self, room: Room) -> set[DeviceId]:
        """Return devices with a leaf that are revoked, or of guests whose time is over."""
        context = self._rooms.context(room)
        over: set[DeviceId] = set()
        if context is not None and context.guests:
            members = self._rooms.members(room)
            over = rules.overstaying(context, members, at_ms=self._clock())
        revocations = self._book.trusted.trust.revocations
        if not revocations.devices and not revocations.certificates:
            return over
        members = self._rooms.members(room)
        return over | {
            name for name, one in members.items() if revocations.since_ms(one) is not None
        }

    def cast_out(self, conversation: ConversationId) -> None:
        """Remove who must not read any more, before anything is sent."""
        outcasts = self.outcasts(self._rooms.get(conversation))
        if outcasts:
            self.want(conversation, Intent(remove_devices=tuple(sorted(outcasts))))

    def refused(self, conversation: ConversationId, epoch: int | None, code: Code) -> None:
        """Note that the relay did not take a Commit that was to end an epoch."""
        if epoch is None:
            return
        self._missed(conversation, counts=code is not Code.COMMIT_CONFLICT)
        group = self._rooms.group(conversation)
        if code is Code.COMMIT_CONFLICT and group is not None and group.epoch == epoch:
            # What won has its verdict, by which this goes on at once. A relay that was set back
            # knows of no such thing: it is not asked as fast as it answers.
            self._not_before[conversation] = self._clock() + AGAIN_MS

    def moved(self, conversation: ConversationId) -> None:
        """Look again at what is wanted of a conversation, where another epoch began."""
        if self.intent(conversation) is not None:
            self._not_before.pop(conversation, None)
        self._wake.set()

    def wake(self) -> None:
        """Look again whether something is to be done."""
        self._wake.set()

    def start_over(self) -> None:
        """Forget what was wanted with keys that are gone; ask to be added again."""
        for row in self._store.cache.all(INTENT):
            self._drop(ConversationId(row.key))

    # -- working -------------------------------------------------------------------------------

    async def work(self, ask: Ask) -> None:
        """Do what is wanted, until the connection ends.

        Raises:
            LostError: It has.
        """
        while True:
            self._wake.clear()
            for row in self._store.cache.all(INTENT):
                await self._towards(ConversationId(row.key), ask)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s()):
                    await self._wake.wait()

    def _pause_s(self) -> float:
        now_ms = self._clock()
        times = self._not_before.values()
        soonest = min((time for time in times if time > now_ms), default=now_ms + AGAIN_MS)
        return max(0.05, min(soonest - now_ms, AGAIN_MS) / 1000)

    # -- intents -------------------------------------------------------------------------------

    async def _towards(self, conversation: ConversationId, ask: Ask) -> None:
        """Make the next Commit towards an intent, if it is time for one."""
        intent = self.intent(conversation)
        if intent is None or self._clock() < self._not_before.get(conversation, 0):
            return
        room = self._rooms.get(conversation)
        if self._rooms.group(conversation) is None:
            if room.known.ended:
                self._drop(conversation)
            return
        if self._waits(conversation):
            return  # Its verdict decides what is still to be done.
        try:
            await self._fresh(intent, room, ask)
            step = self._step(intent, room)
            if step.is_nothing:
                self._drop(conversation)
                return
            # What was claimed for a Commit that did not come about is kept for the next.
            claimed = self._claimed.setdefault(conversation, {})
            wanted = [name for name in step.add if name not in claimed]
            claimed.update(await self._claim(wanted, ask))
            self._commit(room, step, claimed)
        except (RefusedError, CryptoError):
            self._claimed.pop(conversation, None)
            self._missed(conversation, counts=True)

    def _waits(self, conversation: ConversationId) -> bool:
        """Tell whether a Commit waits for its verdict; one that a restored relay lost is dropped.

        Where the relay's copy had it, its verdict has come by then.
        """
        generation = self._store.cursor(conversation_log(conversation)) >> GENERATION
        waits = False
        for record in self._store.groups.staged(conversation):
            staged = staged_commit(record)
            is_old = staged.sequence > 0 and staged.sequence >> GENERATION < generation
            if is_old and is_due(staged.at_ms, now_ms=self._clock(), each_ms=LOST_MS):
                self._store.drop(conversation, staged.reference)
            else:
                waits = True
        return waits

    async def _fresh(self, intent: Intent, room: Room, ask: Ask) -> None:
        group = self._rooms.group(room.conversation)
        now_ms = self._clock()
        users = {*intent.add, *map(user_of, intent.add_devices), *map(user_of, intent.renew)}
        users |= {guest.user for guest in _coming(intent, room, now_ms=now_ms)}
        begins = group is not None and group.epoch == 0
        if begins:
            users |= {self._user, RECORDER_USER}
        stale = [one for one in users if begins or not self._book.is_fresh(one, now_ms=now_ms)]
        if stale:
            try:
                await self._book.look_up(stale, ask, now_ms=now_ms)
            except RefusedError as error:
                # Who may look nobody up goes by what is known here.
                if error.code is not Code.FORBIDDEN:
                    raise

    def _step(self, intent: Intent, room: Room) -> _Step:
        """Return what is left to do."""
        group = self._rooms.group(room.conversation)
        assert group is not None  # noqa: S101 - the caller has looked
        members = self._rooms.members(room)
        wanted = {*intent.add_devices, *intent.renew}
        coming = _coming(intent, room, now_ms=self._clock())
        for user in {*intent.add, *(guest.user for guest in coming)}:
            wanted |= self._usable(user)
        if group.epoch == 0:
            wanted |= self._usable(self._user)
            assert room.context is not None  # noqa: S101 - a group has one
            wanted |= {room.context.recorder}
        remove = {name for name in members if user_of(name) in intent.remove}
        remove |= {name for name in intent.remove_devices if name in members}
        if room.context is not None and room.context.guests:
            remove |= rules.overstaying(room.context, members, at_ms=self._clock())
        renew = {
            name for name in intent.renew if name in members and self._is_old(room, intent, name)
        }
        add = {name for name in wanted if name not in members and self._is_usable(name)} | renew
        recorder = None if room.context is None else room.context.recorder
        remove = (remove | renew) - {self._me} - ({recorder} - renew)
        staying = {user_of(name) for name in (members.keys() - remove) | add}
        context = _other(intent, room, guests=self._guests(room, coming, staying=staying))
        return _Step(
            add=tuple(sorted(add)),
            remove=tuple(sorted(remove)),
            context=room.context if group.epoch == 0 else context,
            cite=intent.cite,
            leaves=0 < intent.leave == group.epoch,
        )

    def _guests(
        self, room: Room, coming: Iterable[Guest], *, staying: Collection[UserName]
    ) -> tuple[Guest, ...]:
        """Return the guests' entries after the next Commit."""
        now_ms = self._clock()
        before = () if room.context is None else room.context.guests
        # A guest whose key package is missing is not let in yet, nor is the statement used.
        after = tuple(one for one in before if now_ms < one.until_ms or one.user in staying)
        for guest in coming:
            after = let_in(after, guest) if guest.user in staying else after
        return after

    def _is_old(self, room: Room, intent: Intent, device: DeviceId) -> bool:
        """Tell whether a device that is to come back has not done so yet."""
        return room.known.since_ms.get(device, 0) < intent.since_ms

    def _usable(self, user: UserName) -> set[DeviceId]:
        now_ms, trusted = self._clock(), self._book.trusted
        return {
            DeviceId(one.name)
            for one in trusted.devices_of(user)
            if trusted.is_usable(one, at_ms=now_ms)
        }

    def _is_usable(self, device: DeviceId) -> bool:
        return device in self._usable(user_of(device))

    async def _claim(self, devices: Collection[DeviceId], ask: Ask) -> dict[DeviceId, KeyPackage]:
        """Return a key package of each device that has one.

        Raises:
            LostError: The connection ended.
        """
        gate = asyncio.Semaphore(CLAIMS_AT_ONCE)

        async def one(device: DeviceId) -> KeyPackage | None:
            async with gate:
                try:
                    answer = await ask(lambda ref: frames.ClaimKeyPackage(ref=ref, device=device))
                except RefusedError:
                    return None
            if not isinstance(answer, frames.KeyPackage):
                return None
            try:
                return KeyPackage.decode(answer.package)
            except (DecodeError, InvalidError):
                return None

        found = await asyncio.gather(*(one(device) for device in devices))
        return {
            device: package
            for device, package in zip(devices, found, strict=True)
            if package is not None
        }

    def _missed(self, conversation: ConversationId, *, counts: bool) -> None:
        intent = self.intent(conversation)
        if intent is None:
            return
        attempts = intent.attempts + counts
        if attempts >= ATTEMPTS:
            self._drop(conversation)
            self.on_given_up(conversation)
            return
        self._keep(conversation, replace(intent, attempts=attempts))
        if counts:
            self._not_before[conversation] = self._clock() + (AGAIN_MS << (attempts - 1))
        self._wake.set()

    def _keep(self, conversation: ConversationId, intent: Intent) -> None:
        row = msgspec.msgpack.encode(intent)
        self._store.cache.update(INTENT, {conversation: row}, at_ms=self._clock())

    def _drop(self, conversation: ConversationId) -> None:
        self._store.cache.update(INTENT, {conversation: None}, at_ms=self._clock())
        self._not_before.pop(conversation, None)
        self._lacked.pop(conversation, None)
        self._changes.tell(Change(kind=ChangeKind.STATUS))

    # -- Commits -------------------------------------------------------------------------------

    def _commit(self, room: Room, step: _Step, packages: dict[DeviceId, KeyPackage]) -> None:
        """Stage a Commit and let it wait in the outbox.

        Raises:
            CryptoError: It would break a rule.
        """
        conversation = room.conversation
        # Between here and the outbox nothing is awaited: the group stays what it is.
        group = self._rooms.group(conversation)
        if group is None or self._store.groups.staged(conversation):
            return
        added = {name: one for name, one in packages.items() if name in step.add}
        members = self._rooms.members(room)
        remove = [name for name in step.remove if name not in step.add or name in added]
        missing = [name for name in step.add if name not in added]
        recorder = None if room.context is None else room.context.recorder
        if group.epoch == 0 and (recorder in missing or self._lacks_people(room, added)):
            self._lack(conversation)
            return
        lacking = {*map(user_of, missing)} - {*map(user_of, added)}
        step = replace(step, context=_entered(step, room, without=lacking))
        changes = added or remove or step.leaves
        if not changes and (step.context is None or group.epoch == 0):
            self._lack(conversation)
            return
        places = _places(group, members, self._book)
        change = replace(
            step,
            add=tuple(sorted(added)),
            remove=tuple(sorted(name for name in remove if name in places)),
        )
        proposals: list[Proposal] = [
            *(Add(added[name]) for name in change.add),
            *(Remove(places[name]) for name in change.remove),
        ]
        if change.context is not None and group.epoch:
            proposals.append(rules.setting(change.context))
        self._stage(room, group, change, proposals)

    def _lack(self, conversation: ConversationId) -> None:
        """Try again after a pause, as somebody who is to be added has no key package yet."""
        self._lacked[conversation] = min(self._lacked.get(conversation, -1) + 1, LACKED_MOST)
        pause_ms = AGAIN_MS << self._lacked[conversation]
        self._not_before[conversation] = self._clock() + pause_ms

    def _lacks_people(self, room: Room, added: Collection[DeviceId]) -> bool:
        """Tell whether a conversation cannot begin yet for want of people to add.

        What waits to be said to one person is said to that person. A page goes out at once, also
        where nobody can have it yet: the relay escalates it, and calls by the second channel. Other
        conversations wait a little for everybody, and add the rest later.
        """
        intent = self.intent(room.conversation)
        wanted = set() if intent is None else set(intent.add)
        lacking = wanted - {user_of(device) for device in added}
        if not lacking or intent is None or room.context is None:
            return False
        kind = room.context.conversation_type
        if kind is ConversationType.PAGE:
            return False
        if kind is ConversationType.DIRECT or lacking == wanted:
            return True
        return self._clock() - intent.since_ms < PATIENCE_MS

    def _stage(self, room: Room, group: Group, change: _Step, proposals: list[Proposal]) -> None:
        leaves = Leaves(self._book.trusted.trust, entering_at_ms=self._clock())

        def seal(message_id: int, previous_id: int) -> Sealed:
            data = AuthenticatedData(
                message_id=message_id,
                previous_id=previous_id,
                commit=CommitData(
                    added=change.add,
                    removed=change.remove,
                    statement_hash=change.cite,
                    context=change.context,
                ),
            )
            after, staged = group.commit(
                proposals,
                authenticate=leaves,
                leave_out=group.pending,
                content=self._identity.renewed(group),
                authenticated_data=data.encode(),
            )
            record = staged_record(self._own(room, group, change, staged, message_id))
            return Sealed(
                group=after, message=staged.message, welcome=staged.welcome or b"", stages=record
            )

        draft = Draft(sender=self._me, at_ms=self._clock())
        self._store.sending(room.conversation, group, draft, seal=seal)
        self._book.know(leaves.seen, now_ms=self._clock())
        self._claimed.pop(room.conversation, None)
        self._lacked.pop(room.conversation, None)
        self.on_sent()

    def _own(
        self, room: Room, group: Group, change: _Step, staged: NextEpoch, message_id: int
    ) -> StagedCommit:
        assert room.context is not None  # noqa: S101 - a room with a group has one
        roster = roster_of(
            self._me,
            self._rooms.members(room),
            added=change.add,
            removed=change.remove,
            guests=_newcomers(room.context, change.context or room.context),
            known=self._book.trusted.trust.devices,
        )
        return StagedCommit(
            reference=hashlib.sha256(staged.message).digest(),
            epoch=group.epoch + 1,
            committer=self._me,
            at_ms=self._clock(),
            message_id=message_id,
            roster=roster,
            group=staged.group,
        )


def recorder_of(book: Book) -> DeviceId | None:
    """Return the organisation's recorder, where its device is known here."""
    for one in book.trusted.devices_of(RECORDER_USER):
        if Role.RECORDER in one.roles:
            return DeviceId(one.name)
    return None


def _joined(kept: Intent, more: Intent) -> Intent:
    """Return both; what is wanted later wins over what was wanted before."""
    return Intent(
        add=_both(kept.add, more.add, without=more.remove),
        remove=_both(kept.remove, more.remove, without=more.add),
        add_devices=_both(kept.add_devices, more.add_devices, without=more.remove_devices),
        remove_devices=_both(kept.remove_devices, more.remove_devices, without=more.add_devices),
        renew=_both(kept.renew, more.renew, without=()),
        context=more.context or kept.context,
        cite=more.cite or kept.cite,
        guests=(*kept.guests, *(one for one in more.guests if one not in kept.guests)),
        leave=max(kept.leave, more.leave),
        since_ms=max(kept.since_ms, more.since_ms),
    )


def _both(
    first: Iterable[Name], second: Iterable[Name], *, without: Iterable[Name]
) -> tuple[Name, ...]:
    return tuple(sorted(({*first} - {*without}) | {*second}))


def _coming(intent: Intent, room: Room, *, now_ms: int) -> list[Guest]:
    """Return the guests who are still to be let in."""
    if not intent.guests or room.context is None:
        return []
    known = {guest.user: guest for guest in room.context.guests}
    wanted = [guest_of(statement) for statement in intent.guests]
    return [
        guest
        for guest in wanted
        if now_ms < guest.until_ms
        and (guest.user not in known or known[guest.user].until_ms < guest.until_ms)
    ]


def _other(intent: Intent, room: Room, *, guests: tuple[Guest, ...]) -> WardlineContext | None:
    """Return the context that an intent wants, where it is another than there is."""
    wanted = WardlineContext.decode(intent.context) if intent.context else room.context
    if wanted is None:
        return None
    wanted = replace(wanted, guests=guests)
    return None if wanted == room.context else wanted


def _entered(step: _Step, room: Room, *, without: Collection[UserName]) -> WardlineContext | None:
    """Return a step's context without guests who cannot come yet: a statement lets in once."""
    if step.context is None or room.context is None or room.context == step.context:
        return step.context
    known = room.context.guests
    guests = tuple(one for one in step.context.guests if one in known or one.user not in without)
    context = replace(step.context, guests=guests)
    return None if context == room.context else context


def _newcomers(before: WardlineContext, after: WardlineContext) -> list[Guest]:
    return [guest for guest in after.guests if guest not in before.guests]


def _places(group: Group, members: rules.Members, book: Book) -> dict[DeviceId, LeafIndex]:
    """Return where each device stands in the tree."""
    judge = book.judge
    found = {}
    for place, leaf in group.members:
        identity = judge.device_of(leaf)
        if identity is not None and identity.name in members:
            found[DeviceId(identity.name)] = place
    return found
