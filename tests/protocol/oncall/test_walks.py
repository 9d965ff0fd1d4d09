"""Random pages over random schedules: whoever is shown is who is paged, and every page ends."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crypto.errors import InvalidError
from protocol.authenticated_data import Priority
from protocol.identifiers import RoleName, UserName
from protocol.oncall import next_steps as steps
from protocol.oncall.escalation import Acknowledgement, Policy, Step
from protocol.oncall.next_steps import Alarm, AlarmKind, Alert, Progress, next_steps
from protocol.oncall.page import Page, new_page
from protocol.oncall.page_state import ENDED, Event, Status
from protocol.oncall.role import Moment, Role, Roster
from protocol.oncall.schedule import on_call
from tests.depth import DEPTH
from tests.protocol.oncall import oracle, strategies
from tests.protocol.oncall.ward import MATRON, MINUTE, role, user

NAMES = ["one", "two", "three"]
SENDER = UserName("ann")


@st.composite
def rosters(draw: st.DrawFn) -> tuple[int, Roster]:
    day, first = draw(strategies.schedules())
    zones = sorted({zone for zone, when in oracle.PLACES if when == day})
    schedules = [first]
    for _ in NAMES[1:]:
        layers = draw(strategies.layers(day, zones))
        stack = draw(st.lists(strategies.changes(day), max_size=2))
        schedules.append(
            strategies.named(zone=zones[0], layers=layers, stack=stack, holidays=set(), day=day)
        )
    roles = {
        RoleName(name): Role(name=RoleName(name), schedule=schedule, fallback=(MATRON,))
        for name, schedule in zip(NAMES, schedules, strict=True)
    }
    return oracle.ms(datetime.fromisoformat(day).replace(tzinfo=UTC)), roles


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    delays = st.integers(15_000, 60 * MINUTE)
    step = st.builds(
        lambda delay, names: Step(delay_ms=delay, responders=tuple(role(n) for n in sorted(names))),
        delays,
        st.sets(st.sampled_from(NAMES), min_size=1),
    )
    kind = draw(st.sampled_from(Acknowledgement))
    return Policy(
        steps=tuple(draw(st.lists(step, min_size=1, max_size=4))),
        repeats=draw(st.integers(0, 2)),
        last_resort=draw(step),
        acknowledgement=kind,
        quorum=draw(st.integers(2, 3)) if kind is Acknowledgement.K_OF_N else 1,
        re_arm_ms=draw(st.sampled_from([0, 5 * MINUTE])),
    )


ACTS: list[Callable[[Page, Roster, UserName, int], Progress]] = [
    lambda page, roster, who, at: steps.accept(page, who, at_ms=at),
    lambda page, roster, who, at: steps.decline(page, who, at_ms=at),
    lambda page, roster, who, at: steps.finish(page, who, at_ms=at),
    lambda page, roster, who, at: steps.redirect(
        page, Moment(roster=roster, at_ms=at), user=who, to=user(UserName("eve")), at_ms=at
    ),
    lambda page, roster, who, at: Progress(page=steps.report(page, who, Event.SHOW, at_ms=at)),
]


def check_shown(roster: Roster, before: Page, progress: Progress, at_ms: int) -> None:
    """Require that whoever is newly alerted is shown as on call, or as a fallback, now."""
    shown = {who for one in roster.values() for who in on_call(one.schedule, at_ms)}
    assert Page.decode(progress.page.encode()) == progress.page
    for action in progress.actions:
        if isinstance(action, Alert):
            assert set(action.users) <= set(progress.page.alerting)
            assert SENDER not in action.users
            if action.again:
                assert all(before.recipient(who) for who in action.users)
            else:
                assert set(action.users) <= shown | {MATRON}


@settings(
    max_examples=200 * DEPTH,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    rosters(),
    policies(),
    st.sampled_from(Priority),
    st.lists(
        st.tuples(
            st.integers(0, 20 * MINUTE),
            st.integers(0, len(ACTS) - 1),
            st.sampled_from([*strategies.PEOPLE, MATRON]),
        ),
        max_size=8,
    ),
)
def test_whoever_is_shown_is_who_is_paged_and_every_page_ends(
    drawn: tuple[int, Roster],
    policy: Policy,
    priority: Priority,
    acts: list[tuple[int, int, UserName]],
) -> None:
    now, roster = drawn
    page = new_page(priority, policy, sender=SENDER, at_ms=now)
    unanswered = 0
    pending = list(acts)
    act_at = now + (pending[0][0] if pending else 0)
    while page.status not in ENDED:
        due = page.next_due_ms
        assert due is not None
        assert due <= page.expires_ms
        if pending and act_at < due:
            _, act, who = pending.pop(0)
            now = act_at
            act_at = now + (pending[0][0] if pending else 0)
            with suppress(InvalidError):
                page = ACTS[act](page, roster, who, now).page
            continue
        now = max(now, due)
        relieved = steps.relieve(page, Moment(roster=roster, at_ms=now), now_ms=now)
        check_shown(roster, page, relieved, now)
        page = relieved.page
        progress = next_steps(page, Moment(roster=roster, at_ms=now), now_ms=now)
        assert progress.page != page
        check_shown(roster, page, progress, now)
        alarms = [action for action in progress.actions if isinstance(action, Alarm)]
        unanswered += sum(alarm.kind is not AlarmKind.COVERAGE for alarm in alarms)
        page = progress.page
    assert page.alerting == ()
    assert now <= page.expires_ms
    assert unanswered == (page.status is Status.UNANSWERED) or page.status is Status.EXPIRED
    late = page.expires_ms + 1
    assert next_steps(page, Moment(roster=roster, at_ms=late), now_ms=late).actions == ()
