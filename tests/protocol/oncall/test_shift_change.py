"""Shift changes: a page goes to whoever comes on call, and stays with who leaves until then."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crypto.errors import InvalidError
from protocol.identifiers import UserName
from protocol.oncall import next_steps as steps
from protocol.oncall.escalation import Acknowledgement, Policy, Step
from protocol.oncall.page import Recipient
from protocol.oncall.page_state import State, Status
from tests.protocol.oncall.ward import (
    CONSULTANT,
    DAY_DOCTOR,
    HOUR,
    INTERN,
    MINUTE,
    NIGHT,
    NURSE,
    REGISTRAR,
    SECOND,
    SUPERVISOR,
    Ward,
    always,
    policy,
    role,
    roster,
    user,
)

ALL_OF_TWO = Policy(
    steps=(Step(delay_ms=MINUTE, responders=(role("team"), role("second"))),),
    last_resort=Step(delay_ms=MINUTE, responders=(role("supervisor"),)),
    acknowledgement=Acknowledgement.ALL,
)


def ward(**options: int) -> Ward:
    roles = roster(
        intern=always(INTERN),
        registrar=always(REGISTRAR),
        consultant=always(CONSULTANT),
        supervisor=always(SUPERVISOR),
    )
    return Ward(roles, policy("intern", "registrar", "consultant", **options))


def taken(**options: int) -> Ward:
    story = ward(**options)
    story.expect(INTERN)
    story.accept(INTERN)
    return story


def state(story: Ward, who: UserName) -> State | None:
    one = story.page.recipient(who)
    return None if one is None else one.state


def alerting(story: Ward, *users: UserName) -> None:
    assert story.page.alerting == users


def test_an_open_page_goes_to_who_comes_on_and_keeps_its_timer() -> None:
    story = ward()
    story.expect(INTERN)
    story.wait(40 * SECOND)
    story.change_shift(intern=always(DAY_DOCTOR))
    story.expect(DAY_DOCTOR)
    alerting(story, DAY_DOCTOR, INTERN)
    story.wait(19 * SECOND)
    story.expect()
    story.wait(SECOND)
    story.expect(REGISTRAR)


def test_who_comes_on_and_accepts_relieves_who_leaves() -> None:
    story = ward()
    story.change_shift(intern=always(DAY_DOCTOR))
    story.accept(DAY_DOCTOR)
    assert sorted(story.cancelled) == [DAY_DOCTOR, INTERN]
    assert state(story, INTERN) is State.RELIEVED
    story.expect(INTERN, DAY_DOCTOR)
    story.wait(3 * HOUR)
    story.expect()


def test_a_page_that_was_accepted_is_handed_over_and_disturbs_nobody_else() -> None:
    story = taken()
    story.wait(HOUR)
    story.expect()
    story.change_shift(intern=always(DAY_DOCTOR))
    story.expect(DAY_DOCTOR, INTERN)
    story.expect_status(Status.ACCEPTED)
    alerting(story, DAY_DOCTOR, INTERN)
    story.wait(30 * SECOND)
    story.accept(DAY_DOCTOR)
    alerting(story)
    assert (state(story, INTERN), state(story, DAY_DOCTOR)) == (State.RELIEVED, State.ACCEPTED)
    story.wait(HOUR)
    story.expect()
    story.finish(DAY_DOCTOR)
    story.expect_status(Status.DONE)


def test_a_page_that_nobody_takes_over_is_open_again_and_goes_to_the_next_step() -> None:
    story = taken(delay_ms=2 * MINUTE)
    story.change_shift(intern=always(DAY_DOCTOR))
    story.expect(DAY_DOCTOR, INTERN)
    story.wait(MINUTE)
    story.expect(DAY_DOCTOR, INTERN)
    story.wait(MINUTE)
    story.expect(REGISTRAR)
    story.expect_status(Status.OPEN)
    # Who leaves has it until somebody else does, whoever that is.
    alerting(story, DAY_DOCTOR, INTERN, REGISTRAR)
    story.accept(REGISTRAR)
    assert state(story, INTERN) is State.RELIEVED
    alerting(story)


def test_where_who_comes_on_declines_it_is_open_at_once() -> None:
    story = taken()
    story.change_shift(intern=always(DAY_DOCTOR))
    story.expect(DAY_DOCTOR, INTERN)
    story.decline(DAY_DOCTOR)
    story.expect(REGISTRAR)
    story.expect_status(Status.OPEN)


def test_where_nobody_comes_on_it_stays_with_who_has_it_until_somebody_does() -> None:
    story = taken()
    story.change_shift(intern=always())
    story.expect()
    alerting(story)
    story.change_shift(intern=always(DAY_DOCTOR))
    story.expect(DAY_DOCTOR, INTERN)


def test_who_stays_on_call_beside_others_hands_nothing_over() -> None:
    story = taken()
    story.change_shift(intern=always(DAY_DOCTOR, INTERN))
    story.expect()
    story.change_shift(intern=always(INTERN))
    story.expect()
    alerting(story)


def test_a_colleague_who_stays_and_has_it_too_needs_no_alert() -> None:
    roles = roster(team=always(INTERN, DAY_DOCTOR), supervisor=always(SUPERVISOR))
    story = Ward(roles, policy("team"))
    story.expect(DAY_DOCTOR, INTERN)
    story.accept(INTERN)
    story.accept(DAY_DOCTOR)
    story.change_shift(team=always(DAY_DOCTOR))
    story.expect()
    assert state(story, INTERN) is State.RELIEVED


def test_a_colleague_who_stays_and_never_answered_is_who_takes_over() -> None:
    roles = roster(team=always(INTERN, DAY_DOCTOR), supervisor=always(SUPERVISOR))
    story = Ward(roles, policy("team"))
    story.accept(INTERN)
    story.expect(DAY_DOCTOR, INTERN)
    story.change_shift(team=always(DAY_DOCTOR))
    story.expect(DAY_DOCTOR, INTERN)


def test_who_comes_back_before_anybody_relieved_them_keeps_it() -> None:
    story = taken()
    story.change_shift(intern=always(DAY_DOCTOR))
    story.expect(DAY_DOCTOR, INTERN)
    story.change_shift(intern=always(INTERN))
    alerting(story)
    story.wait(HOUR)
    story.expect()
    story.expect_status(Status.ACCEPTED)


def test_a_shift_that_changes_twice_leaves_it_with_the_last_and_the_first() -> None:
    story = taken()
    story.change_shift(intern=always(DAY_DOCTOR))
    story.change_shift(intern=always(REGISTRAR))
    alerting(story, DAY_DOCTOR, INTERN, REGISTRAR)
    story.accept(REGISTRAR)
    assert state(story, INTERN) is state(story, DAY_DOCTOR) is State.RELIEVED


def test_who_was_asked_in_person_is_relieved_by_nobodys_shift() -> None:
    story = ward()
    story.not_mine(INTERN, user(DAY_DOCTOR))
    story.accept(DAY_DOCTOR)
    story.expect(INTERN, DAY_DOCTOR)
    story.change_shift(intern=always(REGISTRAR))
    story.expect()


def test_who_accepts_after_their_shift_keeps_it_until_the_next_one_has_it() -> None:
    story = ward()
    story.change_shift(intern=always(DAY_DOCTOR))
    story.accept(INTERN)
    story.expect_status(Status.ACCEPTED)
    story.expect(INTERN, DAY_DOCTOR)
    story.accept(DAY_DOCTOR)
    assert state(story, INTERN) is State.RELIEVED


def test_who_comes_on_may_pass_it_on_to_somebody_else() -> None:
    story = taken()
    story.change_shift(intern=always(DAY_DOCTOR))
    story.not_mine(DAY_DOCTOR, user(REGISTRAR))
    story.expect(DAY_DOCTOR, INTERN, REGISTRAR)
    story.accept(REGISTRAR)
    alerting(story)


def test_the_sender_is_not_asked_to_take_their_own_page_over() -> None:
    story = taken()
    story.expect()
    story.change_shift(intern=always(NURSE))
    # Nobody else has come on: it goes to the next step.
    story.expect(REGISTRAR)


def test_where_all_have_to_accept_each_is_relieved_by_who_follows_them() -> None:
    both = {"team": always(INTERN), "second": always(REGISTRAR)}
    story = Ward(roster(**both, supervisor=always(SUPERVISOR)), ALL_OF_TWO)
    story.accept(INTERN)
    story.accept(REGISTRAR)
    story.expect_status(Status.ACCEPTED)
    story.change_shift(team=always(DAY_DOCTOR), second=always(CONSULTANT))
    story.accept(DAY_DOCTOR)
    story.expect_status(Status.ACCEPTED)
    assert state(story, INTERN) is State.RELIEVED
    assert state(story, REGISTRAR) is State.ACCEPTED
    story.accept(CONSULTANT)
    assert state(story, REGISTRAR) is State.RELIEVED
    alerting(story)


def test_a_shift_that_has_ended_is_a_roles() -> None:
    with pytest.raises(InvalidError):
        Recipient(
            user=INTERN, state=State.SENT, position=0, times=((State.SENT, NIGHT),), leaving=True
        )


def test_a_page_that_has_ended_is_handed_to_nobody() -> None:
    story = taken()
    story.finish(INTERN)
    story.change_shift(intern=always(DAY_DOCTOR))
    story.expect()
    story.expect_status(Status.DONE)


def test_who_is_gone_for_good_has_no_page_and_a_colleague_keeps_theirs() -> None:
    roles = roster(team=always(INTERN, DAY_DOCTOR), supervisor=always(SUPERVISOR))
    story = Ward(roles, policy("team"))
    story.expect(DAY_DOCTOR, INTERN)
    story.page = steps.leave(story.page, {INTERN, NURSE}, at_ms=story.now_ms).page
    alerting(story, DAY_DOCTOR)
    story.accept(DAY_DOCTOR)
    story.expect()
    gone = steps.leave(story.page, {DAY_DOCTOR}, at_ms=story.now_ms)
    assert (gone.page.status, gone.page.due_ms) == (Status.OPEN, story.now_ms)
    assert steps.leave(gone.page, {DAY_DOCTOR}, at_ms=story.now_ms).actions == ()


def test_where_two_have_to_accept_who_comes_on_is_asked_though_one_has_accepted() -> None:
    roles = roster(team=always(INTERN, REGISTRAR), supervisor=always(SUPERVISOR))
    two = replace(policy("team"), acknowledgement=Acknowledgement.K_OF_N, quorum=2)
    story = Ward(roles, two)
    story.expect(INTERN, REGISTRAR)
    story.accept(INTERN)
    story.change_shift(team=always(DAY_DOCTOR, INTERN))
    story.expect(DAY_DOCTOR)
    story.expect_status(Status.OPEN)
    story.accept(DAY_DOCTOR)
    story.expect_status(Status.ACCEPTED)
    assert state(story, REGISTRAR) is State.RELIEVED
