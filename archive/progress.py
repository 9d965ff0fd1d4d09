"""How far a running archive is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(kw_only=True)
class Progress:
    """How far the archive is, for whoever asks.

    Attributes:
        connected: Whether a relay is there.
        witnessed: Leaves under the last cosigned checkpoint.
        witnessed_ms: When that was, 0 before the first of this run.
        skew_ms: The relay's clock less this host's, when it was heard last.
        mirrored: Leaves that the mirror's machine has confirmed in this run.
        cosigners: Officers' devices that have ever cosigned this log.
        cosigned: Leaves under the largest checkpoint that one of them has cosigned.
        cosigned_ms: When one did last, by its clock, 0 before.
        taken: Entries that were taken in since the start.
    """

    connected: bool = False
    witnessed: int = 0
    witnessed_ms: int = 0
    skew_ms: int = 0
    mirrored: int = 0
    cosigners: int = 0
    cosigned: int = 0
    cosigned_ms: int = 0
    taken: int = 0
