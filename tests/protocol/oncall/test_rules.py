"""Whom a message disturbs, what was known when, what lint finds, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.errors import DecodeError, InvalidError, UsageError
from protocol.authenticated_data import Priority
from protocol.identifiers import RoleName, UserName
from protocol.oncall.coverage import DoubleBooking, Gap, Idle, ShortRest, lint
from protocol.oncall.delivery import Delivery, Quiet, Situation, decide, delivery
from protocol.oncall.escalation import Acknowledgement, Policy, Step
from protocol.oncall.history import Edition, History
from protocol.oncall.hours import EVERY_DAY, Holidays, Hours
from protocol.oncall.override import FixedShift, Override, Swap, TemporarySchedule
from protocol.oncall.page import Page, Recipient, new_page
from protocol.oncall.page_state import State
from protocol.oncall.role import Role, Turn, duty, responders
from protocol.oncall.rotation import Rotation, Unit
from protocol.oncall.schedule import (
    WINDOW_MS,
    Layer,
    Schedule,
    next_change,
    on_call,
    shifts,
)
from tests.depth import DEPTH
from tests.protocol.oncall.ward import (
    CONSULTANT,
    DAY_DOCTOR,
    HOUR,
    INTERN,
    MATRON,
    MINUTE,
    NIGHT,
    REGISTRAR,
    always,
    by_hours,
    policy,
    role,
    roster,
)

SEVEN = NIGHT + 7 * HOUR + 20 * MINUTE
"""07:00 in Berlin, after the night."""
NO_QUIET = Quiet(zone="Europe/Berlin")
NIGHTLY = Quiet(
    zone="Europe/Berlin",
    hours=(Hours(weekdays=EVERY_DAY, start_minute=22 * 60, end_minute=6 * 60),),
)
SHIFTS = Schedule(
    zone="Europe/Berlin", layers=(by_hours(DAY_DOCTOR, 7, 19), by_hours(REGISTRAR, 19, 7))
)
TWO_SHIFTS = roster(ward=SHIFTS)


def override(**people: UserName) -> Override:
    return Override(name="o", start_ms=NIGHT, end_ms=NIGHT + HOUR, **people)


SWAP = Swap(
    name="s", first=REGISTRAR, first_start_ms=NIGHT, first_end_ms=SEVEN,
    second=DAY_DOCTOR, second_start_ms=SEVEN, second_end_ms=SEVEN + 12 * HOUR,
)  # fmt: skip
PLAN = TemporarySchedule(
    name="t",
    start_ms=NIGHT,
    end_ms=NIGHT + 2 * HOUR,
    shifts=(FixedShift(start_ms=NIGHT, end_ms=NIGHT + HOUR, users=(CONSULTANT,)),),
)


# -- delivery ----------------------------------------------------------------------------------


@pytest.mark.parametrize("priority", [Priority.INFO, Priority.ROUTINE, Priority.URGENT])
def test_a_message_at_night_is_held_until_the_shift_starts_and_the_sender_told_who_covers(
    priority: Priority,
) -> None:
    decision = decide(priority, TWO_SHIFTS, DAY_DOCTOR, quiet=NO_QUIET, at_ms=NIGHT)
    assert decision.delivery is Delivery.HOLD
    assert decision.off_duty
    assert decision.until_ms == SEVEN
    assert decision.covers == (REGISTRAR,)
    released = decide(priority, TWO_SHIFTS, DAY_DOCTOR, quiet=NO_QUIET, at_ms=SEVEN)
    assert released.delivery is not Delivery.HOLD
    before = decide(priority, TWO_SHIFTS, DAY_DOCTOR, quiet=NO_QUIET, at_ms=SEVEN - 1)
    assert before.delivery is Delivery.HOLD


@pytest.mark.parametrize("priority", Priority)
def test_nobody_off_duty_is_ever_alerted(priority: Priority) -> None:
    assert delivery(priority, Situation.OFF_DUTY) is not Delivery.ALERT


def test_stat_and_urgent_pierce_the_quiet_of_those_on_call_and_routine_does_not() -> None:
    now = {
        priority: decide(priority, TWO_SHIFTS, REGISTRAR, quiet=NIGHTLY, at_ms=NIGHT).delivery
        for priority in Priority
    }
    assert now == {
        Priority.INFO: Delivery.SILENT,
        Priority.ROUTINE: Delivery.SILENT,
        Priority.URGENT: Delivery.ALERT,
        Priority.STAT: Delivery.ALERT,
    }


def test_whoever_is_in_no_schedule_is_left_in_peace_in_their_quiet_hours_alone() -> None:
    held = decide(Priority.ROUTINE, TWO_SHIFTS, CONSULTANT, quiet=NIGHTLY, at_ms=NIGHT)
    assert (held.delivery, held.until_ms, held.covers) == (Delivery.HOLD, SEVEN - HOUR, ())
    after = decide(Priority.ROUTINE, TWO_SHIFTS, CONSULTANT, quiet=NIGHTLY, at_ms=SEVEN - HOUR)
    assert (after.delivery, after.until_ms) == (Delivery.ALERT, None)


def test_the_fallback_of_a_role_that_nobody_has_is_on_call_for_it_also_in_their_quiet() -> None:
    gap = roster(ward=Schedule(zone="Europe/Berlin", layers=(by_hours(DAY_DOCTOR, 7, 19),)))
    at_night = decide(Priority.STAT, gap, MATRON, quiet=NIGHTLY, at_ms=NIGHT)
    assert at_night.delivery is Delivery.ALERT
    found = duty(gap, MATRON, at_ms=NIGHT)
    assert (found.scheduled, found.on_call, found.until_ms) == (False, True, SEVEN)
    covered = decide(Priority.ROUTINE, TWO_SHIFTS, MATRON, quiet=NIGHTLY, at_ms=NIGHT)
    assert covered.delivery is Delivery.HOLD


def test_do_not_disturb_ends_at_its_time() -> None:
    quiet = replace(NO_QUIET, do_not_disturb_until_ms=NIGHT + HOUR)
    ask = {at: decide(Priority.ROUTINE, TWO_SHIFTS, REGISTRAR, quiet=quiet, at_ms=at).delivery
           for at in (NIGHT, NIGHT + HOUR - 1, NIGHT + HOUR)}  # fmt: skip
    assert list(ask.values()) == [Delivery.SILENT, Delivery.SILENT, Delivery.ALERT]


def test_whoever_has_no_shift_in_sight_is_held_until_a_schedule_says() -> None:
    leaver = SHIFTS.with_change(override(added=CONSULTANT))
    decision = decide(
        Priority.ROUTINE, roster(ward=leaver), CONSULTANT, quiet=NO_QUIET, at_ms=NIGHT + HOUR
    )
    assert (decision.delivery, decision.until_ms) == (Delivery.HOLD, None)


def test_a_duty_that_passes_from_role_to_role_is_one() -> None:
    two = roster(
        a=Schedule(zone="UTC", layers=(by_hours(INTERN, 8, 12),)),
        b=Schedule(zone="UTC", layers=(by_hours(INTERN, 12, 16),)),
    )
    nine = NIGHT - NIGHT % (24 * HOUR) + 9 * HOUR
    found = duty(two, INTERN, at_ms=nine)
    assert (found.on_call, found.until_ms) == (True, nine + 7 * HOUR)
    assert duty(roster(a=always(INTERN)), INTERN, at_ms=nine).until_ms is None


# -- history -----------------------------------------------------------------------------------


def test_who_was_on_call_then_is_answered_as_known_then_and_as_known_later() -> None:
    history = (
        History()
        .with_edition(Edition(recorded_ms=NIGHT, effective_ms=NIGHT, schedule=always(INTERN)))
        .with_edition(
            Edition(recorded_ms=NIGHT + HOUR, effective_ms=NIGHT + 9 * HOUR, schedule=SHIFTS)
        )
        .with_edition(
            Edition(
                recorded_ms=NIGHT + 2 * HOUR,
                effective_ms=NIGHT + MINUTE,
                schedule=always(CONSULTANT),
            )
        )
    )
    assert History.decode(history.encode()) == history
    at = NIGHT + 30 * MINUTE
    assert history.on_call(at, known_ms=NIGHT - 1) == ()
    assert history.on_call(at, known_ms=at) == (INTERN,)
    assert history.on_call(at, known_ms=NIGHT + 2 * HOUR) == (CONSULTANT,)
    assert history.on_call(NIGHT, known_ms=NIGHT + 2 * HOUR) == (INTERN,)
    assert history.on_call(NIGHT + 9 * HOUR, known_ms=NIGHT + HOUR) == (DAY_DOCTOR,)
    with pytest.raises(InvalidError):
        history.with_edition(
            Edition(recorded_ms=NIGHT, effective_ms=NIGHT, schedule=always(INTERN))
        )


# -- lint --------------------------------------------------------------------------------------


def test_lint_finds_each_planted_fault_and_nothing_else() -> None:
    day = NIGHT - NIGHT % (24 * HOUR) + 24 * HOUR
    gap = Schedule(zone="UTC", layers=(by_hours(INTERN, 8, 20), by_hours(REGISTRAR, 20, 7)))
    idle = replace(override(removed=CONSULTANT), start_ms=day + HOUR, end_ms=day + 2 * HOUR)
    covered = replace(idle, name="works", removed=REGISTRAR, added=MATRON)
    other = Schedule(zone="UTC", layers=(by_hours(INTERN, 19, 21), by_hours(DAY_DOCTOR, 21, 19)))
    roles = roster(ward=gap.with_change(idle).with_change(covered), other=other)
    ward, second = RoleName("ward"), RoleName("other")
    assert list(lint(roles, start_ms=day, end_ms=day + 24 * HOUR)) == [
        Gap(role=ward, start_ms=day + 7 * HOUR, end_ms=day + 8 * HOUR),
        Idle(role=ward, name="o"),
        ShortRest(user=DAY_DOCTOR, start_ms=day + 19 * HOUR, end_ms=day + 21 * HOUR),
        DoubleBooking(
            user=INTERN, roles=(second, ward), start_ms=day + 19 * HOUR, end_ms=day + 20 * HOUR
        ),
        ShortRest(user=REGISTRAR, start_ms=day + HOUR, end_ms=day + 2 * HOUR),
    ]


def test_whoever_stays_while_colleagues_change_has_no_short_rest() -> None:
    day = NIGHT - NIGHT % (24 * HOUR)
    layers = (by_hours(REGISTRAR, 8, 16), Layer(name="always", users=(INTERN,)))
    roles = roster(ward=Schedule(zone="UTC", layers=layers))
    assert list(lint(roles, start_ms=day, end_ms=day + 24 * HOUR)) == []


# -- bounds and refusals -----------------------------------------------------------------------


def test_an_answer_over_a_span_is_bounded() -> None:
    schedule = Schedule(zone="UTC", layers=(Layer(name="l", rotation=HOURLY),))
    assert len(list(shifts(schedule, NIGHT, NIGHT + WINDOW_MS))) == 400 * 24
    for start, end in [(NIGHT, NIGHT), (NIGHT, NIGHT + WINDOW_MS + 1)]:
        with pytest.raises(UsageError):
            list(shifts(schedule, start, end))
    apart = tuple(
        Layer(name=f"l{minute}", rotation=replace(HOURLY, start_minute=NIGHT // MINUTE + minute))
        for minute in range(60)
    )
    every_minute = replace(schedule, layers=apart)
    with pytest.raises(InvalidError):
        list(shifts(every_minute, NIGHT, NIGHT + WINDOW_MS))
    unseen = roster(ward=every_minute.with_change(override(added=MATRON)))
    found = responders(unseen, replace(role("ward"), turn=Turn.NEXT), at_ms=NIGHT + 2 * HOUR)
    assert found == ()


def test_a_schedule_that_never_changes_says_so() -> None:
    assert next_change(always(INTERN), NIGHT) is None
    assert on_call(always(), NIGHT) == ()


def test_a_swap_exchanges_two_shifts_and_removing_it_gives_both_back() -> None:
    swapped = SHIFTS.with_change(SWAP)
    assert [on_call(swapped, at) for at in (NIGHT, SEVEN)] == [(DAY_DOCTOR,), (REGISTRAR,)]
    assert swapped.without_change("s") == SHIFTS


def test_a_temporary_schedule_covers_what_is_below_it_and_not_what_comes_later() -> None:
    later = override(removed=CONSULTANT, added=MATRON)
    earlier = replace(later, name="earlier", removed=None)
    stacked = SHIFTS.with_change(earlier).with_change(PLAN)
    assert on_call(stacked, NIGHT) == (CONSULTANT,)
    assert on_call(stacked, NIGHT + HOUR) == ()
    assert on_call(stacked.with_change(later), NIGHT) == (MATRON,)


STEP = Step(delay_ms=MINUTE, responders=(role("ward"),))
HOURLY = Rotation(
    zone="UTC", unit=Unit.HOURLY, shift_length=1, start_minute=NIGHT // MINUTE,
    turns=((INTERN,), (REGISTRAR,)),
)  # fmt: skip
PAGE = new_page(Priority.STAT, policy("ward"), sender=INTERN, at_ms=NIGHT)
ASKED = Recipient(user=REGISTRAR, state=State.SENT, position=0, times=((State.SENT, NIGHT),))
BAD: list[Callable[[], object]] = [
    override,
    lambda: override(removed=INTERN, added=INTERN),
    lambda: override(added=UserName("Not A Name")),
    lambda: replace(override(added=INTERN), end_ms=NIGHT),
    lambda: Layer(name="l"),
    lambda: Layer(name="l", users=(REGISTRAR, INTERN)),
    lambda: Schedule(zone="Europe/Nowhere"),
    lambda: Schedule(zone="UTC", holidays=(2, 1)),
    lambda: Schedule(zone="UTC", layers=(by_hours(INTERN, 1, 2), by_hours(INTERN, 3, 4))),
    lambda: SHIFTS.with_change(override(added=INTERN)).with_change(override(added=MATRON)),
    lambda: SHIFTS.without_change("no-such"),
    lambda: Hours(weekdays=0, start_minute=0, end_minute=0),
    lambda: Hours(weekdays=EVERY_DAY, start_minute=0, end_minute=24 * 60),
    lambda: Step(delay_ms=14_999, responders=STEP.responders),
    lambda: Step(delay_ms=MINUTE, responders=()),
    lambda: Policy(steps=(), last_resort=STEP),
    lambda: Policy(steps=(STEP,), last_resort=STEP, quorum=2),
    lambda: Policy(steps=(STEP,), last_resort=STEP, acknowledgement=Acknowledgement.K_OF_N),
    lambda: Policy(steps=(STEP,), last_resort=STEP, re_arm_ms=MINUTE),
    lambda: replace(SWAP, second_start_ms=NIGHT),
    lambda: replace(SWAP, second=REGISTRAR),
    lambda: replace(PLAN, shifts=()),
    lambda: replace(PLAN, end_ms=NIGHT + MINUTE),
    lambda: Policy(steps=(replace(STEP, delay_ms=24 * HOUR),) * 3, last_resort=STEP),
    lambda: Role(name=RoleName("r"), schedule=SHIFTS, fallback=()),
    lambda: replace(HOURLY, shift_length=0),
    lambda: replace(HOURLY, start_minute=0),
    lambda: replace(HOURLY, turns=()),
    lambda: replace(HOURLY, turns=((),)),
    lambda: Layer(name="l", users=(INTERN,), hours=NIGHTLY.hours * 17),
    lambda: Quiet(zone="UTC", hours=NIGHTLY.hours * 17),
    lambda: Quiet(zone="UTC", hours=(replace(NIGHTLY.hours[0], holidays=Holidays.ONLY),)),
    lambda: replace(PAGE, accepted_ms=NIGHT),
    lambda: replace(PAGE, position=3),
    lambda: replace(PAGE, recipients=(ASKED,)),
    lambda: replace(PAGE, position=1, recipients=(ASKED, ASKED)),
    lambda: replace(ASKED, times=()),
    lambda: Edition(recorded_ms=0, effective_ms=NIGHT, schedule=SHIFTS),
    lambda: Role(name=RoleName("r"), schedule=SHIFTS, fallback=(MATRON,), backup=RoleName("r")),
]


@pytest.mark.parametrize("make", BAD)
def test_what_breaks_a_rule_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidError):
        make()


def test_roles_policies_and_pages_decode_to_themselves() -> None:
    for value in (*TWO_SHIFTS.values(), policy("ward", repeats=3), NIGHTLY):
        assert type(value).decode(value.encode()) == value
    page = replace(PAGE, position=1, recipients=(ASKED,))
    assert Page.decode(page.encode()) == page


@settings(max_examples=200 * DEPTH, deadline=None)
@given(
    st.sampled_from([Page, Policy, Role, History, Quiet]),
    st.integers(0, 200),
    st.integers(0, 255),
)
def test_a_changed_byte_gives_a_value_or_a_documented_error(
    kind: type[Page | Policy | Role | History | Quiet], place: int, octet: int
) -> None:
    examples: dict[object, bytes] = {
        Page: new_page(Priority.STAT, policy("ward"), sender=INTERN, at_ms=NIGHT).encode(),
        Policy: policy("ward").encode(),
        Role: TWO_SHIFTS[RoleName("ward")].encode(),
        History: History(
            editions=(Edition(recorded_ms=NIGHT, effective_ms=NIGHT, schedule=SHIFTS),)
        ).encode(),
        Quiet: NIGHTLY.encode(),
    }
    data = bytearray(examples[kind])
    data[place % len(data)] = octet
    try:
        value = kind.decode(bytes(data))
    except (DecodeError, InvalidError):
        return
    assert value.encode() == bytes(data)
