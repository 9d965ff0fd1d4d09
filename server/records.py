"""The rows of the store as bytes: every row is a record, and every record proves itself.

A record begins with a tag that names its table and with its row's number, and carries a digest over
all of it. A flipped bit, a row that strayed into another table or under another number,
or one cut short is ``DamagedError``, never a wrong value. The digests are against decay, not
against whoever can write the disk: that is what the archive's witnessed log is for.

An entry has two digests, one over its head and one, inside the head, over its body: at start only
heads are verified, so that starting does not read every body, and a damaged body leaves it known
whose it is.
"""

from __future__ import annotations

from hashlib import blake2b, sha256
from struct import Struct as Layout
from typing import Any, NamedTuple

import msgspec

from server.store import DamagedError

SUM_BYTES = 8
"""Digest of a row's head: decay goes unseen once in 2**64."""

BODY_SUM_BYTES = 16
"""Digest of a body, in bytes: SHA-256 cut short, which processors compute faster than BLAKE2b."""

ENTRY = Layout(">cQBBBBQQQQQQQQ16s")
SENT = Layout(">cQQQQQQ")
CURSOR = Layout(">cQQQQQQB")
ENTRY_HEAD_BYTES = ENTRY.size + SUM_BYTES
"""Bytes of an entry's record before its body."""

EXPIRES = 1
LAPSED = 2
"""Flags of a cursor."""


class EntryHead(NamedTuple):
    """An entry's record without its body; fields as in ``store.Entry``, with numbers for names.

    ``epoch`` is one more than the entry's, 0 where it has none; ``welcome`` is 0 where it refers to
    none.
    """

    tag: bytes
    row: int
    kind: int
    state: int
    pinned: int
    priority: int
    log: int
    seq: int
    prev: int
    epoch: int
    message_id: int
    at_ms: int
    welcome: int
    device: int
    body_sum: bytes


_EMPTY_SUM = blake2b(digest_size=SUM_BYTES)
"""What a head's digest begins from: copied in half the time that it takes to set one up."""


def as_bytes(value: object, where: str) -> bytes:
    """Give a column's value, which damage may have turned into one of another type.

    Raises:
        DamagedError: It is not bytes.
    """
    if type(value) is not bytes:
        raise DamagedError(where)
    return value


def body_sum(body: bytes) -> bytes:
    """Give the digest of a body."""
    return sha256(body).digest()[:BODY_SUM_BYTES]


def _sum(head: bytes) -> bytes:
    digest = _EMPTY_SUM.copy()
    digest.update(head)
    return digest.digest()


def seal_entry(body: bytes, *head: int) -> bytes:
    """Give the record of an entry; ``head`` is ``EntryHead`` from ``row`` to ``device``."""
    packed = ENTRY.pack(b"e", *head, body_sum(body))
    return packed + _sum(packed) + body


def open_entry_head(row: int, record: bytes) -> EntryHead:
    """Give the verified head of an entry's record (its first ``ENTRY_HEAD_BYTES`` are enough).

    Raises:
        DamagedError: The head is not what was written, or not of this row.
    """
    packed = record[: ENTRY.size]
    if record[ENTRY.size : ENTRY_HEAD_BYTES] != _sum(packed):
        raise DamagedError("entry")
    head = EntryHead._make(ENTRY.unpack(packed))
    if head.tag != b"e" or head.row != row:
        raise DamagedError("entry")
    return head


def open_entry(row: int, record: bytes) -> tuple[EntryHead, bytes]:
    """Give the verified head and body of an entry's record.

    Raises:
        DamagedError: Either is not what was written.
    """
    head = open_entry_head(row, record)
    body = record[ENTRY_HEAD_BYTES:]
    if head.body_sum != body_sum(body):
        raise DamagedError("entry")
    return head, body


def empty_entry(row: int, record: bytes, state: int) -> bytes:
    """Give the record of the same entry without its body, in ``state``.

    Raises:
        DamagedError: The head is not what was written.
    """
    head = open_entry_head(row, record)._replace(state=state, welcome=0)
    return seal_entry(b"", *head[1:-1])


def seal(layout: Layout, *fields: bytes | int) -> bytes:
    """Give a record of fixed layout; the first two fields are the tag and the row's number."""
    packed = layout.pack(*fields)
    return packed + _sum(packed)


def unseal(layout: Layout, tag: bytes, row: int, record: bytes) -> tuple[int, ...]:
    """Give the verified fields behind tag and number of a record of fixed layout.

    Raises:
        DamagedError: The record is not what was written, or not of this table and row.
    """
    packed = record[: layout.size]
    if record[layout.size :] != _sum(packed):
        raise DamagedError(tag.decode())
    fields = layout.unpack(packed)
    if fields[0] != tag or fields[1] != row:
        raise DamagedError(tag.decode())
    return fields[2:]


def seal_values(tag: str, row: int, *values: object) -> bytes:
    """Give a record of values that MessagePack knows, for rows that change seldom."""
    packed = msgspec.msgpack.encode((tag, row, *values))
    return packed + _sum(packed)


def unseal_values(tag: str, row: int, record: bytes) -> list[Any]:
    """Give the verified values of such a record.

    Raises:
        DamagedError: The record is not what was written, or not of this table and row.
    """
    packed = record[:-SUM_BYTES]
    if not packed or record[-SUM_BYTES:] != _sum(packed):
        raise DamagedError(tag)
    values: list[Any] = msgspec.msgpack.decode(packed)
    if values[:2] != [tag, row]:
        raise DamagedError(tag)
    return values[2:]


def seal_fact(name: bytes, value: bytes) -> bytes:
    """Give the record of a fact: the digest, then the value."""
    named = len(name).to_bytes(2, "big") + name + value
    return body_sum(named) + value


def open_fact(name: bytes, record: bytes) -> bytes:
    """Give the verified value of a fact.

    Raises:
        DamagedError: It is not what was written under this name.
    """
    value = record[BODY_SUM_BYTES:]
    if seal_fact(name, value)[:BODY_SUM_BYTES] != record[:BODY_SUM_BYTES]:
        raise DamagedError("fact")
    return value


def seal_welcome(row: int, body: bytes) -> bytes:
    """Give the record of a Welcome: the digest, then the body."""
    return body_sum(row.to_bytes(8, "big") + body) + body


def open_welcome(row: int, record: bytes) -> bytes:
    """Give the verified body of a Welcome.

    Raises:
        DamagedError: It is not what was written under this number.
    """
    body = record[BODY_SUM_BYTES:]
    if seal_welcome(row, body)[:BODY_SUM_BYTES] != record[:BODY_SUM_BYTES]:
        raise DamagedError("welcome")
    return body
