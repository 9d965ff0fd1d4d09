"""What every ``make bench-*`` prints: one JSON object a line, and an exit status."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

UNMEASURED = "unmeasured"

Value = float | int | str
"""A number, or the reason why there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured figure.

    Attributes:
        unit: Of the value, with how it was taken: best or median, and of how many.
        wanted: The bound, or None for a figure that is only told.
        at_least: Whether the bound is a least value; otherwise it is a greatest.
        peers: The same figure of others, measured in the same run.
    """

    name: str
    value: Value
    unit: str
    wanted: float | None = None
    at_least: bool = False
    peers: Mapping[str, Value] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        """Whether the wanted value is reached; what was not measured never is."""
        if self.wanted is None:
            return True
        if isinstance(self.value, str):
            return False
        return self.value >= self.wanted if self.at_least else self.value <= self.wanted

    def line(self) -> str:
        """Return the figure as one line of JSON; ``ratio`` is how many times a peer's is worse."""
        told: dict[str, object] = {
            "name": self.name,
            "value": _rounded(self.value),
            "unit": self.unit,
            "wanted": self.wanted,
            "bound": "at least" if self.at_least else "at most",
            "met": self.met,
            "peers": {name: _rounded(value) for name, value in self.peers.items()},
            "ratio": {name: self._ratio(value) for name, value in self.peers.items()},
        }
        if self.wanted is None:
            del told["wanted"], told["bound"], told["met"]
        return json.dumps(told)

    def _ratio(self, peer: Value) -> float | None:
        if isinstance(self.value, str) or isinstance(peer, str) or not self.value or not peer:
            return None
        return float(f"{self.value / peer if self.at_least else peer / self.value:.3g}")


def report(figures: Iterable[Figure]) -> int:
    """Print each figure as it comes; return the exit status: 1 where a wanted value is missed."""
    missed = False
    for figure in figures:
        print(figure.line(), flush=True)
        missed |= not figure.met
    return int(missed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a run took.

    Attributes:
        done: What it did so many of.
        wall_s: Seconds by the clock.
        cpu_s: Seconds of one core.
    """

    done: int
    wall_s: float
    cpu_s: float

    def rates(self, name: str, *, of: str, wanted: float) -> tuple[Figure, Figure]:
        """Return how many a second, told, and how many a second of CPU, which is what is wanted."""
        unit = f"1/s, one run of {self.done}"
        return (
            Figure(name=name, value=self.done / self.wall_s, unit=unit),
            Figure(
                name=f"the same, per second of {of}",
                value=self.done / self.cpu_s,
                unit=unit,
                wanted=wanted,
                at_least=True,
            ),
        )


def _rounded(value: Value) -> Value:
    return float(f"{value:.4g}") if isinstance(value, float) else value
