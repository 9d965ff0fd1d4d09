"""Bytes that differ for certain: a byte set to a fixed value may have had it before."""


def flipped(data: bytes) -> bytes:
    """`data` with the lowest bit of its last octet changed."""
    return data[:-1] + bytes([data[-1] ^ 1])
