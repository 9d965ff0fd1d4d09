"""Reading what was opened: each message decrypted, its signature checked again, its words found.

Pure. A message that does not open or verify is shown as that, with the others around it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from itertools import combinations, islice
from typing import Any

import msgspec

from archive.opening import open_messages, open_segment
from archive.segment import SealedSegment, share_context
from crypto.certificate import Root, decode_certificate, fingerprint
from crypto.errors import CryptoError, InvalidError, VerificationError
from crypto.mls.recording import Disclosure, EpochDecryption
from crypto.sealing import SealedShare, open_share
from crypto.shares import Share
from crypto.xwing import XWingKey
from protocol.authenticated_data import AuthenticatedData
from protocol.content import Content, Kind, Reference, Unknown, decode, kind_of

TRIES = 100
"""Sets of shares tried at most where one of them is wrong: more are a fault to be looked into."""

GENUINE = ""
"""``Line.fault`` of a message that opened and whose signature is right."""


class Member(msgspec.Struct, frozen=True, array_like=True):
    """A leaf of a segment's epoch.

    Attributes:
        leaf: Its index.
        certificate: DER.
    """

    leaf: int
    certificate: bytes


class Recorded(msgspec.Struct, frozen=True, array_like=True):
    """A message as the archive hands it out.

    Attributes:
        index: Of its record.
        sequence: Its number in the conversation's log at the relay.
        sent_ms: When the relay took it in.
        message: The MLSMessage.
    """

    index: int
    sequence: int
    sent_ms: int
    message: bytes


class Segment(msgspec.Struct, frozen=True, array_like=True):
    """All of one segment that is in scope.

    Attributes:
        sealed: Encoded ``SealedSegment``.
        shares: By officer, as released; a share that somebody has not is missing.
        members: Of the epoch.
        messages: In the order of the conversation's log.
    """

    sealed: bytes
    shares: dict[str, bytes]
    members: tuple[Member, ...]
    messages: tuple[Recorded, ...]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a timeline.

    Attributes:
        index: Of the record.
        group: The conversation, hexadecimal.
        epoch: MLS epoch.
        sequence: Number in the conversation's log.
        sent_ms: When the relay took it in.
        sender: Device that signed it; empty where that is not known.
        message_id: The sender's count.
        kind: What it is: ``text``, ``read``, ...
        text: All its words, for people and for search.
        fields: Its fields as JSON has them.
        priority: As sent.
        target: Whom it was to reach; empty for the whole conversation.
        acknowledgement_asked: Whether the sender wanted a person's.
        fault: Why it is not what it should be; ``GENUINE`` where all is well.
    """

    index: int
    group: str
    epoch: int
    sequence: int
    sent_ms: int
    sender: str = ""
    message_id: int = 0
    kind: str = ""
    text: str = ""
    fields: dict[str, Any] = {}
    priority: str = ""
    target: str = ""
    acknowledgement_asked: bool = False
    fault: str = GENUINE


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What shows somebody else that a line is what was sent.

    Attributes:
        index: Of the record.
        leaf: The sender's place in the epoch.
        certificate: Fingerprint of the sender's certificate.
        key: Opens this one message.
        nonce: Its nonce.
        context: Encoding of the epoch's GroupContext, which the signature covers.
        content: What was said, as it was signed.
    """

    index: int
    leaf: int
    certificate: bytes
    key: bytes
    nonce: bytes
    context: bytes
    content: bytes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who stands behind a leaf."""

    device: str
    signature_key: bytes
    fingerprint: bytes


def senders_of(members: Iterable[Member], root: Root) -> dict[int, Sender]:
    """Return who stands behind each leaf, as the organisation's root certifies it.

    Raises:
        DecodeError: The bytes are no certificate.
        InvalidError: A rule of the profile is broken, which is named.
        VerificationError: The root did not sign one.
    """
    senders = {}
    for member in members:
        claim = decode_certificate(member.certificate, root=root).claim
        senders[member.leaf] = Sender(
            device=f"{claim.user}/{claim.device}",
            signature_key=claim.signature_key,
            fingerprint=fingerprint(member.certificate),
        )
    return senders


def shares_of(segment: Segment, session_key: XWingKey) -> tuple[SealedSegment, list[Share]]:
    """Return the segment, and the shares of it that were released to the session.

    A share that does not open is left out: enough others do, or nothing opens.

    Raises:
        DecodeError: The sealed segment is none.
        InvalidError: It breaks a rule.
    """
    sealed = SealedSegment.decode(segment.sealed)
    found = []
    for own in sealed.shares:
        data = segment.shares.get(own.context.officer.decode("ascii"))
        if not data:
            continue
        expected = share_context(
            sealed.name,
            officer=own.context.officer,
            index=own.context.index,
            k=sealed.k,
            n=len(sealed.shares),
        )
        try:
            found.append(open_share(SealedShare.decode(data), key=session_key, expected=expected))
        except CryptoError:
            continue
    return sealed, found


def unseal(segment: Segment, session_key: XWingKey) -> EpochDecryption:
    """Return a segment's secrets from the shares released to the session.

    Raises:
        InvalidError: They are too few.
        VerificationError: They are not the segment's.
    """
    sealed, shares = shares_of(segment, session_key)
    if len(shares) < sealed.k:
        raise InvalidError("as many shares as the segment asks")
    for some in islice(combinations(shares, sealed.k), TRIES):
        try:
            return open_segment(sealed, some)
        except (InvalidError, VerificationError):
            continue
    raise VerificationError


def read_segment(
    segment: Segment, session_key: XWingKey, root: Root
) -> Iterator[tuple[Line, Evidence | None]]:
    """Yield each message of a segment as a line, with the evidence for it.

    A segment that does not open yields its messages as faults.

    Args:
        segment: As the archive hands it out.
        session_key: The session's.
        root: The pinned root.
    """
    name = SealedSegment.decode(segment.sealed).name
    try:
        secrets = unseal(segment, session_key)
        senders = senders_of(segment.members, root)
    except CryptoError:
        for recorded in segment.messages:
            yield (
                _line(recorded, name.group_id, name.epoch, fault="segment does not open"),
                None,
            )
        return
    opened = open_messages(secrets, [recorded.message for recorded in segment.messages])
    for recorded, one in zip(segment.messages, opened, strict=True):
        blank = _line(recorded, name.group_id, name.epoch)
        yield _read(blank, one, secrets=secrets, senders=senders)


def _line(recorded: Recorded, group_id: bytes, epoch: int, *, fault: str = GENUINE) -> Line:
    return Line(
        index=recorded.index,
        group=group_id.hex(),
        epoch=epoch,
        sequence=recorded.sequence,
        sent_ms=recorded.sent_ms,
        fault=fault,
    )


def _read(
    blank: Line,
    opened: Disclosure | CryptoError,
    *,
    secrets: EpochDecryption,
    senders: Mapping[int, Sender],
) -> tuple[Line, Evidence | None]:
    replace = msgspec.structs.replace
    if isinstance(opened, CryptoError):
        return replace(blank, fault="does not open"), None
    sender = senders.get(opened.sender)
    if sender is None:
        return replace(blank, fault="of no member"), None
    try:
        secrets.verify(opened.content, sender.signature_key)
    except VerificationError:
        return replace(blank, fault="signature wrong"), None
    framed = opened.content.content
    line = _said(
        replace(blank, sender=sender.device), framed.content, data=framed.authenticated_data
    )
    return line, Evidence(
        index=blank.index,
        leaf=opened.sender,
        certificate=sender.fingerprint,
        key=opened.key,
        nonce=opened.nonce,
        context=secrets.group_context,
        content=framed.content if isinstance(framed.content, bytes) else b"",
    )


def _said(blank: Line, content: object, *, data: bytes) -> Line:
    replace = msgspec.structs.replace
    try:
        open_part = AuthenticatedData.decode(data)
        said = decode(content if isinstance(content, bytes) else b"")
    except CryptoError:
        return replace(blank, fault="signed, but no content of a known form")
    return replace(
        blank,
        message_id=open_part.named,
        priority=open_part.priority.name.lower(),
        target=open_part.target.name,
        acknowledgement_asked=open_part.acknowledgement_asked,
        kind=kind_name(said),
        text="\n".join(words_of(said)),
        fields=plain(said),
    )


def kind_name(content: Content) -> str:
    """Return what a content is called: ``text``, ``hand_off``, ...; ``unknown-77`` if it is new."""
    kind = kind_of(content)
    return f"unknown-{kind}" if isinstance(content, Unknown) else Kind(kind).name.lower()


_FIELDS: dict[type, tuple[str, ...]] = {}


def _names(value: object) -> tuple[str, ...]:
    kind = type(value)
    if kind not in _FIELDS:
        _FIELDS[kind] = tuple(field.name for field in dataclasses.fields(value))  # type: ignore[arg-type]
    return _FIELDS[kind]


def plain(value: object) -> Any:
    """Return a content's value as JSON has it: names of enumerations, bytes in hexadecimal."""
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Reference):
        return f"{value.sender}#{value.message_id}"
    if dataclasses.is_dataclass(value):
        return {name: plain(getattr(value, name)) for name in _names(value)}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def words_of(value: object) -> Sequence[str]:
    """Return all text in a content, in the order of its fields."""
    if isinstance(value, str) and not isinstance(value, Enum):
        return [value] if value else []
    if isinstance(value, Reference):
        return []
    if dataclasses.is_dataclass(value):
        return [word for name in _names(value) for word in words_of(getattr(value, name))]
    if isinstance(value, tuple | list):
        return [word for item in value for word in words_of(item)]
    return []
