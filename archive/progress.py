"""How far a running archive is."""

from __future__ import annotations

from dataclasses import dataclass

from client.witnessed import awake_ms
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
        heard: What the relay's clock said when a connection opened, and this host's steady clock
            then, both in ms; ``None`` before the first of this run.
        mirrored: Leaves that the mirror's machine has confirmed in this run.
        cosigners: Officers' devices that have ever cosigned this log.
        cosigned: Leaves under the largest checkpoint that one of them has cosigned.
        cosigned_ms: When one did last, by its clock, 0 before.
        taken: Entries that were taken in since the start.
    """

    connected: bool = False
    witnessed: int = 0
    witnessed_ms: int = 0
    heard: tuple[int, int] | None = None
    mirrored: int = 0
    cosigners: int = 0
    cosigned: int = 0
    cosigned_ms: int = 0
    taken: int = 0

    def hear(self, relay_ms: int) -> None:
        """Take in what the relay's clock says, in ms."""
        self.heard = (relay_ms, awake_ms())

    def relay_ms(self) -> int | None:
        """Return the relay's time in ms, by its word when the connection opened.

        A jump of this host's clock does not move it. ``None`` before the relay was heard.
        """
        if self.heard is None:
            return None
        relay_ms, steady_ms = self.heard
        return relay_ms + awake_ms() - steady_ms

    def skew_ms(self, now_ms: int) -> int:
        """Return the relay's clock less this host's, in ms; 0 before it was heard."""
        relay_ms = self.relay_ms()
        return 0 if relay_ms is None else relay_ms - now_ms

    def agrees(self, now_ms: int) -> bool:
        """Tell whether two clocks, the relay's and this host's, say that it is now.

        What cannot be undone, or would have a whole hospital leave its conversations, is not done
        by one of them.
        """
        return self.heard is not None and abs(self.skew_ms(now_ms)) <= CLOCK_SKEW_MS

    def is_settled(self) -> bool:
        """Tell whether what waited at the relay has had its time to come and to have its effect.

        A hold that was set while the archive was down comes before the end of what it covers.
        """
        return (
            self.connected and self.heard is not None and awake_ms() - self.heard[1] >= SETTLED_MS
        )
