"""Sharing a secret k of n: any k shares give it back, k - 1 say nothing about it.

Shamir's scheme byte by byte over GF(2^8) with the field polynomial of AES, the secret at 0 and
share ``i`` at ``i``, as HashiCorp Vault has it. What is shared is the key and 32 random bytes, and
each share carries a hash of both: so ``combine`` notices a share that is wrong or of another split.
The values of k - 1 shares are independent of the key, without any assumption; the hash beside them
hides even a key of few possible values, as far as SHA-256 hides 32 random bytes.

Nothing here branches on a secret or uses one as an index: no tables. All bytes of a share are
multiplied at once inside one integer by shifts and masks; only the shares' numbers, which are
public, decide what is computed. (CPython's integers are not constant-time by promise: an integer
with leading zero bytes may be handled a digit shorter. That a secret begins with four zero bytes is
one case in four thousand million, and it is all that timing could tell.)

Source: Shamir, "How to share a secret", 1979; FIPS 197, section 4.2 (the field).
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from crypto import codec
from crypto.errors import InvalidError, UsageError, VerificationError

KEY_BYTES = 32
SALT_BYTES = 32
VALUE_BYTES = KEY_BYTES + SALT_BYTES
COMMITMENT_BYTES = 32

MIN_THRESHOLD = 2
"""Shares needed at least: with one, a single officer could open alone."""

MIN_SPARE = 2
"""Shares beyond the threshold at least: that many officers may be away or lose their keys."""

MAX_SHARES = 255
"""Shares at most: their numbers are the field's elements other than 0."""

_LABEL = b"Wardline 1 share commitment"
_HIGH_BITS = int.from_bytes(b"\x80" * VALUE_BYTES, "big")
_LOW_BITS = int.from_bytes(b"\x7f" * VALUE_BYTES, "big")


def check_split(*, k: int, n: int) -> None:
    """Refuse numbers that no split may have.

    Raises:
        InvalidError: ``k`` is below ``MIN_THRESHOLD``, ``n`` is below ``k + MIN_SPARE`` or above
            ``MAX_SHARES``.
    """
    if not (k >= MIN_THRESHOLD and k + MIN_SPARE <= n <= MAX_SHARES):
        raise InvalidError("a split is k of n with k >= 2 and k + 2 <= n <= 255")


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One of the n shares of a key.

    Attributes:
        index: The share's number, 1 to ``n``.
        k: Shares that are needed.
        n: Shares that were made.
        commitment: Hash of what is shared; equal in all shares of one split, and in no others.
        value: ``VALUE_BYTES`` secret bytes.
    """

    index: int
    k: int
    n: int
    commitment: bytes
    value: bytes = field(repr=False)

    def encode(self) -> bytes:
        """Return ``uint8 index, k, n; opaque commitment[32]; opaque value[64]``."""
        return bytes([self.index, self.k, self.n]) + self.commitment + self.value

    @classmethod
    def decode(cls, data: bytes) -> Share:
        """Return the share in ``data``.

        Raises:
            DecodeError: The bytes are none.
            InvalidError: Its numbers are none of a split.
        """
        return codec.decode(data, "Share", _read_share)


def _read_share(reader: codec.Reader) -> Share:
    share = Share(
        index=reader.u8(),
        k=reader.u8(),
        n=reader.u8(),
        commitment=reader.take(COMMITMENT_BYTES),
        value=reader.take(VALUE_BYTES),
    )
    check_split(k=share.k, n=share.n)
    if not 1 <= share.index <= share.n:
        raise InvalidError("a share is numbered 1 to n")
    return share


def split(key: bytes, *, k: int, n: int) -> tuple[Share, ...]:
    """Return ``n`` shares of ``key``, numbered from 1.

    Args:
        key: ``KEY_BYTES`` bytes.
        k: Shares that give it back.
        n: Shares to make.

    Raises:
        InvalidError: ``k`` and ``n`` are none of a split.
        UsageError: The key has another length.

    Source: Shamir 1979.
    """
    check_split(k=k, n=n)
    if len(key) != KEY_BYTES:
        raise UsageError("a shared key has 32 bytes")
    secret = key + secrets.token_bytes(SALT_BYTES)
    commitment = _commit(secret, k=k, n=n)
    # The polynomial's coefficients from the highest down to the secret.
    coefficients = [secrets.randbits(8 * VALUE_BYTES) for _ in range(k - 1)]
    coefficients.append(int.from_bytes(secret, "big"))
    return tuple(
        Share(
            index=index,
            k=k,
            n=n,
            commitment=commitment,
            value=_evaluate(coefficients, index).to_bytes(VALUE_BYTES, "big"),
        )
        for index in range(1, n + 1)
    )


def combine(shares: Sequence[Share]) -> bytes:
    """Return the key of ``shares``.

    All that are given take part, so more than ``k`` are checked against each other. Which of them
    is wrong does not show; where more than ``k`` officers answered, the caller tries other sets.

    Args:
        shares: At least ``k`` different shares of one split, in any order.

    Raises:
        InvalidError: They are too few, of different splits, or one is there twice.
        VerificationError: A share is wrong.

    Source: Shamir 1979 (Lagrange interpolation at 0).
    """
    if len({(share.k, share.n, share.commitment) for share in shares}) != 1:
        raise InvalidError("shares of one split")
    indices = [share.index for share in shares]
    if len(set(indices)) != len(indices) or len(indices) < shares[0].k:
        raise InvalidError("at least k different shares")
    total = 0
    for share in shares:
        factor = _lagrange_at_zero(share.index, indices)
        total ^= _times(int.from_bytes(share.value, "big"), factor)
    secret = total.to_bytes(VALUE_BYTES, "big")
    expected = _commit(secret, k=shares[0].k, n=shares[0].n)
    if not hmac.compare_digest(expected, shares[0].commitment):
        raise VerificationError
    return secret[:KEY_BYTES]


def _commit(secret: bytes, *, k: int, n: int) -> bytes:
    return sha256(_LABEL + bytes([k, n]) + secret).digest()


def _times(lanes: int, factor: int) -> int:
    """Multiply each byte of ``lanes`` (secret) by ``factor`` (public) in GF(2^8)."""
    product = 0
    while factor:
        if factor & 1:
            product ^= lanes
        carry = (lanes & _HIGH_BITS) >> 7
        # Each lane times x, reduced by x^8 + x^4 + x^3 + x + 1 where a bit left its lane.
        lanes = ((lanes & _LOW_BITS) << 1) ^ carry ^ (carry << 1) ^ (carry << 3) ^ (carry << 4)
        factor >>= 1
    return product


def _evaluate(coefficients: Sequence[int], point: int) -> int:
    """Return the polynomial's value at ``point`` in every lane (Horner's rule)."""
    value = 0
    for coefficient in coefficients:
        value = _times(value, point) ^ coefficient
    return value


def _inverse(element: int) -> int:
    """Return the inverse of a public element: its 254th power, 254 being 0b11111110."""
    result, square = 1, element
    for _ in range(7):
        square = _times(square, square)
        result = _times(result, square)
    return result


def _lagrange_at_zero(index: int, indices: Sequence[int]) -> int:
    """Return the factor of share ``index`` in the sum that is the secret; public numbers only."""
    numerator = denominator = 1
    for other in indices:
        if other != index:
            numerator = _times(numerator, other)
            denominator = _times(denominator, other ^ index)
    return _times(numerator, _inverse(denominator))
