"""Swaps that both people sign: until the second has, everybody keeps what they have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crypto.errors import InvalidError
from protocol.identifiers import RoleName, UserName
from protocol.oncall.commands import AgreeSwap, DropSwap, HandOver, OfferShift
from protocol.oncall.configuration import PROPOSALS, Configuration, needed
from protocol.oncall.override import Swap
from protocol.oncall.schedule import Schedule
from tests.protocol.oncall.test_configuration import (
    ANN,
    BOB,
    CLEO,
    DAY,
    HOLDERS,
    ICU,
    apply,
    on,
    override,
    set_role,
    set_schedule,
)
from tests.protocol.oncall.ward import HOUR, MINUTE, NIGHT, always

FRIDAY, SATURDAY = NIGHT + DAY, NIGHT + 2 * DAY
SWAP = Swap(
    name="swap-1",
    first=ANN,
    first_start_ms=FRIDAY,
    first_end_ms=FRIDAY + 8 * HOUR,
    second=BOB,
    second_start_ms=SATURDAY,
    second_end_ms=SATURDAY + 8 * HOUR,
)
WEEK = Schedule(
    zone="UTC",
    stack=(
        override("friday", FRIDAY, added=ANN),
        override("saturday", SATURDAY, added=BOB),
    ),
)


def ready(hand_over: HandOver = HandOver.HOLDERS, schedule: Schedule = WEEK) -> Configuration:
    return apply(set_role(hand_over=hand_over), set_schedule(schedule))


def signed(
    configuration: Configuration, user: UserName, swap: Swap = SWAP, at_ms: int = NIGHT
) -> Configuration:
    request = AgreeSwap(role=ICU, swap=swap)
    return configuration.requested(request, user=user, holders=HOLDERS, at_ms=at_ms)


def who(configuration: Configuration) -> list[tuple[UserName, ...]]:
    return [on(configuration, at_ms + HOUR) for at_ms in (FRIDAY, SATURDAY)]


@pytest.mark.parametrize(("first", "second"), [(ANN, BOB), (BOB, ANN)])
def test_a_swap_holds_once_both_have_signed_the_same_and_not_before(
    first: UserName, second: UserName
) -> None:
    proposed = signed(ready(), first)
    (proposal,) = proposed.plans[ICU].proposals
    assert (proposal.user, proposal.waits_for) == (first, second)
    assert who(proposed) == [(ANN,), (BOB,)]
    agreed = signed(proposed, second)
    assert who(agreed) == [(BOB,), (ANN,)]
    assert agreed.plans[ICU].proposals == ()
    assert [one.version(ICU) for one in (proposed, agreed)] == [3, 4]


def test_what_only_one_of_two_has_signed_or_another_swap_of_that_name_is_no_agreement() -> None:
    proposed = signed(ready(), ANN)
    other = replace(SWAP, second_end_ms=SATURDAY + 7 * HOUR)
    for user, swap in ((ANN, SWAP), (BOB, other), (CLEO, SWAP)):
        with pytest.raises(InvalidError):
            signed(proposed, user, swap)
    assert who(proposed) == [(ANN,), (BOB,)]


def test_a_swap_is_of_shifts_that_the_two_have_and_that_have_not_begun() -> None:
    for found in (
        ready(HandOver.NOBODY),
        ready(schedule=always(ANN)),
        ready(schedule=replace(WEEK, stack=WEEK.stack[:1])),
        Configuration(),
    ):
        with pytest.raises(InvalidError):
            signed(found, ANN)
    with pytest.raises(InvalidError):
        signed(ready(), ANN, at_ms=FRIDAY)
    with pytest.raises(InvalidError):
        signed(ready(), ANN, replace(SWAP, second=UserName("dan")))
    # What was theirs when it was proposed is looked at again.
    given = apply(
        set_role(hand_over=HandOver.HOLDERS),
        set_schedule(replace(WEEK, stack=(override("friday", FRIDAY, added=ANN),))),
    )
    moved = replace(given.plans[ICU], proposals=signed(ready(), ANN).plans[ICU].proposals)
    with pytest.raises(InvalidError):
        signed(given.with_plan(moved), BOB)


def test_either_of_the_two_drops_a_swap_and_nobody_else() -> None:
    drop = DropSwap(role=ICU, name="swap-1")
    proposed = signed(ready(), ANN)
    for user in (ANN, BOB):
        dropped = proposed.requested(drop, user=user, holders=HOLDERS, at_ms=NIGHT)
        assert dropped.plans[ICU].proposals == ()
        with pytest.raises(InvalidError):
            dropped.requested(drop, user=user, holders=HOLDERS, at_ms=NIGHT)
    with pytest.raises(InvalidError):
        proposed.requested(drop, user=CLEO, holders=HOLDERS, at_ms=NIGHT)


def test_a_swap_that_nobody_agreed_to_is_over_when_its_first_shift_begins() -> None:
    proposed = signed(ready(), ANN)
    with pytest.raises(InvalidError):
        signed(proposed, BOB, at_ms=FRIDAY)
    plan = proposed.plans[ICU]
    assert needed(plan, FRIDAY - MINUTE).proposals == plan.proposals
    assert needed(plan, FRIDAY).proposals == ()


def test_a_swap_has_a_name_of_its_own_and_there_is_room_for_some() -> None:
    proposed = signed(ready(), ANN)
    offer = OfferShift(
        role=ICU, version=4, name="swap-1", start_ms=FRIDAY, end_ms=SATURDAY, until_ms=FRIDAY
    )
    with pytest.raises(InvalidError):
        proposed.commanded(offer, at_ms=NIGHT)
    with pytest.raises(InvalidError):
        signed(ready(), ANN, replace(SWAP, name="friday"))
    for number in range(2, PROPOSALS + 1):
        proposed = signed(proposed, ANN, replace(SWAP, name=f"swap-{number}"))
    with pytest.raises(InvalidError):
        signed(proposed, ANN, replace(SWAP, name="one-more"))


def test_setting_a_role_again_keeps_what_is_proposed() -> None:
    proposed = signed(ready(), ANN)
    again = proposed.commanded(replace(set_role(), version=4), at_ms=NIGHT)
    assert again.plans[RoleName("icu")].proposals == proposed.plans[ICU].proposals
