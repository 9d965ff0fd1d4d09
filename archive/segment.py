"""A segment: the secrets of one (group, epoch), sealed so that only k of n officers open them.

The secrets are encrypted under a fresh segment key; the key is split, each share sealed to one
officer's key of the retention bucket, and forgotten before this module returns: nothing here keeps
it, and what is freed is overwritten where the program runs as the architecture demands. The result
is the body of an ``EPOCH_KEYS`` record, so that the archive's record key lies around it: officers
without the archive open nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from crypto import codec
from crypto.codec import U8, U64, Opaque, Reader, Struct, opaque, vector_of
from crypto.errors import InvalidError, UsageError
from crypto.mls.recording import EpochDecryption
from crypto.sealing import SealedShare, ShareContext, seal_share
from crypto.shares import check_split, split
from crypto.single_use import seal_once

VERSION = 1

_LABEL = b"Wardline 1 segment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Officer:
    """An officer as a share's recipient.

    Attributes:
        name: The officer, 1 to 255 bytes.
        public_key: The X-Wing key of the segment's bucket, certified by the officer.
    """

    name: bytes = field(repr=False)
    public_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentName(Struct):
    """Which segment it is.

    Attributes:
        organisation: The organisation's identifier.
        group_id: The MLS group ...
        epoch: ... and its epoch.
        bucket: Retention bucket (class and quarter).
    """

    organisation: Opaque = field(repr=False)
    group_id: Opaque = field(repr=False)
    epoch: U64
    bucket: Opaque


def _read_share(reader: Reader) -> SealedShare:
    return SealedShare.decode(reader.opaque())


def _write_share(share: SealedShare) -> bytes:
    return opaque(share.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedSegment(Struct):
    """Body of an ``EPOCH_KEYS`` record.

    Attributes:
        version: ``VERSION``.
        name: Which segment it is.
        k: Shares needed.
        ciphertext: The ``EpochDecryption``, encrypted under the segment key.
        shares: Of the segment key, share ``i`` at place ``i - 1``, each to its officer.
    """

    version: U8 = VERSION
    name: SegmentName
    k: U8
    ciphertext: Opaque = field(repr=False)
    shares: Annotated[tuple[SealedShare, ...], vector_of(_read_share, _write_share)] = field(
        repr=False
    )

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise InvalidError("a sealed segment has a known version")
        check_split(k=self.k, n=len(self.shares))
        officers = [share.context.officer for share in self.shares]
        if len(set(officers)) != len(officers):
            raise InvalidError("each share is an officer's own")
        expected = [
            share_context(self.name, officer=officer, index=index, k=self.k, n=len(officers))
            for index, officer in enumerate(officers, 1)
        ]
        if [share.context for share in self.shares] != expected:
            raise InvalidError("each share is for its place in its segment")

    def context(self) -> bytes:
        """Return what the segment's ciphertext is bound to."""
        return segment_context(self.name, k=self.k, n=len(self.shares))


def share_context(name: SegmentName, *, officer: bytes, index: int, k: int, n: int) -> ShareContext:
    """Return what share ``index`` of the segment ``name`` is for.

    Raises:
        InvalidError: A part is out of range.
    """
    return ShareContext(
        organisation=name.organisation,
        group_id=name.group_id,
        epoch=name.epoch,
        bucket=name.bucket,
        officer=officer,
        index=index,
        k=k,
        n=n,
    )


def segment_context(name: SegmentName, *, k: int, n: int) -> bytes:
    """Return what the ciphertext of the segment ``name`` is bound to."""
    return opaque(_LABEL) + name.encode() + codec.u8(k) + codec.u8(n)


def seal_segment(
    secrets: EpochDecryption, name: SegmentName, *, officers: Sequence[Officer], k: int
) -> SealedSegment:
    """Return the epoch's secrets, sealed to the officers; the segment key is gone.

    Args:
        secrets: Of the epoch, taken before the first of them is used.
        name: Which segment it is.
        officers: All different; their number is n.
        k: How many of them open it.

    Raises:
        InvalidError: ``k`` and ``n`` are none of a split, a public key is not valid, or a name out
            of range.
        UsageError: An officer is there twice: two shares in one hand are a smaller k.
    """
    n = len(officers)
    check_split(k=k, n=n)
    names, keys = {o.name for o in officers}, {o.public_key for o in officers}
    if not len(names) == len(keys) == n:
        raise UsageError("each share goes to an officer of its own")
    context = segment_context(name, k=k, n=n)
    segment_key, ciphertext = seal_once(secrets.encode(), context=context)
    shares = tuple(
        seal_share(
            share,
            public_key=officer.public_key,
            context=share_context(name, officer=officer.name, index=share.index, k=k, n=n),
        )
        for officer, share in zip(officers, split(segment_key, k=k, n=n), strict=True)
    )
    return SealedSegment(name=name, k=k, ciphertext=ciphertext, shares=shares)
