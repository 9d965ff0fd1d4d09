"""Sharing segments anew: to other officers, or to a bucket that ends later, as a hold demands.

It takes the same quorum and the same witnessed records as a review. The worker process has a
segment's key for the moment in which it shares it anew; no message is opened.
"""

from __future__ import annotations

from dataclasses import dataclass

from archive import intray
from archive.batch import Entry
from archive.index import Index
from archive.opening_handout import HandingOut, Permit
from archive.opening_session import Worker
from archive.opening_worker import Reshare
from archive.record import RecordType
from archive.segment import Officer, SealedSegment
from archive.store import Store
from crypto.errors import InvalidError
from protocol.identifiers import UserName
from protocol.opening import Purpose
from protocol.quorum import Quorum


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipients:
    """To whom segments are shared anew.

    Attributes:
        names: The officers.
        quorum: How many of them open.
        bucket: Retention bucket of the new shares; None keeps each segment's own.
    """

    names: tuple[UserName, ...]
    quorum: Quorum
    bucket: bytes | None = None


class Resharing:
    """One resharing that officers have released for."""

    def __init__(self, worker: Worker, store: Store, handing_out: HandingOut) -> None:
        self._worker = worker
        self._store = store
        self._index = Index(store)
        self._handing_out = handing_out

    def run(
        self, permit: Permit, announced: int, recipients: Recipients, *, now_ms: int
    ) -> list[tuple[SealedSegment, int]]:
        """Share every segment of a permit anew; return each with its intray's number.

        Args:
            permit: Of a request whose purpose is resharing.
            announced: Number of the hand-out's record.
            recipients: To whom.
            now_ms: Now.

        Raises:
            NotWitnessedError: The hand-out's record is not under a cosigned checkpoint as yet.
            InvalidError: The request is for something else, or an officer has no key of a bucket.
            SessionError: A segment does not open with what was released.
        """
        if permit.request.purpose is not Purpose.RESHARE:
            raise InvalidError("segments are shared anew for a request that asks for that")
        done = []
        for segment in self._handing_out.segments(permit.hash, announced, now_ms=now_ms):
            old = SealedSegment.decode(segment.sealed).name
            bucket = recipients.bucket or old.bucket
            order = Reshare(
                # Without messages: what is not needed is not handed over.
                segment=type(segment)(
                    sealed=segment.sealed, shares=segment.shares, members=(), messages=()
                ),
                bucket=bucket,
                officers=tuple(self._keys(recipients, bucket)),
                k=recipients.quorum.split_k,
            )
            sealed = SealedSegment.decode(self._worker.reshare(order))
            done.append((sealed, self._submit(sealed)))
        return done

    def _keys(self, recipients: Recipients, bucket: bytes) -> list[tuple[bytes, bytes]]:
        officers: list[Officer] = self._index.officers(bucket, recipients.names)
        if len(officers) != len(recipients.names):
            raise InvalidError("every officer has published a key of the bucket")
        return [(officer.name, officer.public_key) for officer in officers]

    def _submit(self, sealed: SealedSegment) -> int:
        entry = Entry(
            type=RecordType.EPOCH_KEYS,
            body=sealed.encode(),
            bucket=sealed.name.bucket,
            group_id=sealed.name.group_id,
            epoch=sealed.name.epoch,
        )
        return intray.submit(self._store, entry)


def take_effect(store: Store, sealed: SealedSegment, number: int) -> bool:
    """Let the index find a segment by its new keys, once they are witnessed; tell whether it does.

    Raises:
        ArchiveError: The database cannot be used.
    """
    receipt = intray.receipt(store, number)
    if receipt is None:
        return False
    with store.transaction():
        store.change(
            "UPDATE epoch SET keys_idx=? WHERE group_id=? AND epoch=?",
            receipt.index,
            sealed.name.group_id,
            sealed.name.epoch,
        )
    return True
