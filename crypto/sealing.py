"""Sealing shares: each share of a segment's key, encrypted to one officer for one place only.

What a share is for (organisation, segment, bucket, officer, number, k and n) is HPKE's ``info``, so
a sealed share opens nowhere else. Base mode says nothing about who sealed: that a share is the
archive's own is known by the witnessed record in which it stands.

Source: RFC 9180, base mode, single shot; KEM X-Wing (draft-connolly-cfrg-xwing-kem), HKDF-SHA256,
ChaCha20-Poly1305.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from crypto import codec, xwing
from crypto.errors import DecodeError, InvalidError, UsageError, VerificationError
from crypto.shares import COMMITMENT_BYTES, VALUE_BYTES, Share, check_split

VERSION = 1

MAX_NAME_BYTES = 255
"""Longest identifier in a context, in bytes: longer ones would only be a way to swell a record."""

CIPHERTEXT_BYTES = xwing.ENC_BYTES + 3 + COMMITMENT_BYTES + VALUE_BYTES + 16
"""Encapsulated key, the share's encoding, the tag."""

_INFO_LABEL = b"Wardline 1 sealed share"
_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareContext:
    """What one sealed share is for.

    Attributes:
        organisation: The organisation's identifier, 1 to ``MAX_NAME_BYTES`` bytes, like the others.
        group_id: With ``epoch`` the segment: the MLS group ...
        epoch: ... and its epoch, below 2^64.
        bucket: Retention bucket (class and quarter) whose keys the officers destroy at its end.
        officer: The officer to whom it is sealed.
        index: The share's number, 1 to ``n``.
        k: Shares needed.
        n: Shares made.
    """

    organisation: bytes = field(repr=False)
    group_id: bytes = field(repr=False)
    epoch: int
    bucket: bytes = field(repr=False)
    officer: bytes = field(repr=False)
    index: int
    k: int
    n: int

    def __post_init__(self) -> None:
        names = (self.organisation, self.group_id, self.bucket, self.officer)
        check_split(k=self.k, n=self.n)
        if not all(1 <= len(name) <= MAX_NAME_BYTES for name in names):
            raise InvalidError("a share context's identifiers have 1 to 255 bytes")
        if not (1 <= self.index <= self.n and 0 <= self.epoch < 1 << 64):
            raise InvalidError("a share context's index or epoch is out of range")

    def encode(self) -> bytes:
        """Return the context's encoding."""
        return (
            codec.opaque(self.organisation)
            + codec.opaque(self.group_id)
            + codec.u64(self.epoch)
            + codec.opaque(self.bucket)
            + codec.opaque(self.officer)
            + bytes([self.index, self.k, self.n])
        )


def _read_context(reader: codec.Reader) -> ShareContext:
    return ShareContext(
        organisation=reader.opaque(),
        group_id=reader.opaque(),
        epoch=reader.u64(),
        bucket=reader.opaque(),
        officer=reader.opaque(),
        index=reader.u8(),
        k=reader.u8(),
        n=reader.u8(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedShare:
    """A share that one private key opens, with the context that it is bound to.

    Attributes:
        context: What it is for, as the sealer says; ``open_share`` compares it.
        ciphertext: ``CIPHERTEXT_BYTES`` bytes: HPKE's encapsulated key, ciphertext and tag.
    """

    context: ShareContext
    ciphertext: bytes = field(repr=False)

    def encode(self) -> bytes:
        """Return ``uint8 version; ShareContext context; opaque ciphertext[1235]``."""
        return codec.u8(VERSION) + self.context.encode() + self.ciphertext

    @classmethod
    def decode(cls, data: bytes) -> SealedShare:
        """Return the sealed share in ``data``.

        Raises:
            DecodeError: The bytes are none.
            InvalidError: It is of another version, or its context is out of range.
        """
        return codec.decode(data, "SealedShare", _read_sealed)


def _read_sealed(reader: codec.Reader) -> SealedShare:
    if reader.u8() != VERSION:
        raise InvalidError("a sealed share has a known version")
    return SealedShare(context=_read_context(reader), ciphertext=reader.take(CIPHERTEXT_BYTES))


def seal_share(share: Share, *, public_key: bytes, context: ShareContext) -> SealedShare:
    """Return ``share`` sealed to ``public_key`` for ``context``.

    Args:
        share: One of ``shares.split``.
        public_key: X-Wing key of the officer for the bucket; where an officer releases a share, the
            review session's one-time key.
        context: What the share is for.

    Raises:
        InvalidError: The public key is not valid.
        UsageError: The context is that of another share.

    Source: RFC 9180, section 6.1, SealBase.
    """
    if _numbers(share) != _numbers(context):
        raise UsageError("a share is sealed for its own context")
    recipient = xwing.hpke_public_key(public_key)
    ciphertext = _SUITE.encrypt(share.encode(), recipient, info=_info(context))
    return SealedShare(context=context, ciphertext=ciphertext)


def open_share(sealed: SealedShare, *, key: xwing.XWingKey, expected: ShareContext) -> Share:
    """Return the share that was sealed to ``key`` for ``expected``.

    Args:
        sealed: As it came.
        key: The private key that it is sealed to.
        expected: What the opener *knows* the share to be for, from the request that it checked;
            never ``sealed.context`` itself.

    Raises:
        VerificationError: It is for something else, sealed to another key, or was changed.

    Source: RFC 9180, section 6.1, OpenBase.
    """
    if sealed.context != expected:
        raise VerificationError
    try:
        data = _SUITE.decrypt(sealed.ciphertext, key.hpke_key(), info=_info(expected))
        share = Share.decode(data)
    except (InvalidTag, DecodeError, InvalidError):
        raise VerificationError from None
    if _numbers(share) != _numbers(expected):
        raise VerificationError
    return share


def _info(context: ShareContext) -> bytes:
    return codec.opaque(_INFO_LABEL) + context.encode()


def _numbers(value: Share | ShareContext) -> tuple[int, int, int]:
    return value.index, value.k, value.n
