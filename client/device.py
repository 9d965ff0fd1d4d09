"""A device, as every face uses it: conversations to read, things to do, and what changed.

Reading is synchronous and comes from the store alone, so it works without network. Acting returns
once the act is on this device's disk; what becomes of it shows as changes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path

from client.link import Address, Credentials
from client.messages import MessageKey
from client.store import Store
from client.views import (
    Change,
    Control,
    DeviceView,
    Membership,
    MemberView,
    PersonView,
    Shown,
    Status,
    Summary,
)
from crypto.statement_types import Purpose, StatementType
from crypto.trust import DeviceIdentity
from protocol.authenticated_data import EVERYBODY, Priority, Target
from protocol.commands import Command
from protocol.group_context import ConversationType
from protocol.identifiers import ConversationId, DeviceId, OrganisationId, RoleName, UserName
from protocol.policy import Policy

Clock = Callable[[], int]
"""Gives now, milliseconds since the epoch."""

Progress = Callable[[int, int], None]
"""Is told bytes done and bytes in all."""


class Device:
    """An open device; for one event loop and its thread.

    Attributes:
        me: This device.
        user: Its person.
        organisation: Its organisation.
        address: Where its relay is.
    """

    me: DeviceId
    user: UserName
    organisation: OrganisationId
    address: Address

    @classmethod
    def over(
        cls, store: Store, *, credentials: Credentials, address: Address, clock: Clock
    ) -> Device:
        """Return the device whose store was opened."""
        raise NotImplementedError

    # -- living --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect, follow, send and heal, until cancelled.

        Raises:
            ClosedError: The relay will not have this device again: revoked, or replaced by another
                connection of the same device, or this program is too old.
        """
        raise NotImplementedError

    async def online(self, timeout_s: float) -> None:
        """Return once the relay serves this device and all that waited has been taken in.

        Raises:
            NotConnectedError: That took longer.
        """
        raise NotImplementedError

    async def settled(self, timeout_s: float) -> None:
        """Return once nothing waits to be sent any more.

        Raises:
            NotConnectedError: That took longer.
        """
        raise NotImplementedError

    @property
    def status(self) -> Status:
        """How the device stands."""
        raise NotImplementedError

    def watch(self) -> AsyncIterator[Change]:
        """Return changes from now on; a slow watcher loses none, it gets them joined."""
        raise NotImplementedError

    # -- reading -------------------------------------------------------------------------------

    def conversations(self) -> list[Summary]:
        """Return every conversation, the one with the newest message first."""
        raise NotImplementedError

    def summary(self, conversation: ConversationId) -> Summary:
        """Return one conversation.

        Raises:
            NotMemberError: This device has never been in it.
        """
        raise NotImplementedError

    def messages(
        self, conversation: ConversationId, *, limit: int, before: int | None = None
    ) -> list[Shown]:
        """Return the last messages of a thread, oldest first; ``before`` is a place."""
        raise NotImplementedError

    def message(self, key: MessageKey) -> Shown | None:
        """Return one message, or None."""
        raise NotImplementedError

    def history(self, key: MessageKey) -> list[Shown]:
        """Return what a message said before it was edited, oldest first."""
        raise NotImplementedError

    def members(self, conversation: ConversationId) -> list[MemberView]:
        """Return the people of a conversation, and the archive last."""
        raise NotImplementedError

    def search(self, text: str, *, conversation: ConversationId | None = None) -> list[Shown]:
        """Return messages that have every word of ``text``, newest first."""
        raise NotImplementedError

    def directory(self, text: str = "") -> list[PersonView]:
        """Return people whose name, user name, role or ward is like ``text``, best first."""
        raise NotImplementedError

    def devices(self) -> list[DeviceView]:
        """Return this person's devices."""
        raise NotImplementedError

    def identity(self, device: DeviceId) -> DeviceIdentity | None:
        """Return what is proved of a device, where it is known here; ``look_up`` asks for it."""
        raise NotImplementedError

    @property
    def policy(self) -> Policy:
        """The organisation's policy, as this device knows it."""
        raise NotImplementedError

    @property
    def holders(self) -> Mapping[RoleName, tuple[UserName, ...]]:
        """Who may hold each role that can be paged."""
        raise NotImplementedError

    def controls(self, since: int = 0) -> list[Control]:
        """Return the control log as this device read it, behind number ``since``."""
        raise NotImplementedError

    def memberships(self) -> list[Membership]:
        """Return which devices are and were in the conversations that this device knows."""
        raise NotImplementedError

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
        """Begin a conversation with these people; messages may be sent to it at once.

        Raises:
            UnknownUserError: The relay knows no device of one of them.
            NotConnectedError: Somebody's devices are not known here, and there is no connection.
        """
        raise NotImplementedError

    async def send(
        self,
        conversation: ConversationId,
        content: object,
        *,
        priority: Priority = Priority.ROUTINE,
        target: Target = EVERYBODY,
        acknowledgement_asked: bool = False,
    ) -> Shown | None:
        """Send content; return it as the thread shows it, or None for what is not shown.

        Raises:
            NotMemberError: This device is not in the conversation.
            EndedError: It is no longer.
            ArchiveMissingError: The archive is not in it.
            ForbiddenError: This person may not say that here.
        """
        raise NotImplementedError

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
            UnknownUserError: The relay knows no device of one of them.
        """
        raise NotImplementedError

    async def leave(self, conversation: ConversationId) -> None:
        """Ask to be let out; a member does it.

        Raises:
            NotMemberError: This device is not in the conversation.
        """
        raise NotImplementedError

    async def mark_read(self, conversation: ConversationId, through_place: int) -> None:
        """Note that this person has read a thread up to a place; the senders are told."""
        raise NotImplementedError

    async def acknowledge(self, key: MessageKey) -> None:
        """Acknowledge a message, as its sender asked."""
        raise NotImplementedError

    async def recall(self, key: MessageKey) -> None:
        """Take an own message back.

        Raises:
            ForbiddenError: Somebody has read it.
        """
        raise NotImplementedError

    async def mute(self, conversation: ConversationId, *, muted: bool) -> None:
        """Want no sound from a conversation, or want it again; STAT sounds always."""
        raise NotImplementedError

    async def attach(
        self, conversation: ConversationId, path: Path, *, on_progress: Progress
    ) -> Shown:
        """Send a file."""
        raise NotImplementedError

    async def fetch(self, key: MessageKey, to_path: Path, *, on_progress: Progress) -> None:
        """Write the file that a message carries."""
        raise NotImplementedError

    async def look_up(self, users: Sequence[UserName]) -> None:
        """Learn which devices people have.

        Raises:
            NotConnectedError: There is no connection.
        """
        raise NotImplementedError

    # -- statements ----------------------------------------------------------------------------

    async def command(self, body: Command, *, password: str, code: str) -> None:
        """Sign an administrator's command and hand it in, proving password and code before.

        Raises:
            NotConnectedError: There is no connection.
            RefusedError: The relay does not take it.
        """
        raise NotImplementedError

    async def submit(self, statement: bytes) -> None:
        """Hand a signed statement in for the control log.

        Raises:
            NotConnectedError: There is no connection.
            RefusedError: The relay does not take it.
        """
        raise NotImplementedError

    def sign(
        self, kind: StatementType, body: bytes, purpose: Purpose, *, lifetime_ms: int
    ) -> bytes:
        """Return a statement with this device's signature."""
        raise NotImplementedError

    def countersign(self, statement: bytes, purpose: Purpose) -> bytes:
        """Return a statement with this device's signature after those that it has."""
        raise NotImplementedError

    def on_official(
        self, take: Callable[[ConversationId, MessageKey, object], Awaitable[None]]
    ) -> None:
        """Call ``take`` for everything official that comes, and first for what is here already."""
        raise NotImplementedError
