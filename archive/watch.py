"""The archive's pulse: heartbeats on record, alarms, and what ``status`` and metrics tell.

What is told stands in two files, so that nothing listens: one for ``wardline-archive status``, one
in the text format that a monitoring agent on this host collects. Both hold numbers alone.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from archive import canary, events
from archive.alarms import Alarm
from archive.configuration import Alarms
from archive.errors import ConflictError
from archive.evidence import Heartbeat
from archive.progress import Progress
from archive.record import RecordType
from archive.recorder import Recorder
from archive.retention import YEAR_MS, end_buckets
from client.pace import is_due
from protocol.retention import CLASSES

HEARTBEAT_MS = 60_000
"""How often, in ms, it goes on record that the archive runs: silence shows where it did not."""

END_MS = 24 * 3600 * 1000
"""How often, in ms, it is seen whether a retention bucket has come to its end."""

TELL_MS = 2_000
"""How often, in ms, the files are written."""

STATUS_FILE, METRICS_FILE = "status.json", "metrics.prom"


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the watch looks and writes.

    Attributes:
        data: The directory of databases, whose disk must not fill, and of the two files.
    """

    data: Path


class Watch:
    """Looks after one running recorder."""

    def __init__(
        self, recorder: Recorder, progress: Progress, limits: Alarms, places: Places
    ) -> None:
        self._recorder = recorder
        self._progress = progress
        self._limits = limits
        self._places = places
        self._beat_ms = 0
        self._told_ms = 0
        self._ended_ms = 0
        self._behind_ms = 0
        self._clock: tuple[int, int] | None = None

    def step(self, *, now_ms: int) -> None:
        """Look around; record a heartbeat and write the files where they are due."""
        self._look(now_ms)
        if is_due(self._beat_ms, now_ms=now_ms, each_ms=HEARTBEAT_MS):
            self._beat(now_ms)
        # A clock that is years ahead would shred what nobody could bring back; and a hold may wait.
        sure = self._progress.agrees(now_ms) and self._progress.is_settled()
        if sure and is_due(self._ended_ms, now_ms=now_ms, each_ms=END_MS):
            self._end(now_ms)
        if is_due(self._told_ms, now_ms=now_ms, each_ms=TELL_MS):
            self._told_ms = now_ms
            self.tell(now_ms=now_ms)

    def _beat(self, now_ms: int) -> None:
        self._beat_ms = now_ms
        self._recorder.note(RecordType.HEARTBEAT, [self._pulse(now_ms)], now_ms=now_ms)

    def _pulse(self, now_ms: int) -> bytes:
        relay_ms = self._progress.relay_clock.now_ms() if self._progress.witnessed_ms else 0
        return Heartbeat(
            at_ms=now_ms, relay_ms=max(relay_ms or 0, 0), witnessed=self._progress.witnessed
        ).encode()

    def _end(self, now_ms: int) -> None:
        """Shred what has come to its end; before the oldest record could, nothing is looked at."""
        self._ended_ms = now_ms
        log = self._recorder.log
        if not log.size or now_ms - log.read(0).at_ms < min(CLASSES.values()) * YEAR_MS:
            return
        try:
            end_buckets(log, now_ms=now_ms)
        except ConflictError:
            events.warn("shredding_waits")  # Somebody reads; the journal is emptied another time.

    # Alarms.

    def _look(self, now_ms: int) -> None:
        self._look_at_lag(now_ms)
        self._look_at_clock(now_ms)
        free = shutil.disk_usage(self._places.data).free
        self._set(Alarm.DISK, free < self._limits.free_bytes)
        self._set(Alarm.OFFICERS, bool(self._recorder.unsealed))

    def _look_at_lag(self, now_ms: int) -> None:
        behind = not self._progress.connected or self._progress.witnessed < self._recorder.log.size
        if not behind:
            self._behind_ms = 0
        elif not self._behind_ms:
            self._behind_ms = now_ms
        late = self._behind_ms and now_ms - self._behind_ms > self._limits.lag_s * 1000
        self._set(Alarm.LAG, bool(late))

    def _look_at_clock(self, now_ms: int) -> None:
        """Compare this host's clock with the relay's, and with its own steps."""
        steady_ms = time.monotonic_ns() // 1_000_000
        before, self._clock = self._clock, (now_ms, steady_ms)
        jumped = 0
        if before is not None:
            jumped = (now_ms - before[0]) - (steady_ms - before[1])
        if abs(jumped) > self._limits.clock_ms:
            self._recorder.note(RecordType.CLOCK_ANOMALY, [self._pulse(now_ms)], now_ms=now_ms)
            self._recorder.raise_alarm(Alarm.CLOCK)
            return
        differs = abs(self._progress.skew_ms(now_ms)) > self._limits.clock_ms
        if differs and Alarm.CLOCK not in self._recorder.alarms:
            self._recorder.note(RecordType.CLOCK_ANOMALY, [self._pulse(now_ms)], now_ms=now_ms)
        self._set(Alarm.CLOCK, differs)

    def _set(self, alarm: Alarm, stands: bool) -> None:
        if stands and alarm not in self._recorder.alarms:
            self._recorder.raise_alarm(alarm)
        elif not stands:
            self._recorder.alarms.pop(alarm, None)

    # Telling.

    def status(self, *, now_ms: int) -> dict[str, object]:
        """Return what ``status`` shows."""
        progress, one = self._progress, canary.known(self._recorder.log.store)
        return {
            "at_ms": now_ms,
            "connected": progress.connected,
            "records": self._recorder.log.size,
            "witnessed": progress.witnessed,
            "witnessed_ms": progress.witnessed_ms,
            "mirrored": progress.mirrored,
            "cosigners": progress.cosigners,
            "cosigned": progress.cosigned,
            "cosigned_ms": progress.cosigned_ms,
            "taken": progress.taken,
            "clock_skew_ms": progress.skew_ms(now_ms),
            "waiting_logs": self._recorder.waiting_logs,
            "unsealed": len(self._recorder.unsealed),
            "untold": self._recorder.live.untold_count(),
            "outgoing": len(self._recorder.authority.outgoing()),
            "canary_opened_ms": 0 if one is None else one.opened_ms,
            "canary_right": one is None or one.is_right,
            "alarms": {alarm.name: count for alarm, count in self._recorder.alarms.items()},
        }

    def tell(self, *, now_ms: int) -> None:
        """Write both files, each whole or not at all."""
        status = self.status(now_ms=now_ms)
        _replace(self._places.data / STATUS_FILE, json.dumps(status, indent=1) + "\n")
        _replace(self._places.data / METRICS_FILE, metrics(status))


def metrics(status: dict[str, object]) -> str:
    """Return a status as metrics in the Prometheus text format."""
    lines = [
        f"wardline_archive_{name} {int(value)}"
        for name, value in status.items()
        if isinstance(value, int)
    ]
    raised = status["alarms"]
    standing = raised if isinstance(raised, dict) else {}
    lines += [
        f'wardline_archive_alarm{{name="{alarm.name}"}} {int(standing.get(alarm.name, 0))}'
        for alarm in Alarm
    ]
    return "\n".join(lines) + "\n"


def _replace(path: Path, text: str) -> None:
    made = path.with_suffix(".new")
    made.write_text(text)
    made.chmod(0o640)
    os.replace(made, path)  # noqa: PTH105 - the name changes hands in one step
