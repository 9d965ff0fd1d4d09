"""A record opens to what was sealed, under its own table and number, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import records
from server.store import DamagedError

u8 = st.integers(0, 255)
u63 = st.integers(0, (1 << 63) - 1)
heads = st.tuples(u63, u8, u8, u8, u8, u63, u63, u63, u63, u63, u63, u63, u63)


@given(head=heads, body=st.binary(max_size=200))
def test_an_entry_opens_to_what_was_sealed(head: tuple[int, ...], body: bytes) -> None:
    opened, found = records.open_entry(head[0], records.seal_entry(body, *head))
    assert (opened[1:-1], found) == (head, body)


@given(head=heads, body=st.binary(max_size=80), data=st.data())
def test_no_flipped_bit_of_an_entry_opens(
    head: tuple[int, ...], body: bytes, data: st.DataObject
) -> None:
    record = bytearray(records.seal_entry(body, *head))
    bit = data.draw(st.integers(0, len(record) * 8 - 1))
    record[bit // 8] ^= 1 << (bit % 8)
    with pytest.raises(DamagedError):
        records.open_entry(head[0], bytes(record))


@given(row=u63, record=st.binary(max_size=200))
def test_any_bytes_are_a_record_or_damaged(row: int, record: bytes) -> None:
    for act in (
        lambda: records.open_entry(row, record),
        lambda: records.unseal(records.SENT, b"s", row, record),
        lambda: records.unseal(records.CURSOR, b"c", row, record),
        lambda: records.unseal_values("log", row, record),
        lambda: records.open_fact(b"name", record),
        lambda: records.open_welcome(row, record),
    ):
        with pytest.raises(DamagedError):
            act()


def test_a_record_of_another_row_or_table_does_not_open() -> None:
    sent = records.seal(records.SENT, b"s", 1, 2, 3, 4, 5, 6)
    values = records.seal_values("log", 1, "x")
    with pytest.raises(DamagedError):
        records.unseal(records.SENT, b"s", 2, sent)
    with pytest.raises(DamagedError):
        records.unseal(records.SENT, b"c", 1, sent)
    with pytest.raises(DamagedError):
        records.unseal_values("log", 2, values)
    with pytest.raises(DamagedError):
        records.unseal_values("device", 1, values)
    with pytest.raises(DamagedError):
        records.open_fact(b"b", records.seal_fact(b"a", b"value"))
    with pytest.raises(DamagedError):
        records.open_welcome(2, records.seal_welcome(1, b"body"))
    with pytest.raises(DamagedError):
        records.open_entry(2, records.seal_entry(b"", 1, *[0] * 12))


def test_an_emptied_entry_keeps_everything_but_its_body() -> None:
    record = records.seal_entry(b"body", 1, 2, 0, 0, 3, 4, 5, 6, 7, 8, 9, 10, 11)
    head, body = records.open_entry(1, records.empty_entry(1, record, 2))
    assert (head.state, head.seq, head.welcome, body) == (2, 5, 0, b"")
