"""Whether an officer was replaced: nothing that is recorded needs what is on their device any more.

Decided from what the archive's host has, sealed as it is: to whom shares are is outside the seal.
"""

from __future__ import annotations

from archive.index import Index
from archive.scope import segment_of
from archive.sealing import Officers
from archive.store import Store


def is_replaced(user: str, *, officers: Officers, store: Store) -> bool:
    """Tell whether an officer's device may be destroyed without taking a share with it.

    Args:
        user: The officer.
        officers: To whom epochs are sealed from now on.
        store: The log's.

    Raises:
        DamagedError: A segment is not what was written.
        ArchiveError: The database cannot be used.
    """
    return user not in officers.users and not _has_share(user.encode("ascii"), store)


def _has_share(officer: bytes, store: Store) -> bool:
    index = Index(store)
    for group_id in index.conversations():
        # Nobody asks for an epoch in which nothing was said, so that it is never shared anew.
        said = index.spoken(group_id)
        for place in index.epochs(group_id):
            segment = segment_of(store, place) if place.epoch in said else None
            if segment and any(share.context.officer == officer for share in segment.shares):
                return True
    return False
