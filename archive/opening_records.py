"""What the archive itself records of an opening: the hand-out of keys, each view, each export.

Each says when: what may happen twice is two records.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from crypto.codec import U8, U32, U64, Reader, Struct, vector_of
from crypto.errors import InvalidError
from protocol.opening import Hash, Words

HAND_OUT_VERSION = 1

MOST_DETAIL_CHARACTERS = 200
"""Longest detail of a view: what was searched for, cut there."""


def _take(reader: Reader) -> bytes:
    return reader.take(32)


Hashes = Annotated[tuple[bytes, ...], vector_of(_take, bytes)]


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOut(Struct):
    """Body of the archive's own ``SHARE_RELEASE`` record: no key leaves the archive before it.

    Attributes:
        version: ``HAND_OUT_VERSION``.
        request: ``statement_hash`` of the request.
        hits: SHA-256 of the segments whose record keys are handed out.
        releases: ``statement_hash`` of each officer's release, ascending.
        verifier: SHA-256 of the verifier's file that exports of this opening contain.
    """

    version: U8 = HAND_OUT_VERSION
    request: Hash
    hits: Hash
    releases: Hashes
    verifier: Hash

    def __post_init__(self) -> None:
        if self.version != HAND_OUT_VERSION or list(self.releases) != sorted(set(self.releases)):
            raise InvalidError("a hand-out has a known version, its releases in order")


@dataclass(frozen=True, slots=True, kw_only=True)
class View(Struct):
    """Body of a ``VIEW`` record.

    Attributes:
        request: Of which opening.
        at_ms: When.
        what: ``timeline``, ``search``, ``context``, ...
        detail: What was asked for, cut to ``MOST_DETAIL_CHARACTERS``.
        lines: How many lines were shown.
    """

    request: Hash
    at_ms: U64
    what: Words
    detail: Words = field(repr=False)
    lines: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class Export(Struct):
    """Body of an ``EXPORT`` record: by it the archive signs an export's manifest.

    Attributes:
        request: Of which opening.
        at_ms: When.
        manifest: SHA-256 of the manifest.
        recipient: SHA-256 of the recipient's key, as it was given.
        lines: How many messages it holds.
    """

    request: Hash
    at_ms: U64
    manifest: Hash
    recipient: Hash
    lines: U32
