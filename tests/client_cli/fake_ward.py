"""A ward that stands still: one device with conversations, people, duty and pages, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from client import thread, wording
from client.courses import Answer, Course, VouchCourse, VouchState, course, reactions
from client.duty import PageView, Reach, RoleView
from client.errors import NotMemberError, StoreError
from client.messages import MessageKey, PersonState, State
from client.views import (
    Change,
    ChangeKind,
    DeviceView,
    MemberView,
    PersonView,
    Roster,
    Shown,
    Status,
    Summary,
)
from protocol.authenticated_data import EVERYBODY, Priority, Target, TargetKind
from protocol.content import (
    Attachment,
    Content,
    CriticalResult,
    EmergencyVouch,
    HandOff,
    Reaction,
    Reply,
    Task,
    TaskChange,
    TaskState,
    Text,
)
from protocol.group_context import ConversationType
from protocol.identifiers import ConversationId, DeviceId, RoleName, UserName, user_of
from protocol.oncall.page_state import TRANSITIONS, Event
from protocol.oncall.page_state import State as Place
from protocol.oncall.page_state import Status as PageStatus
from tests.client_cli.fake_emergency import FakeEmergency
from tests.client_cli.fake_rights import FakeRights
from tests.protocol.content_examples import ATTACHMENT_REF

NOW_MS = 1_795_096_800_000
"""19 November 2026, 14:00 UTC."""
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS

ANN, BEN, CARLA, DAN, EVA = (UserName(name) for name in ("ann", "ben", "carla", "dan", "eva"))
ARCHIVE = UserName("archive")
PEOPLE = (
    PersonView(user=ANN, name="Ann Weber", ward="ICU", roles=(RoleName("icu-registrar"),),
               on_call=(RoleName("icu-registrar"),)),
    PersonView(user=BEN, name="Ben Adler", ward="ICU", roles=(), on_call=()),
    PersonView(user=CARLA, name="Carla Ruiz", ward="Ward 3B", roles=(), on_call=()),
    PersonView(user=DAN, name="Dan Okafor", ward="Surgery", roles=(RoleName("surgeon"),),
               on_call=(RoleName("surgeon"),)),
    PersonView(user=EVA, name="Eva Lindqvist", ward="Cardiology",
               roles=(RoleName("cardiologist"),), on_call=()),
    PersonView(user=UserName("ben2"), name="Ben Adlar", ward="Cardiology", roles=(), on_call=()),
)  # fmt: skip

BED_7, TEAM, WITH_BEN, DRILL, PAGE = (ConversationId(bytes([n]) * 32) for n in range(1, 6))


@dataclass
class Line:
    """A message of the ward, with what became of it."""

    shown: Shown
    answers: list[Answer] = field(default_factory=list)


@dataclass
class FakeDuty:
    """Duty that stands still, but for the pages that are answered."""

    ward: FakeWard
    roles: list[RoleView] = field(default_factory=list)
    sheet: list[PageView] = field(default_factory=list)
    answered: list[tuple[ConversationId, Event, str | None, int | None]] = field(
        default_factory=list
    )
    turns: list[TargetKind] = field(default_factory=list)

    def board(self) -> Sequence[RoleView]:
        return self.roles

    def reach(self, users: Collection[UserName], priority: Priority) -> Sequence[Reach]:
        return [
            Reach(
                user=user,
                alerts=user != CARLA,
                held=user == CARLA and priority is not Priority.STAT,
                off_duty=user == CARLA,
                until_ms=NOW_MS + 17 * HOUR_MS if user == CARLA else None,
                covers=(DAN,) if user == CARLA else (),
            )
            for user in sorted(users)
        ]

    def pages(self) -> Sequence[PageView]:
        return self.sheet

    def meant(self, target: Target) -> Sequence[UserName] | None:
        if target.kind is TargetKind.USER:
            return (UserName(target.name),)
        role = next((one for one in self.roles if one.role == target.name), None)
        if role is None:
            return None
        return role.following if target.kind is TargetKind.NEXT else role.on_call or role.fallback

    async def page(
        self,
        role: RoleName,
        text: str,
        *,
        priority: Priority,
        patient: str | None = None,
        turn: TargetKind = TargetKind.ROLE,
    ) -> ConversationId:
        self.turns.append(turn)
        page = PageView(
            conversation=ConversationId(bytes([100 + len(self.sheet)]) * 32),
            role=role,
            sender=ANN,
            priority=priority,
            text=text,
            started_ms=NOW_MS,
            status=PageStatus.OPEN,
            step=1,
            mine=None,
            asked={DAN: Place.SENT},
            next_ms=NOW_MS + 5 * MINUTE_MS,
            alerting=False,
        )
        self.sheet.append(page)
        return page.conversation

    async def answer(
        self,
        conversation: ConversationId,
        event: Event,
        *,
        to: RoleName | UserName | None = None,
        arrival_ms: int | None = None,
    ) -> None:
        self.answered.append((conversation, event, to, arrival_ms))
        self.sheet = [
            self._after(page, event) if page.conversation == conversation else page
            for page in self.sheet
        ]
        self.ward.tell(Change(kind=ChangeKind.PAGE, conversation=conversation))

    def _after(self, page: PageView, event: Event) -> PageView:
        assert page.mine is not None
        place = TRANSITIONS[page.mine][event]
        status = {
            Event.ACCEPT: PageStatus.ACCEPTED,
            Event.FINISH: PageStatus.DONE,
        }.get(event, page.status)
        return replace(
            page,
            mine=place,
            status=status,
            asked={**page.asked, ANN: place},
            alerting=False,
            next_ms=None if status is not PageStatus.OPEN else page.next_ms,
        )


class FakeHandingOver:
    """What a device would hand over: as many messages as a test says, and where it was done."""

    hours = 0
    messages = 0

    def __init__(self) -> None:
        self.done: list[ConversationId] = []

    def count(self, _conversation: ConversationId) -> int:
        return self.messages if self.hours else 0

    async def hand_over(self, conversation: ConversationId) -> None:
        self.done.append(conversation)


class FakeWard:
    """A device that keeps everything in memory and connects to nothing."""

    def __init__(self) -> None:
        self.me = DeviceId("ann/desk")
        self.user = ANN
        self.lines: dict[ConversationId, list[Line]] = {}
        self.cards: dict[ConversationId, Summary] = {}
        self.people: dict[ConversationId, list[UserName]] = {}
        self.read_to: dict[ConversationId, int] = {}
        self.status = Status(online=True, catching_up=0, unsent=0, faults=0, archived_lag_ms=0)
        self.duty = FakeDuty(self)
        self.emergency = FakeEmergency(ANN, NOW_MS)
        self.handing_over = FakeHandingOver()
        self.rights = FakeRights()
        self.attached: list[Path] = []
        self.left: list[ConversationId] = []
        self.refusal: StoreError | None = None
        self._number = 0
        self._watchers: list[asyncio.Queue[Change]] = []

    # -- living --------------------------------------------------------------------------------

    def watch(self) -> AsyncIterator[Change]:
        queue: asyncio.Queue[Change] = asyncio.Queue()
        self._watchers.append(queue)

        async def changes() -> AsyncIterator[Change]:
            while True:
                yield await queue.get()

        return changes()

    def tell(self, change: Change) -> None:
        for queue in self._watchers:
            queue.put_nowait(change)

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def online(self, timeout_s: float) -> None:
        assert timeout_s > 0

    async def settled(self, timeout_s: float) -> None:
        assert timeout_s > 0

    # -- reading -------------------------------------------------------------------------------

    def conversations(self, limit: int | None = None) -> list[Summary]:
        found = [self.summary(conversation) for conversation in self.cards]
        found.sort(key=lambda one: one.last.at_ms if one.last else 0, reverse=True)
        return found[:limit]

    def alarming(self) -> list[Summary]:
        found = self.conversations()
        return [one for one in found if one.unread and one.top_priority is Priority.STAT]

    def released(self) -> list[Summary]:
        return [one for one in self.conversations() if one.released]

    def summary(self, conversation: ConversationId) -> Summary:
        if conversation not in self.cards:
            raise NotMemberError
        lines = self.lines.get(conversation, [])
        after = self.read_to.get(conversation, 0)
        unread = [line.shown for line in lines if line.shown.place > after and not line.shown.own]
        return replace(
            self.cards[conversation],
            unread=len(unread),
            top_priority=max((one.priority for one in unread), default=None),
            last=self._shown(lines[-1]) if lines else None,
            people=len(self.people[conversation]),
        )

    def messages(
        self, conversation: ConversationId, *, limit: int, before: int | None = None
    ) -> list[Shown]:
        lines = [
            self._shown(line)
            for line in self.lines.get(conversation, [])
            if before is None or line.shown.place < before
        ]
        return lines[-limit:]

    def message(self, key: MessageKey) -> Shown | None:
        line = self._line(key)
        return None if line is None else self._shown(line)

    def history(self, key: MessageKey) -> list[Shown]:
        line = self._line(key)
        return [] if line is None or not line.shown.edited else [self._shown(line)]

    def members(self, conversation: ConversationId) -> list[MemberView]:
        found = [
            MemberView(
                user=user,
                name=self._name(user),
                devices=(DeviceId(f"{user}/phone"),),
                is_recorder=False,
                is_owner=user == ANN,
                certified_until_ms=NOW_MS + 60 * 24 * HOUR_MS,
            )
            for user in self.people[conversation]
        ]
        archive = MemberView(
            user=ARCHIVE,
            name="Archive",
            devices=(DeviceId("archive/recorder"),),
            is_recorder=True,
            is_owner=False,
            certified_until_ms=NOW_MS + 60 * 24 * HOUR_MS,
        )
        return [*found, archive]

    def search(self, text: str, *, conversation: ConversationId | None = None) -> list[Shown]:
        words = text.casefold().split()
        return [
            self._shown(line)
            for found, lines in self.lines.items()
            if conversation in (None, found)
            for line in reversed(lines)
            if words and all(word in line.shown.text.casefold() for word in words)
        ]

    def directory(self, text: str = "") -> list[PersonView]:
        wanted = text.casefold()
        return [
            person
            for person in PEOPLE
            if wanted in f"{person.name} {person.user} {person.ward}".casefold()
        ]

    def devices(self) -> list[DeviceView]:
        return [
            DeviceView(
                device=DeviceId(f"ann/{name}"),
                this=name == "desk",
                certified_until_ms=NOW_MS + 60 * 24 * HOUR_MS,
                revoked=name == "old-phone",
            )
            for name in ("desk", "phone", "old-phone")
        ]

    # -- acting --------------------------------------------------------------------------------

    async def look_up(self, users: Sequence[UserName]) -> None:
        """Nobody else is anywhere."""

    async def start(
        self,
        kind: ConversationType,
        users: Collection[UserName],
        *,
        title: str = "",
        patient: str | None = None,
    ) -> ConversationId:
        conversation = ConversationId(bytes([50 + len(self.cards)]) * 32)
        self.add(
            conversation, kind, title or self._name(min(users)), [ANN, *sorted(users)], patient
        )
        self.tell(Change(kind=ChangeKind.CONVERSATIONS, conversation=conversation))
        return conversation

    async def send(
        self,
        conversation: ConversationId,
        content: Content,
        *,
        priority: Priority = Priority.ROUTINE,
        target: Target = EVERYBODY,
        acknowledgement_asked: bool = False,
    ) -> Shown | None:
        if self.refusal is not None:
            raise self.refusal
        shown = self.say(
            conversation,
            "ann/desk",
            content,
            at_ms=NOW_MS,
            priority=priority,
            target=target,
            acknowledgement_asked=acknowledgement_asked,
            state=State.WAITING,
        )
        self.tell(Change(kind=ChangeKind.MESSAGES, conversation=conversation))
        return shown

    async def change_members(
        self,
        conversation: ConversationId,
        *,
        add: Collection[UserName] = (),
        remove: Collection[UserName] = (),
    ) -> None:
        people = set(self.people[conversation]) | set(add)
        self.people[conversation] = sorted(people - set(remove))
        self.tell(Change(kind=ChangeKind.MEMBERS, conversation=conversation))

    async def leave(self, conversation: ConversationId) -> None:
        self.left.append(conversation)

    async def mark_read(self, conversation: ConversationId, through_place: int) -> None:
        self.read_to[conversation] = max(through_place, self.read_to.get(conversation, 0))
        self.tell(Change(kind=ChangeKind.CONVERSATIONS, conversation=conversation))

    async def acknowledge(self, key: MessageKey) -> None:
        self._put(key, people={ANN: (PersonState.ACKNOWLEDGED, NOW_MS)})

    async def recall(self, key: MessageKey) -> None:
        self._put(key, state=State.RETRACTED, text="", content=thread.Unreadable())

    async def mute(self, conversation: ConversationId, *, muted: bool) -> None:
        self.cards[conversation] = replace(self.cards[conversation], muted=muted)

    async def attach(
        self, conversation: ConversationId, path: Path, *, on_progress: Callable[[int, int], None]
    ) -> Shown:
        on_progress(1, 2)
        self.attached.append(path)
        content = Attachment(
            blob="00ff", ref=ATTACHMENT_REF, name=path.name, media_type="image/jpeg"
        )
        on_progress(2, 2)
        shown = await self.send(conversation, content)
        assert shown is not None
        return shown

    async def fetch(
        self, key: MessageKey, to_path: Path, *, on_progress: Callable[[int, int], None]
    ) -> None:
        await asyncio.to_thread(to_path.write_bytes, b"wound")
        on_progress(1, 1)

    # -- building ------------------------------------------------------------------------------

    def add(
        self,
        conversation: ConversationId,
        kind: ConversationType,
        title: str,
        people: Sequence[UserName],
        patient: str | None = None,
        held: int = 0,
    ) -> None:
        self.people[conversation] = sorted(people)
        self.lines[conversation] = []
        self.cards[conversation] = Summary(
            conversation=conversation,
            kind=kind,
            title=title,
            patient=patient,
            unread=0,
            top_priority=None,
            last=None,
            muted=False,
            held=held,
            people=len(people),
            ended=False,
            opening=False,
            peer=next((user for user in people if user != ANN), None)
            if kind is ConversationType.DIRECT
            else None,
        )

    def say(
        self,
        conversation: ConversationId,
        sender: str,
        content: Content | Roster | str,
        *,
        at_ms: int,
        priority: Priority = Priority.ROUTINE,
        target: Target = EVERYBODY,
        acknowledgement_asked: bool = False,
        state: State = State.STORED,
        people: dict[UserName, tuple[PersonState, int]] | None = None,
        archived: bool = False,
        edited: int = 0,
    ) -> Shown | None:
        """Put a message into a thread; what only acts on another is put beside that one."""
        self._number += 1
        value: Content | Roster = Text(text=content) if isinstance(content, str) else content
        device = DeviceId(sender)
        target_of = getattr(value, "target", None)
        if target_of is not None:
            for line in self.lines[conversation]:
                if thread.reference(line.shown.key) == target_of:
                    answer = Answer(by=user_of(device), at_ms=at_ms, content=value)  # type: ignore[arg-type]
                    line.answers.append(answer)
        if isinstance(value, Reaction):
            return None
        shown = Shown(
            key=MessageKey(conversation=conversation, sender=device, message_id=self._number),
            sender=device,
            at_ms=at_ms,
            place=self._number,
            state=state,
            priority=priority,
            content=value,
            text="" if isinstance(value, Roster) else wording.say(value),
            target=target,
            acknowledgement_asked=acknowledgement_asked,
            people=people or {},
            archived=archived,
            edited=edited,
            reply_to=(
                MessageKey(
                    conversation=conversation,
                    sender=value.to.sender,
                    message_id=value.to.message_id,
                )
                if isinstance(value, Reply)
                else None
            ),
            own=user_of(device) == ANN,
        )
        self.lines[conversation].append(Line(shown))
        return shown

    def _name(self, user: UserName) -> str:
        return next((person.name for person in PEOPLE if person.user == user), user)

    def _line(self, key: MessageKey) -> Line | None:
        lines = self.lines.get(key.conversation, [])
        return next((line for line in lines if line.shown.key == key), None)

    def _put(self, key: MessageKey, **changes: object) -> None:
        line = self._line(key)
        assert line is not None
        line.shown = replace(line.shown, **changes)  # type: ignore[arg-type]
        self.tell(Change(kind=ChangeKind.MESSAGES, conversation=key.conversation))

    def _shown(self, line: Line) -> Shown:
        shown = line.shown
        if isinstance(shown.content, Roster | thread.Unreadable):
            return shown
        if isinstance(shown.content, EmergencyVouch):
            visits = self.emergency.visits(shown.key.conversation)
            let_in = shown.content.user in {one.user for one in visits}
            state = VouchState.IN if let_in else VouchState.OPEN
            became: Course | None = VouchCourse(state=state, until_ms=shown.content.until_ms)
            return replace(shown, course=became)
        became = course(shown.content, user_of(shown.sender), line.answers)  # type: ignore[arg-type]
        return replace(shown, course=became, reactions=reactions(line.answers))


def vouched_for_eva(ward: FakeWard) -> None:
    """Let Ben be the first to vouch for Eva's access to bed 7."""
    reason, stay_ms = "Arrest in bed 7, she is the cardiologist on call", 2 * HOUR_MS
    ward.emergency.first(BED_7, EVA, BEN, reason, stay_ms)
    content = EmergencyVouch(
        user=EVA, until_ms=NOW_MS + stay_ms, reason=reason, statement=b"signed"
    )
    ward.say(BED_7, "ben/phone", content, at_ms=NOW_MS, priority=Priority.URGENT)
    ward.tell(Change(kind=ChangeKind.MESSAGES, conversation=BED_7))


def example_ward() -> FakeWard:
    """An intensive care unit on a Thursday afternoon."""
    ward = FakeWard()
    _bed_7(ward)
    _others(ward)
    _duty(ward)
    return ward


def _bed_7(ward: FakeWard) -> None:
    ward.add(BED_7, ConversationType.GROUP, "Bed 7", [ANN, BEN, CARLA, DAN], "MRN 4711")
    at = NOW_MS - 2 * HOUR_MS
    ward.say(BED_7, "ann/desk", Roster(by=DeviceId("ann/desk"), joined=(BEN, CARLA, DAN)), at_ms=at)
    note = HandOff(
        subject="Bed 7",
        situation="Day 1 after laparotomy, stable, on 2 l oxygen",
        background="Perforated appendix, penicillin allergy",
        assessment="Pain controlled, urine 40 ml/h",
        recommendation="Lactate at 16:00, call surgery above 3",
        to=(BEN,),
    )
    ward.say(BED_7, "dan/phone", note, at_ms=at + 5 * MINUTE_MS)
    task = ward.say(
        BED_7,
        "ann/desk",
        Task(title="Blood cultures before the next antibiotic", assignee=BEN),
        at_ms=at + 20 * MINUTE_MS,
        people={BEN: (PersonState.READ, at), DAN: (PersonState.DELIVERED, at)},
        archived=True,
    )
    assert task is not None
    change = TaskChange(target=thread.reference(task.key), state=TaskState.DONE)
    ward.say(BED_7, "ben/phone", change, at_ms=at + 50 * MINUTE_MS)
    _question(ward, at)
    _afternoon(ward)


def _question(ward: FakeWard, at: int) -> None:
    question = ward.say(BED_7, "carla/phone", "Can he drink?", at_ms=at + 60 * MINUTE_MS)
    assert question is not None
    answer = Reply(to=thread.reference(question.key), text="Sips of water only, please.")
    own = ward.say(
        BED_7,
        "ann/desk",
        answer,
        at_ms=at + 62 * MINUTE_MS,
        people={
            BEN: (PersonState.READ, at + 63 * MINUTE_MS),
            CARLA: (PersonState.READ, at + 64 * MINUTE_MS),
            DAN: (PersonState.DELIVERED, at + 62 * MINUTE_MS),
        },
        archived=True,
        edited=1,
    )
    assert own is not None
    thumbs = Reaction(target=thread.reference(own.key), mark="+1")
    ward.say(BED_7, "carla/phone", thumbs, at_ms=at + 65 * MINUTE_MS)


def _afternoon(ward: FakeWard) -> None:
    ward.say(
        BED_7,
        "ben/phone",
        Attachment(
            blob="00ff",
            ref=ATTACHMENT_REF,
            name="wound.jpg",
            media_type="image/jpeg",
            caption="Dressing changed",
        ),
        at_ms=NOW_MS - 30 * MINUTE_MS,
    )
    ward.say(
        BED_7,
        "ben/phone",
        CriticalResult(patient="MRN 4711", test="Potassium", value="6.9 mmol/l"),
        at_ms=NOW_MS - 3 * MINUTE_MS,
        priority=Priority.URGENT,
        acknowledgement_asked=True,
    )
    ward.read_to[BED_7] = ward.lines[BED_7][-2].shown.place


def _others(ward: FakeWard) -> None:
    ward.add(TEAM, ConversationType.GROUP, "Ward 3B team", [ANN, CARLA, EVA], held=3)
    ward.say(TEAM, "carla/phone", "Who has the key to the drug fridge?", at_ms=NOW_MS - HOUR_MS)
    ward.add(WITH_BEN, ConversationType.DIRECT, "Ben Adler", [ANN, BEN])
    ward.say(
        WITH_BEN,
        "ann/desk",
        "Thanks for staying on.",
        at_ms=NOW_MS - 20 * HOUR_MS,
        people={BEN: (PersonState.READ, NOW_MS - 19 * HOUR_MS)},
        archived=True,
    )
    ward.add(DRILL, ConversationType.ANNOUNCEMENT, "Hospital announcements", [ANN, BEN, EVA])
    ward.say(DRILL, "eva/phone", "Fire drill on Friday at ten.", at_ms=NOW_MS - 26 * HOUR_MS)
    ward.read_to[DRILL] = 1 << 40


def _duty(ward: FakeWard) -> None:
    ward.duty.roles = [
        RoleView(
            role=RoleName("icu-registrar"),
            on_call=(ANN,),
            until_ms=NOW_MS + 5 * HOUR_MS,
            following=(BEN,),
            fallback=(DAN,),
            mine=True,
        ),
        RoleView(
            role=RoleName("surgeon"),
            on_call=(DAN,),
            until_ms=NOW_MS + 17 * HOUR_MS,
            following=(DAN,),
            fallback=(DAN,),
            mine=False,
        ),
        RoleView(
            role=RoleName("cardiologist"),
            on_call=(),
            until_ms=NOW_MS + 2 * HOUR_MS,
            following=(EVA,),
            fallback=(DAN,),
            mine=False,
        ),
    ]


def stat_page(ward: FakeWard) -> PageView:
    """Somebody pages this person's role."""
    page = PageView(
        conversation=PAGE,
        role=RoleName("icu-registrar"),
        sender=CARLA,
        priority=Priority.STAT,
        text="Bed 12: unresponsive, BP 60/30, starting CPR",
        started_ms=NOW_MS - MINUTE_MS // 2,
        status=PageStatus.OPEN,
        step=1,
        mine=Place.SHOWN,
        asked={ANN: Place.SHOWN},
        next_ms=NOW_MS + 90_000,
        alerting=True,
    )
    ward.duty.sheet.append(page)
    ward.tell(Change(kind=ChangeKind.PAGE, conversation=PAGE, priority=Priority.STAT))
    return page


__all__ = ["FakeWard", "example_ward", "stat_page"]
