"""The quarter's canary: offered by itself, opened by k officers on purpose, and compared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from msgspec.structs import replace

from archive import canary, review_canary
from archive.alarms import Alarm
from archive.correspondence import REVIEW_MS, Correspondence
from archive.opening_records import View
from archive.opening_session import Review
from archive.record import RecordType
from archive.recorder import Recorder as RealRecorder
from archive.review_canary import State
from archive.steward import Steward
from crypto.errors import InvalidError
from protocol.content import decode
from protocol.content.affairs import Official
from protocol.letters import Topic
from tests.archive.officers import DAY_MS, NAMES, WARD, Archive, Talk
from tests.archive.recording import ward
from tests.archive.test_review import site_of

COMPLIANCE = b"c" * 32


class House(Archive):
    """The hospital, with the officers' own conversation."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.begin()
        self.compliance: Talk = self.talk(COMPLIANCE)
        self.talk(WARD)

    def plant(self, *, who: str = "recorder") -> None:
        """Let the archive write a canary, and somebody's device send it."""
        canary.plant(self.log.store, self.desk, COMPLIANCE, now_ms=self.now_ms)
        for number, letter in self.desk.outgoing():
            self.say(self.compliance, Official(statements=(letter,)), who=who)
            self.desk.sent(number)

    def pass_days(self, days: int) -> None:
        self.now_ms += days * DAY_MS
        for name in NAMES:
            self.devices[name] = self.renew(self.devices[name])
            self.officers[name] = self.officer_over(name)
        self.record([self.certificate(self.devices[name]) for name in NAMES])
        self.tick()

    def step(self) -> State:
        """Let the process run that the archive starts; its letters arrive."""
        found = review_canary.step(site_of(self), self.opening, now_ms=self.now_ms)
        self.tick()
        return found

    @contextmanager
    def opening(self, request: str) -> Iterator[Review]:
        name = bytes.fromhex(request)
        with self.worker(name) as worker:
            yield Review(worker, self.log.store, request=name, clock=lambda: self.now_ms)

    def ask(self) -> bytes:  # type: ignore[override] # what is asked for is known
        letters = self.officers["olga"].request_canary(COMPLIANCE, now_ms=self.now_ms)
        self.post("olga", letters)
        return self.officers["olga"].cases(now_ms=self.now_ms)[-1].filed.hash

    def outcomes(self) -> list[str]:
        """Return what is on record of canaries."""
        views = [
            View.decode(self.log.body(r.index))
            for r in self.log.records()
            if r.type is RecordType.VIEW
        ]
        return [view.detail for view in views if view.what == "canary"]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


def test_the_canary_is_offered_when_it_is_due_and_opened_once_k_officers_have_released_it(
    house: House,
) -> None:
    house.plant()
    store = house.log.store
    house.pass_days(99)
    assert house.step() is State.RESTS
    house.pass_days(2)
    assert house.step() is State.OFFERED
    assert house.step() is State.WAITS
    request = house.ask()
    house.approve(request, *NAMES[:3])
    house.release(request, *NAMES[:2])
    assert house.step() is State.WAITS
    assert house.outcomes() == []
    house.release(request, NAMES[2])
    assert house.step() is State.RIGHT
    assert house.outcomes() == ["right"]
    one = canary.known(store)
    assert one is not None
    assert (one.is_right, one.session) == (True, b"")
    assert one.opened_ms > one.planted_ms
    assert not canary.failed(store)
    assert not house.casework.is_opening_due(house.now_ms)
    # The session's key is gone, and the next canary is another.
    assert all(state.name == "CLOSED" for _, state, _, _ in house.desk.sessions())
    assert canary.is_wanted(store, COMPLIANCE)
    house.plant()
    another = canary.known(store)
    assert another is not None
    assert another.hash != one.hash
    assert another.opened_ms == one.opened_ms
    assert house.step() is State.RESTS


@pytest.mark.parametrize("wrong", ["another was written", "somebody else sent it"])
def test_a_canary_that_is_not_what_was_written_is_on_record_and_stays_an_alarm(
    house: House, wrong: str
) -> None:
    house.plant(who="alice" if wrong.startswith("somebody") else "recorder")
    store = house.log.store
    one = canary.known(store)
    assert one is not None
    if wrong.startswith("another"):
        canary.keep(store, replace(one, hash=bytes(32)))
    house.pass_days(101)
    assert house.step() is State.OFFERED
    request = house.ask()
    house.approve(request, *NAMES[:3])
    house.release(request, *NAMES[:3])
    assert house.step() is State.WRONG
    assert house.outcomes() == ["wrong"]
    assert canary.failed(store)
    house.plant()
    assert canary.failed(store)


def test_after_an_opening_by_a_clock_that_was_ahead_one_canary_is_written_and_no_more(
    house: House,
) -> None:
    house.plant()
    store = house.log.store
    one = canary.known(store)
    assert one is not None
    canary.keep(store, replace(one, opened_ms=house.now_ms + 365 * DAY_MS))
    assert canary.is_wanted(store, COMPLIANCE)
    house.plant()
    assert not canary.is_wanted(store, COMPLIANCE)


def test_whatever_the_archive_calls_a_canary_a_device_asks_for_the_officers_own_talk_alone(
    house: House,
) -> None:
    with pytest.raises(InvalidError):
        house.ask()
    house.plant()
    one = canary.known(house.log.store)
    assert one is not None
    house.say(house.talk(b"v" * 32), b"a ward's")
    canary.keep(house.log.store, replace(one, conversation=b"v" * 32))
    house.pass_days(101)
    canary.keep(house.log.store, replace(one, conversation=b"v" * 32))
    assert house.step() is State.OFFERED
    with pytest.raises(InvalidError):
        house.ask()


def test_a_canary_that_nobody_asks_for_is_offered_again_and_only_the_newest_is_of_use(
    house: House,
) -> None:
    house.plant()
    house.pass_days(101)
    assert house.step() is State.OFFERED
    house.pass_days(13)
    assert house.step() is State.WAITS
    house.pass_days(2)
    assert house.step() is State.OFFERED
    states = [state.name for _, state, _, _ in house.desk.sessions()]
    assert states == ["CLOSED", "WAITING"]
    request = house.ask()
    house.approve(request, *NAMES[:3])
    house.release(request, *NAMES[:3])
    assert house.step() is State.RIGHT


def test_a_canary_that_never_went_out_is_written_anew(house: House) -> None:
    canary.plant(house.log.store, house.desk, COMPLIANCE, now_ms=house.now_ms)
    for number, _ in house.desk.outgoing():
        house.desk.sent(number)
    house.pass_days(101)
    assert not canary.is_wanted(house.log.store, COMPLIANCE)
    assert house.step() is State.RESTS
    assert canary.is_wanted(house.log.store, COMPLIANCE)
    house.plant()
    assert house.step() is State.OFFERED


def test_the_archive_keeps_of_its_canary_the_hash_alone(house: House) -> None:
    canary.plant(house.log.store, house.desk, COMPLIANCE, now_ms=house.now_ms)
    ((number, letter),) = [one for one in house.desk.outgoing() if b"canary" not in one[1]][-1:]
    house.desk.sent(number)
    one = canary.known(house.log.store)
    assert one is not None
    assert letter not in repr(one).encode()
    assert all(letter != kept for _, kept in house.desk.outgoing())
    assert Topic(letter[2]) is Topic.CANARY


def test_the_process_that_opens_it_is_started_once_at_a_time_and_ends_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ward(tmp_path / "archive") as made:
        reviewing = canary.Reviewing(made.archive.file)
        reviewing.start()
        first = reviewing._process
        reviewing.start()
        assert first is not None
        assert first.wait(60) == 0
        reviewing.start()
        assert reviewing._process is not first
        reviewing.close()
        assert reviewing._process is not None
        assert reviewing._process.returncode is not None


class Recorder:
    """As much of a recorder and a steward as letters need; the officers' conversation is known."""

    def __init__(self, house: House) -> None:
        self.house, self.log, self.live = house, house.log, self
        self.alarms: dict[Alarm, int] = {}
        self.official: bytes | None = COMPLIANCE
        self.settings: dict[str, bytes] = {}
        self.on_letter = None

    def setting(self, name: str) -> bytes | None:
        return self.settings.get(name)

    def put_setting(self, name: str, value: bytes) -> None:
        self.settings[name] = value

    def view(self, _: bytes) -> SimpleNamespace:
        return SimpleNamespace(group=None)

    def raise_alarm(self, alarm: Alarm) -> None:
        self.alarms[alarm] = 1

    async def say(self, _: bytes, content: bytes) -> bool:
        self.house.say(self.house.compliance, content, who="recorder")
        for letter in cast("Official", decode(content)).statements:
            self.house.deliver(letter)
        return True


async def test_the_archive_writes_its_canary_and_has_it_offered_and_opened_by_itself(
    house: House,
) -> None:
    started: list[State] = []
    recorder = Recorder(house)

    def corresponding() -> Correspondence:
        return Correspondence(
            cast("RealRecorder", recorder),
            cast("Steward", recorder),
            house.desk,
            house.new_casework(),
            review=lambda: started.append(house.step()),
        )

    letters = corresponding()

    async def minutes_pass() -> None:
        for _ in range(3):
            house.now_ms += REVIEW_MS
            await letters.step(now_ms=house.now_ms)

    await minutes_pass()
    assert canary.known(house.log.store) is not None
    house.pass_days(99)
    await minutes_pass()
    assert started == []
    assert Alarm.CANARY not in recorder.alarms
    house.pass_days(2)
    await minutes_pass()
    # Once: while the officers are asked nothing is started.
    assert started == [State.OFFERED]
    assert Alarm.CANARY in recorder.alarms
    request = house.ask()
    house.approve(request, *NAMES[:3])
    house.release(request, *NAMES[:3])
    await minutes_pass()
    assert started == [State.OFFERED, State.RIGHT]
    await minutes_pass()
    assert Alarm.CANARY not in recorder.alarms
    one = canary.known(house.log.store)
    assert one is not None
    assert one.planted_ms > one.opened_ms > 0
    # One that is not what was written is an alarm until another is.
    canary.keep(house.log.store, replace(one, is_right=False))
    await minutes_pass()
    assert Alarm.CANARY in recorder.alarms
