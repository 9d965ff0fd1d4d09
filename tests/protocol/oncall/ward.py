"""A ward for stories: roles, a clock that the test owns, and a relay that forgets everything.

Whoever is paged without the story's saying so fails it.
"""

from __future__ import annotations

from protocol.authenticated_data import Priority
from protocol.identifiers import RoleName, UserName
from protocol.oncall import next_steps as steps
from protocol.oncall.escalation import Policy, Step
from protocol.oncall.hours import EVERY_DAY, Hours
from protocol.oncall.next_steps import Action, Alarm, AlarmKind, Alert, Cancel, Progress
from protocol.oncall.page import Page, new_page
from protocol.oncall.page_state import Status
from protocol.oncall.role import Moment, Reach, Responder, Role
from protocol.oncall.schedule import Layer, Schedule

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
NIGHT = 1_794_004_800_000
"""2026-11-06T22:40Z, 23:40 in Berlin: a night shift."""

NURSE, INTERN = UserName("nurse"), UserName("intern")
REGISTRAR, CONSULTANT = UserName("registrar"), UserName("consultant")
SUPERVISOR, MATRON = UserName("supervisor"), UserName("matron")
DAY_DOCTOR = UserName("day-doctor")


def user(name: UserName) -> Responder:
    return Responder(reach=Reach.USER, name=name)


def role(name: str) -> Responder:
    return Responder(reach=Reach.ROLE, name=name)


def always(*users: UserName) -> Schedule:
    layers = (Layer(name="always", users=tuple(sorted(users))),) if users else ()
    return Schedule(zone="Europe/Berlin", layers=layers)


def by_hours(user: UserName, start: int, end: int) -> Layer:
    hours = Hours(weekdays=EVERY_DAY, start_minute=start * 60, end_minute=end * 60)
    return Layer(name=user, hours=(hours,), users=(user,))


Roles = dict[RoleName, Role]


def roster(**schedules: Schedule) -> Roles:
    return {
        RoleName(name): Role(name=RoleName(name), schedule=schedule, fallback=(MATRON,))
        for name, schedule in schedules.items()
    }


def policy(*names: str, delay_ms: int = MINUTE, **options: int) -> Policy:
    return Policy(
        steps=tuple(Step(delay_ms=delay_ms, responders=(role(name),)) for name in names),
        last_resort=Step(delay_ms=delay_ms, responders=(role("supervisor"),)),
        **options,  # type: ignore[arg-type]
    )


class Ward:
    """One page and the clock; what was not expected by the end of a story fails it."""

    def __init__(self, roles: Roles, policy: Policy) -> None:
        self.roles = roles
        self.now_ms = NIGHT
        self.page = new_page(Priority.STAT, policy, sender=NURSE, at_ms=self.now_ms)
        self.rung: list[tuple[int, UserName]] = []
        self.alarms: list[AlarmKind] = []
        self.alarmed: list[UserName] = []
        self.cancelled: list[UserName] = []
        self._run()

    @property
    def moment(self) -> Moment:
        return Moment(roster=self.roles, at_ms=self.now_ms)

    def wait(self, ms: int) -> None:
        """Move the clock on, and run each timer when it is due."""
        until_ms = self.now_ms + ms
        while (due := self.page.next_due_ms) is not None and due <= until_ms:
            self.now_ms = max(self.now_ms, due)
            self._run()
        self.now_ms = until_ms

    def sleep(self, ms: int) -> None:
        """Move the clock on while the relay is down, and start it again."""
        self.now_ms += ms
        self._run()

    def accept(self, user: UserName, arrival_ms: int | None = None) -> None:
        self._take(steps.accept(self.page, user, at_ms=self.now_ms, arrival_ms=arrival_ms))

    def decline(self, user: UserName) -> None:
        self._take(steps.decline(self.page, user, at_ms=self.now_ms))

    def not_mine(self, user: UserName, to: Responder) -> None:
        self._take(steps.redirect(self.page, self.moment, user=user, to=to, at_ms=self.now_ms))

    def change_shift(self, **schedules: Schedule) -> None:
        """Put others on call, and hand the page over to them."""
        self.roles = {**self.roles, **roster(**schedules)}
        self._take(steps.relieve(self.page, self.moment, now_ms=self.now_ms))

    def finish(self, user: UserName) -> None:
        self._take(steps.finish(self.page, user, at_ms=self.now_ms))

    def expect(self, *users: UserName) -> None:
        """Require that exactly these have been rung since the last time."""
        rung, self.rung = self.rung, []
        assert tuple(user for _, user in rung) == users

    def expect_status(self, status: Status) -> None:
        assert self.page.status is status

    def _run(self) -> None:
        while True:
            before = self.page
            # A restart at every point: what is not in the bytes is gone.
            saved = Page.decode(self.page.encode())
            assert saved == before
            progress = steps.next_steps(saved, self.moment, now_ms=self.now_ms)
            self._record(progress.page, progress.actions)
            if progress.page == before:
                return

    def _take(self, progress: Progress) -> None:
        self._record(progress.page, progress.actions)
        self._run()

    def _record(self, page: Page, actions: tuple[Action, ...]) -> None:
        self.page = page
        for action in actions:
            if isinstance(action, Alert):
                self.rung += [(self.now_ms, user) for user in action.users]
            elif isinstance(action, Cancel):
                self.cancelled += action.users
            else:
                assert isinstance(action, Alarm)
                self.alarms.append(action.kind)
                self.alarmed += action.users
