"""The relay's counters in Prometheus' text format, without any identifier."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server.relay import Relay


def render(relay: Relay) -> str:
    """Return the metrics, one a line with its type before it."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    lines = [
        *_metric("wardline_connections", "gauge", len(relay.keeper)),
        *_metric("wardline_proved_connections", "gauge", len(relay.delivery.everybody())),
        *_metric("wardline_messages_accepted_total", "counter", relay.appender.accepted),
        *_metric("wardline_entries_delivered_total", "counter", relay.delivery.delivered),
        *_metric("wardline_entries_damaged_total", "counter", relay.delivery.damaged),
        *_metric("wardline_cpu_seconds_total", "counter", usage.ru_utime + usage.ru_stime),
        *_metric("wardline_memory_peak_bytes", "gauge", usage.ru_maxrss * 1024),
        "# TYPE wardline_events_total counter",
        *(
            f'wardline_events_total{{event="{name}"}} {count}'
            for name, count in sorted(relay.counters.items())
        ),
    ]
    return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, value: float) -> tuple[str, str]:
    return f"# TYPE {name} {kind}", f"{name} {value:g}"
