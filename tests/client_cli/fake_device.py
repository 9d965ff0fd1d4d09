"""A device without store and relay: what the facade promises, kept in lists."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from client import wording
from client.duty import Reach
from client.errors import NotConnectedError, NotMemberError, NotOutError, RefusedError
from client.link import Address
from client.messages import MessageKey, PersonState, State
from client.views import (
    Change,
    ChangeKind,
    Control,
    DeviceView,
    Membership,
    MemberView,
    PersonView,
    Shown,
    Status,
    Summary,
    Trouble,
)
from client.words import (
    EVERYBODY,
    Attachment,
    Code,
    Content,
    ConversationType,
    Policy,
    Priority,
    Target,
)
from crypto.trust import DeviceIdentity
from protocol.identifiers import ConversationId, DeviceId, OrganisationId, RoleName, UserName
from protocol.oncall.configuration import Configuration
from tests.client_cli.fake_emergency import FakeEmergency
from tests.client_cli.fake_rights import FakeRights
from tests.client_cli.fake_statements import STAFF, FakeStatements
from tests.crypto.hospital import NOW_MS
from tests.protocol.content_examples import ATTACHMENT_REF

ADDRESS = Address(
    host="relay.example.org",
    port=8443,
    tls_pin=bytes(32),
    organisation=OrganisationId(STAFF.organisation),
)
WARD = ConversationId(bytes([7]) * 32)
DIRECT = ConversationId(bytes([9]) * 32)
PEOPLE = (
    ("ada", "Dr. Ada Admin", "Office"),
    ("alice", "Dr. Alice Apt", "Ward 4"),
    ("beth", "Beth Berg, RN", "Ward 4"),
    ("bob", "Bob Bell", "Office"),
)


@dataclass
class FakeReach:
    """Duty as far as a sender asks of it.

    Attributes:
        away: Who is off duty, and who covers.
    """

    away: dict[UserName, UserName] = field(default_factory=dict)

    def board(self) -> list[Any]:
        return []

    def meant(self, _target: Target) -> None:
        return None

    def reach(self, users: Collection[UserName], _priority: Priority) -> list[Reach]:
        return [
            Reach(
                user=user,
                alerts=False,
                held=True,
                off_duty=True,
                until_ms=None,
                covers=(self.away[user],),
            )
            for user in users
            if user in self.away
        ]


@dataclass
class FakeDevice:
    """``ada``'s device, an administrator's; nothing that it sends goes anywhere.

    Attributes:
        connects: Whether the relay is there.
        statements: What it signs, and what of it was handed in.
    """

    me: DeviceId = DeviceId("ada/desk")  # noqa: RUF009 - a string
    user: UserName = UserName("ada")  # noqa: RUF009 - a string
    organisation: OrganisationId = ADDRESS.organisation
    address: Address = ADDRESS
    connects: bool = True
    reaches: PersonState = PersonState.ACKNOWLEDGED
    statements: FakeStatements = field(default_factory=FakeStatements)
    owners: dict[ConversationId, list[UserName]] = field(default_factory=dict)
    threads: dict[ConversationId, list[Shown]] = field(default_factory=dict)
    kinds: dict[ConversationId, ConversationType] = field(default_factory=dict)
    titles: dict[ConversationId, str] = field(default_factory=dict)
    people_in: dict[ConversationId, list[UserName]] = field(default_factory=dict)
    control: list[Control] = field(default_factory=list)
    read_through: dict[ConversationId, int] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    holders: Mapping[RoleName, tuple[UserName, ...]] = field(default_factory=dict)
    archive_is_in: bool = True
    faults: int = 0
    troubles: tuple[Trouble, ...] = ()
    changes: list[Change] = field(default_factory=list)
    closed: bool = False
    on_call: Configuration = field(default_factory=Configuration)
    duty: Any = field(default_factory=FakeReach)
    rights: FakeRights = field(default_factory=FakeRights)
    emergency: FakeEmergency = field(default_factory=lambda: FakeEmergency(UserName("ada"), NOW_MS))

    def __post_init__(self) -> None:
        """Begin with a group of the ward, and a direct conversation with beth."""
        self._begin(WARD, ConversationType.GROUP, ["ada", "alice", "beth"], "Ward 4")
        self._begin(DIRECT, ConversationType.DIRECT, ["ada", "beth"], "Beth Berg, RN")

    def _begin(
        self, where: ConversationId, kind: ConversationType, users: Sequence[str], title: str
    ) -> None:
        self.kinds[where], self.titles[where], self.threads[where] = kind, title, []
        self.people_in[where] = [UserName(user) for user in users]

    def now_ms(self) -> int:
        return NOW_MS

    # -- living --------------------------------------------------------------------------------

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def online(self, timeout_s: float) -> None:
        if not self.connects:
            raise NotConnectedError

    async def settled(self, timeout_s: float) -> None:
        if not self.connects:
            raise NotOutError

    def close(self) -> None:
        self.closed = True

    @property
    def status(self) -> Status:
        return Status(
            online=self.connects,
            catching_up=0,
            unsent=0,
            faults=self.faults,
            archived_lag_ms=0,
            troubles=self.troubles,
        )

    async def watch(self) -> AsyncIterator[Change]:
        for change in self.changes:
            yield change
        await asyncio.Event().wait()

    # -- reading -------------------------------------------------------------------------------

    def conversations(self) -> list[Summary]:
        return [self.summary(one) for one in self.threads]

    def summary(self, conversation: ConversationId) -> Summary:
        if conversation not in self.threads:
            raise NotMemberError
        thread = self.threads[conversation]
        return Summary(
            conversation=conversation,
            kind=self.kinds[conversation],
            title=self.titles[conversation],
            patient=None,
            unread=0,
            top_priority=None,
            last=thread[-1] if thread else None,
            muted=False,
            held=0,
            people=len(self.people_in[conversation]),
            ended=False,
            opening=False,
            peer=next((one for one in self.people_in[conversation] if one != self.user), None)
            if self.kinds[conversation] is ConversationType.DIRECT
            else None,
        )

    def messages(
        self, conversation: ConversationId, *, limit: int, before: int | None = None
    ) -> list[Shown]:
        return self.threads[conversation][-limit:]

    def message(self, key: MessageKey) -> Shown | None:
        thread = self.threads.get(key.conversation, [])
        return next((shown for shown in thread if shown.key == key), None)

    def history(self, key: MessageKey) -> list[Shown]:
        return []

    def members(self, conversation: ConversationId) -> list[MemberView]:
        people = [
            MemberView(
                user=user,
                name=user.title(),
                devices=(DeviceId(f"{user}/phone"),),
                is_recorder=False,
                is_owner=user == self.user,
                certified_until_ms=NOW_MS,
            )
            for user in self.people_in[conversation]
        ]
        archive = MemberView(
            user=UserName("archive"),
            name="Archive",
            devices=(DeviceId("archive/recorder"),),
            is_recorder=True,
            is_owner=False,
            certified_until_ms=NOW_MS,
        )
        return [*people, archive] if self.archive_is_in else people

    def search(self, text: str, *, conversation: ConversationId | None = None) -> list[Shown]:
        everything = (
            shown
            for where, thread in self.threads.items()
            if conversation in (None, where)
            for shown in thread
        )
        return [shown for shown in everything if text in shown.text]

    def directory(self, text: str = "") -> list[PersonView]:
        return [
            PersonView(user=UserName(user), name=name, ward=ward, roles=(), on_call=())
            for user, name, ward in PEOPLE
            if text[:3].casefold() in f"{user} {name} {ward}".casefold()
        ]

    def devices(self, user: UserName | None = None) -> list[DeviceView]:
        known = {identity.user: identity for identity in STAFF.trust.devices.values()}
        identity = known.get(user or self.user)
        if identity is None:
            return []
        return [
            DeviceView(
                device=DeviceId(identity.name),
                this=user in (None, self.user),
                certified_until_ms=identity.not_after_ms,
                revoked=False,
            )
        ]

    def identity(self, device: DeviceId) -> DeviceIdentity | None:
        identities = STAFF.trust.devices.values()
        return next((one for one in identities if one.name == device), None)

    def controls(self, since: int = 0) -> list[Control]:
        return [control for control in self.control if control.sequence > since]

    def memberships(self) -> list[Membership]:
        device = DeviceId("alice/phone")
        return [Membership(conversation=WARD, device=device, from_ms=NOW_MS, until_ms=None)]

    # -- acting --------------------------------------------------------------------------------

    async def start(
        self,
        kind: ConversationType,
        users: Collection[UserName],
        *,
        title: str = "",
        patient: str | None = None,
        retention_class: str = "clinical",
    ) -> ConversationId:
        where = ConversationId(bytes([len(self.threads)]) * 32)
        self._begin(where, kind, [self.user, *users], title)
        return where

    async def send(
        self,
        conversation: ConversationId,
        content: Content,
        *,
        priority: Priority = Priority.ROUTINE,
        target: Target = EVERYBODY,
        acknowledgement_asked: bool = False,
    ) -> Shown:
        thread = self.threads[conversation]
        text = wording.say(content)
        others = [user for user in self.people_in[conversation] if user != self.user]
        shown = Shown(
            key=MessageKey(conversation=conversation, sender=self.me, message_id=len(thread) + 1),
            sender=self.me,
            at_ms=NOW_MS,
            place=len(thread) + 1,
            state=State.STORED if self.connects else State.WAITING,
            priority=priority,
            content=content,
            target=target,
            text=text,
            acknowledgement_asked=acknowledgement_asked,
            people=dict.fromkeys(others, (self.reaches, NOW_MS)),
            own=True,
        )
        thread.append(shown)
        return shown

    async def change_members(
        self,
        conversation: ConversationId,
        *,
        add: Collection[UserName] = (),
        remove: Collection[UserName] = (),
        statement: bytes | None = None,
    ) -> None:
        kept = [user for user in self.people_in[conversation] if user not in remove]
        self.people_in[conversation] = [*kept, *add]

    async def set_owners(self, conversation: ConversationId, owners: Collection[UserName]) -> None:
        self.owners[conversation] = sorted(owners)

    async def leave(self, conversation: ConversationId) -> None:
        await self.change_members(conversation, remove=[self.user])

    async def mark_read(self, conversation: ConversationId, through_place: int) -> None:
        self.read_through[conversation] = through_place

    async def acknowledge(self, key: MessageKey) -> None:
        self.changes.append(Change(kind=ChangeKind.MESSAGES, messages=(key,)))

    async def recall(self, key: MessageKey) -> None:
        thread = self.threads[key.conversation]
        index = next(index for index, shown in enumerate(thread) if shown.key == key)
        thread[index] = replace(thread[index], state=State.RETRACTED, text="")

    async def mute(self, conversation: ConversationId, *, muted: bool) -> None:
        raise NotImplementedError

    async def attach(
        self, conversation: ConversationId, path: Path, *, on_progress: Callable[[int, int], None]
    ) -> Shown:
        on_progress(1, 1)
        return await self.send(
            conversation,
            Attachment(blob="b", ref=ATTACHMENT_REF, name=path.name, media_type="text/plain"),
        )

    async def fetch(
        self, key: MessageKey, to_path: Path, *, on_progress: Callable[[int, int], None]
    ) -> None:
        on_progress(1, 1)
        await asyncio.to_thread(to_path.write_bytes, b"content")

    async def look_up(self, users: Sequence[UserName]) -> None:
        await self.online(0)


NOT_STRONG = RefusedError(Code.NOT_STRONG)
