"""Pages under way: their timers, their steps and their answers; the relay reads nothing of them.

A page starts with the first message of its conversation that asks a role for acknowledgement, in
that message's own transaction. Each step afterwards is an entry of the conversation's log together
with the fact that keeps where the page stands, so that a page is never ahead of what its members
are told, and a restart goes on from the disk: what was due meanwhile is due at once, and what was
done is not done again. One lock for each page puts timers and answers in order.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from crypto.errors import DecodeError, InvalidError
from crypto.statement import StatementType, verify_statement
from protocol.audit import EventKind
from protocol.authenticated_data import Priority
from protocol.errors import Code
from protocol.frames import EntryKind, Ring, RingEnded, RingReason
from protocol.group_context import ConversationType
from protocol.identifiers import (
    ConversationId,
    DeviceId,
    LogId,
    OrganisationId,
    RoleName,
    UserName,
    conversation_id,
    conversation_log,
    user_of,
)
from protocol.oncall import next_steps as steps
from protocol.oncall.next_steps import Action, Alarm, AlarmKind, Alert, Cancel, Progress
from protocol.oncall.page import Page, new_page
from protocol.oncall.page_event import Cause, PageAnswer, PageEvent, PageState
from protocol.oncall.page_state import ENDED, REPORTS, Event, State, Status
from protocol.oncall.role import TURNS
from protocol.oncall.wall_clock import DAY_MS, HOUR_MS
from protocol.routing import ContentType, Routed
from server import events, posts
from server.answers import Refusal
from server.attention import QUIETLY, Notice
from server.directory import Organisation
from server.live_page import (
    KEPT_LONGER_MS,
    LATE_MS,
    Live,
    PageClock,
    is_over,
    over,
    over_facts,
    page_fact,
    read_head,
)
from server.second_channel import Word
from server.shifts import Shifts, moment_of
from server.store import (
    Entry,
    Fact,
    LogKey,
    PutFacts,
    StoreError,
)

if TYPE_CHECKING:
    from server.connection import Connection
    from server.relay import Relay

LOOK_S = 1.0
"""Seconds between looks at the clock: one that was set forward is noticed as late."""
RETRY_S = 0.5
"""Seconds until what the store refused is tried again."""
FAULT_S = 30.0
"""Seconds until what a fault of the program ended is tried again: it may well fail again."""
CALL_AFTER_MS = 10_000
"""Time, in ms, for a device to say that it has a page, before the second channel is used."""
ALARM_SOUNDS_MS = HOUR_MS
"""How long an alarm still sounds, in ms, on a device that was away or is behind."""
CALLED_FROM = Priority.URGENT
"""Lowest priority for which the second channel is used."""

Act = Callable[[Live, PageState, int], Awaitable[None]]
"""Something that is done to a page under its lock: the page, where it stands, the time."""

_STATES = {
    Event.ACCEPT: State.ACCEPTED,
    Event.DECLINE: State.DECLINED,
    Event.NOT_MINE: State.NOT_MINE,
    Event.FINISH: State.DONE,
}
_AUDITED = {
    AlarmKind.COVERAGE: EventKind.PAGE_COVERAGE,
    AlarmKind.UNANSWERED: EventKind.PAGE_UNANSWERED,
    AlarmKind.EXPIRED: EventKind.PAGE_EXPIRED,
    AlarmKind.UNREACHABLE: EventKind.PAGE_UNREACHABLE,
}


class Pages:
    """Every page under way, the soonest due first."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._live: dict[LogKey, Live] = {}
        self._starting: set[LogKey] = set()
        self._due: list[tuple[int, LogKey]] = []
        self._of_user: dict[tuple[OrganisationId, UserName], set[LogKey]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self._clock = PageClock()
        self._shifts = Shifts(relay)

    def _now_ms(self) -> int:
        """Return the clock of pages; once none is under way it is the wall's again."""
        if not self._live:
            self._clock.reset()
        now_ms, set_back = self._clock.now_ms(self._relay.now_ms())
        if set_back:
            self._relay.count("clock_set_back")
        return now_ms

    def __len__(self) -> int:
        return len(self._live)

    def begin(self, organisation: Organisation) -> None:
        """Take up the pages that are on disk."""
        for conversation, stored in organisation.pages.items():
            if is_over(stored):
                continue
            key = LogKey(organisation.id, conversation_log(conversation))
            # After a restore this may be asked for twice; one that runs keeps its lock and timer.
            if key in self._live:
                continue
            head = read_head(stored)
            self._clock.resume(head.written_ms)
            live = Live(organisation=organisation, key=key, due_ms=head.due_ms, stored=stored)
            live.late = self._relay.now_ms() >= head.due_ms + LATE_MS
            self._live[key] = live
            self._due.append((head.due_ms, key))
            for user in head.held_by:
                self._of_user.setdefault((organisation.id, user), set()).add(key)
            if self._shifts.note(live, head.holding):
                self._begin(live, self._relieve)
        heapq.heapify(self._due)
        self._arm()

    def stop(self) -> None:
        """Fire no more timers; what is due stays so on disk."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    # A page starts.

    def start(
        self, connection: Connection, key: LogKey, routed: Routed
    ) -> tuple[Code | None, tuple[Fact, ...]]:
        """Return what a message adds to its transaction where it starts a page.

        It is refused where there is no such role: the sender hears that before anybody waits.
        """
        organisation = connection.organisation
        if not self._starts(organisation, key, routed):
            return None, ()
        now_ms = self._now_ms()
        role = RoleName(routed.data.target.name)
        if role not in moment_of(organisation, self._relay.now_ms()).roster:
            return Code.NO_SUCH, ()
        turn = TURNS[routed.data.target.kind]
        policy = organisation.duty.configuration.policy(role, turn)
        sender = user_of(connection.device_id)
        page = new_page(routed.data.priority, policy, sender=sender, at_ms=now_ms)
        self._starting.add(key)
        return None, (
            page_fact(routed.conversation, PageState(role=role, page=page), at_ms=now_ms),
        )

    def _starts(self, organisation: Organisation, key: LogKey, routed: Routed) -> bool:
        data = routed.data
        context = organisation.contexts.get(routed.conversation)
        return (
            data.acknowledgement_asked
            and data.target.is_role
            and routed.content_type is ContentType.APPLICATION
            and context is not None
            and context.conversation_type is ConversationType.PAGE
            and routed.conversation not in organisation.pages
            and key not in self._starting
        )

    def started(self, organisation: Organisation, key: LogKey, facts: Iterable[Fact]) -> None:
        """Begin with a page whose message is on disk."""
        self._starting.discard(key)
        for fact in facts:
            stored = fact.value or over(self._relay.now_ms())
            due_ms = read_head(stored).due_ms
            live = Live(organisation=organisation, key=key, due_ms=due_ms, stored=stored)
            organisation.pages[live.conversation] = stored
            self._live[key] = live
            self._relay.count("pages_started")
            self._begin(live, self._do)

    def not_started(self, key: LogKey) -> None:
        """Forget a page whose message did not enter its log."""
        self._starting.discard(key)

    def joined(self, key: LogKey, devices: Iterable[str]) -> None:
        """Tell devices that have come into a page's conversation where it stands."""
        live = self._live.get(key)
        if live is not None:
            users = {user_of(DeviceId(device)) for device in devices}
            self._begin(live, partial(self._tell, users))

    async def _tell(self, users: set[UserName], live: Live, state: PageState, now_ms: int) -> None:
        if state.page.position:
            asked = tuple(user for user in state.page.alerting if user in users)
            actions = (Alert(users=asked, again=True),) if asked else ()
            await self._move(live, state, actions, cause=Cause.JOINED, now_ms=now_ms)

    # Time passes.

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._stopped or not self._due:
            return
        wait_s = max(0, self._due[0][0] - self._now_ms()) / 1000
        self._timer = self._relay.loop.call_later(min(wait_s, LOOK_S), self.look)

    def look(self) -> None:
        """Do what is due by now."""
        now_ms = self._now_ms()
        try:
            while self._due and self._due[0][0] <= now_ms:
                due_ms, key = heapq.heappop(self._due)
                live = self._live.get(key)
                # An entry of the heap that is not the page's present due time is an old one.
                if live is not None and live.due_ms == due_ms:
                    self._begin(live, self._do)
            for key in self._shifts.changed():
                self._begin(self._live[key], self._relieve)
        finally:
            # Whatever is wrong with one role or page, the others' timers go on.
            self._arm()

    def _wait(self, live: Live, due_ms: int) -> None:
        live.due_ms = due_ms
        heapq.heappush(self._due, (due_ms, live.key))
        if self._due[0][0] == due_ms:
            self._arm()

    def _begin(self, live: Live, act: Act) -> None:
        if not self._stopped:
            self._relay.run(self._on(live, act))

    async def _on(self, live: Live, act: Act) -> None:
        """Do something to a page that is under way; what fails is done again.

        That holds for a fault of the program, too: it must not end a page's timers, or nobody would
        be asked any more until the next start.
        """
        async with live.lock:
            if self._live.get(live.key) is not live:
                return
            try:
                await act(live, live.read(), self._now_ms())
            except StoreError as error:
                self._relay.count("page_failures")
                events.warn("page", error=type(error).__name__)
                pause_s = RETRY_S
            except Exception as error:
                self._relay.count("faults")
                events.fault(error)
                pause_s = FAULT_S
            else:
                return
        self._relay.loop.call_later(pause_s, self._begin, live, act)

    def gone(self, organisation: Organisation, users: Iterable[UserName]) -> None:
        """Take the pages of people away from them of whom no device stands any more."""
        lost = {user for user in users if not self._relay.reach.has_device(organisation, user)}
        keys = {key for user in lost for key in self._of_user.get((organisation.id, user), ())}
        for key in keys & self._live.keys():
            self._begin(self._live[key], partial(self._leave, lost))

    async def _leave(self, users: set[UserName], live: Live, state: PageState, now_ms: int) -> None:
        progress = steps.leave(state.page, users, at_ms=now_ms)
        if progress.page != state.page:
            page, more = self._advance(live, progress.page, now_ms)
            changed, actions = replace(state, page=page), (*progress.actions, *more)
            await self._move(live, changed, actions, cause=Cause.GONE, now_ms=now_ms)

    async def _relieve(self, live: Live, state: PageState, now_ms: int) -> None:
        """Hand a page over to whoever has come on call."""
        moment = moment_of(live.organisation, self._relay.now_ms())
        progress = steps.relieve(state.page, moment, now_ms=now_ms)
        if progress.page == state.page:
            return
        page, actions = progress.page, progress.actions
        asked = [user for action in actions if _is_new(action) for user in action.users]
        if asked and not self._can_wake_one(live, asked):
            passed = steps.pass_over(page, moment, now_ms=now_ms)
            page, actions = passed.page, (*actions, *passed.actions)
        changed = replace(state, page=page)
        await self._move(live, changed, actions, cause=Cause.SHIFT, now_ms=now_ms)

    async def _do(self, live: Live, state: PageState, now_ms: int) -> None:
        """Do what is due on one page."""
        if state.due_ms is None or state.due_ms > now_ms:
            if state.due_ms is not None:
                self._wait(live, state.due_ms)
            return
        page_due_ms = state.page.next_due_ms
        if page_due_ms is not None and page_due_ms > now_ms:
            called = self._silent(state)
            state = replace(state, call_ms=None, called=_joined(state.called, called))
            await self._write(live, state, (), cause=Cause.CALLED, now_ms=now_ms)
            self._call(state, called)
            return
        cause = Cause.TIMER if state.page.position else Cause.STARTED
        page, actions = self._advance(live, state.page, now_ms)
        if live.late and page.status is Status.EXPIRED:
            actions = tuple(_unheard(action) for action in actions)
        await self._move(live, replace(state, page=page), actions, cause=cause, now_ms=now_ms)

    def _advance(self, live: Live, page: Page, now_ms: int) -> tuple[Page, tuple[Action, ...]]:
        """Take what is due; a step of whom nobody can be woken is passed over at once."""
        moment = moment_of(live.organisation, self._relay.now_ms())
        actions: list[Action] = []
        for _ in range(page.policy.last_position + 2):
            progress = steps.next_steps(page, moment, now_ms=now_ms)
            actions += progress.actions
            page = progress.page
            asked = [user for a in progress.actions if _is_new(a) for user in a.users]
            if not asked or self._can_wake_one(live, asked):
                break
            passed = steps.pass_over(page, moment, now_ms=now_ms)
            if not passed.actions:
                break
            actions += passed.actions
            page = passed.page
        return page, tuple(actions)

    def _can_wake_one(self, live: Live, users: Iterable[UserName]) -> bool:
        return any(self._relay.reach.can_be_woken(live.organisation.id, user) for user in users)

    async def forget(self) -> None:
        """Forget pages that ended long ago: nothing of their conversations is here any more.

        Raises:
            StoreError: The store could not do it now.
        """
        kept_ms = self._relay.configuration.storage.expiry_days * DAY_MS + KEPT_LONGER_MS
        for organisation in self._relay.organisations.values():
            facts = over_facts(organisation, before_ms=self._relay.now_ms() - kept_ms)
            if facts:
                await self._relay.store.change(PutFacts(organisation.id, facts))
                for fact in facts:
                    organisation.pages.pop(ConversationId(fact.key[1:]), None)

    # Writing.

    async def _move(
        self,
        live: Live,
        state: PageState,
        actions: tuple[Action, ...],
        *,
        cause: Cause,
        now_ms: int,
        statement: bytes | None = None,
    ) -> None:
        """Write what has happened, then do it: ring, silence, call."""
        asked = {user for action in actions if _is_new(action) for user in action.users}
        # Whoever has no device that hears is called at once, the others once theirs say nothing.
        lost = sorted(u for u in asked if not self._can_wake_one(live, [u])) if asked else []
        calls = self._relay.second_channel is not None and state.page.priority >= CALLED_FROM
        lost = lost if calls else []
        if asked:
            kept = (user for user in state.called if user not in asked)
            call_ms = now_ms + CALL_AFTER_MS if calls and asked - set(lost) else None
            state = replace(state, called=_joined(kept, lost), call_ms=call_ms)
        if state.call_ms is not None and not self._silent(state):
            state = replace(state, call_ms=None)
        await self._write(live, state, actions, cause=cause, now_ms=now_ms, statement=statement)
        for action in actions:
            self._act(live, state, action)
        self._call(state, lost)

    async def _write(
        self,
        live: Live,
        state: PageState,
        actions: tuple[Action, ...],
        *,
        cause: Cause,
        now_ms: int,
        statement: bytes | None = None,
    ) -> None:
        """Put an event into the log with the fact that it makes true."""
        alerted = {u for a in actions if not isinstance(a, Cancel) for u in a.users}
        event = PageEvent(
            cause=cause,
            at_ms=now_ms,
            state=state,
            actions=actions,
            statement=statement,
            missing=self._missing(live, alerted),
        )
        fact = page_fact(live.conversation, state, at_ms=now_ms)
        await posts.append_own(
            self._relay,
            live.key,
            event.encode(),
            kind=EntryKind.PAGE,
            facts=(fact,),
            at_ms=now_ms,
            priority=state.page.priority,
            notice=Notice(priority=state.page.priority, asked=alerted, always=True),
        )
        live.state = state
        live.organisation.pages[live.conversation] = fact.value or over(self._relay.now_ms())
        self._note_people(live, state)
        if state.due_ms is None:
            self._live.pop(live.key, None)
        else:
            self._wait(live, state.due_ms)
        holding = {} if state.due_ms is None else state.page.on_duty()
        if self._shifts.note(live, holding):
            self._begin(live, self._relieve)

    def _missing(self, live: Live, users: Iterable[UserName]) -> tuple[UserName, ...]:
        readers = {user_of(device) for device in self._relay.store.readers(live.key)}
        return tuple(sorted(user for user in users if user not in readers))

    def _note_people(self, live: Live, state: PageState) -> None:
        held_by = state.page.held_by
        for user in {one.user for one in state.page.recipients}:
            pages = self._of_user.setdefault((live.organisation.id, user), set())
            if user in held_by:
                pages.add(live.key)
            else:
                pages.discard(live.key)

    # Doing.

    def _act(self, live: Live, state: PageState, action: Action) -> None:
        organisation = live.organisation
        if isinstance(action, Cancel):
            for user in action.users:
                self._end_ring(live, user)
            return
        reason = RingReason.ALARM
        if isinstance(action, Alert):
            reason = RingReason.AGAIN if action.again else RingReason.PAGE
            if not action.again and state.page.position > 1:
                self._relay.audit(organisation, EventKind.PAGE_ESCALATED)
        else:
            self._relay.audit(organisation, _AUDITED[action.kind])
        for user in action.users:
            self._ring(live, state, user, reason)

    def _ring(self, live: Live, state: PageState, user: UserName, reason: RingReason) -> None:
        """Ring the devices that do not read the conversation's entry: locked, or not in it."""
        ring = _ring_of(live, state, reason)
        readers = self._relay.store.readers(live.key)
        for connection in self._relay.delivery.of_user(live.organisation.id, user):
            reads = connection.is_open and connection.device_id in readers
            if not reads and connection.session.may_send(Ring):
                connection.send(ring)

    def _end_ring(self, live: Live, user: UserName) -> None:
        for connection in self._relay.delivery.of_user(live.organisation.id, user):
            if connection.session.may_send(RingEnded):
                connection.send(RingEnded(conversation=live.conversation))

    def greet(self, connection: Connection) -> None:
        """Ring a device that has just come, for every page that still asks its person."""
        organisation, user = connection.organisation, user_of(connection.device_id)
        for key in self._of_user.get((organisation.id, user), ()):
            live = self._live.get(key)
            if live is not None and user in live.read().page.alerting:
                state = live.read()
                ring = _ring_of(live, state, RingReason.PAGE)
                reads = connection.is_open and connection.device_id in self._relay.store.readers(
                    key
                )
                if not reads and connection.session.may_send(Ring):
                    connection.send(ring)

    def _silent(self, state: PageState) -> tuple[UserName, ...]:
        """Return whom the page asks and whose devices have said nothing of it."""
        page = state.page
        return tuple(
            user
            for user in page.alerting
            if user not in state.called and _state_of(page, user) is State.SENT
        )

    def _call(self, state: PageState, users: Iterable[UserName]) -> None:
        for user in users:
            self._relay.say(user, Word(state.page.priority), state.role)

    # Whom an entry concerns.

    def notice(
        self, organisation: Organisation, log: LogId, kind: int, priority: Priority
    ) -> Notice:
        """Return whom an entry of a page's conversation may disturb now."""
        live = self._live.get(LogKey(organisation.id, log))
        if live is None:
            return QUIETLY
        page = live.read().page
        if kind == EntryKind.PAGE:
            return Notice(priority=page.priority, asked=page.alerting, always=True)
        asked = {one.user for one in page.recipients if one.state is not State.DECLINED}
        return Notice(priority=priority, asked=asked | {page.sender})

    def late_notice(self, organisation: Organisation, log: LogId, entry: Entry) -> Notice:
        """Return whom an entry may disturb now that is read from its log, and not as it came.

        Whom the page asks by now, and for an hour whoever its alarm is for, also where it has ended
        since: nobody else would tell them that nobody has answered.
        """
        notice = self.notice(organisation, log, entry.kind, Priority(entry.priority))
        if entry.kind != EntryKind.PAGE or self._relay.now_ms() >= entry.at_ms + ALARM_SOUNDS_MS:
            return notice
        try:
            actions = PageEvent.decode(entry.body).actions
        except (DecodeError, InvalidError):
            # Its body is gone: expired.
            return notice
        alarmed = {user for one in actions if isinstance(one, Alarm) for user in one.users}
        if not alarmed:
            return notice
        asked = alarmed.union(notice.asked or ())
        return Notice(priority=Priority(entry.priority), asked=asked, always=True)

    # Answers.

    async def answer(self, connection: Connection, log: LogId, statement: bytes) -> None:
        """Take a device's report or its person's answer.

        Raises:
            Refusal: There is no such page for this person, or it has ended.
            CryptoError: The statement is not what it should be, or does not fit where it stands.
            StoreError: The store refuses it or failed.
        """
        organisation = connection.organisation
        verified = verify_statement(
            statement,
            expected=StatementType.PAGE_ANSWER,
            trust=organisation.trust,
            at_ms=self._relay.now_ms(),
        )
        posts.check_signer(connection, verified)
        said = PageAnswer.decode(verified.body)
        if said.conversation != conversation_id(log[1:]):
            raise InvalidError("an answer stands in the log of its page")
        live = self._live.get(LogKey(organisation.id, log))
        if live is None:
            known = said.conversation in organisation.pages
            raise Refusal(Code.PAGE_ENDED if known else Code.NO_SUCH)
        async with live.lock:
            await self._answered(live, said, user_of(connection.device_id), statement)

    async def _answered(
        self, live: Live, said: PageAnswer, user: UserName, statement: bytes
    ) -> None:
        state, now_ms = live.read(), self._now_ms()
        page = state.page
        if page.status in ENDED:
            raise Refusal(Code.PAGE_ENDED)
        if page.recipient(user) is None:
            raise Refusal(Code.NO_SUCH)
        if _is_repeat(page, said, user):
            return
        progress = self._progress(live, page, said, user=user, now_ms=now_ms)
        if progress.page == page:
            return
        actions, page = progress.actions, progress.page
        due_ms = page.next_due_ms
        if due_ms is not None and due_ms <= now_ms:
            page, more = self._advance(live, page, now_ms)
            actions = (*actions, *more)
        await self._move(
            live,
            replace(state, page=page),
            actions,
            cause=Cause.ANSWER,
            now_ms=now_ms,
            statement=statement,
        )
        if said.event is Event.ACCEPT:
            self._relay.audit(live.organisation, EventKind.PAGE_ACCEPTED)

    def _progress(
        self, live: Live, page: Page, said: PageAnswer, *, user: UserName, now_ms: int
    ) -> Progress:
        if said.event in REPORTS:
            return Progress(page=steps.report(page, user, said.event, at_ms=now_ms))
        if said.event is Event.ACCEPT:
            return steps.accept(page, user, at_ms=now_ms, arrival_ms=said.arrival_ms)
        if said.event is Event.DECLINE:
            return steps.decline(page, user, at_ms=now_ms)
        if said.event is Event.FINISH:
            return steps.finish(page, user, at_ms=now_ms)
        if said.to is None:
            raise InvalidError("who says that a page is not theirs says whose it is")
        moment = moment_of(live.organisation, self._relay.now_ms())
        return steps.redirect(page, moment, user=user, to=said.to, at_ms=now_ms)


def _is_new(action: Action) -> bool:
    return isinstance(action, Alert) and not action.again


def _unheard(action: Action) -> Action:
    """Return an alarm that is written down and wakes nobody."""
    return replace(action, users=()) if isinstance(action, Alarm) else action


def _joined(first: Iterable[UserName], second: Iterable[UserName]) -> tuple[UserName, ...]:
    return tuple(sorted({*first, *second}))


def _state_of(page: Page, user: UserName) -> State | None:
    one = page.recipient(user)
    return None if one is None else one.state


def _is_repeat(page: Page, said: PageAnswer, user: UserName) -> bool:
    """Tell whether an answer stands already: its first sending was answered, or lost on the way."""
    one = page.recipient(user)
    if one is None or one.state is not _STATES.get(said.event):
        return False
    return said.event is not Event.ACCEPT or one.arrival_ms == said.arrival_ms


def _ring_of(live: Live, state: PageState, reason: RingReason) -> Ring:
    return Ring(
        priority=state.page.priority,
        role=state.role,
        conversation=live.conversation,
        step=state.page.position,
        reason=reason,
    )
