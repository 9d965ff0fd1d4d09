"""What the store's errors are called on the wire."""

from __future__ import annotations

from protocol.errors import Code
from server.secrets import ChangedError, WipedError
from server.store import (
    AwaitingArchiveError,
    LimitError,
    MessageIdError,
    NotStagedError,
    StaleEpochError,
    StoreError,
    UnknownLogError,
)

RETRY_MS = 5000
"""Pause, in ms, before what the disk refused is sent again: a cleaned disk is found soon, and a
full one is not hammered."""


def of(error: StoreError) -> tuple[Code, int]:
    """Return the code and its detail."""
    if isinstance(error, StaleEpochError):
        return Code.STALE_EPOCH, error.epoch
    if isinstance(error, NotStagedError):
        return Code.COMMIT_CONFLICT, error.staged or 0
    if isinstance(error, UnknownLogError):
        return Code.NO_SUCH, 0
    if isinstance(error, MessageIdError):
        return Code.OLD_MESSAGE, error.lowest
    if isinstance(error, LimitError):
        return Code.INVALID, 0
    if isinstance(error, WipedError):
        return Code.NO_SUCH, 0
    if isinstance(error, AwaitingArchiveError | ChangedError):
        return Code.BUSY, 0
    return Code.FULL, RETRY_MS
