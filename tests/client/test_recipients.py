"""What a sender is told before a message goes to the wrong person, or waits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from client.duty import Reach
from client.recipients import Risk, off_duty, outside, similar
from client.views import PersonView
from protocol.identifiers import UserName


def person(user: str, name: str, ward: str = "") -> PersonView:
    return PersonView(user=UserName(user), name=name, ward=ward, roles=(), on_call=())


ANNA = person("anna", "Anna Weber", "ICU")
ANNE = person("anne", "Anne Weber", "Cardiology")
BEN = person("ben", "Ben Adler", "Surgery")
EVERYBODY = [ANNA, ANNE, BEN]


def test_people_with_similar_names_are_named_with_their_wards() -> None:
    (caution,) = similar([ANNA], EVERYBODY)
    assert (caution.risk, caution.user) == (Risk.SIMILAR_NAME, "anna")
    assert caution.name == "Anna Weber (ICU)"
    assert caution.others == ("Anne Weber (Cardiology)",)


def test_who_is_chosen_together_with_the_similar_one_was_meant() -> None:
    assert similar([ANNA, ANNE], EVERYBODY) == []
    assert similar([BEN], EVERYBODY) == []


def test_whoever_is_addressed_and_not_there_is_named() -> None:
    found = outside(
        "ask @ben and @anna, not x@anne", members=[UserName("anna")], everybody=EVERYBODY
    )
    assert [(caution.risk, caution.user) for caution in found] == [(Risk.OUTSIDE, "ben")]


def test_who_is_off_duty_is_named_with_the_cover_and_the_time() -> None:
    away = Reach(
        user=UserName("anna"),
        alerts=False,
        held=True,
        off_duty=True,
        until_ms=5,
        covers=(UserName("ben"),),
    )
    here = Reach(
        user=UserName("ben"), alerts=True, held=False, off_duty=False, until_ms=None, covers=()
    )
    (caution,) = off_duty([away, here], {one.user: one.name for one in EVERYBODY})
    assert (caution.name, caution.until_ms, caution.held) == ("Anna Weber", 5, True)
    assert caution.others == ("Ben Adler",)


@given(st.text(max_size=80))
def test_any_text_is_looked_through_without_an_error(text: str) -> None:
    found = outside(text, members=[], everybody=EVERYBODY)
    assert {caution.user for caution in found} <= {"anna", "anne", "ben"}
