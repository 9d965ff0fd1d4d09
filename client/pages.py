"""What a device knows and does of duty: the board, whom a message reaches, pages and their answers.

``Pages`` is ``Device.duty``. All but paging and answering works without network, from the control
log as the device has verified it, and by the one function that the relay asks too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from client.duty import PageView, Reach, RoleView
from client.errors import NotAllowedError, NotConnectedError
from client.page_course import Course, asks, proved, states, status
from client.views import DeviceView, MemberView, Status
from crypto.statement_types import Purpose, StatementType
from crypto.trust import Trust
from protocol import frames
from protocol.authenticated_data import Priority, Target, TargetKind
from protocol.content import Content, Text
from protocol.frames import Frame
from protocol.group_context import ConversationType
from protocol.identifiers import ConversationId, RoleName, UserName
from protocol.oncall.configuration import EMPTY, Configuration, Holders, needed
from protocol.oncall.delivery import Delivery, decide
from protocol.oncall.escalation import Step
from protocol.oncall.page import GRACE_MS
from protocol.oncall.page_event import PageAnswer
from protocol.oncall.page_state import ENDED, Event
from protocol.oncall.priority import MEANINGS
from protocol.oncall.role import (
    TURNS,
    Responder,
    Role,
    Roster,
    Turn,
    meant,
    next_on_call,
    responders,
)
from protocol.oncall.role import Reach as Names
from protocol.oncall.schedule import on_call, shifts
from protocol.oncall.wall_clock import DAY_MS

ANSWER_LIVES_MS = 15 * 60 * 1000
"""How long an answer counts, in ms: it is sent at once, or again within minutes."""
SHOWN_MS = DAY_MS
"""How long a page that has ended is shown, in ms."""


class Statements(Protocol):
    """What answers to pages are signed and handed in by: ``client.statements.Statements``."""

    def sign(
        self, kind: StatementType, body: bytes, purpose: Purpose, *, lifetime_ms: int
    ) -> bytes:
        """Return a statement with this device's signature."""

    async def post(self, conversation: ConversationId, statement: bytes) -> None:
        """Post a statement to a conversation's log."""


class Host(Protocol):
    """What the device gives: ``client.device.Device``."""

    @property
    def user(self) -> UserName:
        """The person."""

    @property
    def on_call(self) -> Configuration:
        """Who is on call for what, from the control log."""

    @property
    def holders(self) -> Holders:
        """Who may hold which role."""

    @property
    def trust(self) -> Trust:
        """The root, devices and revocations."""

    @property
    def status(self) -> Status:
        """How the device stands."""

    @property
    def statements(self) -> Statements:
        """What the device signs."""

    def now_ms(self) -> int:
        """Return the time."""

    def courses(self) -> Mapping[ConversationId, Course]:
        """Return the pages that this device is a member of."""

    def page_text(self, conversation: ConversationId) -> str:
        """Return what a page says; empty where it has not been read."""

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
        target: Target,
        acknowledgement_asked: bool = False,
    ) -> object:
        """Send content."""

    async def change_members(
        self, conversation: ConversationId, *, add: Collection[UserName] = ()
    ) -> None:
        """Let people in."""

    def members(self, conversation: ConversationId) -> Sequence[MemberView]:
        """Return the people of a conversation."""

    def devices(self, user: UserName | None = None) -> Sequence[DeviceView]:
        """Return the devices of a person that are known here."""

    async def look_up(self, users: Sequence[UserName]) -> None:
        """Learn which devices people have."""

    async def ask(self, make: Callable[[int], Frame]) -> Frame:
        """Send a request and return its answer."""


class Pages:
    """Duty, as one device knows it."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._mended: set[tuple[ConversationId, UserName]] = set()

    # Who is on call.

    def _roster(self) -> Roster:
        return self._host.on_call.roster(self._host.now_ms(), self._host.holders)

    def board(self) -> Sequence[RoleView]:
        """Return every role, those of this person first."""
        now_ms = self._host.now_ms()
        views = [self._role(role, now_ms) for _, role in sorted(self._roster().items())]
        return sorted(views, key=lambda view: not view.mine)

    def having(self) -> Mapping[UserName, tuple[RoleName, ...]]:
        """Return which roles each person who is on call has now, ascending."""
        now_ms = self._host.now_ms()
        found: dict[UserName, tuple[RoleName, ...]] = {}
        for name, role in sorted(self._roster().items()):
            for user in on_call(role.schedule, now_ms):
                found[user] = (*found.get(user, ()), name)
        return found

    def _role(self, role: Role, now_ms: int) -> RoleView:
        now = on_call(role.schedule, now_ms)
        plan = self._host.on_call.plans.get(role.name)
        numbers = () if plan is None else plan.numbers
        until_ms = None
        following: tuple[UserName, ...] = ()
        if plan is not None:
            ahead = plan.history.shifts(now_ms, now_ms + AHEAD_MS, known_ms=now_ms)
            first = next(ahead, None)
            until_ms = None if first is None or first.end_ms >= now_ms + AHEAD_MS else first.end_ms
            following = next((s.people for s in ahead if s.people), ())
        return RoleView(
            role=role.name,
            on_call=now,
            until_ms=until_ms,
            following=following,
            fallback=role.fallback,
            mine=self._host.user in (now or role.fallback),
            number=next((n.number for n in numbers if n.user is None), ""),
            numbers={one.user: one.number for one in numbers if one.user is not None},
            proposals=() if plan is None else needed(plan, now_ms).proposals,
        )

    def reach(self, users: Collection[UserName], priority: Priority) -> Sequence[Reach]:
        """Return what a message of a priority would do to people now."""
        now_ms, roster = self._host.now_ms(), self._roster()
        found = []
        for user in users:
            quiet = self._host.on_call.quiet(user)
            decision = decide(priority, roster, user, quiet=quiet, at_ms=now_ms)
            found.append(
                Reach(
                    user=user,
                    alerts=decision.delivery is Delivery.ALERT,
                    held=decision.delivery is Delivery.HOLD,
                    off_duty=decision.off_duty,
                    until_ms=decision.until_ms,
                    covers=decision.covers,
                )
            )
        return found

    def is_held(self, until_ms: int, priority: Priority) -> bool:
        """Tell whether what was held for this person still is: until then, or until they are on."""
        now_ms = self._host.now_ms()
        if until_ms and now_ms >= until_ms:
            return False
        own = self._host.on_call.quiet(self._host.user)
        decision = decide(priority, self._roster(), self._host.user, quiet=own, at_ms=now_ms)
        return decision.delivery is Delivery.HOLD

    async def wakeable(self, users: Collection[UserName]) -> Mapping[UserName, bool]:
        """Return for each person whether a device of theirs hears the relay now.

        Raises:
            NotConnectedError: There is no connection.
        """
        asked = tuple(sorted(users))
        answer = await self._host.ask(lambda ref: frames.GetReach(ref=ref, users=asked))
        found = answer.devices if isinstance(answer, frames.Reach) else ()
        heard = {one.device.partition("/")[0] for one in found if one.connected}
        return {user: user in heard for user in users}

    async def test_alert(self) -> None:
        """Have the relay ring this device as a page would; ``heard_alert`` confirms it.

        Raises:
            NotConnectedError: There is no connection.
        """
        await self._host.ask(lambda ref: frames.TestAlert(ref=ref))

    async def heard_alert(self) -> None:
        """Say that the person has heard the test: the day is kept for whoever asks.

        Raises:
            NotConnectedError: There is no connection.
        """
        await self._host.ask(lambda ref: frames.AlertHeard(ref=ref))

    # Pages.

    def pages(self) -> Sequence[PageView]:
        """Return pages that have not ended or ended within a day, the most urgent first."""
        now_ms, me = self._host.now_ms(), self._host.user
        views = [
            self._page(conversation, course)
            for conversation, course in self._host.courses().items()
            if course.concerns(me) and _is_recent(course, now_ms)
        ]
        return sorted(views, key=lambda v: (v.status in ENDED, -v.priority, -v.started_ms))

    def is_visible(self, conversation: ConversationId) -> bool:
        """Tell whether a page's conversation is shown: to its sender, and from their step on."""
        course = self._host.courses().get(conversation)
        return course is not None and course.concerns(self._host.user)

    def _page(self, conversation: ConversationId, course: Course) -> PageView:
        page = course.state.page
        waits = page.accepted_ms is None or page.leaving
        silent = self._is_silent(course)
        said = proved(course, conversation, trust=self._host.trust)
        asked = states(course, said)
        steps = max(1, min(page.position, len(page.policy.steps) + 1))
        stands = status(course, said)
        return PageView(
            conversation=conversation,
            role=course.state.role,
            sender=page.sender,
            priority=page.priority,
            text=self._host.page_text(conversation),
            started_ms=page.started_ms,
            status=stands,
            step=steps,
            mine=asked.get(self._host.user),
            asked=asked,
            next_ms=page.due_ms if waits and stands not in ENDED else None,
            alerting=self._alerts(course, silent=silent),
            leaving=page.leaving,
            silent=silent,
        )

    def _alerts(self, course: Course, *, silent: bool) -> bool:
        """Tell whether this person's devices are to sound: never after the page's hard end."""
        page, me = course.state.page, self._host.user
        ended = self._host.now_ms() >= page.expires_ms
        return not ended and (asks(course, me) or (silent and page.sender == me))

    def _is_silent(self, course: Course) -> bool:
        """Tell whether the relay, which is there and has nothing more to say, missed a step."""
        status = self._host.status
        there = status.online and not status.catching_up
        return there and course.is_silent(self._host.now_ms())

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

        Everybody of the policy's steps is a member from the first, so that whoever is called next
        can read at once; nothing is shown to them before their step.

        Args:
            role: The role.
            text: What is the matter.
            priority: How urgent it is.
            patient: The patient reference, where there is one.
            turn: Which of its people are asked first: ``ROLE`` for who is on call now, ``NEXT`` or
                ``BACKUP``; then all goes by the role's policy.

        Raises:
            UnknownUserError: There is no archive, without which nothing begins.
            NotConnectedError: It is not known here, and there is no connection.
        """
        target = Target(kind=turn, name=role)
        conversation = await self._begin(target, patient, priority)
        await self._host.send(
            conversation,
            Text(text=text),
            priority=priority,
            target=target,
            acknowledgement_asked=True,
        )
        return conversation

    def meant(self, target: Target) -> Sequence[UserName] | None:
        """Return whom a message's target means now; None for everybody in the conversation."""
        return meant(self._roster(), target, at_ms=self._host.now_ms())

    async def _begin(
        self, target: Target, patient: str | None, priority: Priority
    ) -> ConversationId:
        """Begin a page's conversation, without whoever has no device: a page does not fail on one.

        They stay in the page's steps, and the second channel is for them.
        """
        role, turn = RoleName(target.name), TURNS[target.kind]
        users = sorted(self.people_of(role, priority, turn) - {self._host.user})
        unknown = [user for user in users if not self._host.devices(user)]
        if unknown:
            with contextlib.suppress(NotConnectedError, NotAllowedError):
                await self._host.look_up(unknown)
        known = [user for user in users if self._host.devices(user)]
        return await self._host.start(ConversationType.PAGE, known, title=role, patient=patient)

    def people_of(
        self, role: RoleName, priority: Priority = Priority.STAT, turn: Turn = Turn.CURRENT
    ) -> set[UserName]:
        """Return everybody whom a page to a role may ask while it lasts, by policy or by shift."""
        now_ms, roster = self._host.now_ms(), self._roster()
        policy = self._host.on_call.policy(role, turn)
        until_ms = now_ms + max(MEANINGS[priority].lives_ms, policy.course_ms + GRACE_MS)
        asked = (
            responder for step in _steps(policy.steps, policy.last_resort) for responder in step
        )
        found: set[UserName] = set()
        for responder in asked:
            found |= self._people(roster, responder, now_ms, until_ms)
        return found

    def _people(
        self, roster: Roster, responder: Responder, now_ms: int, until_ms: int
    ) -> set[UserName]:
        if responder.reach is Names.USER:
            return set(responders(roster, responder, at_ms=now_ms))
        name = RoleName(responder.name)
        role = roster.get(name)
        if role is not None and responder.turn is Turn.BACKUP:
            name = role.backup or name
            role = roster.get(name)
        if role is None:
            return set()
        plan = self._host.on_call.plans.get(name)
        schedule = EMPTY if plan is None else plan.schedule(now_ms)
        found = {user for one in shifts(schedule, now_ms, until_ms) for user in one.people}
        if responder.turn is Turn.NEXT:
            found |= set(next_on_call(role.schedule, now_ms))
        return found | set(role.fallback)

    async def answer(
        self,
        conversation: ConversationId,
        event: Event,
        *,
        to: RoleName | UserName | None = None,
        arrival_ms: int | None = None,
    ) -> None:
        """Answer a page: accept, decline, not mine, finish; also delivered and shown.

        Args:
            conversation: The page's.
            event: What is said.
            to: For ``NOT_MINE``: the role or person whose it is.
            arrival_ms: For ``ACCEPT``: when they will be there.

        Raises:
            NotConnectedError: There is no connection.
            RefusedError: The page has ended, or does not ask this person.
            InvalidError: The answer lacks what belongs to it.
        """
        named = None if to is None else self._responder(to)
        body = PageAnswer(conversation=conversation, event=event, arrival_ms=arrival_ms, to=named)
        statement = self._host.statements.sign(
            StatementType.PAGE_ANSWER,
            body.encode(),
            Purpose.CONNECTION,
            lifetime_ms=ANSWER_LIVES_MS,
        )
        await self._host.statements.post(conversation, statement)

    def _responder(self, to: str) -> Responder:
        is_role = RoleName(to) in self._roster()
        return Responder(reach=Names.ROLE if is_role else Names.USER, name=to)

    async def mend(self, conversation: ConversationId) -> None:
        """Let in whom a page asks and who is no member, and send them the page again, visibly.

        The sender's device does it: owners alone change members.

        Raises:
            UnknownUserError: The relay knows no device of one of them.
            NotConnectedError: There is no connection.
        """
        course = self._host.courses().get(conversation)
        if course is None or not course.missing or course.state.page.sender != self._host.user:
            return
        asked = [user for user in course.missing if (conversation, user) not in self._mended]
        self._mended.update((conversation, user) for user in asked)
        try:
            await self._let_in(conversation, asked)
        except BaseException:
            self._mended.difference_update((conversation, user) for user in asked)
            raise
        text = self._host.page_text(conversation)
        for user in asked:
            await self._host.send(
                conversation,
                Text(text=text),
                priority=course.state.page.priority,
                target=Target(kind=TargetKind.USER, name=user),
            )

    async def _let_in(self, conversation: ConversationId, users: Collection[UserName]) -> None:
        """Return once people are members: what is sent before that they cannot read."""
        if not users:
            return
        await self._host.change_members(conversation, add=users)
        for _ in range(LOOKS):
            if set(users) <= {one.user for one in self._host.members(conversation)}:
                return
            await asyncio.sleep(LOOK_S)
        raise NotConnectedError


LOOK_S = 0.2
"""Seconds between looks at whether a Commit that lets somebody in is confirmed."""
LOOKS = 300
"""Looks at it: a minute, which is enough with the archive away too."""
AHEAD_MS = 14 * DAY_MS
"""How far the board looks ahead, in ms: beyond that a shift's end says nothing to anybody."""


def _is_recent(course: Course, now_ms: int) -> bool:
    page = course.state.page
    ended_ms = course.at_ms if page.status in ENDED else page.expires_ms
    return now_ms < ended_ms + SHOWN_MS


def _steps(steps: Iterable[Step], last: Step) -> Iterable[tuple[Responder, ...]]:
    yield from (step.responders for step in steps)
    yield last.responders
