"""Sealing an epoch's keys to the officers, before the first of them is used.

The archive opens nothing for which its officers could not vouch later: where too few of them have
published a key for the bucket, an epoch is not sealed, so it is not confirmed by the recorder, none
of its messages is opened or acknowledged, and an alarm stands until the officers have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from archive.batch import Entry
from archive.index import Index
from archive.record import RecordType
from archive.roster import Roster, context_of
from archive.segment import SegmentName, seal_segment
from client.judging import Judge
from crypto.mls import Group
from crypto.mls.recording import EpochDecryption
from protocol.identifiers import DeviceId, OrganisationId, user_of
from protocol.quorum import SPARE_OFFICERS, Quorum
from protocol.retention import CLASSES, CLINICAL, Bucket


@dataclass(frozen=True, slots=True, kw_only=True)
class Officers:
    """To whom epochs are sealed.

    Attributes:
        quorum: How many of them open one.
        users: Their user names, in the order in which shares are numbered.
    """

    quorum: Quorum
    users: Sequence[str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedEpoch:
    """An epoch, ready to be recorded.

    Attributes:
        keys: The ``EPOCH_KEYS`` record to be.
        roster: Who is in the epoch ...
        roster_entry: ... and the ``ROSTER`` record to be.
        users: People who are in it.
    """

    keys: Entry = field(repr=False)
    roster: Roster
    roster_entry: Entry = field(repr=False)
    users: frozenset[str] = field(repr=False)


def bucket_of(retention_class: str, at_ms: int) -> bytes:
    """Return the bucket of what a class records at an instant.

    A class that the organisation does not know is kept as clinical: officers certify keys for none
    but those that it knows, and no member may keep a conversation out of the archive by its name.
    """
    known = retention_class if retention_class in CLASSES else CLINICAL
    return Bucket.at(known, at_ms).name


def seal_epoch(
    group: Group,
    *,
    organisation: OrganisationId,
    officers: Officers,
    index: Index,
    judge: Judge,
    now_ms: int,
) -> SealedEpoch | None:
    """Return a fresh epoch's keys, sealed; ``None`` while too few officers have published keys.

    Args:
        group: In the epoch, none of whose messages was sent or read.
        organisation: Whose.
        officers: Who could open it.
        index: Knows the officers' keys.
        judge: Knows the members.
        now_ms: Now; the epoch belongs to its bucket.

    Raises:
        CryptoError: The group is no conversation, or a member is not known.
        UsageError: Some of the epoch's keys were used.
    """
    bucket = bucket_of(context_of(group).retention_class, now_ms)
    known = index.officers(bucket, officers.users)
    if len(known) < officers.quorum.k + SPARE_OFFICERS:
        return None
    name = SegmentName(
        organisation=organisation, group_id=group.group_id, epoch=group.epoch, bucket=bucket
    )
    sealed = seal_segment(
        EpochDecryption.of(group), name, officers=known, k=officers.quorum.split_k
    )
    roster = Roster.of(group)
    found = (judge.device_of(leaf) for _, leaf in group.members)
    return SealedEpoch(
        keys=_entry(RecordType.EPOCH_KEYS, sealed.encode(), name),
        roster=roster,
        roster_entry=_entry(RecordType.ROSTER, roster.encode(), name),
        users=frozenset(user_of(DeviceId(one.name)) for one in found if one is not None),
    )


def _entry(kind: RecordType, body: bytes, name: SegmentName) -> Entry:
    return Entry(type=kind, body=body, bucket=name.bucket, group_id=name.group_id, epoch=name.epoch)
