"""The time by which something is destroyed: this machine's clock and the relay's agree on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from client.https import Answer, Https
from client.witnessed import Witnessed
from tests.client.relay import address_of, serving
from tests.server import harness
from tests.server.harness import now_ms

YEAR_MS = 365 * 24 * 3600 * 1000
NOW_MS = 1_800_000_000_000


@dataclass
class Machine:
    """A machine's clocks."""

    now_ms: int = NOW_MS
    passed_ms: int = 5_000

    @property
    def witnessed(self) -> Witnessed:
        return Witnessed(lambda: self.now_ms, passed_ms=lambda: self.passed_ms)


def test_without_a_relays_word_no_time_is_sure() -> None:
    assert Machine().witnessed.now_ms() == 0


def test_neither_clock_alone_goes_ahead() -> None:
    machine = Machine()
    witnessed = machine.witnessed
    witnessed.hear(NOW_MS + YEAR_MS)
    assert witnessed.now_ms() == NOW_MS
    witnessed.hear(NOW_MS)
    machine.now_ms += YEAR_MS
    machine.passed_ms += 1_000
    assert witnessed.now_ms() == NOW_MS + 1_000


async def test_a_relay_says_what_time_it_is(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        began_ms = now_ms()
        witnessed = Witnessed(lambda: began_ms + YEAR_MS)
        await witnessed.ask(address_of(site))
        # To the second, as HTTP says it.
        assert began_ms - 2_000 <= witnessed.now_ms() <= now_ms()
        address = address_of(site)
    deaf = Witnessed(now_ms)
    await deaf.ask(address)
    assert deaf.now_ms() == 0


@pytest.mark.parametrize("date", ["", "soon", "Sun, 22 Nov 2026 17:11:16 -0000"])
async def test_a_relay_that_says_no_time_is_not_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, date: str
) -> None:
    async def answers(*_: object, **__: object) -> Answer:
        return Answer(status=200, headers={"date": date}, body=b"")

    monkeypatch.setattr(Https, "request", answers)
    async with serving(tmp_path, harness.hospital()) as site:
        witnessed = Witnessed(now_ms)
        await witnessed.ask(address_of(site))
        assert witnessed.now_ms() == 0
