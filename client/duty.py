"""Who is on call and which pages there are, as faces show it: the values, and what gives them.

``client.pages`` implements ``Duty``; all but answering works without network, from the schedules
that the device has verified.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from protocol.authenticated_data import Priority, Target, TargetKind
from protocol.identifiers import ConversationId, RoleName, UserName
from protocol.oncall.configuration import Proposal
from protocol.oncall.page_state import Event, State, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleView:
    """A role, and who answers for it.

    Attributes:
        on_call: Who has it now; empty where nobody has and the fallback answers.
        until_ms: Until when that holds; None where no schedule says.
        following: Who has it then.
        fallback: Who answers where nobody is on call.
        mine: Whether this person has it now.
        number: The role's own telephone number; empty for none.
        numbers: Those of its people: for whoever is on call without the program.
        proposals: Swaps that wait for the second of two people to sign them.
    """

    role: RoleName
    on_call: tuple[UserName, ...]
    until_ms: int | None
    following: tuple[UserName, ...]
    fallback: tuple[UserName, ...]
    mine: bool
    number: str = ""
    numbers: Mapping[UserName, str] = field(default_factory=dict)
    proposals: tuple[Proposal, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What a message would do to one recipient.

    Attributes:
        alerts: Whether their device sounds.
        held: Whether it waits for their shift.
        off_duty: Whether they are off duty.
        until_ms: Until when; None where no schedule says.
        covers: Who answers for them in the meantime.
    """

    user: UserName
    alerts: bool
    held: bool
    off_duty: bool
    until_ms: int | None
    covers: tuple[UserName, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageView:
    """A page that this person sent, was asked by, or may already see.

    Attributes:
        conversation: Its own.
        role: Whom it was sent to.
        sender: Who sent it.
        text: What it says; empty before the device has read it.
        started_ms: When it was sent.
        status: Where it stands as a whole.
        step: The step of its policy, from 1.
        mine: Where it stands with this person; None where they were not asked.
        asked: Where it stands with each person.
        next_ms: When it goes to the next step unless somebody accepts; None for never.
        alerting: Whether this person's devices are to sound.
        leaving: Who has it, or is asked by it, and whose shift has ended: until somebody relieves
            them they are alerted, too.
        silent: Whether the relay has taken no step that was due, as one does that was restored from
            a backup: its sender is alerted and pages again.
    """

    conversation: ConversationId
    role: RoleName
    sender: UserName
    priority: Priority
    text: str = field(repr=False)
    started_ms: int
    status: Status
    step: int
    mine: State | None
    asked: Mapping[UserName, State]
    next_ms: int | None
    alerting: bool
    leaving: tuple[UserName, ...] = ()
    silent: bool = False


class Duty(Protocol):
    """What a device knows of duty; ``Device.duty``."""

    def board(self) -> Sequence[RoleView]:
        """Return every role, those of this person first."""

    def reach(self, users: Collection[UserName], priority: Priority) -> Sequence[Reach]:
        """Return what a message of a priority would do to people now."""

    def pages(self) -> Sequence[PageView]:
        """Return pages that have not ended or ended within a day, the most urgent first."""

    def meant(self, target: Target) -> Sequence[UserName] | None:
        """Return whom a message's target means now; None for everybody in the conversation."""

    async def page(
        self,
        role: RoleName,
        text: str,
        *,
        priority: Priority,
        patient: str | None = None,
        turn: TargetKind = TargetKind.ROLE,
    ) -> ConversationId:
        """Page a role; return the page's conversation once it is on this device's disk.

        Args:
            role: The role.
            text: What is the matter.
            priority: How urgent it is.
            patient: The patient reference, where there is one.
            turn: Which of its people are asked first: ``ROLE``, ``NEXT`` or ``BACKUP``.
        """

    async def answer(
        self,
        conversation: ConversationId,
        event: Event,
        *,
        to: RoleName | UserName | None = None,
        arrival_ms: int | None = None,
    ) -> None:
        """Answer a page: accept (perhaps with a time of arrival), decline, not mine, finish.

        Args:
            conversation: The page's.
            event: ``ACCEPT``, ``DECLINE``, ``NOT_MINE`` or ``FINISH``.
            to: For ``NOT_MINE``: to whom instead, where the answerer knows.
            arrival_ms: For ``ACCEPT``: when they will be there.
        """
