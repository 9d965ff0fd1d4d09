"""What a priority means: to standards, to repeats, to somebody's quiet, to acknowledgement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from protocol.authenticated_data import Priority
from protocol.oncall.wall_clock import HOUR_MS, MINUTE_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What a priority means.

    Attributes:
        fhir: FHIR's request priorities that become this one.
        alarm: The alarm priority of IEC 60601-1-8 and IHE PCD that becomes this one.
        repeat_ms: After how long whoever was asked is alerted again; 0 for never.
        alerts: Whether it alerts people on call at all.
        pierces: Whether it alerts people on call also in quiet hours and while not to be disturbed.
        lives_ms: How long a page of it lasts at most: its hard end.
    """

    fhir: tuple[str, ...]
    alarm: str
    repeat_ms: int
    alerts: bool
    pierces: bool
    lives_ms: int


MEANINGS: Mapping[Priority, Meaning] = MappingProxyType(
    {
        Priority.INFO: Meaning(
            fhir=(),
            alarm="information/PN",
            repeat_ms=0,
            alerts=False,
            pierces=False,
            lives_ms=24 * HOUR_MS,
        ),
        Priority.ROUTINE: Meaning(
            fhir=("routine",),
            alarm="low/PL",
            repeat_ms=0,
            alerts=True,
            pierces=False,
            lives_ms=24 * HOUR_MS,
        ),
        Priority.URGENT: Meaning(
            fhir=("urgent", "asap"),
            alarm="medium/PM",
            repeat_ms=5 * MINUTE_MS,
            alerts=True,
            pierces=True,
            lives_ms=12 * HOUR_MS,
        ),
        Priority.STAT: Meaning(
            fhir=("stat",),
            alarm="high/PH",
            repeat_ms=MINUTE_MS,
            alerts=True,
            pierces=True,
            lives_ms=4 * HOUR_MS,
        ),
    }
)
"""The map; ``docs/protocol-oncall.md`` is compared with it."""
