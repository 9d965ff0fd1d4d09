"""Stories of pages at night; the clock is the test's, and an unexpected alert fails the story."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crypto.errors import InvalidError
from protocol.authenticated_data import EVERYBODY, Priority, Target, TargetKind
from protocol.identifiers import RoleName
from protocol.oncall import escalation
from protocol.oncall import next_steps as steps
from protocol.oncall.escalation import Acknowledgement
from protocol.oncall.next_steps import AlarmKind, next_steps
from protocol.oncall.override import Override
from protocol.oncall.page_state import Event, State, Status
from protocol.oncall.role import Turn, meant, responders
from protocol.oncall.schedule import Schedule, on_call
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
    SECOND,
    SUPERVISOR,
    Roles,
    Ward,
    always,
    by_hours,
    policy,
    role,
    roster,
    user,
)

STEPS = ("intern", "registrar", "consultant")


def full_roster() -> Roles:
    return roster(
        intern=always(INTERN),
        registrar=always(REGISTRAR),
        consultant=always(CONSULTANT),
        supervisor=always(SUPERVISOR),
    )


def ward(*names: str, roles: Roles | None = None, **options: int) -> Ward:
    known = full_roster() | (roles or {})
    return Ward(known, policy(*(names or STEPS), **options))


def test_an_unanswered_stat_reaches_registrar_consultant_supervisor_and_ends_unanswered() -> None:
    story = ward()
    story.expect(INTERN)
    story.wait(MINUTE - 1)
    story.expect()
    story.wait(1)
    story.expect(REGISTRAR)
    story.wait(MINUTE)
    story.expect(CONSULTANT)
    story.wait(MINUTE)
    story.expect(SUPERVISOR)
    story.expect_status(Status.OPEN)
    story.wait(MINUTE)
    story.expect()
    story.expect_status(Status.UNANSWERED)
    assert story.alarms == [AlarmKind.UNANSWERED]
    assert {one.state for one in story.page.recipients} == {State.UNANSWERED}


def test_a_page_that_has_ended_wakes_nobody_months_later() -> None:
    story = ward()
    story.wait(4 * MINUTE)
    story.expect(INTERN, REGISTRAR, CONSULTANT, SUPERVISOR)
    story.sleep(90 * 24 * HOUR)
    story.expect()
    assert story.page.next_due_ms is None
    with pytest.raises(InvalidError):
        story.accept(REGISTRAR)


def test_a_page_that_slept_through_its_end_wakes_nobody_and_alarms_the_supervisor() -> None:
    story = ward()
    story.expect(INTERN)
    story.sleep(90 * 24 * HOUR)
    story.expect()
    story.expect_status(Status.EXPIRED)
    assert story.alarms == [AlarmKind.EXPIRED]
    assert story.alarmed == [SUPERVISOR]


def test_after_a_pause_of_the_relay_one_step_is_taken_and_the_next_waits_its_time() -> None:
    story = ward()
    story.expect(INTERN)
    story.sleep(10 * MINUTE)
    story.expect(REGISTRAR)
    story.wait(MINUTE - 1)
    story.expect()
    story.wait(1)
    story.expect(CONSULTANT)


def test_accepting_stops_everything_everywhere() -> None:
    story = ward()
    story.wait(MINUTE)
    story.expect(INTERN, REGISTRAR)
    story.accept(INTERN, arrival_ms=NIGHT + 10 * MINUTE)
    assert story.page.alerting == ()
    assert story.cancelled == [INTERN, REGISTRAR]
    story.wait(3 * HOUR)
    story.expect()
    intern = story.page.recipient(INTERN)
    assert intern is not None
    assert intern.arrival_ms == NIGHT + 10 * MINUTE
    assert dict(intern.times) == {State.SENT: NIGHT, State.ACCEPTED: NIGHT + MINUTE}
    story.finish(INTERN)
    story.expect_status(Status.DONE)
    for answer in (story.accept, story.decline):
        with pytest.raises(InvalidError):
            answer(REGISTRAR)


def test_declining_escalates_at_once() -> None:
    story = ward()
    story.wait(SECOND)
    story.expect(INTERN)
    story.decline(INTERN)
    story.expect(REGISTRAR)
    assert story.page.due_ms == NIGHT + SECOND + MINUTE


def test_one_of_two_declining_leaves_the_other_their_time() -> None:
    story = ward("team", "consultant", roles=roster(team=always(INTERN, REGISTRAR)))
    story.expect(INTERN, REGISTRAR)
    story.decline(INTERN)
    story.expect()
    story.decline(REGISTRAR)
    story.expect(CONSULTANT)


def test_declining_after_accepting_escalates_at_once() -> None:
    story = ward()
    story.accept(INTERN)
    story.expect(INTERN)
    story.wait(10 * MINUTE)
    story.decline(INTERN)
    story.expect(REGISTRAR)


def test_not_mine_asks_whoever_is_named_in_what_is_left_of_the_original_time() -> None:
    story = ward()
    story.expect(INTERN)
    story.wait(40 * SECOND)
    story.not_mine(INTERN, user(DAY_DOCTOR))
    story.expect(DAY_DOCTOR)
    story.wait(20 * SECOND - 1)
    story.expect()
    story.wait(1)
    story.expect(REGISTRAR)


def test_a_page_is_not_redirected_to_nobody_its_sender_or_somebody_asked_before() -> None:
    story = ward()
    for nobody in (role("no-such-role"), user(NURSE), user(INTERN)):
        with pytest.raises(InvalidError):
            story.not_mine(INTERN, nobody)
    story.expect(INTERN)
    story.expect_status(Status.OPEN)


def test_a_step_with_nobody_is_skipped_at_once_with_an_alarm_that_comes_once() -> None:
    story = ward(roles=roster(intern=always()), repeats=1)
    story.expect(REGISTRAR)
    assert story.alarms == [AlarmKind.COVERAGE]
    story.wait(2 * MINUTE)
    assert story.rung[-1][1] == REGISTRAR
    assert story.alarms == [AlarmKind.COVERAGE]


def test_where_no_step_has_anybody_the_last_resort_is_asked_at_once_or_its_fallback() -> None:
    nobody = roster(**dict.fromkeys((*STEPS, "supervisor"), always()))
    story = ward(roles=nobody)
    story.expect(MATRON)
    assert story.alarms == [AlarmKind.COVERAGE] * 3


def test_whoever_declined_is_not_asked_again_in_the_next_round() -> None:
    story = ward("intern", "registrar", repeats=1)
    story.decline(INTERN)
    story.expect(INTERN, REGISTRAR)
    story.wait(MINUTE)
    story.expect(REGISTRAR)
    story.wait(MINUTE)
    story.expect(SUPERVISOR)
    assert story.alarms == []


def test_the_sender_is_not_asked_to_answer_their_own_page() -> None:
    story = ward("team", roles=roster(team=always(NURSE, INTERN)))
    story.expect(INTERN)


def test_a_stat_that_nobody_answers_rings_again_every_minute() -> None:
    story = ward("intern", delay_ms=3 * MINUTE)
    story.wait(3 * MINUTE - 1)
    assert [at - NIGHT for at, _ in story.rung] == [0, MINUTE, 2 * MINUTE]
    story.expect(INTERN, INTERN, INTERN)


def test_two_of_three_have_to_accept_where_the_policy_says_so() -> None:
    story = ward(
        "team",
        "consultant",
        roles=roster(team=always(INTERN, REGISTRAR, DAY_DOCTOR)),
        acknowledgement=Acknowledgement.K_OF_N,
        quorum=2,
    )
    story.expect(DAY_DOCTOR, INTERN, REGISTRAR)
    story.accept(INTERN)
    story.expect_status(Status.OPEN)
    assert story.page.alerting == (DAY_DOCTOR, REGISTRAR)
    story.decline(DAY_DOCTOR)
    story.expect()
    story.accept(REGISTRAR)
    story.expect_status(Status.ACCEPTED)


def test_a_quorum_that_can_no_longer_be_reached_escalates_at_once_and_counts_on() -> None:
    story = ward(
        "team",
        "consultant",
        roles=roster(team=always(INTERN, REGISTRAR)),
        acknowledgement=Acknowledgement.K_OF_N,
        quorum=2,
    )
    story.accept(INTERN)
    story.decline(REGISTRAR)
    story.expect(INTERN, REGISTRAR, CONSULTANT)
    story.accept(CONSULTANT)
    story.expect_status(Status.ACCEPTED)


def test_all_of_a_step_have_to_accept_where_the_policy_says_so() -> None:
    team = roster(team=always(INTERN, REGISTRAR))
    story = ward("team", "consultant", roles=team, acknowledgement=Acknowledgement.ALL)
    story.accept(INTERN)
    story.expect_status(Status.OPEN)
    story.accept(REGISTRAR)
    story.expect_status(Status.ACCEPTED)
    story.expect(INTERN, REGISTRAR)


def test_accepted_and_forgotten_is_armed_again() -> None:
    story = ward(re_arm_ms=15 * MINUTE)
    story.accept(INTERN)
    story.wait(15 * MINUTE - 1)
    story.expect(INTERN)
    story.wait(1)
    story.expect(INTERN)
    story.expect_status(Status.OPEN)
    story.wait(MINUTE)
    story.expect(REGISTRAR)


def test_a_page_done_is_not_armed_again() -> None:
    story = ward(re_arm_ms=15 * MINUTE)
    story.accept(INTERN)
    story.finish(INTERN)
    story.wait(24 * HOUR)
    story.expect(INTERN)


def test_a_page_is_not_done_before_somebody_accepted_it() -> None:
    story = ward()
    with pytest.raises(InvalidError):
        story.finish(INTERN)


def test_a_page_reports_how_far_it_came_and_late_reports_change_nothing() -> None:
    story = ward()
    page = steps.report(story.page, INTERN, Event.SHOW, at_ms=NIGHT + 2)
    late = steps.report(page, INTERN, Event.DELIVER, at_ms=NIGHT + 3)
    assert late == page
    intern = page.recipient(INTERN)
    assert intern is not None
    assert intern.state is State.SHOWN
    assert steps.report(page, CONSULTANT, Event.SHOW, at_ms=NIGHT) == page
    with pytest.raises(InvalidError):
        steps.report(page, INTERN, Event.ACCEPT, at_ms=NIGHT)


def test_whoever_is_on_call_when_the_step_comes_is_asked_and_not_who_was_at_the_start() -> None:
    # Midnight in Berlin, twenty minutes after the page.
    shifts = Schedule(
        zone="Europe/Berlin",
        layers=(by_hours(DAY_DOCTOR, 0, 12), by_hours(REGISTRAR, 12, 0)),
    )
    late = roster(registrar=shifts)
    story = ward("intern", "registrar", roles=late, delay_ms=25 * MINUTE)
    assert on_call(shifts, NIGHT) == (REGISTRAR,)
    story.wait(25 * MINUTE)
    assert story.rung[-1][1] == DAY_DOCTOR


def test_an_override_of_an_override_is_who_is_paged_and_removing_it_restores_the_first() -> None:
    first = Override(
        name="first", start_ms=NIGHT, end_ms=NIGHT + HOUR, removed=INTERN, added=REGISTRAR
    )
    second = Override(
        name="second", start_ms=NIGHT, end_ms=NIGHT + HOUR, removed=REGISTRAR, added=CONSULTANT
    )
    schedule = always(INTERN).with_change(first).with_change(second)
    for covered, expected in [
        (schedule, CONSULTANT),
        (schedule.without_change("second"), REGISTRAR),
        (schedule.without_change("first"), INTERN),
    ]:
        story = ward("intern", roles=roster(intern=covered))
        assert on_call(covered, NIGHT) == (expected,)
        story.expect(expected)


def test_the_next_and_the_backup_can_be_asked() -> None:
    shifts = Schedule(
        zone="Europe/Berlin",
        layers=(by_hours(DAY_DOCTOR, 7, 19), by_hours(REGISTRAR, 19, 7)),
    )
    known = roster(ward=shifts, consultant=always(CONSULTANT))
    ward_role = RoleName("ward")
    known[ward_role] = replace(known[ward_role], backup=RoleName("consultant"))
    found = {
        turn: responders(known, replace(role("ward"), turn=turn), at_ms=NIGHT) for turn in Turn
    }
    assert found == {
        Turn.CURRENT: (REGISTRAR,),
        Turn.NEXT: (DAY_DOCTOR,),
        Turn.BACKUP: (CONSULTANT,),
    }

    meant_by = {
        kind: meant(known, Target(kind=kind, name="ward"), at_ms=NIGHT)
        for kind in (TargetKind.ROLE, TargetKind.NEXT, TargetKind.BACKUP)
    }
    assert list(meant_by.values()) == list(found.values())


def test_a_message_is_meant_for_somebody_also_where_nobody_is_next_or_backup() -> None:
    known = roster(ward=always(REGISTRAR))
    for kind in (TargetKind.NEXT, TargetKind.BACKUP):
        assert meant(known, Target(kind=kind, name="ward"), at_ms=NIGHT) == (REGISTRAR,)
    to_intern = Target(kind=TargetKind.USER, name=INTERN)
    assert meant(known, to_intern, at_ms=NIGHT) == (INTERN,)
    for everybody in (EVERYBODY, Target(kind=TargetKind.NEXT, name="plumber")):
        assert meant(known, everybody, at_ms=NIGHT) is None


def test_a_page_for_who_is_next_asks_them_first_and_keeps_to_the_limits_of_a_policy() -> None:
    coming = replace(role("intern"), turn=Turn.NEXT)
    asks = policy("intern", "registrar", delay_ms=2 * MINUTE).asking_first(coming)
    assert [step.responders for step in asks.steps] == [
        (coming,), (role("intern"),), (role("registrar"),)
    ]  # fmt: skip
    assert asks.steps[0].delay_ms == 2 * MINUTE
    full = policy(*("intern",) * escalation.STEPS).asking_first(coming)
    long = policy("intern", "registrar", delay_ms=24 * HOUR).asking_first(coming)
    for short in (full, long):
        assert short.steps[0].responders == (coming,)
    assert [len(full.steps), len(long.steps)] == [escalation.STEPS, 2]


def test_asking_before_anything_is_due_changes_nothing() -> None:
    story = ward()
    progress = next_steps(story.page, story.moment, now_ms=NIGHT + 1)
    assert (progress.page, progress.actions) == (story.page, ())
    assert progress.due_ms == NIGHT + MINUTE
    assert story.page.priority is Priority.STAT


def test_all_have_accepted_once_who_got_it_stands_for_who_passed_it_on() -> None:
    team = roster(team=always(INTERN, REGISTRAR))
    story = ward("team", "consultant", roles=team, acknowledgement=Acknowledgement.ALL)
    story.accept(REGISTRAR)
    story.not_mine(INTERN, user(DAY_DOCTOR))
    story.expect(INTERN, REGISTRAR, DAY_DOCTOR)
    story.expect_status(Status.OPEN)
    story.accept(DAY_DOCTOR)
    story.expect_status(Status.ACCEPTED)
    story.wait(HOUR)
    story.expect()


def test_one_of_all_declining_escalates_at_once() -> None:
    team = roster(team=always(INTERN, REGISTRAR))
    story = ward("team", "consultant", roles=team, acknowledgement=Acknowledgement.ALL)
    story.decline(INTERN)
    story.expect(INTERN, REGISTRAR, CONSULTANT)


def test_passing_on_an_accepted_page_gives_the_next_person_the_whole_time() -> None:
    story = ward()
    story.wait(30 * SECOND)
    story.accept(INTERN)
    story.wait(10 * MINUTE)
    story.not_mine(INTERN, user(DAY_DOCTOR))
    story.expect(INTERN, DAY_DOCTOR)
    story.expect_status(Status.OPEN)
    story.wait(MINUTE - 1)
    story.expect()
    story.wait(1)
    assert story.rung[0][1] == REGISTRAR


@pytest.mark.parametrize("passed_on", [False, True])
def test_where_another_has_accepted_too_passing_on_or_declining_wakes_nobody(
    passed_on: bool,
) -> None:
    story = ward("team", "consultant", roles=roster(team=always(INTERN, REGISTRAR)))
    story.accept(INTERN)
    story.accept(REGISTRAR)
    if passed_on:
        story.not_mine(INTERN, user(DAY_DOCTOR))
    else:
        story.decline(INTERN)
    story.expect_status(Status.ACCEPTED)
    story.wait(HOUR)
    story.expect(INTERN, REGISTRAR)


def test_an_accepted_page_that_nobody_finishes_ends_without_a_sound() -> None:
    story = ward()
    story.accept(INTERN)
    story.wait(90 * 24 * HOUR)
    story.expect_status(Status.EXPIRED)
    story.expect(INTERN)
    assert story.alarms == []


def test_whoever_declined_may_think_better_of_it() -> None:
    story = ward()
    story.decline(INTERN)
    story.accept(INTERN)
    story.expect_status(Status.ACCEPTED)
    story.expect(INTERN, REGISTRAR)
    with pytest.raises(InvalidError):
        story.decline(CONSULTANT)
    with pytest.raises(InvalidError):
        story.accept(INTERN)


def test_a_backup_that_is_not_there_is_nobody() -> None:
    known = roster(ward=always(INTERN))
    for turn in (Turn.NEXT, Turn.BACKUP):
        assert responders(known, replace(role("ward"), turn=turn), at_ms=NIGHT) == ()
    with pytest.raises(InvalidError):
        replace(user(INTERN), turn=Turn.NEXT)
