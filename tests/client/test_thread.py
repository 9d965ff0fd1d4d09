"""Who may do what to whose message, and what is kept of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client import thread
from client.courses import (
    CheckInCourse,
    Course,
    HandOffCourse,
    ResultCourse,
    ResultState,
    RoomCourse,
    ShiftCourse,
    TaskCourse,
    reactions,
)
from client.messages import (
    WAITING_PLACE,
    Message,
    MessageKey,
    Messages,
    PersonState,
    State,
)
from client.store import Entry, Store
from client.thread import Outcome, Reason, Said, Setting, Unreadable
from protocol.authenticated_data import Priority, Target, TargetKind
from protocol.content import (
    Acknowledgement,
    Card,
    CheckIn,
    CheckInAnswer,
    Claim,
    Closing,
    Content,
    CriticalResult,
    Delivered,
    Edit,
    HandOff,
    HandOffAcceptance,
    IncidentEvent,
    Moderators,
    Mute,
    Official,
    OpenShift,
    Reaction,
    Read,
    ReadBack,
    Reference,
    Reply,
    Retraction,
    RoomConfirmation,
    RoomRequest,
    Stage,
    Task,
    TaskChange,
    TaskState,
    Text,
    encode,
)
from protocol.group_context import ConversationType
from protocol.identifiers import DeviceId, RoleName, UserName, conversation_log
from tests.client.ward import KEY, PATH, WARD
from tests.depth import DEPTH
from tests.protocol.content_examples import EXAMPLES, HOUR_MS, NOW_MS

ANN, BOB, CAT = UserName("ann"), UserName("bob"), UserName("cat")
LOG = conversation_log(WARD)


@dataclass
class Device:
    """One person's store, fed with a conversation's log."""

    store: Store
    me: UserName = ANN
    kind: ConversationType = ConversationType.GROUP
    owners: frozenset[UserName] = frozenset({ANN})
    last: Outcome = field(default_factory=Outcome)
    place: int = 0

    @property
    def messages(self) -> Messages:
        return self.store.messages

    def setting(self) -> Setting:
        return Setting(
            kind=self.kind,
            owners=self.owners,
            me=self.me,
            moderation=thread.moderation(self.messages, WARD),
        )

    def hear(
        self,
        user: UserName,
        content: Content | bytes,
        *,
        device: str = "phone",
        priority: Priority = Priority.ROUTINE,
    ) -> MessageKey:
        """Take in the log's next message."""
        self.place += 1
        sender = DeviceId(f"{user}/{device}")
        said = Said(
            conversation=WARD,
            sender=sender,
            plaintext=content if isinstance(content, bytes) else encode(content),
            at_ms=NOW_MS + self.place,
            place=self.place,
            priority=priority,
        )
        self.last = thread.judge(said, messages=self.messages, setting=self.setting())
        key = MessageKey(conversation=WARD, sender=sender, message_id=self.place)
        effects = self.last.incoming(key, said.at_ms)
        entry = Entry(
            log=LOG,
            sequence=self.place,
            conversation=WARD,
            before=None,
            after=None,
            effects=effects,
        )
        self.store.received([entry])
        return key

    def refused(self) -> Reason | None:
        return self.last.refused

    def message(self, key: MessageKey) -> Message:
        found = self.messages.get(key)
        assert found is not None
        return found

    def text(self, key: MessageKey) -> Content | Unreadable:
        return thread.read(self.message(key).content.data)

    def course(self, key: MessageKey) -> Course | None:
        return thread.course_of(self.message(key), thread.answers_to(self.messages, key))

    def shown(self) -> list[MessageKey]:
        return [message.key for message in self.messages.page(WARD, limit=100)]


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    store = Store.create(tmp_path / PATH, KEY)
    yield Device(store)
    store.close()


def at(key: MessageKey) -> Reference:
    return thread.reference(key)


def test_an_edit_by_its_author_changes_the_text_and_keeps_what_it_said(device: Device) -> None:
    key = device.hear(BOB, Text(text="5 mg"))
    device.hear(BOB, Edit(target=at(key), text="15 mg"), device="desk")
    assert device.text(key) == Text(text="15 mg")
    (former,) = device.messages.history(key)
    assert former.content.text == "5 mg"
    assert [m.key for m in device.messages.search("15 mg")] == [key]


def test_an_edited_reply_stays_a_reply(device: Device) -> None:
    first = device.hear(ANN, Text(text="Bed?"))
    reply = device.hear(BOB, Reply(to=at(first), text="7"))
    device.hear(BOB, Edit(target=at(reply), text="8"))
    assert device.text(reply) == Reply(to=at(first), text="8")


def test_nobody_else_edits_or_takes_back(device: Device) -> None:
    key = device.hear(BOB, Text(text="5 mg"))
    for content in (Edit(target=at(key), text="50 mg"), Retraction(target=at(key))):
        device.hear(ANN, content)
        assert device.refused() is Reason.NOT_THE_AUTHOR
    assert device.text(key) == Text(text="5 mg")
    assert device.message(key).state is State.STORED


def test_a_person_whose_name_begins_as_anothers_is_another(device: Device) -> None:
    key = device.hear(ANN, Text(text="mine"))
    device.hear(UserName("an"), Edit(target=at(key), text="n"))
    device.hear(UserName("ann.b"), Retraction(target=at(key)))
    assert device.text(key) == Text(text="mine")


def test_what_is_no_text_is_not_edited(device: Device) -> None:
    key = device.hear(BOB, CriticalResult(test="K", value="6.9"))
    device.hear(BOB, Edit(target=at(key), text="4.0"))
    assert device.refused() is Reason.WRONG_KIND


def test_a_message_that_was_taken_back_says_nothing_and_takes_nothing(device: Device) -> None:
    key = device.hear(BOB, Text(text="wrong patient"))
    device.hear(BOB, Edit(target=at(key), text="wrong patient!"))
    device.hear(BOB, Retraction(target=at(key)))
    assert device.message(key).state is State.RETRACTED
    assert device.messages.history(key) == []
    device.hear(BOB, Edit(target=at(key), text="again"))
    assert device.refused() is Reason.NO_TARGET
    assert device.message(key).content.data == b""


def test_reactions_come_and_go_and_are_no_messages(device: Device) -> None:
    key = device.hear(ANN, Text(text="done"))
    for user in (BOB, CAT):
        device.hear(user, Reaction(target=at(key), mark="+1"))
    device.hear(BOB, Reaction(target=at(key), mark="+1", removed=True))
    assert reactions(thread.answers_to(device.messages, key)) == {"+1": (CAT,)}
    assert device.shown() == [key]
    assert device.messages.unread(WARD, after=0, reader=BOB).count == 1


def test_a_read_mark_reaches_back_over_my_messages_and_no_others(device: Device) -> None:
    mine = [device.hear(ANN, Text(text=str(n))) for n in range(3)]
    theirs = device.hear(CAT, Text(text="x"))
    late = device.hear(ANN, Text(text="late"))
    device.hear(BOB, Delivered(through=at(late)))
    device.hear(BOB, Read(through=at(theirs)))
    states = [device.messages.people(key)[BOB][0] for key in (*mine, late)]
    assert states == [PersonState.READ] * 3 + [PersonState.DELIVERED]
    assert device.messages.people(theirs) == {}
    assert device.shown() == [*mine, theirs, late]


def test_my_reading_elsewhere_moves_what_is_unread_here(device: Device) -> None:
    key = device.hear(BOB, Text(text="x"), priority=Priority.STAT)
    unread = device.messages.unread(WARD, after=0, reader=ANN)
    assert (unread.count, unread.top_priority) == (1, Priority.STAT)
    device.hear(ANN, Read(through=at(key)), device="desk")
    assert device.last.read_through == device.message(key).place
    assert device.messages.unread(WARD, after=device.place, reader=ANN).count == 0


def test_only_others_acknowledge(device: Device) -> None:
    key = device.hear(BOB, Text(text="x"))
    device.hear(BOB, Acknowledgement(target=at(key)))
    assert device.refused() is Reason.NOT_ALLOWED
    device.hear(CAT, Acknowledgement(target=at(key)))
    assert {user: s for user, (s, _) in device.messages.people(key).items()} == {
        CAT: PersonState.ACKNOWLEDGED
    }


def test_a_task_that_nobody_has_is_taken_once(device: Device) -> None:
    task = device.hear(ANN, Task(title="Cultures"))
    device.hear(BOB, TaskChange(target=at(task), state=TaskState.TAKEN))
    device.hear(CAT, TaskChange(target=at(task), state=TaskState.TAKEN))
    assert device.refused() is Reason.NOT_ALLOWED
    now = device.course(task)
    assert isinstance(now, TaskCourse)
    assert (now.state, now.assignee) == (TaskState.TAKEN, BOB)
    device.hear(BOB, TaskChange(target=at(task), state=TaskState.DONE))
    now = device.course(task)
    assert isinstance(now, TaskCourse)
    assert now.state is TaskState.DONE
    assert now.changed is not None
    assert now.changed.user == BOB


def test_a_task_is_given_away_by_whoever_has_it_or_gave_it(device: Device) -> None:
    task = device.hear(ANN, Task(title="Cultures", assignee=BOB))
    device.hear(CAT, TaskChange(target=at(task), state=TaskState.CANCELLED))
    assert device.refused() is Reason.NOT_ALLOWED
    device.hear(BOB, TaskChange(target=at(task), state=TaskState.TAKEN, assignee=CAT))
    device.hear(CAT, TaskChange(target=at(task), state=TaskState.OPEN))
    now = device.course(task)
    assert isinstance(now, TaskCourse)
    assert (now.state, now.assignee) == (TaskState.OPEN, None)
    device.hear(ANN, TaskChange(target=at(task), state=TaskState.CANCELLED))
    assert device.refused() is None


def test_a_critical_result_is_not_closed_before_its_value_was_repeated(device: Device) -> None:
    result = device.hear(ANN, CriticalResult(test="Potassium", value="6.9 mmol/l"))
    device.hear(ANN, Closing(target=at(result)))
    assert device.refused() is Reason.NOT_READ_BACK
    device.hear(ANN, ReadBack(target=at(result), value="6.9 mmol/l"))
    assert device.refused() is Reason.NOT_ALLOWED
    device.hear(BOB, ReadBack(target=at(result), value="9.6 mmol/l"))
    assert device.course(result) == ResultCourse(wrong=(BOB,))
    device.hear(BOB, Closing(target=at(result)))
    assert device.refused() is Reason.NOT_READ_BACK
    device.hear(BOB, ReadBack(target=at(result), value="6.9  MMOL/L"))
    now = device.course(result)
    assert isinstance(now, ResultCourse)
    assert (now.state, now.wrong) == (ResultState.READ_BACK, ())
    device.hear(CAT, Closing(target=at(result)))
    assert device.refused() is Reason.NOT_ALLOWED
    device.hear(ANN, Closing(target=at(result)))
    now = device.course(result)
    assert isinstance(now, ResultCourse)
    assert now.state is ResultState.CLOSED
    assert now.closed is not None
    assert now.closed.user == ANN
    device.hear(BOB, Closing(target=at(result)))
    assert device.refused() is Reason.TOO_LATE


@pytest.mark.parametrize("value", ["6.9", "69 mmol/l", "-6.9 mmol/l", "6,9 mmol/l", "6.9 mmol"])
def test_a_value_that_differs_in_a_sign_is_not_repeated(device: Device, value: str) -> None:
    result = device.hear(ANN, CriticalResult(test="Potassium", value="6.9 mmol/l"))
    device.hear(BOB, ReadBack(target=at(result), value=value))
    assert device.course(result) == ResultCourse(wrong=(BOB,))


def test_a_hand_off_is_accepted_by_those_it_names(device: Device) -> None:
    note = HandOff(
        subject="Bed 7", situation="s", background="", assessment="", recommendation="", to=(BOB,)
    )
    key = device.hear(ANN, note)
    device.hear(CAT, HandOffAcceptance(target=at(key)))
    assert device.refused() is Reason.NOT_ALLOWED
    assert device.course(key) == HandOffCourse(accepted=(), awaited=(BOB,))
    device.hear(BOB, HandOffAcceptance(target=at(key)))
    now = device.course(key)
    assert isinstance(now, HandOffCourse)
    assert ([by.user for by in now.accepted], now.awaited) == ([BOB], ())


def test_the_first_claim_in_the_log_has_the_shift(device: Device) -> None:
    shift = OpenShift(role=RoleName("icu"), start_ms=NOW_MS, end_ms=NOW_MS + HOUR_MS)
    key = device.hear(ANN, shift)
    for user in (CAT, BOB, CAT):
        device.hear(user, Claim(target=at(key)))
    now = device.course(key)
    assert isinstance(now, ShiftCourse)
    assert now.winner is not None
    assert (now.winner.user, now.late) == (CAT, (BOB,))


def test_a_claim_that_is_taken_back_leaves_the_shift_to_the_next(device: Device) -> None:
    shift = OpenShift(role=RoleName("icu"), start_ms=NOW_MS, end_ms=NOW_MS + HOUR_MS)
    key = device.hear(ANN, shift)
    claim = device.hear(CAT, Claim(target=at(key)))
    device.hear(BOB, Claim(target=at(key)))
    device.hear(CAT, Retraction(target=at(claim)))
    now = device.course(key)
    assert isinstance(now, ShiftCourse)
    assert now.winner is not None
    assert now.winner.user == BOB


def test_each_persons_last_answers_count_in_a_check_in(device: Device) -> None:
    key = device.hear(ANN, CheckIn(title="Theatre", questions=("Fasted?", "Allergies?")))
    device.hear(BOB, CheckInAnswer(target=at(key), answers=("no", "")))
    device.hear(BOB, CheckInAnswer(target=at(key), answers=("yes", "none")))
    device.hear(CAT, CheckInAnswer(target=at(key), answers=("yes",)))
    assert device.course(key) == CheckInCourse(answers={BOB: ("yes", "none")})


def test_a_room_is_granted_by_somebody_else(device: Device) -> None:
    request = RoomRequest(
        room="Theatre 2", start_ms=NOW_MS, end_ms=NOW_MS + HOUR_MS, answer_by_ms=NOW_MS
    )
    key = device.hear(ANN, request)
    device.hear(ANN, RoomConfirmation(target=at(key), granted=True))
    asked = RoomCourse(granted=None, by=None, answer_by_ms=NOW_MS)
    assert device.course(key) == asked
    device.hear(BOB, RoomConfirmation(target=at(key), granted=True))
    device.hear(CAT, RoomConfirmation(target=at(key), granted=False))
    now = device.course(key)
    assert isinstance(now, RoomCourse)
    assert now.granted is False


def test_only_owners_speak_in_an_announcement_and_everybody_may_answer_it(device: Device) -> None:
    device.kind = ConversationType.ANNOUNCEMENT
    key = device.hear(ANN, Text(text="Fire drill at ten"))
    device.hear(BOB, Text(text="me too"))
    assert device.refused() is Reason.NOT_ALLOWED
    device.hear(BOB, Reply(to=at(key), text="me too"))
    assert device.refused() is Reason.NOT_ALLOWED
    device.hear(BOB, Read(through=at(key)))
    device.hear(CAT, Acknowledgement(target=at(key)))
    assert set(device.messages.people(key)) == {BOB, CAT}
    assert device.shown() == [key]


def test_who_is_muted_is_folded_away_unless_it_is_urgent(device: Device) -> None:
    device.hear(ANN, Moderators(users=(CAT,)))
    device.hear(BOB, Mute(user=CAT, until_ms=NOW_MS + HOUR_MS))
    assert device.refused() is Reason.NOT_ALLOWED
    device.hear(CAT, Mute(user=ANN, until_ms=NOW_MS + HOUR_MS))
    assert device.refused() is Reason.NOT_ALLOWED
    device.hear(CAT, Mute(user=BOB, until_ms=NOW_MS + HOUR_MS))
    noise = device.hear(BOB, Text(text="noise"))
    urgent = device.hear(BOB, Text(text="urgent"), priority=Priority.URGENT)
    assert noise not in device.shown()
    assert urgent in device.shown()
    assert [m.key for m in device.messages.search("noise")] == [noise]
    device.hear(CAT, Mute(user=BOB))
    assert device.hear(BOB, Text(text="back")) in device.shown()


def test_a_card_is_an_owners_or_a_repetition(device: Device) -> None:
    device.hear(BOB, Card(title="Bed 7"))
    device.hear(ANN, Card(title="Bed 8", patient="MRN 1"))
    device.hear(BOB, Card(title="Bed 8", patient="MRN 1"))
    assert device.refused() is None
    device.hear(BOB, Card(title="Bed 9"))
    assert device.refused() is Reason.NOT_ALLOWED
    assert thread.card(device.messages, WARD) == Card(title="Bed 8", patient="MRN 1")
    assert device.shown() == []


def test_only_an_owner_opens_and_closes_an_incident(device: Device) -> None:
    for stage, reason in ((Stage.CLOSED, Reason.NOT_ALLOWED), (Stage.UPDATE, None)):
        device.hear(BOB, IncidentEvent(stage=stage, at_ms=NOW_MS, text="x"))
        assert device.refused() is reason


def test_what_officers_do_is_kept_and_never_shown(device: Device) -> None:
    key = device.hear(BOB, Official(statements=(b"x",)))
    assert device.shown() == []
    assert device.text(key) == Official(statements=(b"x",))


def test_content_of_a_newer_program_is_kept_and_shown_as_such(device: Device) -> None:
    key = device.hear(BOB, b"\xc8anything")
    assert device.shown() == [key]
    assert encode(device.text(key)) == b"\xc8anything"  # type: ignore[arg-type]


def test_unreadable_content_stops_nothing(device: Device) -> None:
    bad = [device.hear(BOB, data) for data in (b"", b"\x01", b"\x01\x03a", b"\x02" + b"\xff" * 9)]
    good = device.hear(BOB, Text(text="fine"))
    assert device.shown() == [*bad, good]
    assert all(device.text(key) == Unreadable() for key in bad)


def test_priority_and_target_stand_with_the_message(device: Device) -> None:
    said = Said(
        conversation=WARD,
        sender=DeviceId("ann/phone"),
        plaintext=encode(Text(text="x")),
        at_ms=NOW_MS,
        priority=Priority.STAT,
        target=Target(kind=TargetKind.ROLE, name="icu"),
        acknowledgement_asked=True,
    )
    outcome = thread.judge(said, messages=device.messages, setting=device.setting())
    key = MessageKey(conversation=WARD, sender=said.sender, message_id=1)
    (new,) = outcome.incoming(key, said.at_ms)
    entry = Entry(log=LOG, sequence=1, conversation=WARD, before=None, after=None, effects=(new,))
    device.store.received([entry])
    standing = device.message(key).standing
    assert standing.priority is Priority.STAT
    assert standing.target == said.target
    assert standing.acknowledgement_asked


def test_what_refers_to_nothing_is_known_by_its_first_octet() -> None:
    for content in EXAMPLES:
        fields = {"target", "to", "through"} & {*type(content).__slots__}
        refers = bool(fields) and not isinstance(content, HandOff)
        own_affairs = isinstance(content, Card | Moderators | Mute)
        assert thread.plain(encode(content)) is not (refers or own_affairs)
    assert not thread.plain(b"")
    assert not thread.plain(b"\xff")


# -- every device comes to the same ----------------------------------------------------------------


@dataclass
class Sender(Device):
    """Ann's device: what Ann says is there at once, and gets its place later."""

    waiting: list[tuple[int, int]] = field(default_factory=list)

    def say(self, content: Content, message_id: int) -> bool:
        said = Said(
            conversation=WARD,
            sender=DeviceId("ann/phone"),
            plaintext=encode(content),
            at_ms=NOW_MS,
        )
        outcome = thread.judge(said, messages=self.messages, setting=self.setting())
        key = MessageKey(conversation=WARD, sender=said.sender, message_id=message_id)
        with self.store._database.transaction():
            for effect in outcome.incoming(key, NOW_MS):
                place = WAITING_PLACE + message_id
                number = self.messages.apply(effect, place=place, state=State.WAITING)
                if number is not None:
                    self.waiting.append((message_id, number))
        return outcome.refused is None

    def stored(self, message_id: int, place: int) -> None:
        with self.store._database.transaction():
            for known, number in self.waiting:
                if known == message_id:
                    self.messages.settle(number, state=State.STORED, place=place)


FIRST = (
    Task(title="Cultures"),
    OpenShift(role=RoleName("icu"), start_ms=NOW_MS, end_ms=NOW_MS + HOUR_MS),
    CriticalResult(test="K", value="6.9"),
)


def acts() -> st.SearchStrategy[tuple[UserName, int, int]]:
    """Who does which of the acts, and how many places later it comes into the log."""
    return st.tuples(st.sampled_from([ANN, BOB, CAT]), st.integers(0, 8), st.integers(0, 3))


def _act(number: int, keys: list[MessageKey]) -> Content:
    task, shift, result = (at(key) for key in keys)
    return (
        TaskChange(target=task, state=TaskState.TAKEN),
        TaskChange(target=task, state=TaskState.DONE),
        TaskChange(target=task, state=TaskState.OPEN),
        TaskChange(target=task, state=TaskState.CANCELLED),
        TaskChange(target=task, state=TaskState.TAKEN, assignee=CAT),
        Claim(target=shift),
        ReadBack(target=result, value="6.9"),
        ReadBack(target=result, value="9.6"),
        Closing(target=result),
    )[number]


@settings(max_examples=30 * DEPTH, deadline=None)
@given(st.lists(acts(), max_size=12))
def test_who_sent_early_and_who_heard_late_see_the_same_course(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[UserName, int, int]]
) -> None:
    home = tmp_path_factory.mktemp("devices")
    ann = Sender(Store.create(home / "ann", KEY), me=ANN)
    bob = Device(Store.create(home / "bob", KEY), me=BOB)
    keys = [bob.hear(BOB, content) for content in FIRST]
    assert [ann.hear(BOB, content) for content in FIRST] == keys
    # Ann sees her own acts at once; in the log they come after those that overtook them.
    order = sorted(
        range(len(steps)),
        key=lambda n: (n + (steps[n][2] if steps[n][0] == ANN else 0), n),
    )
    said: dict[int, bool] = {}
    for now, number in enumerate(order):
        for own in range(len(steps)):
            if steps[own][0] == ANN and own not in said and own <= max(now, number):
                said[own] = ann.say(_act(steps[own][1], keys), 1_000 + own)
        user, act, _ = steps[number]
        if user == ANN and not said[number]:
            continue
        bob.hear(user, _act(act, keys))
        if user == ANN:
            ann.place += 1
            ann.stored(1_000 + number, ann.place)
        else:
            ann.hear(user, _act(act, keys))
    for key in keys:
        mine, theirs = ann.course(key), bob.course(key)
        assert _without_times(mine) == _without_times(theirs)
    ann.store.close()
    bob.store.close()


def _without_times(course: Course | None) -> object:
    if isinstance(course, TaskCourse):
        return course.state, course.assignee
    if isinstance(course, ShiftCourse):
        return course.winner and course.winner.user, course.late
    assert isinstance(course, ResultCourse)
    by = course.read_back and course.read_back.user
    return course.state, by, course.closed and course.closed.user, course.wrong


@given(
    st.lists(
        st.tuples(
            st.sampled_from([ANN, BOB]),
            st.binary(max_size=60) | st.sampled_from(EXAMPLES).map(encode),
        ),
        max_size=8,
    )
)
@settings(max_examples=30 * DEPTH, deadline=None)
def test_whatever_anybody_sends_has_an_outcome(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[UserName, bytes]]
) -> None:
    device = Device(Store.create(tmp_path_factory.mktemp("device") / PATH, KEY))
    for user, plaintext in said:
        key = device.hear(user, plaintext)
        kept = device.last.content is not None
        assert (device.messages.get(key) is not None) is kept
    device.store.close()
