"""Words of the archive's opening as faces use them: they speak to ``client`` alone."""

from __future__ import annotations

from protocol.opening import Hits, Offer, Purpose
from protocol.quorum import SPARE_OFFICERS, Quorum


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
