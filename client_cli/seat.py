"""What the screens and the line mode ask of a device; ``client.device.Device`` gives it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from pathlib import Path
from typing import Protocol

from client.duty import Duty
from client.emergency import STAY_MS, Pending, Visit, Vouched
from client.messages import MessageKey
from client.views import Change, DeviceView, MemberView, PersonView, Shown, Status, Summary
from client.words import (
    EVERYBODY,
    Content,
    ConversationId,
    ConversationType,
    DeviceId,
    Priority,
    Target,
    UserName,
)


class Emergency(Protocol):
    """Emergency access, as far as a face uses it."""

    def visits(self, conversation: ConversationId) -> Sequence[Visit]:
        """Return the guests who are in a conversation now."""

    def pending(self, conversation: ConversationId) -> Sequence[Pending]:
        """Return for whom a second colleague can vouch here now."""

    async def ask(self, colleagues: Collection[UserName], *, about: str, reason: str) -> None:
        """Ask colleagues to vouch."""

    async def vouch(
        self,
        conversation: ConversationId,
        user: UserName,
        *,
        reason: str = "",
        stay_ms: int = STAY_MS,
    ) -> Vouched:
        """Vouch for somebody."""

    async def end(self, conversation: ConversationId, user: UserName) -> None:
        """End a guest's access now."""


class HandingOver(Protocol):
    """Handing over history, as far as a face uses it."""

    @property
    def hours(self) -> int:
        """How far back the policy allows."""

    def count(self, conversation: ConversationId) -> int:
        """Return how many messages would be handed over."""

    async def hand_over(self, conversation: ConversationId) -> None:
        """Hand them over."""


class Rights(Protocol):
    """What the policy lets the device's person do, as far as a face uses it."""

    def may_send(self, conversation: ConversationId) -> bool:
        """Tell whether this person may say anything in a conversation."""

    def check_sending(self, kind: ConversationType | None) -> None:
        """Refuse to put anything into a conversation where this person may not."""


class Seat(Protocol):
    """An open device, as far as a face uses it."""

    @property
    def rights(self) -> Rights:
        """What the policy lets its person do."""

    @property
    def me(self) -> DeviceId:
        """This device."""

    @property
    def user(self) -> UserName:
        """Its person."""

    @property
    def duty(self) -> Duty:
        """Who is on call, and pages."""

    @property
    def emergency(self) -> Emergency:
        """Emergency access."""

    @property
    def handing_over(self) -> HandingOver:
        """Handing over history."""

    @property
    def status(self) -> Status:
        """How the device stands."""

    def watch(self) -> AsyncIterator[Change]:
        """Return changes from now on."""

    async def run(self) -> None:
        """Connect, follow and send, until cancelled."""

    async def online(self, timeout_s: float) -> None:
        """Return once the relay serves this device."""

    async def settled(self, timeout_s: float) -> None:
        """Return once nothing waits to be sent."""

    def conversations(self, limit: int | None = None) -> list[Summary]:
        """Return every conversation, or those with the newest messages."""

    def alarming(self) -> list[Summary]:
        """Return the conversations in which something is STAT and unread."""

    def released(self) -> list[Summary]:
        """Return the conversations with unread messages that waited for this person's shift."""

    def summary(self, conversation: ConversationId) -> Summary:
        """Return one conversation."""

    def messages(
        self, conversation: ConversationId, *, limit: int, before: int | None = None
    ) -> list[Shown]:
        """Return the last messages of a thread, oldest first."""

    def message(self, key: MessageKey) -> Shown | None:
        """Return one message."""

    def history(self, key: MessageKey) -> list[Shown]:
        """Return what a message said before it was edited."""

    def members(self, conversation: ConversationId) -> list[MemberView]:
        """Return the people of a conversation, and the archive last."""

    def search(self, text: str, *, conversation: ConversationId | None = None) -> list[Shown]:
        """Return messages that have every word of a text."""

    def directory(self, text: str = "") -> list[PersonView]:
        """Return people whose name, role or ward is like a text."""

    def devices(self) -> list[DeviceView]:
        """Return this person's devices."""

    async def look_up(self, users: Sequence[UserName]) -> None:
        """Learn which devices people have."""

    async def start(
        self,
        kind: ConversationType,
        users: Collection[UserName],
        *,
        title: str = "",
        patient: str | None = None,
    ) -> ConversationId:
        """Begin a conversation."""

    async def send(
        self,
        conversation: ConversationId,
        content: Content,
        *,
        priority: Priority = Priority.ROUTINE,
        target: Target = EVERYBODY,
        acknowledgement_asked: bool = False,
    ) -> Shown | None:
        """Send content."""

    async def change_members(
        self,
        conversation: ConversationId,
        *,
        add: Collection[UserName] = (),
        remove: Collection[UserName] = (),
    ) -> None:
        """Let people in or out."""

    async def leave(self, conversation: ConversationId) -> None:
        """Ask to be let out."""

    async def mark_read(self, conversation: ConversationId, through_place: int) -> None:
        """Note that this person has read a thread up to a place."""

    async def acknowledge(self, key: MessageKey) -> None:
        """Acknowledge a message."""

    async def recall(self, key: MessageKey) -> None:
        """Take an own message back."""

    async def mute(self, conversation: ConversationId, *, muted: bool) -> None:
        """Want no sound from a conversation, or want it again."""

    async def attach(
        self, conversation: ConversationId, path: Path, *, on_progress: Callable[[int, int], None]
    ) -> Shown:
        """Send a file."""

    async def fetch(
        self, key: MessageKey, to_path: Path, *, on_progress: Callable[[int, int], None]
    ) -> None:
        """Write the file that a message carries."""
