"""An epoch's decryption secrets, for the archive's recorder and for no one else.

The archive seals these to its officers before any is used, and forgets them; whoever later holds
them again reads the application messages of that one epoch, and can make none. An import contract
lets only the recorder and the opening reach this module.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from crypto.codec import U16, Opaque, Struct
from crypto.errors import InvalidError, UsageError
from crypto.mls.cipher_suite import cipher_suite
from crypto.mls.framing import AuthenticatedContent, ContentType, PrivateMessage, decode_message
from crypto.mls.protection import (
    guarded_nonce,
    open_sender_data,
    unprotect_private,
    verify_content,
)
from crypto.mls.ratchet_tree import LeafCount
from crypto.mls.secret_tree import SecretTree
from crypto.mls.state import GroupState
from crypto.mls.tree_math import LeafIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class Disclosure:
    """An opened message, with the key that opens it and nothing else: for an export's verifier.

    Attributes:
        sender: Who claims to have sent it.
        key: The message's AEAD key.
        nonce: Its nonce, the reuse guard worked in.
        content: What it says, with its signature.
    """

    sender: LeafIndex
    key: bytes = field(repr=False)
    nonce: bytes = field(repr=False)
    content: AuthenticatedContent = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class EpochDecryption(Struct):
    """What decrypts every application message of one epoch (RFC 9420, section 9).

    Attributes:
        cipher_suite: The group's.
        group_context: Encoding of the epoch's GroupContext, which every signature covers.
        leaf_count: Leaves of the epoch's tree, blank ones included.
        sender_data_secret: Tells who sent a message, and with which key.
        encryption_secret: The root of all message keys.
    """

    cipher_suite: U16
    group_context: Opaque
    leaf_count: LeafCount
    sender_data_secret: Opaque
    encryption_secret: Opaque

    @classmethod
    def of(cls, group: GroupState) -> EpochDecryption:
        """Return the secrets of a group's present epoch, before the first of them is used.

        Raises:
            UsageError: A message of the epoch was already sent or read with this state.
        """
        if not isinstance(group.secret_tree.root, bytes):
            raise UsageError("the epoch's secrets are in use already")
        return cls(
            cipher_suite=group.current.suite.value,
            group_context=group.current.encoded_context,
            leaf_count=group.secret_tree.leaf_count,
            sender_data_secret=group.current.secrets.sender_data_secret,
            encryption_secret=group.secret_tree.root,
        )

    def start(self) -> SecretTree:
        """Return the epoch's message keys, none of them used."""
        return SecretTree(
            suite=cipher_suite(self.cipher_suite),
            leaf_count=self.leaf_count,
            root=self.encryption_secret,
        )

    def open(
        self, message: bytes, keys: SecretTree
    ) -> tuple[SecretTree, LeafIndex, AuthenticatedContent]:
        """Return the keys left, who claims to have sent a message, and what it says.

        Args and errors are those of ``disclose``.

        Raises:
            DecodeError: It is no message, or what opens is malformed.
            InvalidError: It is of another kind, its sender has no leaf, or its generation is out
                of bounds.
            VerificationError: It does not open.
            KeyUsedError: It was opened before.
        """
        keys, opened = self.disclose(message, keys)
        return keys, opened.sender, opened.content

    def disclose(self, message: bytes, keys: SecretTree) -> tuple[SecretTree, Disclosure]:
        """Return the keys left, and a message with the one key that opens it.

        The sender's claim is worth something only after ``verify`` with the sender's key.

        Args:
            message: An application message of the epoch.
            keys: As ``start`` or the last ``open`` gave them.

        Raises:
            DecodeError: It is no message, or what opens is malformed.
            InvalidError: It is of another kind, its sender has no leaf, or its generation is out
                of bounds.
            VerificationError: It does not open.
            KeyUsedError: It was opened before.

        Source: RFC 9420, section 6.3.
        """
        suite = keys.suite
        body = decode_message(message)
        if not isinstance(body, PrivateMessage) or body.content_type is not ContentType.APPLICATION:
            raise InvalidError("not an encrypted application message (6.3)")
        sender = open_sender_data(suite, body, self.sender_data_secret)
        if sender.leaf_index >= self.leaf_count:
            raise InvalidError("sender is no member (6.3.2)")
        keys, key = keys.take(sender.leaf_index, sender.generation, handshake=False)
        return keys, Disclosure(
            sender=sender.leaf_index,
            key=key[0],
            nonce=guarded_nonce(key[1], sender.reuse_guard),
            content=unprotect_private(suite, body, sender, key),
        )

    def verify(self, content: AuthenticatedContent, signature_key: bytes) -> None:
        """Check that the holder of ``signature_key`` signed it; ``VerificationError`` if not."""
        suite = cipher_suite(self.cipher_suite)
        verify_content(suite, signature_key, content, context=self.group_context)
