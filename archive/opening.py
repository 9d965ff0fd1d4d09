"""Opening a segment with the shares of k officers. Pure functions: who may, is decided elsewhere.

Nothing that records can import this module: an import contract holds that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from archive.segment import SealedSegment
from crypto.errors import CryptoError, InvalidError, VerificationError
from crypto.mls.recording import Disclosure, EpochDecryption
from crypto.shares import Share, combine
from crypto.single_use import open_once

Opened = Disclosure | CryptoError
"""An opened message, or why it does not open."""


def open_segment(segment: SealedSegment, shares: Sequence[Share]) -> EpochDecryption:
    """Return the secrets of a segment's epoch.

    Args:
        segment: As its record holds it.
        shares: Of k officers or more, each opened by its own officer's key.

    Raises:
        InvalidError: They are too few, of different splits or of another k or n than the segment's,
            or one is there twice.
        VerificationError: A share is wrong, of another segment, or the segment was changed.
    """
    if any((share.k, share.n) != (segment.k, len(segment.shares)) for share in shares):
        raise InvalidError("shares of the segment's own k and n")
    key = combine(shares)
    try:
        opened = open_once(segment.ciphertext, key=key, context=segment.context())
        return EpochDecryption.decode(opened)
    except CryptoError:
        raise VerificationError from None


def open_messages(secrets: EpochDecryption, messages: Iterable[bytes]) -> Iterator[Opened]:
    """Yield what each application message of the epoch says, or why it does not open.

    The sender is a claim until ``EpochDecryption.verify`` has checked the signature under the key
    of that leaf in that epoch. One message that does not open hides none of the others.

    Args:
        secrets: Of the epoch.
        messages: MLSMessages of the epoch as they came, in any order within a sender's bounds.
    """
    keys = secrets.start()
    for message in messages:
        try:
            keys, opened = secrets.disclose(message, keys)
        except CryptoError as error:
            yield error
        else:
            yield opened
