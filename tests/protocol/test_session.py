"""The state table: what each side may send when, and that nothing else gets through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import frames, session
from protocol.errors import Code, LocalProtocolError, RemoteProtocolError
from protocol.frames import Frame, Sender
from protocol.session import TABLE, Session, State
from tests.protocol.strategies import any_frame, example_frame, mutated

CELLS = [(state, kind) for state in State for kind in frames.FRAMES]
IDS = [f"{state.value}-{kind.__name__}" for state, kind in CELLS]


def at(state: State, us: Sender) -> Session:
    made = Session(us)
    made.state = state
    return made


@pytest.mark.parametrize(("state", "kind"), CELLS, ids=IDS)
def test_a_frame_passes_where_the_table_has_it_and_nowhere_else(
    state: State, kind: type[Frame]
) -> None:
    frame = example_frame(kind)
    other = Sender.RELAY if kind.sender is Sender.CLIENT else Sender.CLIENT
    ours, theirs = at(state, kind.sender), at(state, other)
    data = frames.encode(frame)
    if kind in TABLE[state]:
        assert ours.may_send(kind)
        assert theirs.receive(ours.send(frame)) == frame
        assert ours.state is theirs.state is TABLE[state][kind]
        return
    with pytest.raises(LocalProtocolError):
        ours.send(frame)
    with pytest.raises(RemoteProtocolError) as caught:
        theirs.receive(data)
    assert caught.value.code is Code.OUT_OF_STATE
    assert ours.state is theirs.state is state


@given(any_frame(), st.sampled_from(State))
def test_nobody_sends_the_other_sides_frames(frame: Frame, state: State) -> None:
    other = Sender.RELAY if frame.sender is Sender.CLIENT else Sender.CLIENT
    with pytest.raises(LocalProtocolError):
        at(state, other).send(frame)


@given(
    st.lists(st.one_of(st.binary(max_size=80), mutated(any_frame().map(frames.encode)))),
    st.sampled_from(State),
)
def test_whatever_arrives_leaves_the_session_in_a_state_of_the_table(
    chunks: list[bytes], state: State
) -> None:
    relay = at(state, Sender.RELAY)
    for chunk in chunks:
        before = relay.state
        try:
            frame = relay.receive(chunk)
        except RemoteProtocolError:
            assert relay.state is before
        else:
            assert relay.state is TABLE[before][type(frame)]


def test_before_a_proof_nothing_but_the_opening_is_heard() -> None:
    opening = {frames.Hello, frames.Prove}
    for state in (State.START, State.GREETED, State.CHALLENGED, State.PROVING):
        assert {kind for kind in TABLE[state] if kind.sender is Sender.CLIENT} <= opening


def test_every_state_is_reached_and_every_open_state_can_be_closed() -> None:
    reached = {following for row in TABLE.values() for following in row.values()}
    assert reached | {State.START} == set(State) == set(TABLE)
    for state, row in TABLE.items():
        assert (frames.Close in row) is (state is not State.CLOSED)


def test_the_one_common_version_is_taken_and_none_is_an_error() -> None:
    assert session.negotiate((7, session.VERSION)) == session.VERSION
    with pytest.raises(RemoteProtocolError) as caught:
        session.negotiate((0, 2))
    assert caught.value.code is Code.VERSION
