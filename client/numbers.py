"""Numbers of a log that came to nothing, and what stood there: a relay may yet give them to more.

One that lied gave a number to something that it made up, or called it this device's own, and then,
being honest, gives it to what is true. What had its effect keeps its number: else a relay could
show what is new among the old. Remembered in memory alone; after a restart a hole is told as ever.
"""

from __future__ import annotations

from client.followed import Cause, Followed
from protocol.frames import Deliver
from protocol.identifiers import LogId

MOST = 1_024
"""Numbers that are remembered, the last ones."""

_OWN = (Cause.FORGED, Cause.KEY_USED, Cause.BEFORE_JOINING)


class Numbers:
    """What stood under numbers that may be given again."""

    def __init__(self) -> None:
        self._stood: dict[tuple[LogId, int], int] = {}

    def remember(self, log: LogId, sequence: int, *, kind: int, body: bytes) -> None:
        """Note what stands under a number."""
        self._stood[log, sequence] = hash((kind, body))
        if len(self._stood) > MOST:
            del self._stood[next(iter(self._stood))]

    def contests(self, entry: Deliver, *, behind: bool) -> bool:
        """Tell whether an entry has the number of something else.

        Args:
            entry: Its number was passed, or is said to be this device's own.
            behind: Whether it was passed. What a former run was told to be its own must say so.
        """
        stood = self._stood.get((LogId(entry.log), entry.sequence))
        return not behind if stood is None else stood != hash((entry.kind, entry.body))

    def forget(self, entry: Deliver) -> None:
        """Let an entry's number be given no more."""
        self._stood.pop((LogId(entry.log), entry.sequence), None)


def is_nothing(followed: Followed) -> bool:
    """Tell whether nothing came of an entry."""
    staged = followed.stages is not None and followed.stages.refused is None
    came = followed.said or followed.roster or followed.drops or followed.demand
    return not (staged or came or followed.forks)


def gives_back(followed: Followed) -> bool:
    """Tell whether what comes of an entry is what comes of this device's own."""
    refused = followed.stages is not None and followed.stages.refused is Cause.FORGED
    return refused or any(fault.cause in _OWN for fault in followed.faults)
