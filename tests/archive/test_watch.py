"""The archive's pulse acts by a time that two clocks agree on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from archive import watch
from archive.configuration import Alarms
from archive.progress import SETTLED_MS, Progress
from archive.recorder import Recorder
from archive.retention import YEAR_MS
from archive.watch import Places, Watch
from client.clocks import RelayClock
from crypto.trust import CLOCK_SKEW_MS
from tests.archive.logs import NOW_MS

LATER_MS = NOW_MS + 12 * YEAR_MS
"""When every bucket of the record has come to its end."""


class Watched:
    def __init__(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.progress, self.shredded_ms = Progress(), list[int]()
        log = SimpleNamespace(size=1, read=lambda _: SimpleNamespace(at_ms=NOW_MS))
        recorder = SimpleNamespace(log=log, note=lambda *_, **__: None)
        self.watch = Watch(cast("Recorder", recorder), self.progress, Alarms(), Places(data=data))
        monkeypatch.setattr(self.watch, "_look", lambda _: None)
        monkeypatch.setattr(self.watch, "tell", lambda **_: None)
        monkeypatch.setattr(
            watch, "end_buckets", lambda _, *, now_ms: self.shredded_ms.append(now_ms)
        )


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(tmp_path, monkeypatch)


def test_a_clock_that_is_years_ahead_shreds_nothing(watched: Watched) -> None:
    watched.progress.relay_clock.hear(NOW_MS)
    watched.watch.step(now_ms=LATER_MS)
    assert watched.shredded_ms == []


def test_nothing_is_shredded_before_the_relay_told_its_time(watched: Watched) -> None:
    watched.watch.step(now_ms=LATER_MS)
    assert watched.shredded_ms == []


def test_what_has_come_to_its_end_is_shredded_once_both_clocks_say_so_and_what_waited_has_come(
    watched: Watched,
) -> None:
    steady_ms = 5_000
    watched.progress.relay_clock = RelayClock(passed_ms=lambda: steady_ms)
    watched.watch.step(now_ms=LATER_MS)
    watched.progress.relay_clock.hear(LATER_MS - CLOCK_SKEW_MS)
    watched.progress.connected = True
    # A hold that officers set while the archive was down is on its way, and comes first.
    watched.watch.step(now_ms=LATER_MS)
    assert watched.shredded_ms == []
    steady_ms += SETTLED_MS
    later_ms = LATER_MS + SETTLED_MS
    watched.progress.connected = False
    watched.watch.step(now_ms=later_ms)
    assert watched.shredded_ms == []
    watched.progress.connected = True
    watched.watch.step(now_ms=later_ms)
    assert watched.shredded_ms == [later_ms]


def test_the_relays_time_goes_on_by_the_steady_clock() -> None:
    steady_ms = 5_000
    progress = Progress(relay_clock=RelayClock(passed_ms=lambda: steady_ms))
    assert progress.relay_clock.now_ms() is None
    progress.relay_clock.hear(NOW_MS)
    steady_ms += 1_000
    assert progress.relay_clock.now_ms() == NOW_MS + 1_000
    assert progress.skew_ms(NOW_MS) == 1_000
