"""Rights without a policy: what is denied stands in a set."""

from __future__ import annotations

from client.errors import NotAllowedError
from protocol.group_context import ConversationType
from protocol.identifiers import ConversationId
from protocol.policy import Action, is_ruled


class FakeRights:
    """What a device's person may do: everything that is not denied.

    Attributes:
        denied: What they may not.
    """

    def __init__(self) -> None:
        self.denied: set[Action] = set()

    @property
    def taken(self) -> list[Action]:
        return sorted(self.denied)

    def may_send(self, conversation: ConversationId) -> bool:
        return not self.denied & {Action.SEND, Action.RECEIVE}

    def check(self, *actions: Action) -> None:
        for action in actions:
            if action in self.denied:
                raise NotAllowedError(action)

    def check_sending(self, kind: ConversationType | None) -> None:
        if is_ruled(kind):
            self.check(Action.SEND, Action.RECEIVE)

    def check_viewing(self, conversation: ConversationId | None) -> None:
        self.check(Action.VIEW)
