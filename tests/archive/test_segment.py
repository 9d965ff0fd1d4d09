"""Segments: k officers open one, k - 1 do not, and none without the archive."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.opening import open_messages, open_segment
from archive.segment import Officer, SealedSegment, SegmentName, seal_segment, share_context
from crypto.errors import (
    DecodeError,
    InvalidError,
    KeyUsedError,
    UsageError,
    VerificationError,
)
from crypto.mls import Add, Group
from crypto.mls.recording import Disclosure, EpochDecryption
from crypto.sealing import open_share
from crypto.shares import Share, split
from crypto.xwing import XWingKey
from tests.crypto.mls.test_recording import key_package
from tests.flipped import flipped
from tests.vectors.cases import accept

K = 3
KEYS = [XWingKey.generate() for _ in range(5)]
OFFICERS = [
    Officer(name=b"officer %d" % number, public_key=key.public_key)
    for number, key in enumerate(KEYS, 1)
]
NAME = SegmentName(organisation=b"hospital", group_id=b"ward 7", epoch=1, bucket=b"clinical 2027Q1")


def conversation() -> tuple[Group, EpochDecryption]:
    """Return a nurse's group and the recorder's secrets of its epoch."""
    nurse, recorder = key_package("nurse"), key_package("recorder")
    group = Group.create(nurse, group_id=b"ward 7")
    _, staged = group.commit([Add(recorder.key_package)], authenticate=accept)
    assert staged.group is not None
    assert staged.welcome is not None
    joined = Group.join(staged.welcome, recorder, authenticate=accept)
    return group.merge(staged.group), EpochDecryption.of(joined)


GROUP, SECRETS = conversation()
SEALED = seal_segment(SECRETS, NAME, officers=OFFICERS, k=K)


def shares_of(segment: SealedSegment) -> list[Share]:
    """Return the share that each officer's own key opens."""
    return [
        open_share(
            sealed,
            key=KEYS[at],
            expected=share_context(NAME, officer=OFFICERS[at].name, index=at + 1, k=K, n=5),
        )
        for at, sealed in enumerate(segment.shares)
    ]


SHARES = shares_of(SEALED)


@pytest.mark.parametrize("count", [3, 4, 5])
def test_any_k_officers_open_the_segment_and_read_its_messages(count: int) -> None:
    group, first = GROUP.encrypt(b"bp 90/60")
    group, second = group.encrypt(b"bp 100/70")
    for some in combinations(SHARES, count):
        secrets = open_segment(SEALED, some)
        opened = list(open_messages(secrets, [first, b"garbage", second, first]))
        assert isinstance(opened[1], DecodeError)
        assert isinstance(opened[3], KeyUsedError)
        texts = []
        for one in (opened[0], opened[2]):
            assert isinstance(one, Disclosure)
            secrets.verify(one.content, GROUP.current.signer.public_key)
            texts.append(one.content.content.content)
        assert texts == [b"bp 90/60", b"bp 100/70"]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_k_officers_open_nothing(count: int) -> None:
    for some in combinations(SHARES, count):
        with pytest.raises(InvalidError):
            open_segment(SEALED, some)
        # Nor where they claim that fewer are needed, in the shares and in the segment alike.
        claimed = [replace(share, k=2) for share in some]
        with pytest.raises((InvalidError, VerificationError)):
            open_segment(SEALED, claimed)


def test_no_officers_key_opens_anothers_share() -> None:
    for at, sealed in enumerate(SEALED.shares):
        with pytest.raises(VerificationError):
            open_share(sealed, key=KEYS[at - 1], expected=sealed.context)


def test_shares_of_another_segment_open_nothing() -> None:
    other = seal_segment(SECRETS, NAME, officers=OFFICERS, k=K)
    with pytest.raises(VerificationError):
        open_segment(SEALED, shares_of(other)[:K])
    with pytest.raises(InvalidError):
        open_segment(SEALED, [*SHARES[:2], shares_of(other)[2]])
    fewer = split(b"k" * 32, k=2, n=5)
    with pytest.raises(InvalidError):
        open_segment(SEALED, fewer)


def test_a_segment_under_another_name_does_not_open() -> None:
    def renamed(name: SegmentName) -> SealedSegment:
        shares = tuple(
            replace(
                share,
                context=share_context(name, officer=share.context.officer, index=at, k=K, n=5),
            )
            for at, share in enumerate(SEALED.shares, 1)
        )
        return replace(SEALED, name=name, shares=shares)

    for name in (
        replace(NAME, organisation=b"other"),
        replace(NAME, group_id=b"ward 8"),
        replace(NAME, epoch=2),
        replace(NAME, bucket=b"clinical 2027Q2"),
    ):
        with pytest.raises(VerificationError):
            open_segment(renamed(name), SHARES[:K])
    changed = flipped(SEALED.ciphertext)
    with pytest.raises(VerificationError):
        open_segment(replace(SEALED, ciphertext=changed), SHARES[:K])


def test_a_share_for_another_place_makes_no_segment() -> None:
    first, second, *rest = SEALED.shares
    for shares in ((second, first, *rest), (first, first, *rest), (first, second), ()):
        with pytest.raises(InvalidError):
            replace(SEALED, shares=shares)


def test_a_sealed_segment_has_one_encoding() -> None:
    assert SealedSegment.decode(SEALED.encode()) == SEALED
    assert SECRETS.encryption_secret not in SEALED.encode()
    assert SECRETS.encryption_secret.hex() not in repr(SEALED)


@given(st.integers(0, 10**9), st.integers(1, 255))
def test_a_changed_byte_is_a_documented_error_or_opens_to_nothing_else(at: int, mask: int) -> None:
    data = bytearray(SEALED.encode())
    data[at % len(data)] ^= mask
    try:
        changed = SealedSegment.decode(bytes(data))
        assert changed.encode() == bytes(data)
        assert open_segment(changed, SHARES[:K]) == SECRETS
    except (DecodeError, InvalidError, VerificationError):
        return
    assert changed.ciphertext == SEALED.ciphertext  # what changed is an officer's own share
    with pytest.raises(VerificationError):
        shares_of(changed)


@pytest.mark.parametrize("same", ["name", "public_key"])
def test_two_shares_never_go_to_one_officer(same: str) -> None:
    officers = [OFFICERS[0], replace(OFFICERS[1], **{same: getattr(OFFICERS[0], same)})]
    with pytest.raises(UsageError):
        seal_segment(SECRETS, NAME, officers=[*officers, *OFFICERS[2:]], k=K)


@pytest.mark.parametrize(("k", "n"), [(1, 5), (4, 5), (3, 4)])
def test_a_split_without_quorum_or_spare_is_refused(k: int, n: int) -> None:
    with pytest.raises(InvalidError):
        seal_segment(SECRETS, NAME, officers=OFFICERS[:n], k=k)
