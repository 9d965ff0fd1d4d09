"""Emergency access without signatures: who asked, vouched and ended, kept in lists."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from client.emergency import STAY_MS, Pending, Visit, Vouched
from client.messages import MessageKey
from crypto.errors import InvalidError
from protocol.identifiers import ConversationId, DeviceId, UserName


@dataclass
class FakeEmergency:
    """Emergency access of one person's device.

    Attributes:
        waiting: Those for whom one colleague has vouched.
        inside: Guests.
        asked: Requests to colleagues.
        ended: Access that was ended.
    """

    me: UserName
    now_ms: int
    waiting: dict[ConversationId, list[Pending]] = field(default_factory=dict)
    inside: dict[ConversationId, list[Visit]] = field(default_factory=dict)
    asked: list[tuple[tuple[UserName, ...], str, str]] = field(default_factory=list)
    ended: list[UserName] = field(default_factory=list)

    def visits(self, conversation: ConversationId) -> list[Visit]:
        return self.inside.get(conversation, [])

    def pending(self, conversation: ConversationId) -> list[Pending]:
        return self.waiting.get(conversation, [])

    async def ask(self, colleagues: Collection[UserName], *, about: str, reason: str) -> None:
        if not reason:
            raise InvalidError("a text is not empty")
        self.asked.append((tuple(colleagues), about, reason))

    def first(
        self, conversation: ConversationId, user: UserName, by: UserName, reason: str, stay_ms: int
    ) -> None:
        """Let somebody be the first to vouch."""
        one = Pending(
            message=MessageKey(
                conversation=conversation, sender=DeviceId(f"{by}/phone"), message_id=99
            ),
            user=user,
            by=by,
            until_ms=self.now_ms + stay_ms,
            lapses_ms=self.now_ms + 3_600_000,
            reason=reason,
            statement=b"",
        )
        self.waiting.setdefault(conversation, []).append(one)

    async def vouch(
        self,
        conversation: ConversationId,
        user: UserName,
        *,
        reason: str = "",
        stay_ms: int = STAY_MS,
    ) -> Vouched:
        for one in self.pending(conversation):
            if one.user == user and one.by != self.me:
                visit = Visit(user=user, until_ms=one.until_ms, vouchers=(self.me, one.by))
                self.inside.setdefault(conversation, []).append(visit)
                self.waiting[conversation].remove(one)
                return Vouched.SECOND
        if not reason:
            raise InvalidError("a text is not empty")
        self.first(conversation, user, self.me, reason, stay_ms)
        return Vouched.FIRST

    async def end(self, conversation: ConversationId, user: UserName) -> None:
        self.inside[conversation] = [one for one in self.visits(conversation) if one.user != user]
        self.ended.append(user)
