"""Words of the archive's opening as faces use them: they speak to ``client`` alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from protocol.opening import Hits, Offer, Purpose, Scope
from protocol.quorum import SPARE_OFFICERS, Quorum

SHORT = 8
"""Digits of a conversation's id that are shown: enough to tell a ward's apart."""


DAY_MS = 24 * 3600 * 1000
FROM_THE_BEGINNING = "from the beginning"
"""Of a scope that begins within a day of 1970, in whatever zone that was typed."""


def quorum_from(*, k: int, n: int | None = None, emergency_k: int | None = None) -> Quorum:
    """Return a quorum as it was agreed at the ceremony.

    Args:
        k: Officers who must agree.
        n: Officers in all; the fewest that there may be, where it is not given.
        emergency_k: Officers who must agree in an emergency; ``k``, where it is not given.

    Raises:
        InvalidError: It is none.
    """
    return Quorum(
        k=k,
        n=k + SPARE_OFFICERS if n is None else n,
        emergency_k=k if emergency_k is None else emergency_k,
    )


def purpose_of(*, reshare: bool) -> Purpose:
    """Return what an opening is for."""
    return Purpose.RESHARE if reshare else Purpose.REVIEW


def counted(offer: Offer) -> dict[str, int]:
    """Return how much the archive found for a draft."""
    hits = Hits.decode(offer.hits)
    return {
        "records": hits.records,
        "segments": len(hits.segments),
        "conversations": len({hit.group_id for hit in hits.segments}),
    }


def told_scope(scope: Scope) -> dict[str, Any]:
    """Return what a scope names, for whoever is asked to approve it; ``text`` in one line."""
    named = [f"conversation {one.hex()[:SHORT]}" for one in scope.conversations]
    named += [f"person {user}" for user in scope.people]
    named += [f"patient {scope.patient}"] if scope.patient else []
    begins = FROM_THE_BEGINNING if scope.from_ms < DAY_MS else _minute(scope.from_ms)
    period = f"{begins} to {_minute(scope.until_ms)}"
    return {
        "conversations": [one.hex() for one in scope.conversations],
        "people": list(scope.people),
        "patient": scope.patient,
        "from_ms": scope.from_ms,
        "until_ms": scope.until_ms,
        "text": f"{', '.join(named)}; {period}",
    }


def _minute(at_ms: int) -> str:
    """Return an instant in UTC to the minute; instants that no clock shows in milliseconds."""
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        return f"{at_ms} ms"
