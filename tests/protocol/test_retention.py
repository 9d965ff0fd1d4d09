"""Buckets: a class and a quarter, named in one way, with an end."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.errors import DecodeError, InvalidError
from protocol.group_context import ConversationType
from protocol.retention import (
    BUCKET_NAME_BYTES,
    CLASSES,
    CLINICAL,
    NOTICE,
    Bucket,
    default_class,
    wanted_buckets,
)


def at(*date: int) -> int:
    return int(datetime(*date, tzinfo=UTC).timestamp()) * 1000  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("at_ms", "name"),
    [
        (0, b"clinical 1970Q1"),
        (at(2026, 12, 31, 23, 59, 59), b"clinical 2026Q4"),
        (at(2027, 1, 1), b"clinical 2027Q1"),
        (at(2027, 3, 31, 23, 59, 59), b"clinical 2027Q1"),
        (at(2027, 4, 1), b"clinical 2027Q2"),
    ],
)
def test_a_bucket_is_the_class_and_the_quarter_in_utc(at_ms: int, name: bytes) -> None:
    bucket = Bucket.at("clinical", at_ms)
    assert bucket.name == name
    assert Bucket.decode(name) == bucket
    assert bucket.begins_ms <= at_ms < bucket.closes_ms


@given(st.integers(0, at(9998, 1, 1)), st.sampled_from(sorted(CLASSES)))
def test_buckets_follow_each_other_without_a_gap(at_ms: int, name: str) -> None:
    bucket = Bucket.at(name, at_ms)
    assert bucket.begins_ms <= at_ms < bucket.closes_ms == bucket.next.begins_ms
    assert bucket < bucket.next
    assert Bucket.decode(bucket.name) == bucket
    assert bucket.ends_ms() >= bucket.closes_ms + 6 * 366 * 86_400_000
    assert len(bucket.name) <= BUCKET_NAME_BYTES


@given(st.binary(max_size=20))
def test_any_bytes_name_a_bucket_or_are_a_documented_error(name: bytes) -> None:
    try:
        assert Bucket.decode(name).name == name
    except (DecodeError, InvalidError):
        return


@pytest.mark.parametrize("name", [b"clinical 0000Q1", b"clinical 9999Q4", b"clinical 1969Q4"])
def test_a_year_out_of_range_is_refused(name: bytes) -> None:
    with pytest.raises(InvalidError):
        Bucket.decode(name)
    with pytest.raises(InvalidError):
        Bucket.at("clinical", 1 << 60)


def test_officers_have_keys_for_now_and_four_quarters_ahead() -> None:
    wanted = wanted_buckets([CLINICAL, NOTICE, CLINICAL], at(2026, 11, 5))
    names = [bucket.name for bucket in wanted]
    assert names[:5] == [
        b"clinical 2026Q4",
        b"clinical 2027Q1",
        b"clinical 2027Q2",
        b"clinical 2027Q3",
        b"clinical 2027Q4",
    ]
    assert len(names) == 10


def test_every_type_of_conversation_has_a_class_with_an_end() -> None:
    for kind in ConversationType:
        assert default_class(kind) in CLASSES
    assert default_class(ConversationType.ANNOUNCEMENT) == NOTICE
    unknown = Bucket.at("homegrown", 0)
    assert unknown.ends_ms() == unknown.closes_ms + max(CLASSES.values()) * 366 * 86_400_000
