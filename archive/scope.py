"""What a scope hits: found by the index, counted before anything is opened.

Nothing here decrypts content: which conversations, members, times and numbers of records there are,
the archive knows anyway.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from archive.body import open_salted
from archive.errors import DamagedError
from archive.index import EpochPlace, Index, Place
from archive.record import Record, RecordType
from archive.segment import SealedSegment
from archive.store import Store
from crypto.errors import CryptoError
from protocol.opening import Hits, Scope, SegmentHit


def count(store: Store, index: Index, scope: Scope) -> Hits:
    """Return the segments in scope, each with how many of its messages lie in the period.

    What was shredded is in no scope.

    Args:
        store: The log's database.
        index: Of that log.
        scope: What is looked for: all that matches every criterion that is given.

    Raises:
        DamagedError: A record or a sealed segment is not what was written.
        InvalidError: The scope hits more segments than one opening can have.
    """
    epochs = _epochs_of(index, scope)
    hits = [
        hit
        for group_id in sorted(_conversations(index, scope))
        for hit in _hits_of(store, index, scope, group_id)
        if epochs is None or (group_id, hit.epoch) in epochs
    ]
    return Hits(segments=tuple(hits))


def _conversations(index: Index, scope: Scope) -> set[bytes]:
    """Return the conversations that match every criterion about conversations."""
    found = set(scope.conversations) if scope.conversations else set(index.conversations())
    if scope.patient:
        found &= set(index.of_patient(scope.patient))
    return found


def _epochs_of(index: Index, scope: Scope) -> set[tuple[bytes, int]] | None:
    """Return the epochs that one of the scope's people was in; None where it names nobody."""
    if not scope.people:
        return None
    return {place for user in scope.people for place in index.of_user(user)}


def _hits_of(store: Store, index: Index, scope: Scope, group_id: bytes) -> Iterator[SegmentHit]:
    messages = messages_of(index, scope, group_id)
    for place in index.epochs(group_id):
        found = messages.get(place.epoch)
        segment = segment_of(store, place) if found else None
        if not found or segment is None:
            continue
        yield SegmentHit(
            group_id=group_id,
            epoch=place.epoch,
            bucket=segment.name.bucket,
            k=segment.k,
            n=len(segment.shares),
            keys=place.keys,
            records=len(found),
            first_ms=found[0].sent_ms,
            last_ms=found[-1].sent_ms,
        )


def messages_of(index: Index, scope: Scope, group_id: bytes) -> dict[int, list[Place]]:
    """Return a conversation's messages of the scope's period, by epoch, oldest first."""
    found: dict[int, list[Place]] = defaultdict(list)
    for place in index.places(group_id, from_ms=scope.from_ms, until_ms=scope.until_ms):
        if place.type is RecordType.MESSAGE:
            found[place.epoch].append(place)
    return found


def segment_of(store: Store, place: EpochPlace) -> SealedSegment | None:
    """Return an epoch's sealed segment, or None once it was shredded.

    Raises:
        DamagedError: It is not what was written.
    """
    found = body_at(store, place.keys)
    if found is None:
        return None
    try:
        return SealedSegment.decode(found[2])
    except CryptoError:
        raise DamagedError("segment") from None


def body_at(store: Store, index: int) -> tuple[bytes, bytes, bytes] | None:
    """Return a record, its salt and its body; None where there is none or it was shredded.

    Raises:
        DamagedError: It is not what was written.
    """
    leaf, kept = store.leaf(index), store.body(index)
    if leaf is None or kept is None:
        return None
    try:
        salt, body = open_salted(kept[0], record_key=kept[1], record=Record.decode(leaf))
    except CryptoError:
        raise DamagedError("body") from None
    return leaf, salt, body
