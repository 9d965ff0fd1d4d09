"""The archive's own log: one event a line, JSON, and only fields that are on the list.

No user, device, group or message identifier, no content and no key is on it, so none can slip into
a line; an exception is named by its class, never by its text.
"""

from __future__ import annotations

import json
import logging
import sys

FIELDS = frozenset(
    {
        "alarm",
        "bytes",
        "code",
        "count",
        "error",
        "event",
        "milliseconds",
        "records",
        "size",
        "type",
    }
)
"""Fields that an event may have; another one is a fault of the caller and raises."""

_log = logging.getLogger("wardline.archive")


class _Lines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = getattr(record, "fields", {"event": "library"})
        stamp = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        return json.dumps({"at": stamp, "level": record.levelname, **fields})


def configure(level: str) -> None:
    """Send events of ``level`` and above to standard error, and nothing else anywhere."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    _log.setLevel(level)


def tell(event: str, **fields: int | str) -> None:
    """Log an event at INFO."""
    _write(logging.INFO, event, fields)


def warn(event: str, **fields: int | str) -> None:
    """Log an event that somebody should look at."""
    _write(logging.WARNING, event, fields)


def _write(level: int, event: str, fields: dict[str, int | str]) -> None:
    if not fields.keys() <= FIELDS:
        raise KeyError("a field that no event has")
    _log.log(level, event, extra={"fields": {"event": event, **fields}})
