"""The framing of messages on the wire (RFC 9420, section 6): structs only, nothing that decrypts.

A relay may import this module; signing, encryption and their opposites are in ``protection``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from crypto.codec import Reader, decode, opaque, u8, u16, u32, u64
from crypto.mls.group_info import GroupInfo, Welcome
from crypto.mls.key_package import KeyPackage
from crypto.mls.leaf_node import MLS10
from crypto.mls.proposal import Commit, Proposal, encode_proposal, read_proposal


class WireFormat(IntEnum):
    """RFC 9420, section 17.2."""

    PUBLIC_MESSAGE = 1
    PRIVATE_MESSAGE = 2
    WELCOME = 3
    GROUP_INFO = 4
    KEY_PACKAGE = 5


class ContentType(IntEnum):
    """RFC 9420, section 6."""

    APPLICATION = 1
    PROPOSAL = 2
    COMMIT = 3


class SenderType(IntEnum):
    """RFC 9420, section 6."""

    MEMBER = 1
    EXTERNAL = 2
    NEW_MEMBER_PROPOSAL = 3
    NEW_MEMBER_COMMIT = 4


_INDEXED = (SenderType.MEMBER, SenderType.EXTERNAL)


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent a message; ``index`` is a leaf or an external sender, 0 for new members."""

    sender_type: SenderType
    index: int = 0

    @classmethod
    def read(cls, reader: Reader) -> Sender:
        """Read the struct."""
        kind = reader.u8()
        if not SenderType.MEMBER <= kind <= SenderType.NEW_MEMBER_COMMIT:
            raise reader.fail()
        sender_type = SenderType(kind)
        return cls(sender_type, reader.u32() if sender_type in _INDEXED else 0)

    def encode(self) -> bytes:
        """Return the struct's encoding."""
        index = u32(self.index) if self.sender_type in _INDEXED else b""
        return u8(self.sender_type) + index


Content = bytes | Proposal | Commit


def content_type_of(content: Content) -> ContentType:
    """Return the ContentType of a content."""
    if isinstance(content, bytes):
        return ContentType.APPLICATION
    return ContentType.COMMIT if isinstance(content, Commit) else ContentType.PROPOSAL


def encode_content(content: Content) -> bytes:
    """Return the encoding of a content, without its type."""
    if isinstance(content, bytes):
        return opaque(content)
    return content.encode() if isinstance(content, Commit) else encode_proposal(content)


def read_content(reader: Reader, content_type: ContentType) -> Content:
    """Read a content of a known type."""
    if content_type is ContentType.APPLICATION:
        return reader.opaque()
    return read_proposal(reader) if content_type is ContentType.PROPOSAL else Commit.read(reader)


def _read_content_type(reader: Reader) -> ContentType:
    kind = reader.u8()
    if not ContentType.APPLICATION <= kind <= ContentType.COMMIT:
        raise reader.fail()
    return ContentType(kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class FramedContent:
    """What is signed (RFC 9420, section 6); ``body`` is the encoding of ``content``."""

    group_id: bytes
    epoch: int
    sender: Sender
    authenticated_data: bytes
    content: Content = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def content_type(self) -> ContentType:
        """The type of ``content``."""
        return content_type_of(self.content)

    @classmethod
    def read(cls, reader: Reader) -> FramedContent:
        """Read the struct."""
        group_id, epoch, sender = reader.opaque(), reader.u64(), Sender.read(reader)
        authenticated_data = reader.opaque()
        content_type = _read_content_type(reader)
        start = reader.pos
        content = read_content(reader, content_type)
        return cls(
            group_id=group_id,
            epoch=epoch,
            sender=sender,
            authenticated_data=authenticated_data,
            content=content,
            body=reader.data[start : reader.pos],
        )

    def encode(self) -> bytes:
        """Return the struct's encoding."""
        return b"".join(
            (
                opaque(self.group_id),
                u64(self.epoch),
                self.sender.encode(),
                opaque(self.authenticated_data),
                u8(self.content_type),
                self.body,
            )
        )


def read_auth_data(reader: Reader, content_type: ContentType) -> tuple[bytes, bytes | None]:
    """Read FramedContentAuthData (RFC 9420, section 6.1): signature, tag for a commit only."""
    signature = reader.opaque()
    return signature, reader.opaque() if content_type is ContentType.COMMIT else None


def encode_auth_data(signature: bytes, confirmation_tag: bytes | None) -> bytes:
    """Return the encoding of FramedContentAuthData (RFC 9420, section 6.1)."""
    tag = b"" if confirmation_tag is None else opaque(confirmation_tag)
    return opaque(signature) + tag


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticatedContent:
    """Content with its signature, and for a commit its confirmation tag (RFC 9420, section 6)."""

    wire_format: WireFormat
    content: FramedContent
    signature: bytes
    confirmation_tag: bytes | None

    @classmethod
    def read(cls, reader: Reader) -> AuthenticatedContent:
        """Read the struct."""
        wire_format = reader.u16()
        if wire_format not in (WireFormat.PUBLIC_MESSAGE, WireFormat.PRIVATE_MESSAGE):
            raise reader.fail()
        content = FramedContent.read(reader)
        signature, tag = read_auth_data(reader, content.content_type)
        return cls(
            wire_format=WireFormat(wire_format),
            content=content,
            signature=signature,
            confirmation_tag=tag,
        )

    @classmethod
    def decode(cls, data: bytes) -> AuthenticatedContent:
        """Decode the struct; ``DecodeError`` where ``data`` is none."""
        return decode(data, "AuthenticatedContent", cls.read)

    def encode(self) -> bytes:
        """Return the struct's encoding."""
        auth = encode_auth_data(self.signature, self.confirmation_tag)
        return u16(self.wire_format) + self.content.encode() + auth


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicMessage:
    """A signed message that is not encrypted (RFC 9420, section 6.2)."""

    message: AuthenticatedContent
    membership_tag: bytes | None

    @classmethod
    def read(cls, reader: Reader) -> PublicMessage:
        """Read the struct."""
        content = FramedContent.read(reader)
        signature, tag = read_auth_data(reader, content.content_type)
        message = AuthenticatedContent(
            wire_format=WireFormat.PUBLIC_MESSAGE,
            content=content,
            signature=signature,
            confirmation_tag=tag,
        )
        member = content.sender.sender_type is SenderType.MEMBER
        return cls(message=message, membership_tag=reader.opaque() if member else None)

    @property
    def group_id(self) -> bytes:
        """The group that the message is for."""
        return self.message.content.group_id

    @property
    def epoch(self) -> int:
        """The epoch that the message was sent in."""
        return self.message.content.epoch

    def encode(self) -> bytes:
        """Return the struct's encoding."""
        auth = encode_auth_data(self.message.signature, self.message.confirmation_tag)
        tag = b"" if self.membership_tag is None else opaque(self.membership_tag)
        return self.message.content.encode() + auth + tag


def sender_data_aad(group_id: bytes, epoch: int, content_type: ContentType) -> bytes:
    """Return the encoding of SenderDataAAD (RFC 9420, section 6.3.2)."""
    return opaque(group_id) + u64(epoch) + u8(content_type)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateMessage:
    """An encrypted message; all but the two ciphertexts is for everyone to read (section 6.3)."""

    group_id: bytes
    epoch: int
    content_type: ContentType
    authenticated_data: bytes
    encrypted_sender_data: bytes
    ciphertext: bytes

    @classmethod
    def read(cls, reader: Reader) -> PrivateMessage:
        """Read the struct."""
        return cls(
            group_id=reader.opaque(),
            epoch=reader.u64(),
            content_type=_read_content_type(reader),
            authenticated_data=reader.opaque(),
            encrypted_sender_data=reader.opaque(),
            ciphertext=reader.opaque(),
        )

    def sender_data_aad(self) -> bytes:
        """Return the encoding of SenderDataAAD (RFC 9420, section 6.3.2)."""
        return sender_data_aad(self.group_id, self.epoch, self.content_type)

    def content_aad(self) -> bytes:
        """Return the encoding of PrivateContentAAD (RFC 9420, section 6.3.1)."""
        return self.sender_data_aad() + opaque(self.authenticated_data)

    def encode(self) -> bytes:
        """Return the struct's encoding."""
        sealed = opaque(self.encrypted_sender_data) + opaque(self.ciphertext)
        return self.content_aad() + sealed


MessageBody = PublicMessage | PrivateMessage | Welcome | GroupInfo | KeyPackage

_BODIES: dict[WireFormat, type[MessageBody]] = {
    WireFormat.PUBLIC_MESSAGE: PublicMessage,
    WireFormat.PRIVATE_MESSAGE: PrivateMessage,
    WireFormat.WELCOME: Welcome,
    WireFormat.GROUP_INFO: GroupInfo,
    WireFormat.KEY_PACKAGE: KeyPackage,
}
_WIRE_FORMATS = {kind: wire_format for wire_format, kind in _BODIES.items()}


def _read_message(reader: Reader) -> MessageBody:
    if reader.u16() != MLS10:
        raise reader.fail()
    wire_format = reader.u16()
    if not WireFormat.PUBLIC_MESSAGE <= wire_format <= WireFormat.KEY_PACKAGE:
        raise reader.fail()
    return _BODIES[WireFormat(wire_format)].read(reader)


def decode_message(data: bytes) -> MessageBody:
    """Decode an MLSMessage and return what it carries (RFC 9420, section 6).

    Raises:
        DecodeError: ``data`` is none.
    """
    return decode(data, "MLSMessage", _read_message)


def encode_message(body: MessageBody) -> bytes:
    """Return the encoding of the MLSMessage that carries ``body`` (RFC 9420, section 6)."""
    return u16(MLS10) + u16(_WIRE_FORMATS[type(body)]) + body.encode()
