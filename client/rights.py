"""What the policy lets this device's person do, asked before they try it.

The relay holds a device to the same table. It is asked here first, so that nothing is sealed, asked
for or shown that may not be, and so that the person reads a sentence and not a refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from client.book import Book
from client.errors import BarredError, NotAllowedError
from client.key_packages import Identity
from client.rooms import Rooms
from crypto.certificate import decode_certificate
from crypto.names import Role
from crypto.trust import DeviceIdentity
from protocol.group_context import ConversationType
from protocol.identifiers import ConversationId, UserName
from protocol.policy import ALLOWED, Action, is_ruled

_TALK = (Action.SEND, Action.RECEIVE, Action.VIEW)


class Rights:
    """The policy, as it stands here, and whose device this is."""

    def __init__(
        self, book: Book, rooms: Rooms, identity: Identity, *, clock: Callable[[], int]
    ) -> None:
        self._book = book
        self._clock = clock
        self._rooms = rooms
        self._identity = identity
        self._read: tuple[bytes, frozenset[Role]] = (b"", frozenset())

    @property
    def roles(self) -> frozenset[Role]:
        """What this device's newest certificate says."""
        der = self._identity.certificate
        if self._read[0] != der:
            self._read = (der, decode_certificate(der, root=self._identity.root).roles)
        return self._read[1]

    def may(self, action: Action) -> bool:
        """Tell whether the policy lets this person do something."""
        return bool(self.roles & self._book.trusted.policy.roles_for(action))

    @property
    def taken(self) -> list[Action]:
        """What the policy takes from this person that the program would allow."""
        return [
            action for action in Action if self.roles & ALLOWED[action] and not self.may(action)
        ]

    def check(self, *actions: Action) -> None:
        """Refuse what this person may not do.

        Raises:
            NotAllowedError: The policy does not let them.
        """
        for action in actions:
            if not self.may(action):
                raise NotAllowedError(action)

    # -- in conversations ----------------------------------------------------------------------

    def may_view(self, conversation: ConversationId) -> bool:
        """Tell whether this person may have what is said in a conversation."""
        return self.may(Action.VIEW) or not is_ruled(self._kind(conversation))

    def may_send(self, conversation: ConversationId) -> bool:
        """Tell whether this person may say anything in a conversation."""
        try:
            self.check_sending(self._kind(conversation))
        except NotAllowedError:
            return False
        return True

    def check_viewing(self, conversation: ConversationId | None) -> None:
        """Refuse to show what is said in a conversation, or in any at all.

        Raises:
            NotAllowedError: The policy does not let this person have it.
        """
        if conversation is None or not self.may_view(conversation):
            self.check(Action.VIEW)

    def check_sending(self, kind: ConversationType | None) -> None:
        """Refuse to put anything into a conversation where this person may not.

        Who is given nothing of its log does not follow its keys, and so cannot say anything either.

        Raises:
            NotAllowedError: The policy does not let them.
        """
        if is_ruled(kind):
            self.check(Action.SEND, Action.RECEIVE)

    def check_attaching(self, conversation: ConversationId) -> None:
        """Refuse to seal a file that could not be sent.

        Raises:
            NotAllowedError: The policy does not let them.
        """
        self.check_sending(self._kind(conversation))
        # The relay does not know of which conversation a file is: it asks for this of pages, too.
        self.check(Action.ATTACH, Action.SEND)

    def check_bringing(self, kind: ConversationType, users: Collection[UserName]) -> None:
        """Refuse to change who is in a conversation where that may not be.

        Args:
            kind: The conversation's.
            users: Who would come in; their devices have been looked up.

        Raises:
            NotAllowedError: The policy does not let this person.
            BarredError: It does not let one of those be in conversations.
        """
        self.check_sending(kind)
        if is_ruled(kind) and any(map(self._is_barred, users)):
            raise BarredError

    def check_looking_up(self, users: Collection[UserName]) -> None:
        """Refuse to ask for people who are neither known here already nor to be paged.

        Raises:
            NotAllowedError: The policy does not let this person.
        """
        devices_of = self._book.trusted.devices_of
        strangers = {user for user in users if not devices_of(user)}
        if not self.may(Action.LOOK_UP) and not strangers <= self._paged():
            raise NotAllowedError(Action.LOOK_UP)

    def talks(self, device: DeviceIdentity) -> bool:
        """Tell whether another device has what is said, and may say it on."""
        policy = self._book.trusted.policy
        return all(device.roles & policy.roles_for(action) for action in _TALK)

    def _paged(self) -> set[UserName]:
        """Return everybody whom a role's page may ask."""
        trusted = self._book.trusted
        roster = trusted.on_call.roster(self._clock(), trusted.holders)
        return {
            user for role in roster.values() for user in (*role.schedule.people(), *role.fallback)
        }

    def _is_barred(self, user: UserName) -> bool:
        trusted = self._book.trusted
        receive = trusted.policy.roles_for(Action.RECEIVE)
        devices = trusted.devices_of(user)
        return bool(devices) and not any(one.roles & receive for one in devices)

    def _kind(self, conversation: ConversationId) -> ConversationType | None:
        context = self._rooms.context(self._rooms.get(conversation))
        return None if context is None else context.conversation_type
