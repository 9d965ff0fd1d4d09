"""What stands beside a wrong PIN's code."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.frames import Refused
from protocol.pin_tries import TRIES, Tries


@given(st.integers(0, TRIES), st.integers(0, 1 << 40))
def test_tries_and_wait_come_back_and_fit_their_field(left: int, wait_ms: int) -> None:
    tries = Tries(left=left, wait_ms=wait_ms)
    assert Tries.of(tries.detail()) == tries
    Refused(ref=1, code=1, detail=tries.detail())


@given(st.integers(0, (1 << 63) - 1))
def test_any_number_says_no_more_tries_than_there_are(detail: int) -> None:
    assert 0 <= Tries.of(detail).left <= TRIES
