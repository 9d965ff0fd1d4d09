"""What a device knows of duty and pages, and what it does, from the statements the relay has."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from client import on_call
from client.errors import DamagedError, NewerVersionError
from client.page_course import Course, asks, proved, states, status, taken
from client.pages import Pages
from client.paging import _course as kept_course
from client.views import DeviceView, MemberView
from client.views import Status as DeviceStatus
from crypto.certificate import fingerprint
from crypto.errors import DecodeError, InvalidError
from crypto.statement import Purpose, Signatory, StatementType, verify_statement
from crypto.trust import Trust
from protocol import frames
from protocol.authenticated_data import Priority, Target, TargetKind
from protocol.content import Text
from protocol.frames import AlertHeard, DeviceReach, Done, Frame
from protocol.group_context import ConversationType
from protocol.identifiers import ConversationId, DeviceId, RoleName, UserName
from protocol.oncall import kept
from protocol.oncall.commands import (
    AddChange,
    DeleteRole,
    RoleCommand,
    SetEscalationPolicy,
    SetQuietHours,
    SetRole,
    SetSchedule,
)
from protocol.oncall.configuration import Configuration
from protocol.oncall.delivery import Quiet
from protocol.oncall.escalation import Policy
from protocol.oncall.override import Override
from protocol.oncall.page_event import Cause, PageAnswer, PageEvent, PageState
from protocol.oncall.page_state import Event, State, Status
from protocol.oncall.schedule import Layer, Schedule
from tests.protocol.oncall.ward import (
    CONSULTANT,
    DAY_DOCTOR,
    HOUR,
    INTERN,
    MATRON,
    MINUTE,
    NIGHT,
    NURSE,
    REGISTRAR,
    SUPERVISOR,
    Ward,
    always,
    by_hours,
    policy,
    roster,
    user,
)
from tests.server import harness

PAGE = ConversationId(bytes(range(32)))
INTERNS = RoleName("intern")
DAY = 24 * HOUR


def role(name: str, schedule: Schedule, asks: Policy | None = None) -> list[RoleCommand]:
    made: list[RoleCommand] = [
        SetRole(role=RoleName(name), version=1, fallback=(MATRON,), owner=MATRON),
        SetSchedule(
            role=RoleName(name), version=2, effective_ms=NIGHT - 30 * DAY, schedule=schedule
        ),
    ]
    if asks is not None:
        made.append(SetEscalationPolicy(role=RoleName(name), version=3, policy=asks))
    return made


def ward_configuration() -> tuple[Configuration, dict[bytes, bytes]]:
    """Return the configuration of a ward, and the rows that keep it."""
    shifts = Schedule(
        zone="Europe/Berlin",
        layers=(by_hours(INTERN, 20, 8), by_hours(DAY_DOCTOR, 8, 20)),
    )
    configuration, rows = Configuration(), dict[bytes, bytes]()
    for command in (
        *role("intern", shifts, policy("intern", "registrar")),
        *role("registrar", always(REGISTRAR)),
        *role("supervisor", always(SUPERVISOR)),
    ):
        configuration, more = on_call.commanded(configuration, command, at_ms=NIGHT - DAY)
        rows.update(more)
    return configuration, rows


@dataclass
class Desk:
    """A device, as ``Pages`` sees one, that remembers what it was asked to do."""

    user: UserName
    on_call: Configuration
    holders: Mapping[RoleName, tuple[UserName, ...]] = field(default_factory=dict)
    trust: Trust = None  # type: ignore[assignment]
    known: dict[ConversationId, Course] = field(default_factory=dict)
    at_ms: int = NIGHT
    started: list[tuple[ConversationType, tuple[UserName, ...]]] = field(default_factory=list)
    sent: list[tuple[object, Priority, Target, bool]] = field(default_factory=list)
    added: list[UserName] = field(default_factory=list)
    posted: list[bytes] = field(default_factory=list)
    without: frozenset[str] = frozenset()
    looked_up: list[UserName] = field(default_factory=list)
    asked: list[Frame] = field(default_factory=list)
    online: bool = True

    @property
    def status(self) -> DeviceStatus:
        return DeviceStatus(
            online=self.online, catching_up=0, unsent=0, faults=0, archived_lag_ms=0
        )

    @property
    def statements(self) -> Desk:
        return self

    def now_ms(self) -> int:
        return self.at_ms

    def courses(self) -> Mapping[ConversationId, Course]:
        return self.known

    def page_text(self, conversation: ConversationId) -> str:
        return "arrest, bed 4"

    async def start(
        self,
        kind: ConversationType,
        users: Collection[UserName],
        *,
        title: str = "",
        patient: str | None = None,
    ) -> ConversationId:
        self.started.append((kind, tuple(users)))
        return PAGE

    async def send(
        self,
        conversation: ConversationId,
        content: object,
        *,
        priority: Priority = Priority.ROUTINE,
        target: Target,
        acknowledgement_asked: bool = False,
    ) -> object:
        self.sent.append((content, priority, target, acknowledgement_asked))
        return None

    async def change_members(
        self, conversation: ConversationId, *, add: Collection[UserName] = ()
    ) -> None:
        self.added += add

    def devices(self, user: UserName | None = None) -> Sequence[DeviceView]:
        if user is None or user in self.without:
            return []
        name = DeviceId(f"{user}/phone")
        return [DeviceView(device=name, this=False, certified_until_ms=0, revoked=False)]

    async def look_up(self, users: Sequence[UserName]) -> None:
        self.looked_up += users

    def members(self, conversation: ConversationId) -> Sequence[MemberView]:
        return [
            MemberView(
                user=user,
                name=user,
                devices=(),
                is_recorder=False,
                is_owner=False,
                certified_until_ms=0,
            )
            for user in self.added
        ]

    def sign(
        self, kind: StatementType, body: bytes, purpose: Purpose, *, lifetime_ms: int
    ) -> bytes:
        assert (kind, purpose) == (StatementType.PAGE_ANSWER, Purpose.CONNECTION)
        return body

    async def post(self, conversation: ConversationId, statement: bytes) -> None:
        self.posted.append(statement)

    async def ask(self, make: Callable[[int], Frame]) -> Frame:
        frame = make(1)
        self.asked.append(frame)
        if isinstance(frame, frames.GetReach):
            intern = DeviceReach(device=f"{INTERN}/phone", connected=True, last_ms=1, tested_ms=0)
            gone = DeviceReach(device=f"{REGISTRAR}/phone", connected=False, last_ms=1, tested_ms=0)
            return frames.Reach(ref=1, devices=(intern, gone))
        return Done(ref=1)


def desk(who: UserName = NURSE, **options: Any) -> Desk:
    return Desk(user=who, on_call=ward_configuration()[0], **options)


def test_the_board_names_who_is_on_call_until_when_and_who_follows() -> None:
    mine, *others = Pages(desk(INTERN)).board()
    assert (mine.role, mine.on_call, mine.mine) == (INTERNS, (INTERN,), True)
    # 23:40 in Berlin: the night ends at eight.
    assert mine.until_ms == NIGHT + 8 * HOUR + 20 * MINUTE
    assert mine.following == (DAY_DOCTOR,)
    assert [view.role for view in others] == ["registrar", "supervisor"]
    assert not any(view.mine for view in others)
    assert others[0].until_ms is None


def test_a_sender_sees_before_sending_who_is_off_duty_until_when_and_who_covers() -> None:
    duty = Pages(desk())
    intern, day = duty.reach([INTERN, DAY_DOCTOR], Priority.ROUTINE)
    assert (intern.alerts, intern.off_duty) == (True, False)
    assert (day.alerts, day.held, day.off_duty) == (False, True, True)
    assert day.until_ms == NIGHT + 8 * HOUR + 20 * MINUTE
    assert day.covers == (INTERN,)


def test_what_is_held_is_held_until_its_time_or_until_the_person_is_on_call() -> None:
    home = desk(DAY_DOCTOR)
    duty = Pages(home)
    until = NIGHT + 8 * HOUR + 20 * MINUTE
    assert duty.is_held(until, Priority.ROUTINE)
    home.at_ms = until
    assert not duty.is_held(until, Priority.ROUTINE)
    home.at_ms = NIGHT
    called_in = AddChange(
        role=INTERNS,
        version=4,
        change=Override(name="in", start_ms=NIGHT, end_ms=NIGHT + HOUR, added=DAY_DOCTOR),
    )
    home.on_call, _ = on_call.commanded(home.on_call, called_in, at_ms=NIGHT)
    assert not duty.is_held(until, Priority.ROUTINE)


async def test_a_page_has_everybody_of_its_steps_as_members_and_asks_the_role() -> None:
    host = desk(NURSE)
    assert await Pages(host).page(INTERNS, "arrest, bed 4", priority=Priority.STAT) == PAGE
    # The night lasts longer than the policy's course: the day doctor is nobody's step.
    assert host.started == [
        (ConversationType.PAGE, (INTERN, MATRON, REGISTRAR, SUPERVISOR)),
    ]
    target = Target(kind=TargetKind.ROLE, name="intern")
    assert host.sent == [(Text(text="arrest, bed 4"), Priority.STAT, target, True)]
    host.at_ms = NIGHT + 8 * HOUR
    assert DAY_DOCTOR in Pages(host).people_of(INTERNS)
    assert CONSULTANT not in Pages(host).people_of(INTERNS)


async def test_a_page_for_who_is_next_has_them_as_a_member_and_says_so() -> None:
    host = desk(NURSE)
    await Pages(host).page(INTERNS, "when you come", priority=Priority.STAT, turn=TargetKind.NEXT)
    ((_, members),) = host.started
    assert DAY_DOCTOR in members
    ((_, _, target, _),) = host.sent
    assert target == Target(kind=TargetKind.NEXT, name="intern")
    assert Pages(host).meant(target) == (DAY_DOCTOR,)


def event(
    story: Ward, cause: Cause = Cause.TIMER, statement: bytes | None = None, **more: Any
) -> bytes:
    state = PageState(role=INTERNS, page=story.page)
    return PageEvent(
        cause=cause, at_ms=story.now_ms, state=state, statement=statement, **more
    ).encode()


async def test_a_page_does_not_fail_on_somebody_who_has_no_device() -> None:
    host = desk(NURSE, without=frozenset({MATRON}))
    await Pages(host).page(INTERNS, "arrest, bed 4", priority=Priority.STAT)
    assert host.looked_up == [MATRON]
    assert host.started == [(ConversationType.PAGE, (INTERN, REGISTRAR, SUPERVISOR))]


def a_story() -> Ward:
    roles = roster(
        intern=always(INTERN), registrar=always(REGISTRAR), supervisor=always(SUPERVISOR)
    )
    return Ward(roles, policy("intern", "registrar"))


def test_a_page_is_shown_to_its_sender_and_from_their_step_on_to_whoever_is_asked() -> None:
    story = a_story()
    first = taken(None, event(story, Cause.STARTED), sequence=5)
    shown = {who: Pages(desk(who, known={PAGE: first})) for who in (NURSE, INTERN, REGISTRAR)}
    assert [duty.is_visible(PAGE) for duty in shown.values()] == [True, True, False]
    assert asks(first, INTERN)
    assert not asks(first, NURSE)
    story.wait(MINUTE)
    second = taken(first, event(story), sequence=6)
    assert Pages(desk(REGISTRAR, known={PAGE: second})).is_visible(PAGE)
    assert taken(second, event(story, Cause.STARTED), sequence=5) is second


def signed(hospital: harness.Hospital, name: str, answer: PageAnswer, at_ms: int) -> bytes:
    person = hospital.people[name]
    return hospital.signed(
        StatementType.PAGE_ANSWER,
        answer.encode(),
        by=person.signatory(Purpose.CONNECTION),
        issued_ms=at_ms,
    )


@pytest.fixture(scope="module")
def hospital() -> harness.Hospital:
    made = harness.hospital()
    for name in ("intern/phone", "registrar/phone"):
        made.enrol(name)
    return made


def accepted(hospital: harness.Hospital, by: str, conversation: ConversationId = PAGE) -> Course:
    """Return a page that the relay calls accepted by the intern, with somebody's signature."""
    story = a_story()
    # Certificates are of today.
    story.now_ms = harness.now_ms()
    story.page = replace(story.page, expires_ms=story.now_ms + HOUR)
    first = taken(None, event(story, Cause.STARTED), sequence=5)
    story.accept(INTERN)
    answer = PageAnswer(conversation=conversation, event=Event.ACCEPT)
    statement = signed(hospital, by, answer, story.now_ms)
    return taken(first, event(story, Cause.ANSWER, statement), sequence=6)


def test_that_somebody_accepted_is_believed_for_their_own_signature_alone(
    hospital: harness.Hospital,
) -> None:
    course = accepted(hospital, "intern/phone")
    said = proved(course, PAGE, trust=hospital.trust)
    assert states(course, said)[INTERN] is State.ACCEPTED
    assert status(course, said) is Status.ACCEPTED
    elsewhere = ConversationId(bytes(32))
    for lie in (
        accepted(hospital, "registrar/phone"),
        accepted(hospital, "intern/phone", elsewhere),
    ):
        said = proved(lie, PAGE, trust=hospital.trust)
        assert states(lie, said)[INTERN] is State.SHOWN
    nobody = proved(lie, PAGE, trust=hospital.trust)
    assert nobody == {}
    assert status(lie, nobody) is Status.OPEN


def test_a_page_is_viewed_with_its_step_its_people_and_what_is_next(
    hospital: harness.Hospital,
) -> None:
    story = a_story()
    story.wait(MINUTE)
    course = taken(None, event(story), sequence=6)
    (view,) = Pages(desk(REGISTRAR, known={PAGE: course}, trust=hospital.trust)).pages()
    assert (view.step, view.mine, view.alerting) == (2, State.SENT, True)
    assert dict(view.asked) == {INTERN: State.SENT, REGISTRAR: State.SENT}
    assert view.next_ms == NIGHT + 2 * MINUTE
    assert view.text == "arrest, bed 4"
    story.wait(2 * MINUTE)
    over = taken(course, event(story), sequence=8)
    host = desk(REGISTRAR, known={PAGE: over}, trust=hospital.trust, at_ms=NIGHT + HOUR)
    (view,) = Pages(host).pages()
    assert (view.status, view.next_ms, view.alerting) == (Status.UNANSWERED, None, False)
    host.at_ms = NIGHT + 2 * DAY
    assert Pages(host).pages() == []


def test_a_relay_that_takes_no_step_is_noticed() -> None:
    story = a_story()
    course = taken(None, event(story, Cause.STARTED), sequence=5)
    assert not course.is_silent(NIGHT + 2 * MINUTE)
    assert course.is_silent(NIGHT + 3 * MINUTE)
    assert not course.is_silent(NIGHT + HOUR)
    sender, asked = (desk(who, known={PAGE: course}) for who in (NURSE, INTERN))
    for host in (sender, asked):
        host.trust = harness.hospital().trust
        host.at_ms = NIGHT + 3 * MINUTE
    (told,), (seen,) = Pages(sender).pages(), Pages(asked).pages()
    assert (told.silent, told.alerting, seen.silent) == (True, True, True)
    # A device that is not there knows nothing of what the relay does.
    sender.online = False
    (told,) = Pages(sender).pages()
    assert (told.silent, told.alerting) == (False, False)
    # Past its hard end the page wakes nobody, whatever the relay has said last.
    sender.online, sender.at_ms = True, course.state.page.expires_ms
    asked.at_ms = sender.at_ms
    (told,), (seen,) = Pages(sender).pages(), Pages(asked).pages()
    assert (told.alerting, told.silent, seen.alerting) == (False, False, False)
    asked.at_ms += DAY
    assert Pages(asked).pages() == []


async def test_answers_are_signed_with_what_belongs_to_them() -> None:
    host = desk(INTERN)
    duty = Pages(host)
    await duty.answer(PAGE, Event.ACCEPT, arrival_ms=NIGHT + 5 * MINUTE)
    await duty.answer(PAGE, Event.NOT_MINE, to=RoleName("registrar"))
    await duty.answer(PAGE, Event.NOT_MINE, to=DAY_DOCTOR)
    answers = [PageAnswer.decode(body) for body in host.posted]
    assert answers[0].arrival_ms == NIGHT + 5 * MINUTE
    assert [a.to.name for a in answers[1:] if a.to is not None] == ["registrar", DAY_DOCTOR]
    assert answers[2].to == user(DAY_DOCTOR)
    with pytest.raises(InvalidError):
        await duty.answer(PAGE, Event.NOT_MINE)


async def test_the_sender_lets_in_whom_a_page_asks_and_sends_it_to_them_again() -> None:
    story = a_story()
    course = taken(None, event(story, Cause.STARTED, missing=(INTERN,)), sequence=5)
    host = desk(NURSE, known={PAGE: course})
    duty = Pages(host)
    await duty.mend(PAGE)
    assert host.added == [INTERN]
    assert [(content, target.name) for content, _, target, _ in host.sent] == [
        (Text(text="arrest, bed 4"), INTERN)
    ]
    # Named again while they come in, they are not added and told twice.
    await duty.mend(PAGE)
    assert len(host.sent) == 1
    other = desk(REGISTRAR, known={PAGE: course})
    await Pages(other).mend(PAGE)
    assert other.added == []


async def test_who_can_be_woken_is_told_for_each_person() -> None:
    wakes = await Pages(desk()).wakeable([INTERN, REGISTRAR, MATRON])
    assert wakes == {INTERN: True, REGISTRAR: False, MATRON: False}


def test_a_course_that_is_kept_is_read_back_and_a_broken_entry_is_an_error() -> None:
    course = taken(None, event(a_story(), Cause.STARTED, missing=(INTERN,)), sequence=5)
    assert Course.decode(course.encode()) == course
    with pytest.raises(DecodeError):
        taken(course, b"\x01", sequence=6)


def test_a_course_of_a_newer_program_is_refused_and_one_of_before_is_read_or_let_go() -> None:
    course = taken(None, event(a_story(), Cause.STARTED), sequence=5)
    before = course.encode()
    assert kept_course(kept.marked(kept.PAGE_VERSION, before)) == course
    assert kept_course(before) == course
    assert kept_course(before[:-3]) is None
    with pytest.raises(NewerVersionError):
        kept_course(kept.marked(kept.PAGE_VERSION + 1, before))
    with pytest.raises(DamagedError):
        kept_course(kept.marked(kept.PAGE_VERSION, before[:-3]))


def test_rows_give_the_configuration_back_and_a_deleted_role_is_gone() -> None:
    configuration, rows = ward_configuration()
    assert on_call.loaded(rows) == configuration
    configuration, more = on_call.commanded(
        configuration, DeleteRole(role=INTERNS, version=4), at_ms=NIGHT
    )
    assert on_call.loaded({**rows, **more}) == configuration
    assert INTERNS not in configuration.plans


def test_a_request_is_its_signers_own(hospital: harness.Hospital) -> None:
    quiet = Quiet(zone="Europe/Berlin", do_not_disturb_until_ms=NIGHT)
    person = hospital.people["intern/phone"]
    at_ms = harness.now_ms()
    statement = hospital.signed(
        StatementType.DEVICE_REQUEST,
        SetQuietHours(version=1, quiet=quiet).encode(),
        by=Signatory(
            purpose=Purpose.DEVICE,
            fingerprint=fingerprint(person.certificate),
            key=person.keys.signature_key,
        ),
        issued_ms=at_ms,
    )
    verified = verify_statement(
        statement, expected=StatementType.DEVICE_REQUEST, trust=hospital.trust, at_ms=at_ms
    )
    changed, rows = on_call.requested(Configuration(), verified, holders={}, at_ms=at_ms)
    assert changed.quiet(INTERN) == quiet
    assert on_call.loaded(rows) == changed
    with pytest.raises(InvalidError):
        on_call.requested(changed, verified, holders={}, at_ms=at_ms)


def test_the_whole_history_of_a_role_is_rebuilt_from_the_control_log() -> None:
    first = role("intern", always(INTERN))
    later = SetSchedule(
        role=INTERNS, version=3, effective_ms=NIGHT - 30 * DAY, schedule=always(REGISTRAR)
    )
    times = [(NIGHT - 20 * DAY, command) for command in first]
    whole = on_call.rebuilt(
        [*times, *((NIGHT, one) for one in role("registrar", always())), (NIGHT, later)],
        role=INTERNS,
    )
    history = whole.plans[INTERNS].history
    assert history.on_call(NIGHT - 10 * DAY, known_ms=NIGHT - DAY) == (INTERN,)
    assert history.on_call(NIGHT - 10 * DAY, known_ms=NIGHT) == (REGISTRAR,)


def test_layers_without_people_are_refused_where_they_are_made() -> None:
    with pytest.raises(InvalidError):
        Layer(name="empty")


async def test_a_test_of_the_alert_is_asked_for_and_its_hearing_told() -> None:
    host = desk()
    await Pages(host).test_alert()
    await Pages(host).heard_alert()
    assert host.asked == [frames.TestAlert(ref=1), AlertHeard(ref=1)]
