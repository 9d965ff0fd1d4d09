"""How far a running archive is."""

from __future__ import annotations

from dataclasses import dataclass, field

from client.clocks import RelayClock
from crypto.trust import CLOCK_SKEW_MS

SETTLED_MS = 600_000
"""How long a connection must have stood, in ms, before anything ends for good: minutes beyond what
a backlog of weeks takes, and a letter of the officers from its arrival to its record."""


@dataclass(kw_only=True)
class Progress:
    """How far the archive is, for whoever asks.

    Attributes:
        connected: Whether a relay is there.
        witnessed: Leaves under the last cosigned checkpoint.
        witnessed_ms: When that was, 0 before the first of this run.
        relay_clock: The relay's, by its word when a connection opened.
        mirrored: Leaves that the mirror's machine has confirmed in this run.
        cosigners: Officers' devices that have ever cosigned this log.
        cosigned: Leaves under the largest checkpoint that one of them has cosigned.
        cosigned_ms: When one did last, by its clock, 0 before.
        taken: Entries that were taken in since the start.
    """

    connected: bool = False
    witnessed: int = 0
    witnessed_ms: int = 0
    relay_clock: RelayClock = field(default_factory=RelayClock)
    mirrored: int = 0
    cosigners: int = 0
    cosigned: int = 0
    cosigned_ms: int = 0
    taken: int = 0

    def skew_ms(self, now_ms: int) -> int:
        """Return the relay's clock less this host's, in ms; 0 before it was heard."""
        relay_ms = self.relay_clock.now_ms()
        return 0 if relay_ms is None else relay_ms - now_ms

    def agrees(self, now_ms: int) -> bool:
        """Tell whether two clocks, the relay's and this host's, say that it is now.

        What cannot be undone, or would have a whole hospital leave its conversations, is not done
        by one of them.
        """
        relay_ms = self.relay_clock.now_ms()
        return relay_ms is not None and abs(relay_ms - now_ms) <= CLOCK_SKEW_MS

    def is_settled(self) -> bool:
        """Tell whether what waited at the relay has had its time to come and to have its effect.

        A hold that was set while the archive was down comes before the end of what it covers.
        """
        heard_ms = self.relay_clock.age_ms()
        return self.connected and heard_ms is not None and heard_ms >= SETTLED_MS
