"""A seeded mutator: from valid encodings to ones that are nearly valid, and to noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import msgspec

Mutation = Callable[[Random, bytes, Sequence[bytes]], bytes]

EDGES = (0, 1, 23, 24, 31, 32, 127, 128, 255, 256, (1 << 31) - 1, (1 << 32) - 1, (1 << 63) - 1)
EDGE_VALUES: tuple[object, ...] = (
    *EDGES, 1 << 63, (1 << 64) - 1, -1, None, True, 0.5, "", "a/b", "é", b"", b"o", b"\x00" * 32,
    b"\xff" * 64, [], [[]], ["ann/phone"], {}, {"type": 5},
)  # fmt: skip


def _flip(random: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def _replace(random: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    at = random.randrange(len(data))
    return data[:at] + random.randbytes(1) + data[at + 1 :]


def _cut(random: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    return data[: random.randrange(len(data))]


def _drop(random: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    at = random.randrange(len(data))
    return data[:at] + data[at + random.randint(1, 8) :]


def _insert(random: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + random.randbytes(random.randint(1, 8)) + data[at:]


def _double(random: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    at = random.randrange(len(data))
    return data[:at] + data[at : at + random.randint(1, 40)] + data[at:]


def _splice(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = random.choice(others)
    return data[: random.randint(0, len(data))] + other[random.randint(0, len(other)) :]


def _edge(random: Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    width = random.choice((1, 2, 4, 8))
    value = random.choice(EDGES) & (1 << 8 * width) - 1
    at = random.randint(0, max(0, len(data) - width))
    return data[:at] + value.to_bytes(width, "big") + data[at + width :]


def _field(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Change one field of what is a MessagePack array, and encode it properly again."""
    try:
        fields = msgspec.msgpack.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _flip(random, data, others)
    if not isinstance(fields, list) or not fields:
        return _flip(random, data, others)
    at = random.randrange(len(fields))
    value = fields[at]
    if isinstance(value, bytes) and value and random.random() < 0.6:
        fields[at] = mutated(random, value, others)
    else:
        fields[at] = random.choice(EDGE_VALUES)
    return msgspec.msgpack.encode(fields)


def _noise(random: Random, _data: bytes, _others: Sequence[bytes]) -> bytes:
    return random.randbytes(random.randint(0, 200))


_MUTATIONS: tuple[Mutation, ...] = (
    _flip, _replace, _cut, _drop, _insert, _double, _splice, _edge, _field, _field, _field, _noise,
)  # fmt: skip


def mutated(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return ``data`` after one to three changes; ``others`` lend their pieces."""
    for _ in range(random.choice((1, 1, 2, 3))):
        if not data:
            return random.randbytes(4)
        data = random.choice(_MUTATIONS)(random, data, others)
    return data
