"""What the relay writes of a page, and a device's answer: one encoding, or a documented error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.codec import Struct
from crypto.errors import DecodeError, InvalidError
from protocol.identifiers import ConversationId, RoleName, UserName
from protocol.oncall.next_steps import Alarm, AlarmKind, Alert, Cancel
from protocol.oncall.page_event import Cause, PageAnswer, PageEvent, PageState
from protocol.oncall.page_state import Event
from protocol.oncall.role import Reach, Responder
from tests.protocol.oncall.test_stories import ward
from tests.protocol.oncall.ward import INTERN, NIGHT, REGISTRAR
from tests.protocol.strategies import mutated

CONVERSATION = ConversationId(bytes(range(32)))
TO = Responder(reach=Reach.USER, name="bob")


def state() -> PageState:
    return PageState(role=RoleName("intern"), page=ward().page, call_ms=NIGHT, called=(INTERN,))


EVENTS = (
    PageEvent(
        cause=Cause.STARTED,
        at_ms=NIGHT,
        state=state(),
        actions=(
            Alarm(kind=AlarmKind.COVERAGE, position=0, users=(REGISTRAR,)),
            Alert(users=(INTERN,)),
            Cancel(users=()),
        ),
        missing=(INTERN,),
    ),
    PageEvent(cause=Cause.ANSWER, at_ms=NIGHT, state=state(), statement=b"signed"),
)
ANSWERS = (
    PageAnswer(conversation=CONVERSATION, event=Event.DELIVER),
    PageAnswer(conversation=CONVERSATION, event=Event.ACCEPT, arrival_ms=NIGHT),
    PageAnswer(conversation=CONVERSATION, event=Event.NOT_MINE, to=TO),
)


@pytest.mark.parametrize(
    ("values", "decode"), [(EVENTS, PageEvent.decode), (ANSWERS, PageAnswer.decode)]
)
@given(data=st.data())
def test_any_bytes_give_a_value_of_one_encoding_or_a_documented_error(
    values: tuple[Struct, ...], decode: Callable[[bytes], Struct], data: st.DataObject
) -> None:
    whole = [value.encode() for value in values]
    assert [decode(encoded) for encoded in whole] == list(values)
    encoded = data.draw(st.one_of(mutated(st.sampled_from(whole)), st.binary(max_size=60)))
    try:
        value = decode(encoded)
    except (DecodeError, InvalidError):
        return
    assert value.encode() == encoded


def test_an_answer_says_what_belongs_to_it_and_nothing_else() -> None:
    for event, arrival_ms, to in (
        (Event.DECLINE, NIGHT, None),
        (Event.ACCEPT, 1, None),
        (Event.NOT_MINE, None, None),
        (Event.ACCEPT, None, TO),
        (Event.EXPIRE, None, None),
    ):
        with pytest.raises(InvalidError):
            PageAnswer(conversation=CONVERSATION, event=event, arrival_ms=arrival_ms, to=to)


def test_an_answers_entry_holds_its_statement_and_no_other_entry_holds_one() -> None:
    with pytest.raises(InvalidError):
        PageEvent(cause=Cause.ANSWER, at_ms=NIGHT, state=state())
    with pytest.raises(InvalidError):
        PageEvent(cause=Cause.TIMER, at_ms=NIGHT, state=state(), statement=b"signed")
    with pytest.raises(InvalidError):
        PageEvent(
            cause=Cause.TIMER,
            at_ms=NIGHT,
            state=state(),
            missing=(UserName("b"), UserName("a")),
        )


@pytest.mark.parametrize("at_ms", [0, 1 << 62, (1 << 64) - 1])
def test_no_time_of_a_page_is_one_that_nobody_can_be_shown(at_ms: int) -> None:
    told = state()
    page = told.page
    (first, *rest) = page.recipients
    asked = tuple((one, at_ms) for one, _ in first.times)
    for build in (
        lambda: replace(EVENTS[0], at_ms=at_ms),
        lambda: replace(told, call_ms=at_ms),
        lambda: replace(page, due_ms=at_ms),
        lambda: replace(page, remind_ms=at_ms),
        lambda: replace(page, recipients=(replace(first, times=asked), *rest)),
        lambda: replace(first, arrival_ms=at_ms),
    ):
        with pytest.raises(InvalidError):
            build()
