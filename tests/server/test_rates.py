"""Rate limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import rates
from server.rates import Limiter, network_of


def test_a_burst_passes_and_then_the_rate_holds() -> None:
    limiter = Limiter(rate_per_s=2.0, burst=4)
    assert [limiter.wait_ms("a", now_s=10.0) for _ in range(4)] == [0] * 4
    assert limiter.wait_ms("a", now_s=10.0) > 0
    assert limiter.wait_ms("a", now_s=10.5) == 0
    assert limiter.wait_ms("a", now_s=10.5) > 0
    assert limiter.wait_ms("b", now_s=10.5) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200))
def test_in_any_period_no_more_pass_than_rate_and_burst_allow(pauses: list[float]) -> None:
    limiter, now_s, passed = Limiter(rate_per_s=5.0, burst=3), 0.0, 0
    for pause in pauses:
        now_s += pause
        passed += limiter.wait_ms("a", now_s=now_s) == 0
    assert passed <= 3 + 5.0 * sum(pauses[1:]) + 1e-6


def test_after_the_wait_that_was_told_the_next_act_passes() -> None:
    limiter = Limiter(rate_per_s=3.0, burst=1)
    now_s = 0.0
    for _ in range(50):
        wait_ms = limiter.wait_ms("a", now_s=now_s)
        now_s += wait_ms / 1000
        assert wait_ms == 0 or limiter.wait_ms("a", now_s=now_s) == 0


def test_no_more_keys_are_remembered_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "KEYS_MAX", 10)
    limiter = Limiter(rate_per_s=1.0, burst=2)
    for number in range(100):
        limiter.wait_ms(number, now_s=0.0)
    assert len(limiter._rest_at_s) <= 10
    limiter.wait_ms("late", now_s=1000.0)
    assert "late" in limiter._rest_at_s


def test_a_client_with_a_network_of_addresses_counts_once() -> None:
    ours = [network_of(f"2001:db8:1:2::{number:x}") for number in range(1, 300)]
    assert len({*ours, network_of("2001:db8:1:2:ffff:ffff:ffff:ffff%eth0")}) == 1
    assert network_of("2001:db8:1:3::1") not in ours
    # Of IPv4 everybody has one, however it is written.
    assert network_of("192.0.2.7") == network_of("::ffff:192.0.2.7") == "192.0.2.7"
    assert network_of("192.0.2.8") != network_of("192.0.2.7")
    for strange in ("", "unknown", "1.2.3.4:80", "[::1]", "x" * 64):
        assert network_of(strange) == strange
