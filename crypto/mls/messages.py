"""A group's messages: signed and protected, opened and verified (RFC 9420, section 6).

Each function takes a state and returns the next one, in which the key that it used no longer is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeVar

from crypto.errors import EpochError, InvalidError
from crypto.mls.epoch import PastEpoch
from crypto.mls.framing import (
    AuthenticatedContent,
    Content,
    ContentType,
    PrivateMessage,
    PublicMessage,
    Sender,
    SenderType,
    WireFormat,
    encode_message,
)
from crypto.mls.leaf_node import LeafNode
from crypto.mls.proposal import Add, Commit
from crypto.mls.protection import (
    frame,
    open_sender_data,
    protect_private,
    protect_public,
    sign_content,
    unprotect_private,
    unprotect_public,
    verify_content,
)
from crypto.mls.state import GroupState
from crypto.mls.tree_math import LeafIndex
from crypto.mls.validation import external_senders

State = TypeVar("State", bound=GroupState)


# -- sending -----------------------------------------------------------------------------------


def own_sender(state: GroupState) -> Sender:
    """Return this member as a sender."""
    return Sender(SenderType.MEMBER, state.own_leaf)


def sign(
    state: GroupState, content: Content, *, authenticated_data: bytes, wire_format: WireFormat
) -> AuthenticatedContent:
    """Return content in its frame, signed by this member (RFC 9420, section 6.1)."""
    framed = frame(
        content,
        group_id=state.group_id,
        epoch=state.epoch,
        sender=own_sender(state),
        authenticated_data=authenticated_data,
    )
    signature = sign_content(
        state.current.suite,
        state.current.signer,
        framed,
        wire_format=wire_format,
        context=state.current.encoded_context,
    )
    return AuthenticatedContent(
        wire_format=wire_format, content=framed, signature=signature, confirmation_tag=None
    )


def protect(state: State, message: AuthenticatedContent) -> tuple[State, bytes]:
    """Return the MLSMessage of signed content; a PrivateMessage uses up a key.

    Raises:
        UsageError: Every generation of the epoch is used; commit first.

    Source: RFC 9420, sections 6.2 and 6.3.
    """
    suite, secrets = state.current.suite, state.current.secrets
    if message.wire_format is WireFormat.PUBLIC_MESSAGE:
        public = protect_public(
            suite,
            message,
            membership_key=secrets.membership_key,
            context=state.current.encoded_context,
        )
        return state, encode_message(public)
    handshake = message.content.content_type is not ContentType.APPLICATION
    tree, generation, key = state.secret_tree.next(state.own_leaf, handshake=handshake)
    private = protect_private(
        suite,
        message,
        generation=generation,
        message_key=key,
        sender_data_secret=secrets.sender_data_secret,
    )
    return state.using(tree), encode_message(private)


# -- receiving ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A verified message.

    Attributes:
        leaf: What stood at the sender's place; None where the sender is no member.
        generation: Of a PrivateMessage, the sender's counter.
    """

    message: AuthenticatedContent = field(repr=False)
    leaf: LeafNode | None = None
    generation: int = 0


def open_message(state: State, body: PublicMessage | PrivateMessage) -> tuple[State, Opened | None]:
    """Return the state without the key used, and the message; None for one of this member's.

    Raises:
        DecodeError: What opens is malformed.
        InvalidError: A rule is broken.
        VerificationError: It does not open, or a signature or tag does not verify.
        EpochError: It is of an epoch that is not, or no longer, readable.
        KeyUsedError: It was read before.
    """
    if body.group_id != state.group_id:
        raise InvalidError("message is for another group (6)")
    if isinstance(body, PrivateMessage):
        return _open_private(state, body)
    return state, _open_public(state, body)


def _open_public(state: GroupState, body: PublicMessage) -> Opened | None:
    if body.epoch != state.epoch:
        raise EpochError(state.epoch, body.epoch)
    current = state.current
    message = unprotect_public(
        current.suite,
        body,
        membership_key=current.secrets.membership_key,
        context=current.encoded_context,
    )
    if message.content.sender == own_sender(state):
        return None
    key = _signature_key(state, message)
    verify_content(current.suite, key, message, context=current.encoded_context)
    return Opened(message=message)


def _signature_key(state: GroupState, message: AuthenticatedContent) -> bytes:
    """Return the key that must have signed a PublicMessage (RFC 9420, section 6.1)."""
    sender, content = message.content.sender, message.content.content
    if sender.sender_type is SenderType.MEMBER:
        leaf = state.current.tree.leaf(sender.index)
        if leaf is not None:
            return leaf.signature_key
    elif sender.sender_type is SenderType.EXTERNAL:
        allowed = external_senders(state.current.context.extensions)
        if sender.index < len(allowed) and not isinstance(content, Commit):
            return allowed[sender.index].signature_key
    elif sender.sender_type is SenderType.NEW_MEMBER_PROPOSAL:
        if isinstance(content, Add):
            return content.key_package.leaf_node.signature_key
    elif isinstance(content, Commit) and content.path is not None:
        return content.path.leaf_node.signature_key
    raise InvalidError("sender may not send this, or is unknown (6.1)")


def _open_private(state: State, body: PrivateMessage) -> tuple[State, Opened | None]:
    """Open with the keys of the message's epoch, which may be a past one."""
    past = None if body.epoch == state.epoch else _past_epoch(state, body)
    suite = state.current.suite
    secret = (past or state.current.secrets).sender_data_secret
    sender = open_sender_data(suite, body, secret)
    leaf = _leaf_at(state, body.epoch, sender.leaf_index)
    if leaf is None:
        raise InvalidError("sender is no member (6.3.2)")
    if sender.leaf_index == state.own_leaf:
        return state, None
    handshake = body.content_type is not ContentType.APPLICATION
    tree, key = (past or state).secret_tree.take(
        sender.leaf_index, sender.generation, handshake=handshake
    )
    message = unprotect_private(suite, body, sender, key)
    context = (past or state.current).encoded_context
    verify_content(suite, leaf.signature_key, message, context=context)
    opened = Opened(message=message, leaf=leaf, generation=sender.generation)
    if past is None:
        return state.using(tree), opened
    kept = tuple(replace(p, secret_tree=tree) if p is past else p for p in state.past)
    return replace(state, past=kept), opened


def _past_epoch(state: GroupState, body: PrivateMessage) -> PastEpoch:
    """Return the past epoch of a late message; handshakes are never late, only stale."""
    for past in state.past:
        if past.number == body.epoch and body.content_type is ContentType.APPLICATION:
            return past
    raise EpochError(state.epoch, body.epoch)


def _leaf_at(state: GroupState, epoch: int, leaf: LeafIndex) -> LeafNode | None:
    """Return who stood at ``leaf`` in ``epoch``, which the present tree may not say."""
    for past in reversed(state.past):
        if past.number >= epoch and leaf in past.replaced:
            return past.replaced[leaf]
    return state.current.tree.leaf(leaf)
