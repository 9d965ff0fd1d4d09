"""The relay's own log: one event a line, JSON, and only fields that are on the list.

No user, device, group or message identifier, no content and no key is on it, so none can slip into
a line; an exception is named by its class and place, never by its text.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from typing import Any

FIELDS = frozenset(
    {
        "address_family",
        "code",
        "connections",
        "count",
        "error",
        "event",
        "frame",
        "line",
        "listen",
        "milliseconds",
        "module",
        "organisations",
        "pin",
        "state",
        "status",
    }
)
"""Fields that an event may have; another one is a fault of the caller and raises."""

_log = logging.getLogger("wardline.relay")


class _Lines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = getattr(record, "fields", {"event": "library", "module": record.name})
        stamp = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        return json.dumps({"at": stamp, "level": record.levelname, **fields})


def configure(level: str) -> None:
    """Send events of ``level`` and above to standard error, and nothing else anywhere."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    _log.setLevel(level)


def silent() -> logging.Logger:
    """Return a logger for libraries that would write what passes through them."""
    logger = logging.getLogger("wardline.silent")
    logger.disabled = True
    return logger


def _write(level: int, event: str, fields: dict[str, Any]) -> None:
    if not fields.keys() <= FIELDS:
        raise ValueError("an event has fields of the list alone")
    if _log.isEnabledFor(level):
        _log.log(level, "", extra={"fields": {"event": event, **fields}})


def note(event: str, **fields: Any) -> None:
    """Log what happens all day, at DEBUG."""
    _write(logging.DEBUG, event, fields)


def tell(event: str, **fields: Any) -> None:
    """Log what an operator wants to know, at INFO."""
    _write(logging.INFO, event, fields)


def warn(event: str, **fields: Any) -> None:
    """Log what an operator should look at, at WARNING."""
    _write(logging.WARNING, event, fields)


def fault(error: BaseException | None) -> None:
    """Log a fault of the program, at ERROR: its class and where it was, never its text."""
    frames = traceback.extract_tb(error.__traceback__) if error is not None else []
    place = frames[-1] if frames else None
    _write(
        logging.ERROR,
        "fault",
        {
            "error": type(error).__name__,
            "module": place.name if place else "",
            "line": place.lineno if place else 0,
        },
    )
