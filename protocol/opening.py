"""What officers sign about the archive: keys, requests, approvals, releases, holds, liveness.

Each class here is the body of one type of statement, with one encoding. Who may sign them is fixed
by the type (``crypto.statement``); what they permit is judged in ``protocol.quorum`` alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Annotated, TypeVar

from crypto import codec
from crypto.codec import U8, U32, U64, Opaque, Reader, Struct, Wire, vector_of
from crypto.errors import InvalidError
from crypto.names import read_text, write_text
from protocol.identifiers import CONVERSATION_ID_BYTES, UserName, conversation_id, user_name
from protocol.retention import BUCKET_NAME_BYTES, Bucket

Name = TypeVar("Name", bytes, UserName)

VERSION = 1
HASH_BYTES = 32

BUCKET_KEY_BYTES = 1216
"""Length of an X-Wing public key."""

KEYS_PER_STATEMENT = 10
"""Bucket keys in one statement at most: with its signature it fits one message of 16 KiB."""

CASE_CHARACTERS = 64
"""Longest name of a case: a reference in the house's own numbering."""

REASON_CHARACTERS = 1000
"""Longest reason: it is read by every officer before approving."""

PATIENT_CHARACTERS = 200
"""Longest patient reference: that of a conversation's card."""

CONVERSATIONS_PER_SCOPE = 64
"""Conversations or people in one scope at most: a wider one is another case."""

MOST_RECORDS = 1_000_000
"""Records that one opening can ask for at most: what is worked through in a few minutes."""

SEGMENTS_PER_OPENING = 20_000
"""Segments in one opening at most; each costs an officer's device an opening and a sealing."""

REQUEST_LIFE_MS = 30 * 24 * 3600 * 1000
"""Longest life of a request: what nobody approved within a month is asked for anew."""

TIME_MAX_MS = (1 << 63) - 1


class Purpose(IntEnum):
    """What an opening is for."""

    REVIEW = 1
    """Content is read by the review program."""
    RESHARE = 2
    """Segment keys are shared anew, to other officers or another bucket; no content is read."""


def _read_purpose(reader: Reader) -> Purpose:
    try:
        return Purpose(reader.u8())
    except ValueError:
        raise reader.fail() from None


def _read_flag(reader: Reader) -> bool:
    value = reader.u8()
    if value > 1:
        raise reader.fail()
    return bool(value)


def _read_words(reader: Reader) -> str:
    try:
        return reader.opaque().decode("utf-8")
    except UnicodeDecodeError:
        raise reader.fail() from None


def _write_words(text: str) -> bytes:
    return codec.opaque(text.encode("utf-8"))


def _take(size: int) -> Wire[bytes]:
    def read(reader: Reader) -> bytes:
        return reader.take(size)

    return Wire(read, bytes)


def _read_user(reader: Reader) -> UserName:
    return UserName(read_text(reader))


Flag = Annotated[bool, Wire(_read_flag, codec.u8)]
Words = Annotated[str, Wire(_read_words, _write_words)]
Hash = Annotated[bytes, _take(HASH_BYTES)]
PurposeField = Annotated[Purpose, Wire(_read_purpose, codec.u8)]
Conversations = Annotated[
    tuple[bytes, ...], vector_of(lambda reader: reader.take(CONVERSATION_ID_BYTES), bytes)
]
People = Annotated[tuple[UserName, ...], vector_of(_read_user, write_text)]


def _check_version(version: int) -> None:
    if version != VERSION:
        raise InvalidError("a body has a known version")


def _check_hash(*values: bytes) -> None:
    if any(len(value) != HASH_BYTES for value in values):
        raise InvalidError("a hash has 32 bytes")


def _check_words(text: str, *, longest: int, empty: bool = False) -> None:
    if not text and empty:
        return
    if not 0 < len(text) <= longest or not text.replace("\n", " ").isprintable():
        raise InvalidError("a text is printable and within its length")


def _check_names(names: Sequence[Name]) -> None:
    if list(names) != sorted(set(names)) or len(names) > CONVERSATIONS_PER_SCOPE:
        raise InvalidError("a scope's names are ascending, at most 64 of a kind")


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketKey(Struct):
    """The key to which an officer's shares of one retention bucket are sealed.

    Attributes:
        bucket: The bucket's name.
        public_key: X-Wing public key, ``BUCKET_KEY_BYTES`` bytes.
    """

    bucket: Opaque
    public_key: Annotated[bytes, _take(BUCKET_KEY_BYTES)] = field(repr=False)

    def __post_init__(self) -> None:
        Bucket.decode(self.bucket)
        if len(self.public_key) != BUCKET_KEY_BYTES:
            raise InvalidError("a bucket key has 1216 bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficerKeys(Struct):
    """Body of ``OFFICER_KEYS``: keys of the officer who signs it. A later one's keys count.

    Attributes:
        version: ``VERSION``.
        keys: One to ``KEYS_PER_STATEMENT``, by ascending bucket.
    """

    version: U8 = VERSION
    keys: Annotated[tuple[BucketKey, ...], vector_of(BucketKey.read, BucketKey.encode)]

    def __post_init__(self) -> None:
        _check_version(self.version)
        buckets = [key.bucket for key in self.keys]
        if buckets != sorted(set(buckets)) or not 1 <= len(buckets) <= KEYS_PER_STATEMENT:
            raise InvalidError("officers' keys are one to ten, by ascending bucket")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope(Struct):
    """What an opening or a hold is about: all that matches every criterion that is given.

    Attributes:
        conversations: Ids, ascending; empty: not a criterion.
        people: Users one of whom was a member, ascending; empty: not a criterion.
        patient: The conversation's patient reference; empty: not a criterion.
        from_ms: First instant, by when the relay took a message in, in ms since the epoch.
        until_ms: The instant at which the period ends, not in it.
    """

    conversations: Conversations = field(default=(), repr=False)
    people: People = field(default=(), repr=False)
    patient: Words = field(default="", repr=False)
    from_ms: U64
    until_ms: U64

    def __post_init__(self) -> None:
        for conversation in self.conversations:
            conversation_id(conversation)
        for user in self.people:
            user_name(user)
        _check_words(self.patient, longest=PATIENT_CHARACTERS, empty=True)
        _check_names(self.conversations)
        _check_names(self.people)
        if not (self.conversations or self.people or self.patient):
            raise InvalidError("a scope names a conversation, a person or a patient")
        if not 0 <= self.from_ms < self.until_ms <= TIME_MAX_MS:
            raise InvalidError("a scope has a period")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpeningRequest(Struct):
    """Body of ``OPENING_REQUEST``.

    Attributes:
        version: ``VERSION``.
        purpose: What it is for.
        emergency: Whether the emergency's quorum is asked, with notice to every officer.
        case: The house's reference.
        reason: Why; read by who approves.
        scope: What is to be opened.
        ends_ms: After this instant nothing is approved, released or handed out.
        most_records: More than so many are not handed out.
        session_key: One-time X-Wing key of the review session: shares are released to it alone.
        hits: SHA-256 of the ``Hits`` that were counted before it was signed.
    """

    version: U8 = VERSION
    purpose: PurposeField
    emergency: Flag
    case: Words = field(repr=False)
    reason: Words = field(repr=False)
    scope: Scope
    ends_ms: U64
    most_records: U32
    session_key: Annotated[bytes, _take(BUCKET_KEY_BYTES)] = field(repr=False)
    hits: Hash

    def __post_init__(self) -> None:
        _check_version(self.version)
        _check_words(self.case, longest=CASE_CHARACTERS)
        _check_words(self.reason, longest=REASON_CHARACTERS)
        _check_hash(self.hits)
        if len(self.session_key) != BUCKET_KEY_BYTES:
            raise InvalidError("a session key has 1216 bytes")
        if not 1 <= self.most_records <= MOST_RECORDS:
            raise InvalidError("an opening asks for one to a million records")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpeningApproval(Struct):
    """Body of ``OPENING_APPROVAL``: one officer's yes or no to one request.

    Attributes:
        version: ``VERSION``.
        request: ``statement_hash`` of the request.
        granted: Yes or no; an officer's later answer counts.
        reason: Why not; may be empty with a yes.
        tree_size: Size of the checkpoint in which the officer's device found the request.
        root: Root of that tree.
    """

    version: U8 = VERSION
    request: Hash
    granted: Flag
    reason: Words = field(default="", repr=False)
    tree_size: U64
    root: Hash

    def __post_init__(self) -> None:
        _check_version(self.version)
        _check_hash(self.request, self.root)
        _check_words(self.reason, longest=REASON_CHARACTERS, empty=self.granted)
        if not 0 < self.tree_size <= TIME_MAX_MS:
            raise InvalidError("a checkpoint that contains a request has leaves")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareRelease(Struct):
    """Body of ``SHARE_RELEASE``: an officer's device has released its shares of a scope.

    Attributes:
        version: ``VERSION``.
        request: ``statement_hash`` of the request.
        hits: SHA-256 of the segments released, those of the request.
        shares: SHA-256 of the re-encrypted shares (``Shares``).
        tree_size: Size of the checkpoint under which the device found the approvals.
        root: Root of that tree.
    """

    version: U8 = VERSION
    request: Hash
    hits: Hash
    shares: Hash
    tree_size: U64
    root: Hash

    def __post_init__(self) -> None:
        _check_version(self.version)
        _check_hash(self.request, self.hits, self.shares, self.root)
        if not 0 < self.tree_size <= TIME_MAX_MS:
            raise InvalidError("a checkpoint that contains approvals has leaves")


@dataclass(frozen=True, slots=True, kw_only=True)
class LegalHold(Struct):
    """Body of ``LEGAL_HOLD``: what is not to be shredded, or is no longer held.

    Attributes:
        version: ``VERSION``.
        case: The house's reference.
        reason: Why.
        scope: What is held; one that is released is named by the same scope.
        released: ``statement_hash`` of the hold that ends; zeroes where one is set.
    """

    version: U8 = VERSION
    case: Words = field(repr=False)
    reason: Words = field(repr=False)
    scope: Scope
    released: Hash = bytes(HASH_BYTES)

    def __post_init__(self) -> None:
        _check_version(self.version)
        _check_words(self.case, longest=CASE_CHARACTERS)
        _check_words(self.reason, longest=REASON_CHARACTERS)
        _check_hash(self.released)

    @property
    def is_set(self) -> bool:
        """Whether it sets a hold rather than ends one."""
        return self.released == bytes(HASH_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened(Struct):
    """That an officer's key still opens what is sealed to it.

    Attributes:
        bucket: The key's bucket.
        share: SHA-256 of the challenge's share.
    """

    bucket: Opaque
    share: Hash

    def __post_init__(self) -> None:
        Bucket.decode(self.bucket)
        _check_hash(self.share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Liveness(Struct):
    """Body of ``OFFICER_LIVENESS``: the answer to one challenge.

    Attributes:
        version: ``VERSION``.
        challenge: SHA-256 of the challenge.
        opened: By ascending bucket, at least one.
    """

    version: U8 = VERSION
    challenge: Hash
    opened: Annotated[tuple[Opened, ...], vector_of(Opened.read, Opened.encode)]

    def __post_init__(self) -> None:
        _check_version(self.version)
        _check_hash(self.challenge)
        buckets = [one.bucket for one in self.opened]
        if not buckets or buckets != sorted(set(buckets)):
            raise InvalidError("an answer to a challenge has buckets, ascending")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentHit(Struct):
    """One segment in a request's scope, as the archive found it before anything was opened.

    Attributes:
        group_id: The conversation ...
        epoch: ... and the epoch.
        bucket: Retention bucket to whose keys its shares are sealed.
        k: Shares that open it.
        n: Shares made.
        keys: Index of the record with its sealed keys.
        records: Records of it in the period.
        first_ms: When the relay took the first of them in.
        last_ms: When it took the last of them in.
    """

    group_id: Annotated[bytes, _take(CONVERSATION_ID_BYTES)] = field(repr=False)
    epoch: U64
    bucket: Opaque
    k: U8
    n: U8
    keys: U64
    records: U32
    first_ms: U64
    last_ms: U64

    def __post_init__(self) -> None:
        conversation_id(self.group_id)
        if not 0 < len(self.bucket) <= BUCKET_NAME_BYTES or self.first_ms > self.last_ms:
            raise InvalidError("a hit has a bucket and a period")
        if not 2 <= self.k <= self.n:
            raise InvalidError("a hit is shared k of n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hits(Struct):
    """The segments in a scope: what a request names by hash, and all that is released for it.

    Attributes:
        version: ``VERSION``.
        segments: By ascending conversation and epoch.
    """

    version: U8 = VERSION
    segments: Annotated[tuple[SegmentHit, ...], vector_of(SegmentHit.read, SegmentHit.encode)]

    def __post_init__(self) -> None:
        _check_version(self.version)
        places = [(hit.group_id, hit.epoch) for hit in self.segments]
        if places != sorted(set(places)) or len(places) > SEGMENTS_PER_OPENING:
            raise InvalidError("hits are ascending, one for a segment, at most 20000")

    @property
    def records(self) -> int:
        """Records in scope, all segments together."""
        return sum(hit.records for hit in self.segments)

    @property
    def hash(self) -> bytes:
        """What a request names them by."""
        return hashlib.sha256(self.encode()).digest()


def _write_opaque(value: bytes) -> bytes:
    return codec.opaque(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares(Struct):
    """Sealed shares of one officer for one request, in the order of its ``Hits``.

    Attributes:
        request: ``statement_hash`` of the request.
        officer: To whom they were sealed, or who released them.
        sealed: Each a sealed share's encoding.
    """

    request: Hash
    officer: Annotated[UserName, Wire(_read_user, write_text)]
    sealed: Annotated[tuple[bytes, ...], vector_of(Reader.opaque, _write_opaque)] = field(
        repr=False
    )

    def __post_init__(self) -> None:
        _check_hash(self.request)
        user_name(self.officer)

    @property
    def hash(self) -> bytes:
        """What a release names them by."""
        return hashlib.sha256(self.encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge(Struct):
    """What the archive asks one officer's device to open, to show that it still can.

    Attributes:
        number: Counts up; bound into every share.
        officer: Whom it asks.
        sealed: One sealed share for each of the officer's buckets.
    """

    number: U64
    officer: Annotated[UserName, Wire(_read_user, write_text)]
    sealed: Annotated[tuple[bytes, ...], vector_of(Reader.opaque, _write_opaque)] = field(
        repr=False
    )

    def __post_init__(self) -> None:
        user_name(self.officer)

    @property
    def hash(self) -> bytes:
        """What an answer names it by."""
        return hashlib.sha256(self.encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft(Struct):
    """What an officer wants to ask for, before anything is counted or signed.

    Attributes:
        purpose: What for.
        scope: What is to be opened.
        nonce: Random, so that the answer is known by it.
    """

    purpose: PurposeField
    scope: Scope
    nonce: Hash

    def __post_init__(self) -> None:
        _check_hash(self.nonce)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer(Struct):
    """The archive's answer to a draft: what is in scope, and to which key it would be released.

    Attributes:
        draft: As it came.
        session_key: Of a review session that waits at the archive.
        hits: Encoded ``Hits``.
    """

    draft: Draft
    session_key: Annotated[bytes, _take(BUCKET_KEY_BYTES)] = field(repr=False)
    hits: Opaque = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.session_key) != BUCKET_KEY_BYTES:
            raise InvalidError("a session key has 1216 bytes")
        Hits.decode(self.hits)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordProof(Struct):
    """That a statement is in the archive's log, for a device to verify by itself.

    Attributes:
        statement: ``statement_hash`` of the statement.
        record: The log's record of it.
        salt: Opens the record's commitment.
        proof: C2SP tlog-proof under a cosigned checkpoint.
    """

    statement: Hash
    record: Opaque
    salt: Hash
    proof: Opaque

    def __post_init__(self) -> None:
        _check_hash(self.statement, self.salt)


def statement_hash(data: bytes) -> bytes:
    """Return what approvals, releases and proofs name a statement by: SHA-256 of all of it."""
    return hashlib.sha256(data).digest()


def decode_officer_keys(body: bytes) -> OfficerKeys:
    """Return the body of an ``OFFICER_KEYS`` statement.

    Raises:
        DecodeError: The bytes are no encoding of it.
        InvalidError: A rule of it is broken.
    """
    return OfficerKeys.decode(body)
