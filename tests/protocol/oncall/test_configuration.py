"""Who is on call for what, from signed changes: every change, and what it must not do."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.errors import DecodeError, InvalidError
from protocol.commands import decode_command
from protocol.identifiers import RoleName, UserName
from protocol.oncall import commands
from protocol.oncall.commands import (
    IMPORTED,
    PERSONAL_REQUESTS,
    ROLE_COMMANDS,
    AddChange,
    AgreeSwap,
    ClaimShift,
    DeleteRole,
    DropSwap,
    HandOver,
    HandOverShift,
    Number,
    OfferShift,
    RemoveChange,
    RemoveLayer,
    SetCalendarLink,
    SetEscalationPolicy,
    SetImported,
    SetLayer,
    SetNumbers,
    SetQuietHours,
    SetRole,
    SetSchedule,
    WithdrawShift,
    decode_request,
)
from protocol.oncall.configuration import Configuration, Holders
from protocol.oncall.delivery import Quiet
from protocol.oncall.override import FixedShift, Override, Swap, TemporarySchedule
from protocol.oncall.role import Reach, Turn, answering
from protocol.oncall.schedule import Layer, Schedule, on_call
from tests.protocol.command_examples import EXAMPLES
from tests.protocol.oncall.strategies import PEOPLE, schedules
from tests.protocol.oncall.ward import HOUR, MINUTE, NIGHT, always, policy
from tests.protocol.strategies import mutated

ICU = RoleName("icu")
ANN, BOB, CLEO = UserName("ann"), UserName("bob"), UserName("cleo")
HOLDERS = {ICU: (ANN, BOB, CLEO)}
DAY = 24 * HOUR


def apply(*made: commands.RoleCommand, at_ms: int = NIGHT) -> Configuration:
    """Return the configuration after commands, whose versions are counted here."""
    configuration = Configuration()
    for version, command in enumerate(made, start=1):
        configuration = configuration.commanded(replace(command, version=version), at_ms=at_ms)
    return configuration


def set_role(**options: object) -> SetRole:
    fields: dict[str, object] = {"fallback": (CLEO,), "owner": UserName("chief"), **options}
    return SetRole(role=ICU, version=1, **fields)  # type: ignore[arg-type]


def set_schedule(schedule: Schedule, effective_ms: int = NIGHT - DAY) -> SetSchedule:
    return SetSchedule(role=ICU, version=1, effective_ms=effective_ms, schedule=schedule)


def override(name: str = "ill", start_ms: int = NIGHT, **people: UserName) -> Override:
    return Override(name=name, start_ms=start_ms, end_ms=start_ms + 8 * HOUR, **people)


def on(configuration: Configuration, at_ms: int = NIGHT) -> tuple[UserName, ...]:
    return on_call(configuration.plans[ICU].schedule(at_ms), at_ms)


def answers(configuration: Configuration, holders: Holders | None = None) -> tuple[UserName, ...]:
    return answering(configuration.roster(NIGHT, holders or {})[ICU], NIGHT)


def test_a_role_answers_from_the_moment_it_is_set_and_its_fallback_before_it_has_a_schedule() -> (
    None
):
    made = apply(set_role())
    assert answers(made) == (CLEO,)
    made = apply(set_role(), set_schedule(always(ANN)))
    assert answers(made) == (ANN,)


def test_a_role_with_holders_and_no_schedule_has_its_holders_as_fallback() -> None:
    assert answers(Configuration(), HOLDERS) == (ANN, BOB, CLEO)


def test_a_change_that_is_not_of_the_next_version_changes_nothing() -> None:
    made = apply(set_role(), set_schedule(always(ANN)))
    for version in (1, 2, 4):
        with pytest.raises(InvalidError):
            made.commanded(DeleteRole(role=ICU, version=version), at_ms=NIGHT)
    assert ICU not in made.commanded(DeleteRole(role=ICU, version=3), at_ms=NIGHT).plans
    with pytest.raises(InvalidError):
        Configuration().commanded(set_schedule(always(ANN)), at_ms=NIGHT)


def test_setting_a_role_again_keeps_its_schedule_policy_and_offers() -> None:
    asks = policy("icu")
    made = apply(
        set_role(),
        set_schedule(always(ANN)),
        SetEscalationPolicy(role=ICU, version=1, policy=asks),
        set_role(fallback=(BOB,), hand_over=HandOver.HOLDERS),
    )
    assert on(made) == (ANN,)
    assert made.policy(ICU) == asks
    assert made.plans[ICU].fallback == (BOB,)


def test_an_override_of_an_override_wins_and_taking_it_out_restores_what_it_covered() -> None:
    first = AddChange(role=ICU, version=1, change=override("one", removed=ANN, added=BOB))
    second = AddChange(role=ICU, version=1, change=override("two", removed=BOB, added=CLEO))
    removed = RemoveChange(role=ICU, version=1, name="two")
    start = (set_role(), set_schedule(always(ANN)))
    assert on(apply(*start, first, second)) == (CLEO,)
    assert on(apply(*start, first, second, removed)) == (BOB,)
    with pytest.raises(InvalidError):
        apply(*start, first, removed)


def test_a_plan_for_later_holds_from_then_on_and_changes_of_the_stack_reach_it_too() -> None:
    later = set_schedule(always(BOB), effective_ms=NIGHT + DAY)
    ill = AddChange(
        role=ICU, version=1, change=override(start_ms=NIGHT + 2 * DAY, removed=BOB, added=CLEO)
    )
    made = apply(set_role(), set_schedule(always(ANN)), later, ill)
    assert [on(made, NIGHT + days * DAY) for days in (0, 1, 2, 3)] == [
        (ANN,),
        (BOB,),
        (CLEO,),
        (BOB,),
    ]
    assert made.next_edition_ms(NIGHT) == NIGHT + DAY
    spans = made.plans[ICU].history.shifts(NIGHT, NIGHT + 3 * DAY, known_ms=NIGHT)
    assert [shift.people for shift in spans] == [(ANN,), (BOB,), (CLEO,), (BOB,)]


def test_a_layer_is_set_replaced_and_removed_from_a_time_on() -> None:
    ann = Layer(name="ward", users=(ANN,))
    bob = Layer(name="ward", users=(BOB,))
    set_ann = SetLayer(role=ICU, version=1, effective_ms=NIGHT, layer=ann)
    set_bob = SetLayer(role=ICU, version=1, effective_ms=NIGHT + DAY, layer=bob)
    gone = RemoveLayer(role=ICU, version=1, effective_ms=NIGHT + 2 * DAY, name="ward")
    made = apply(set_role(), set_ann, set_bob, gone)
    assert [on(made, NIGHT + days * DAY) for days in (0, 1, 2)] == [(ANN,), (BOB,), ()]
    with pytest.raises(InvalidError):
        apply(set_role(), set_ann, replace(gone, name="no-such"))


def test_what_is_imported_lies_below_every_change_of_ours() -> None:
    shift = FixedShift(start_ms=NIGHT, end_ms=NIGHT + DAY, users=(BOB,))
    plan = TemporarySchedule(name=IMPORTED, start_ms=NIGHT, end_ms=NIGHT + DAY, shifts=(shift,))
    ill = AddChange(role=ICU, version=1, change=override(removed=BOB, added=CLEO))
    feed = SetImported(role=ICU, version=1, plan=plan)
    start = (set_role(), set_schedule(always(ANN)))
    assert on(apply(*start, feed)) == (BOB,)
    assert on(apply(*start, ill, feed)) == (CLEO,)
    assert on(apply(*start, feed, ill, feed)) == (CLEO,)
    assert on(apply(*start, feed, replace(feed, plan=None))) == (ANN,)
    with pytest.raises(InvalidError):
        SetImported(role=ICU, version=1, plan=replace(plan, name="other"))


def test_who_was_on_call_then_is_answered_as_it_was_known_then() -> None:
    made = apply(set_role(), set_schedule(always(ANN)), at_ms=NIGHT)
    corrected = replace(set_schedule(always(BOB), effective_ms=NIGHT - DAY), version=3)
    made = made.commanded(corrected, at_ms=NIGHT + DAY)
    history = made.plans[ICU].history
    assert history.on_call(NIGHT, known_ms=NIGHT + HOUR) == (ANN,)
    assert history.on_call(NIGHT, known_ms=NIGHT + 2 * DAY) == (BOB,)


def test_a_clock_that_was_set_back_stops_no_change() -> None:
    made = apply(set_role(), set_schedule(always(ANN)), at_ms=NIGHT)
    back = replace(set_schedule(always(BOB)), version=3)
    assert on(made.commanded(back, at_ms=NIGHT - HOUR)) == (BOB,)


def test_a_shift_is_handed_over_by_whoever_has_it_to_a_holder_where_the_role_allows_it() -> None:
    start = (set_role(hand_over=HandOver.HOLDERS), set_schedule(always(ANN)))
    made = apply(*start)
    gives = HandOverShift(role=ICU, change=override("give", removed=ANN, added=BOB))

    def ask(configuration: Configuration, user: UserName, request: HandOverShift) -> Configuration:
        return configuration.requested(request, user=user, holders=HOLDERS, at_ms=NIGHT)

    changed = ask(made, ANN, gives)
    assert on(changed) == (BOB,)
    assert changed.version(ICU) == 3
    stranger = HandOverShift(role=ICU, change=override("give", removed=ANN, added=UserName("dan")))
    not_theirs = HandOverShift(role=ICU, change=override("give", removed=CLEO, added=BOB))
    over = HandOverShift(
        role=ICU, change=override("give", start_ms=NIGHT - DAY, removed=ANN, added=BOB)
    )
    for user, request in ((BOB, gives), (ANN, stranger), (CLEO, not_theirs), (ANN, over)):
        with pytest.raises(InvalidError):
            ask(made, user, request)
    with pytest.raises(InvalidError):
        ask(apply(set_role(), set_schedule(always(ANN))), ANN, gives)
    with pytest.raises(InvalidError):
        ask(Configuration(), ANN, gives)


def test_what_has_passed_of_a_shift_stays_with_whoever_had_it() -> None:
    made = apply(set_role(hand_over=HandOver.HOLDERS), set_schedule(always(ANN)))
    begun = override("give", start_ms=NIGHT - HOUR, removed=ANN, added=BOB)
    request = HandOverShift(role=ICU, change=begun)
    changed = made.requested(request, user=ANN, holders=HOLDERS, at_ms=NIGHT)
    assert on(changed, NIGHT - 30 * MINUTE) == (ANN,)
    assert on(changed, NIGHT) == (BOB,)


def offer(name: str = "open-1") -> OfferShift:
    return OfferShift(
        role=ICU,
        version=1,
        name=name,
        start_ms=NIGHT + DAY,
        end_ms=NIGHT + DAY + 8 * HOUR,
        until_ms=NIGHT + DAY,
    )


def test_the_first_claim_of_a_holder_has_the_shift_and_the_schedule_says_so() -> None:
    made = apply(set_role(), set_schedule(always(ANN)), offer())
    claim = ClaimShift(role=ICU, name="open-1")
    with pytest.raises(InvalidError):
        made.requested(claim, user=UserName("dan"), holders=HOLDERS, at_ms=NIGHT)
    with pytest.raises(InvalidError):
        made.requested(claim, user=BOB, holders=HOLDERS, at_ms=NIGHT + DAY)
    taken = made.requested(claim, user=BOB, holders=HOLDERS, at_ms=NIGHT)
    assert on(taken, NIGHT + DAY) == (ANN, BOB)
    with pytest.raises(InvalidError):
        taken.requested(claim, user=CLEO, holders=HOLDERS, at_ms=NIGHT)


def test_an_offer_has_a_new_name_and_may_be_withdrawn_until_it_is_taken() -> None:
    withdrawn = WithdrawShift(role=ICU, version=1, name="open-1")
    start = (set_role(), set_schedule(always(ANN)), offer())
    assert apply(*start, withdrawn).plans[ICU].offers == ()
    with pytest.raises(InvalidError):
        apply(*start, offer())
    with pytest.raises(InvalidError):
        apply(*start, withdrawn, withdrawn)


def test_quiet_hours_are_a_persons_own_and_of_the_next_version() -> None:
    quiet = Quiet(zone="Europe/Berlin", do_not_disturb_until_ms=NIGHT + HOUR)
    made = Configuration().requested(
        SetQuietHours(version=1, quiet=quiet), user=ANN, holders={}, at_ms=NIGHT
    )
    assert made.quiet(ANN) == quiet
    link = SetCalendarLink(version=2, link=bytes(32))
    linked = made.requested(link, user=ANN, holders={}, at_ms=NIGHT)
    assert (linked.quiet(ANN), linked.quiets[ANN].link) == (quiet, bytes(32))
    assert made.quiet(BOB).until(NIGHT) is None
    with pytest.raises(InvalidError):
        made.requested(SetQuietHours(version=1, quiet=quiet), user=ANN, holders={}, at_ms=NIGHT)


def test_a_role_without_a_policy_asks_whoever_is_on_call_then_the_backup_then_its_fallback() -> (
    None
):
    plain, backed = apply(set_role()), apply(set_role(backup=RoleName("registrar")))
    assert [step.responders[0].turn for step in plain.policy(ICU).steps] == [Turn.CURRENT]
    assert [step.responders[0].turn for step in backed.policy(ICU).steps] == [
        Turn.CURRENT,
        Turn.BACKUP,
    ]
    assert plain.policy(ICU).last_resort.responders[0].reach is Reach.ROLE


@given(found=schedules(), ahead=st.integers(0, 3 * 24 * 60), after=st.integers(0, 3 * 24 * 60))
def test_what_is_kept_for_the_present_answers_as_the_whole_history_does(
    found: tuple[str, Schedule], ahead: int, after: int
) -> None:
    _, schedule = found
    start = min((edge for c in schedule.stack for edge in c.edges()), default=NIGHT)
    later = set_schedule(always(*PEOPLE[:1]), effective_ms=start + ahead * MINUTE)
    change = AddChange(
        role=ICU, version=1, change=override("late", start_ms=start, added=PEOPLE[1])
    )
    made = apply(
        set_role(), set_schedule(schedule, effective_ms=start - DAY), later, change, at_ms=start
    )
    kept = made.needed(start)
    at_ms = start + after * MINUTE
    assert on(kept, at_ms) == on(made, at_ms)
    again = replace(change, version=5, change=override("more", start_ms=start, added=PEOPLE[2]))
    assert on(kept.commanded(again, at_ms=start), at_ms) == on(
        made.commanded(again, at_ms=start), at_ms
    )
    assert len(kept.plans[ICU].history.editions) <= 2


def test_every_command_and_request_has_a_kind_of_its_own_and_an_example() -> None:
    for kinds in (ROLE_COMMANDS, PERSONAL_REQUESTS):
        assert len({kind.KIND for kind in kinds}) == len(kinds)
    assert set(get_args(commands.RoleCommand)) == set(ROLE_COMMANDS)
    assert set(get_args(commands.PersonalRequest)) == set(PERSONAL_REQUESTS)
    assert {type(request) for request in REQUESTS} == set(PERSONAL_REQUESTS)
    assert set(ROLE_COMMANDS) <= {type(example) for example in EXAMPLES}


REQUESTS = (
    SetQuietHours(version=1, quiet=Quiet(zone="Europe/Berlin", do_not_disturb_until_ms=NIGHT)),
    HandOverShift(role=ICU, change=override(removed=ANN, added=BOB)),
    ClaimShift(role=ICU, name="open-1"),
    SetCalendarLink(version=1, link=bytes(range(32))),
    SetCalendarLink(version=2, link=None),
    AgreeSwap(
        role=ICU,
        swap=Swap(
            name="swap-1",
            first=ANN,
            first_start_ms=NIGHT,
            first_end_ms=NIGHT + HOUR,
            second=BOB,
            second_start_ms=NIGHT + DAY,
            second_end_ms=NIGHT + DAY + HOUR,
        ),
    ),
    DropSwap(role=ICU, name="swap-1"),
)


@given(data=st.data())
def test_any_bytes_give_a_request_of_one_encoding_or_a_documented_error(
    data: st.DataObject,
) -> None:
    whole = st.sampled_from([request.encode() for request in REQUESTS])
    encoded = data.draw(st.one_of(whole, mutated(whole), st.binary(max_size=60)))
    try:
        value = decode_request(encoded)
    except (DecodeError, InvalidError):
        return
    assert value.encode() == encoded


@given(data=st.data())
def test_any_bytes_give_a_command_of_one_encoding_or_a_documented_error(
    data: st.DataObject,
) -> None:
    own = [example.encode() for example in EXAMPLES if isinstance(example, commands.OnCallCommand)]
    encoded = data.draw(mutated(st.sampled_from(own)))
    try:
        value = decode_command(encoded)
    except (DecodeError, InvalidError):
        return
    assert value.encode() == encoded


def test_a_role_and_its_people_have_numbers_that_a_telephone_can_dial() -> None:
    numbers = (Number(user=None, number="4711"), Number(user=ANN, number="+49 (30) 450-50"))
    made = apply(set_role(), SetNumbers(role=ICU, version=1, numbers=numbers))
    assert made.plans[ICU].numbers == numbers
    again = made.commanded(replace(set_role(), version=3), at_ms=NIGHT)
    assert again.plans[ICU].numbers == numbers
    for wrong in ("", "call me", "4" * 41, "\n12"):
        with pytest.raises(InvalidError):
            Number(user=None, number=wrong)
    with pytest.raises(InvalidError):
        SetNumbers(role=ICU, version=3, numbers=numbers[::-1])
    with pytest.raises(InvalidError):
        SetNumbers(role=ICU, version=3, numbers=(numbers[0], numbers[0]))
