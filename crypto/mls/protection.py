"""Signing and encrypting messages, and the opposite (RFC 9420, sections 6.1 to 6.3)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from crypto.codec import Reader, decode, opaque, u16, u32
from crypto.errors import DecodeError, InvalidError
from crypto.hpke import NONCE_BYTES
from crypto.mls.cipher_suite import CipherSuite, Signer
from crypto.mls.framing import (
    AuthenticatedContent,
    Content,
    FramedContent,
    PrivateMessage,
    PublicMessage,
    Sender,
    SenderType,
    WireFormat,
    encode_auth_data,
    encode_content,
    read_auth_data,
    read_content,
    sender_data_aad,
)
from crypto.mls.leaf_node import MLS10
from crypto.mls.secret_tree import MessageKey
from crypto.mls.tree_math import LeafIndex

PADDING_BUCKETS_BYTES = (256, 512, 1024, 2048, 4096, 16384, 65536)
"""Sizes that a plaintext is padded to, so that a relay learns a class and not a length."""

_REUSE_GUARD_BYTES = 4


def padded_length(length: int) -> int:
    """Return the bucket for a plaintext of ``length`` bytes; multiples of the largest beyond."""
    for bucket in PADDING_BUCKETS_BYTES:
        if length <= bucket:
            return bucket
    largest = PADDING_BUCKETS_BYTES[-1]
    return -(-length // largest) * largest


def frame(
    content: Content, *, group_id: bytes, epoch: int, sender: Sender, authenticated_data: bytes
) -> FramedContent:
    """Return the content in its frame."""
    return FramedContent(
        group_id=group_id,
        epoch=epoch,
        sender=sender,
        authenticated_data=authenticated_data,
        content=content,
        body=encode_content(content),
    )


def _to_be_signed(wire_format: WireFormat, content: FramedContent, context: bytes) -> bytes:
    """Source: RFC 9420, section 6.1, FramedContentTBS."""
    inside = content.sender.sender_type in (SenderType.MEMBER, SenderType.NEW_MEMBER_COMMIT)
    head = u16(MLS10) + u16(wire_format) + content.encode()
    return head + context if inside else head


def sign_content(
    suite: CipherSuite,
    signer: Signer,
    content: FramedContent,
    *,
    wire_format: WireFormat,
    context: bytes,
) -> bytes:
    """Return the signature of framed content.

    Args:
        suite: The group's.
        signer: The sender's.
        content: What is signed.
        wire_format: How it will be sent; signed with it.
        context: Encoding of the epoch's GroupContext; signed where the sender knows it.

    Source: RFC 9420, section 6.1.
    """
    to_be_signed = _to_be_signed(wire_format, content, context)
    return suite.sign_with_label(signer, "FramedContentTBS", to_be_signed)


def verify_content(
    suite: CipherSuite, public_key: bytes, message: AuthenticatedContent, *, context: bytes
) -> None:
    """Check the signature of a message; ``VerificationError`` where it does not verify.

    Source: RFC 9420, section 6.1.
    """
    to_be_signed = _to_be_signed(message.wire_format, message.content, context)
    suite.verify_with_label(public_key, "FramedContentTBS", to_be_signed, message.signature)


def _membership_content(message: AuthenticatedContent, context: bytes) -> bytes:
    """Source: RFC 9420, section 6.2, AuthenticatedContentTBM."""
    to_be_signed = _to_be_signed(message.wire_format, message.content, context)
    return to_be_signed + encode_auth_data(message.signature, message.confirmation_tag)


def protect_public(
    suite: CipherSuite, message: AuthenticatedContent, *, membership_key: bytes, context: bytes
) -> PublicMessage:
    """Return a PublicMessage, with a membership tag where a member sends it (section 6.2)."""
    tag = None
    if message.content.sender.sender_type is SenderType.MEMBER:
        tag = suite.mac(membership_key, _membership_content(message, context))
    return PublicMessage(message=message, membership_tag=tag)


def unprotect_public(
    suite: CipherSuite, message: PublicMessage, *, membership_key: bytes, context: bytes
) -> AuthenticatedContent:
    """Return the content of a PublicMessage; its signature is still to be verified.

    Raises:
        InvalidError: It carries application data (section 6).
        VerificationError: The membership tag does not verify.

    Source: RFC 9420, section 6.2.
    """
    if isinstance(message.message.content.content, bytes):
        raise InvalidError("application data in a PublicMessage (6)")
    if message.membership_tag is not None:
        content = _membership_content(message.message, context)
        suite.verify_mac(membership_key, content, message.membership_tag)
    return message.message


@dataclass(frozen=True, slots=True)
class SenderData:
    """Who sent a PrivateMessage, and which key opens it (RFC 9420, section 6.3.2)."""

    leaf_index: LeafIndex
    generation: int
    reuse_guard: bytes

    @classmethod
    def read(cls, reader: Reader) -> SenderData:
        """Read the struct."""
        return cls(LeafIndex(reader.u32()), reader.u32(), reader.take(_REUSE_GUARD_BYTES))

    def encode(self) -> bytes:
        """Return the struct's encoding."""
        return u32(self.leaf_index) + u32(self.generation) + self.reuse_guard


def sender_data_key(
    suite: CipherSuite, sender_data_secret: bytes, ciphertext: bytes
) -> tuple[bytes, bytes]:
    """Return (key, nonce) of the sender data (RFC 9420, section 6.3.2)."""
    sample = ciphertext[: suite.hash_bytes]
    key = suite.expand_with_label(sender_data_secret, "key", sample, suite.aead.key_bytes)
    return key, suite.expand_with_label(sender_data_secret, "nonce", sample, NONCE_BYTES)


def guarded_nonce(nonce: bytes, reuse_guard: bytes) -> bytes:
    """Return the nonce that a message is really encrypted under (RFC 9420, section 6.3.1)."""
    head = nonce[:_REUSE_GUARD_BYTES]
    mixed = int.from_bytes(head, "big") ^ int.from_bytes(reuse_guard, "big")
    return mixed.to_bytes(_REUSE_GUARD_BYTES, "big") + nonce[_REUSE_GUARD_BYTES:]


def protect_private(
    suite: CipherSuite,
    message: AuthenticatedContent,
    *,
    generation: int,
    message_key: MessageKey,
    sender_data_secret: bytes,
) -> PrivateMessage:
    """Encrypt a signed message of a member, padded to a bucket.

    Source: RFC 9420, section 6.3.
    """
    content = message.content
    plaintext = content.body + encode_auth_data(message.signature, message.confirmation_tag)
    plaintext += bytes(padded_length(len(plaintext)) - len(plaintext))
    aad = sender_data_aad(content.group_id, content.epoch, content.content_type)
    reuse_guard = secrets.token_bytes(_REUSE_GUARD_BYTES)
    key, nonce = message_key
    ciphertext = suite.aead.seal(
        key, guarded_nonce(nonce, reuse_guard), aad + opaque(content.authenticated_data), plaintext
    )
    sender = SenderData(LeafIndex(content.sender.index), generation, reuse_guard)
    sender_key = sender_data_key(suite, sender_data_secret, ciphertext)
    return PrivateMessage(
        group_id=content.group_id,
        epoch=content.epoch,
        content_type=content.content_type,
        authenticated_data=content.authenticated_data,
        encrypted_sender_data=suite.aead.seal(*sender_key, aad, sender.encode()),
        ciphertext=ciphertext,
    )


def open_sender_data(
    suite: CipherSuite, message: PrivateMessage, sender_data_secret: bytes
) -> SenderData:
    """Return who sent a message, as far as every member could claim it.

    Raises:
        VerificationError: It does not open.
        DecodeError: What opens is no SenderData.

    Source: RFC 9420, section 6.3.2.
    """
    key = sender_data_key(suite, sender_data_secret, message.ciphertext)
    aad = message.sender_data_aad()
    opened = suite.aead.open(*key, aad, message.encrypted_sender_data)
    return decode(opened, "SenderData", SenderData.read)


def unprotect_private(
    suite: CipherSuite, message: PrivateMessage, sender: SenderData, message_key: MessageKey
) -> AuthenticatedContent:
    """Decrypt a message; its signature is still to be verified.

    Raises:
        VerificationError: It does not open.
        DecodeError: What opens is no PrivateMessageContent, or its padding is not zero.

    Source: RFC 9420, section 6.3.1.
    """
    key, nonce = message_key
    nonce = guarded_nonce(nonce, sender.reuse_guard)
    plaintext = suite.aead.open(key, nonce, message.content_aad(), message.ciphertext)
    reader = Reader(plaintext, "PrivateMessageContent")
    content = read_content(reader, message.content_type)
    body = plaintext[: reader.pos]
    signature, tag = read_auth_data(reader, message.content_type)
    if plaintext.count(0, reader.pos) != len(plaintext) - reader.pos:
        raise DecodeError("PrivateMessageContent", reader.pos)
    return AuthenticatedContent(
        wire_format=WireFormat.PRIVATE_MESSAGE,
        content=FramedContent(
            group_id=message.group_id,
            epoch=message.epoch,
            sender=Sender(SenderType.MEMBER, sender.leaf_index),
            authenticated_data=message.authenticated_data,
            content=content,
            body=body,
        ),
        signature=signature,
        confirmation_tag=tag,
    )
