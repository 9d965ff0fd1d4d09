"""A device, as every face uses it: conversations to read, things to do, and what changed.

Reading is synchronous and comes from the store alone, so it works without network. Acting returns
once the act is on this device's disk; what becomes of it shows as changes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from client import thread
from client.attaching import Attaching
from client.emergency import Emergencies
from client.engine import Clock, Engine
from client.errors import (
    DamagedError,
    EndedError,
    ForbiddenError,
    GoneError,
    NotMemberError,
    NotOutError,
    NotSaidError,
    ReturningError,
    UnknownUserError,
)
from client.history import HandingOver
from client.link import Address, Credentials, Link
from client.membership import RECORDER_USER, Intent, recorder_of
from client.messages import MessageKey, PersonState
from client.page_course import Course
from client.pages import Pages
from client.paging import Paging
from client.reading import Reading
from client.records import Source, encode_known, with_read
from client.rooms import Room
from client.statements import Statements
from client.store import Store
from client.transfer import Progress, unheard
from client.unlocking import ROOT
from client.views import (
    Change,
    ChangeKind,
    Control,
    DeviceView,
    Letter,
    Membership,
    MemberView,
    PersonView,
    Shown,
    Status,
    Summary,
)
from crypto.certificate import pin_root
from crypto.errors import CryptoError, DecodeError, InvalidError
from crypto.trust import DeviceIdentity, Trust
from protocol import content as typed
from protocol.authenticated_data import EVERYBODY, Priority, Target
from protocol.commands import ChangeMembers, SetLogPolicy, decode_command
from protocol.content import Acknowledgement, Attachment, Card, Content, Read, Retraction
from protocol.frames import Frame
from protocol.group_context import ConversationType, WardlineContext
from protocol.identifiers import (
    ConversationId,
    DeviceId,
    OrganisationId,
    RoleName,
    UserName,
    user_of,
)
from protocol.oncall.configuration import Configuration
from protocol.policy import Policy
from protocol.retention import default_class

READ_LOOK = 64
"""Messages before a place among which the last one of somebody else is looked for."""


class Device:
    """An open device; for one event loop and its thread.

    Attributes:
        me: This device.
        user: Its person.
        organisation: Its organisation.
        address: Where its relay is.
        engine: What drives it; for the parts of this package.
        duty: Who is on call, and pages.
        emergency: Emergency access to conversations.
        handing_over: Handing over what was said in the last hours.
        rights: What the policy lets its person do.
        statements: What it signs beside messages.
    """

    def __init__(self, engine: Engine, *, files: Path | None = None) -> None:
        self.engine = engine
        self._attaching = None if files is None else Attaching(engine, files)
        self.me = engine.me
        self.user = user_of(engine.me)
        self.organisation = OrganisationId(engine.book.trusted.trust.root.organisation)
        self.address = engine.address
        self.rights = engine.rights
        self._store = engine.store
        self._said = engine.store.outbox.last_id
        self._reading = Reading(engine)
        self._paging = Paging(engine)
        self.statements = Statements(engine)
        self.duty = Pages(self)
        self._paging.duty = self.duty
        self.emergency = Emergencies(self)
        self.handing_over = HandingOver(self)
        self._reading.is_hidden = self._is_hidden
        engine.on_newcomers = self._hand_card

    @classmethod
    def over(
        cls,
        store: Store,
        *,
        credentials: Credentials,
        address: Address,
        clock: Clock,
        files: Path | None = None,
        on_ordered: Callable[[Link], Awaitable[None]] | None = None,
        on_certificate: Callable[[bytes], None] | None = None,
    ) -> Device:
        """Return the device whose store was opened.

        Args:
            store: Open.
            credentials: With the device's own key.
            address: Its relay.
            clock: Gives now, milliseconds since the epoch.
            files: Where encrypted streams of attachments are kept: the profile's ``files``.
            on_ordered: Does what a wipe order says, on the connection that brings it.
            on_certificate: Keeps the device's newest certificate, DER, for when it is locked; told
                at once, and again each time one comes.

        Raises:
            DamagedError: What the store holds is not what was written.
            StoreError: ``on_certificate`` could not keep it.
        """
        kept = store.settings.get(ROOT)
        try:
            root = pin_root(kept or b"", organisation=address.organisation)
        except CryptoError:
            raise DamagedError("database") from None
        engine = Engine(store, credentials=credentials, address=address, root=root, clock=clock)
        engine.on_ordered = on_ordered
        if on_certificate is not None:
            # The store has each first: a stop between the two is made up for here.
            on_certificate(engine.identity.certificate)
            engine.keys.on_certified = on_certificate
        return cls(engine, files=files)

    def close(self) -> None:
        """Close the store, and the connection for files; what runs is ended before."""
        if self._attaching is not None:
            self._attaching.close()
        self._store.close()

    # -- living --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect, follow, send and heal, until cancelled.

        Raises:
            ClosedError: The relay says that the device is revoked; else it is asked again.
        """
        await self.engine.run()

    async def online(self, timeout_s: float) -> None:
        """Return once the relay serves this device and all that waited has been taken in.

        Raises:
            NotConnectedError: That took longer.
            ClosedError: The relay does not let the device in as it is.
            AbsentError: It was away for so long that password and code are asked for.
        """
        await self.engine.caught_up(timeout_s)

    async def settled(self, timeout_s: float) -> None:
        """Return once what this run said is sent, and nothing that was wanted is left to do.

        What an earlier run left waiting goes on by itself: it may wait for somebody else's device,
        and whoever says something now is not kept for that.

        Raises:
            NotOutError: That took longer.
        """
        changes = self.watch()
        try:
            async with asyncio.timeout(timeout_s):
                while self.engine.sending.waits_after(self._said) or self.engine.membership.is_busy:
                    await anext(changes)
        except TimeoutError:
            raise NotOutError from None

    @property
    def status(self) -> Status:
        """How the device stands."""
        return self._reading.status()

    def watch(self) -> AsyncIterator[Change]:
        """Return changes from now on; a slow watcher loses none, it gets them joined."""
        return self.engine.changes.watch()

    # -- reading -------------------------------------------------------------------------------

    def conversations(self, limit: int | None = None) -> list[Summary]:
        """Return every conversation, or the first of them: those with the newest messages."""
        return self._reading.conversations(limit)

    def alarming(self) -> list[Summary]:
        """Return the conversations in which something is STAT and unread."""
        return self._reading.alarming()

    def released(self) -> list[Summary]:
        """Return the conversations with unread messages that waited for this person's shift."""
        return self._reading.released()

    def summary(self, conversation: ConversationId) -> Summary:
        """Return one conversation.

        Raises:
            NotMemberError: This device has never been in it.
        """
        return self._reading.summary(conversation)

    def messages(
        self, conversation: ConversationId, *, limit: int, before: int | None = None
    ) -> list[Shown]:
        """Return the last messages of a thread, oldest first; ``before`` is a place."""
        return self._reading.messages(conversation, limit=limit, before=before)

    def message(self, key: MessageKey) -> Shown | None:
        """Return one message, or None."""
        return self._reading.message(key)

    def history(self, key: MessageKey) -> list[Shown]:
        """Return what a message said before it was edited, oldest first."""
        return self._reading.history(key)

    def members(self, conversation: ConversationId) -> list[MemberView]:
        """Return the people of a conversation, and the archive last.

        Raises:
            NotMemberError: This device has never been in it.
        """
        return self._reading.members(self.engine.rooms.get(conversation))

    def search(self, text: str, *, conversation: ConversationId | None = None) -> list[Shown]:
        """Return messages that have every word of ``text``, newest first."""
        return self._reading.search(text, conversation)

    def directory(self, text: str = "") -> list[PersonView]:
        """Return people whose name, user name, role or ward is like ``text``, best first."""
        return self._reading.directory(text, self.duty.having())

    def devices(self, user: UserName | None = None) -> list[DeviceView]:
        """Return this person's devices, or another's as far as ``look_up`` has learnt of them."""
        return self._reading.devices(user or self.user)

    def identity(self, device: DeviceId) -> DeviceIdentity | None:
        """Return what is proved of a device, where it is known here; ``look_up`` asks for it."""
        found = self.engine.book.trusted.devices_of(user_of(device))
        return next((one for one in found if one.name == device), None)

    @property
    def policy(self) -> Policy:
        """The organisation's policy, as this device knows it."""
        return self.engine.book.trusted.policy

    @property
    def holders(self) -> Mapping[RoleName, tuple[UserName, ...]]:
        """Who may hold each role that can be paged."""
        return self.engine.book.trusted.holders

    def controls(self, since: int = 0) -> list[Control]:
        """Return the control log as this device read it, behind number ``since``."""
        return self.engine.book.controls(since)

    def memberships(self) -> list[Membership]:
        """Return which devices are and were in the conversations that this device knows."""
        return self._reading.memberships()

    # -- acting --------------------------------------------------------------------------------

    async def start(
        self,
        kind: ConversationType,
        users: Collection[UserName],
        *,
        title: str = "",
        patient: str | None = None,
        retention_class: str | None = None,
        all_own: bool = False,
    ) -> ConversationId:
        """Begin a conversation with these people; with ``all_own`` each of them owns it too.

        Where no retention class is given, it is kept as its type is.

        Raises:
            UnknownUserError: The relay knows no device of one of them.
            NotConnectedError: Somebody's devices are not known here, and there is no connection.
            NotAllowedError: The policy does not let this person.
            BarredError: It does not let one of them be in conversations.
        """
        others = sorted({*users} - {self.user})
        await self._know(others)
        self.rights.check_bringing(kind, others)
        of_all = all_own or kind is ConversationType.DIRECT
        owners = {self.user, *others} if of_all else {self.user}
        context = WardlineContext(
            organisation=self.organisation,
            conversation_type=kind,
            owners=tuple(sorted(owners)),
            recorder=await self._recorder(),
            retention_class=retention_class or default_class(kind),
        )
        conversation = self.engine.membership.begin(context)
        self.engine.membership.want(conversation, Intent(add=tuple(others)))
        if title or patient:
            card = Card(title=title, patient=patient or "")
            await self.send(conversation, card, priority=Priority.INFO)
        self.engine.changes.tell(Change(kind=ChangeKind.CONVERSATIONS, conversation=conversation))
        return conversation

    async def _know(self, users: Collection[UserName]) -> None:
        trusted = self.engine.book.trusted
        unknown = [user for user in users if not trusted.devices_of(user)]
        if unknown:
            await self.look_up(unknown)
        if not all(self.engine.book.trusted.devices_of(user) for user in users):
            raise UnknownUserError

    async def _recorder(self) -> DeviceId:
        if recorder_of(self.engine.book) is None:
            await self.look_up([RECORDER_USER])
        found = recorder_of(self.engine.book)
        if found is None:
            raise UnknownUserError
        return found

    async def send(
        self,
        conversation: ConversationId,
        content: Content,
        *,
        priority: Priority = Priority.ROUTINE,
        target: Target = EVERYBODY,
        acknowledgement_asked: bool = False,
    ) -> Shown | None:
        """Send content; return it as the thread shows it, or None for what is no message.

        Raises:
            NotMemberError: This device is not in the conversation.
            EndedError: It is no longer.
            ArchiveMissingError: The archive is not in it.
            NotAllowedError: The policy does not let this person say anything here.
            NotSaidError: This person may not say that here.
        """
        source = Source(
            plaintext=typed.encode(content),
            priority=priority,
            acknowledgement_asked=acknowledgement_asked,
            target=target,
        )
        key = self.engine.sending.say(conversation, source, now_ms=self.engine.clock())
        return self.message(key)

    async def change_members(
        self,
        conversation: ConversationId,
        *,
        add: Collection[UserName] = (),
        remove: Collection[UserName] = (),
        statement: bytes | None = None,
    ) -> None:
        """Let people in or out; done by as many Commits as it takes.

        Args:
            conversation: Where.
            add: People whose every device comes in.
            remove: People whose every device goes.
            statement: A signed command that demands it, where this person is no owner.

        Raises:
            NotMemberError: This device is not in the conversation.
            ForbiddenError: This person may not, and no statement demands it.
            BarredError: The policy does not let one of them be in conversations.
            UnknownUserError: The relay knows no device of one of them.
        """
        room = self._room(conversation)
        context = self.engine.rooms.context(room)
        assert context is not None  # noqa: S101 - a room has one
        cite = None if statement is None else self._cited(statement, conversation)
        if cite is None and self.user not in context.owners:
            raise ForbiddenError
        await self._know(add)
        self.rights.check_bringing(context.conversation_type, add)
        intent = Intent(add=tuple(sorted(add)), remove=tuple(sorted(remove)), cite=cite)
        self.engine.membership.want(conversation, intent)

    def _cited(self, statement: bytes, conversation: ConversationId) -> bytes:
        """Return the hash of a command that stands in the control log."""
        demand = self.engine.book.trusted.demands.get(hashlib.sha256(statement).digest())
        try:
            command = None if demand is None else decode_command(demand.body)
        except (DecodeError, InvalidError):
            raise ForbiddenError from None
        if isinstance(command, ChangeMembers) and command.conversation == conversation:
            return hashlib.sha256(statement).digest()
        raise ForbiddenError

    def _room(self, conversation: ConversationId) -> Room:
        room = self.engine.rooms.get(conversation)
        if room.known.ended:
            raise EndedError
        if self.engine.rooms.group(conversation) is None:
            raise ReturningError if room.known.returning else NotMemberError
        return room

    async def set_owners(self, conversation: ConversationId, owners: Collection[UserName]) -> None:
        """Say who may change the members from now on.

        Raises:
            NotMemberError: This device is not in the conversation.
            ForbiddenError: This person is no owner.
            InvalidError: An owner is not in it, or there would be none or too many.
        """
        room = self._room(conversation)
        context = self.engine.rooms.context(room)
        assert context is not None  # noqa: S101 - a room has one
        if self.user not in context.owners:
            raise ForbiddenError
        self.rights.check_sending(context.conversation_type)
        if not set(owners) <= self._reading.people_of(room.known, context):
            raise InvalidError("owners are people of the conversation")
        changed = replace(context, owners=tuple(sorted(set(owners))))
        self.engine.membership.want(conversation, Intent(context=changed.encode()))

    async def leave(self, conversation: ConversationId) -> None:
        """Ask to be let out; a member does it.

        Raises:
            NotMemberError: This device is not in the conversation.
            NotConnectedError: There is no connection.
            RefusedError: The relay does not take it.
        """
        self._room(conversation)
        await self.engine.steward.leave(conversation, self.engine.ask)

    async def mark_read(self, conversation: ConversationId, through_place: int) -> None:
        """Note that this person has read a thread up to a place; the senders are told."""
        room = self.engine.rooms.get(conversation)
        if through_place <= room.known.read_through or not self.rights.may_view(conversation):
            return
        page = self._store.messages.page(conversation, limit=READ_LOOK, before=through_place + 1)
        self._know_read(room, through_place)
        last = next(
            (one for one in reversed(page) if one.key.sender and not self._reading.is_own(one.key)),
            None,
        )
        if last is None or room.known.ended or not self.rights.may_send(conversation):
            return
        through = thread.reference(last.key)
        await self.send(conversation, Read(through=through), priority=Priority.INFO)

    def _know_read(self, room: Room, through_place: int) -> None:
        room.known = with_read(room.known, through_place)
        self._store.note(room.conversation, encode_known(room.known))
        self.engine.changes.tell(
            Change(kind=ChangeKind.CONVERSATIONS, conversation=room.conversation)
        )

    async def acknowledge(self, key: MessageKey) -> None:
        """Acknowledge a message, as its sender asked.

        Raises:
            NotMemberError: This device is not in the conversation.
            NotSaidError: The message is not here, or this person's own.
        """
        content = Acknowledgement(target=thread.reference(key))
        await self.send(key.conversation, content, priority=Priority.INFO)

    async def recall(self, key: MessageKey) -> None:
        """Take an own message back.

        Raises:
            ForbiddenError: Somebody has read it, or it is another's.
        """
        people = self._store.messages.people(key)
        read = any(state >= PersonState.READ for state, _ in people.values())
        if not self._reading.is_own(key):
            raise ForbiddenError
        if read:
            raise NotSaidError("somebody has read it already, and it is not taken back")
        await self.send(
            key.conversation, Retraction(target=thread.reference(key)), priority=Priority.INFO
        )

    async def mute(self, conversation: ConversationId, *, muted: bool) -> None:
        """Want no sound from a conversation, or want it again; STAT sounds always."""
        room = self.engine.rooms.get(conversation)
        room.known = replace(room.known, muted=muted)
        self._store.note(conversation, encode_known(room.known))
        self.engine.changes.tell(Change(kind=ChangeKind.CONVERSATIONS, conversation=conversation))

    async def attach(
        self,
        conversation: ConversationId,
        path: Path,
        *,
        caption: str = "",
        on_progress: Progress = unheard,
    ) -> Shown:
        """Send a file; returns once the relay has it and its message waits in the outbox.

        Raises:
            NotMemberError: This device is not in the conversation.
            TooLargeError: The file is larger than an attachment may be.
            FullError: There is no room for the encrypted copy.
            FailedError: The disk fails.
            OSError: The file cannot be read.
            ForbiddenError: This person may not attach files, or not here.
            GoneError: The relay does not know this device in the conversation.
        """
        self._room(conversation)
        content = await self._files().upload(
            conversation, path, caption=caption, on_progress=on_progress
        )
        shown = await self.send(conversation, content)
        assert shown is not None  # noqa: S101 - an attachment is shown
        return shown

    async def fetch(
        self, key: MessageKey, to_path: Path, *, on_progress: Progress = unheard
    ) -> None:
        """Write the file that a message carries.

        Raises:
            GoneError: The message carries none, or the relay has it no more.
            AlteredError: What the relay has is not what the message says.
            ForbiddenError: The policy does not let this device have it, or save it.
            FullError: There is no room for it.
            FailedError: The disk fails.
        """
        found = self._store.messages.get(key)
        content = None if found is None else thread.read(found.content.data)
        if not isinstance(content, Attachment):
            raise GoneError
        await self._files().fetch(content, to_path, on_progress=on_progress)

    def _files(self) -> Attaching:
        if self._attaching is None:
            raise ForbiddenError
        return self._attaching

    async def look_up(self, users: Sequence[UserName]) -> None:
        """Learn which devices people have.

        Raises:
            NotConnectedError: There is no connection.
            NotAllowedError: The policy does not let this person.
            RefusedError: The relay does not say.
        """
        self.rights.check_looking_up(users)
        await self.engine.book.look_up(users, self.engine.ask, now_ms=self.engine.clock())

    def _hand_card(self, conversation: ConversationId) -> None:
        """Tell newcomers what a conversation is called, as they read nothing of before."""
        card = thread.card(self._store.messages, conversation)
        if card is None or not self.rights.may_send(conversation):
            return
        source = Source(plaintext=typed.encode(card), priority=Priority.INFO)
        self.engine.sending.say(conversation, source, now_ms=self.engine.clock())

    # -- for other parts of this package -------------------------------------------------------

    @property
    def store(self) -> Store:
        """The open store."""
        return self._store

    @property
    def trust(self) -> Trust:
        """The root, devices and revocations, as this device knows them."""
        return self.engine.book.trusted.trust

    @property
    def log_policy(self) -> SetLogPolicy | None:
        """The archive's log and its witnesses, once this device knows them."""
        return self.engine.book.trusted.log_policy

    @property
    def on_call(self) -> Configuration:
        """Who is on call for what."""
        return self.engine.book.trusted.on_call

    def now_ms(self) -> int:
        """Return the time."""
        return self.engine.clock()

    def courses(self) -> Mapping[ConversationId, Course]:
        """Return the pages that this device is a member of."""
        return self._paging.courses

    def page_text(self, conversation: ConversationId) -> str:
        """Return what a page says; empty where it has not been read."""
        return self._paging.text(conversation)

    def _is_hidden(self, conversation: ConversationId, context: WardlineContext) -> bool:
        """Tell whether a page is not this person's to see yet."""
        if context.conversation_type is not ConversationType.PAGE:
            return False
        return self.user not in context.owners and not self.duty.is_visible(conversation)

    def officials(self, after: int = 0) -> list[Letter]:
        """Return what officers and the archive have sent, oldest first, behind a number."""
        return self._reading.officials(after)

    async def ask(self, make: Callable[[int], Frame]) -> Frame:
        """Send a request on the present connection and return its answer.

        Raises:
            NotConnectedError: There is none, or it ended.
            RefusedError: The request had no effect.
        """
        return await self.engine.ask(make)
