"""What those outside a group send to it (RFC 9420, sections 12.1.8 and 12.4.3.2)."""

from __future__ import annotations

from collections.abc import Sequence

from crypto.errors import InvalidError
from crypto.mls.cipher_suite import CipherSuite, Signer
from crypto.mls.commit import CommitBase, Plan, make_commit
from crypto.mls.epoch import apply_proposals
from crypto.mls.framing import (
    AuthenticatedContent,
    PublicMessage,
    Sender,
    SenderType,
    WireFormat,
    decode_message,
    encode_message,
)
from crypto.mls.group import PSKs, StagedCommit, external_psk, staged
from crypto.mls.group_info import GroupInfo
from crypto.mls.joining import external_pub, verified_tree
from crypto.mls.key_package_secrets import KeyPackageSecrets
from crypto.mls.key_schedule import external_init_send, interim_transcript_hash
from crypto.mls.leaf_node import LeafContent
from crypto.mls.proposal import Add, ExternalInit, PreSharedKey, Proposal, Remove
from crypto.mls.protection import frame, sign_content
from crypto.mls.validation import Authenticate, SentProposal, check_external_proposal_list


def _public_proposal(
    suite: CipherSuite, signer: Signer, proposal: Proposal, *, sender: Sender, to: tuple[bytes, int]
) -> bytes:
    content = frame(proposal, group_id=to[0], epoch=to[1], sender=sender, authenticated_data=b"")
    wire_format = WireFormat.PUBLIC_MESSAGE
    signature = sign_content(suite, signer, content, wire_format=wire_format, context=b"")
    message = AuthenticatedContent(
        wire_format=wire_format, content=content, signature=signature, confirmation_tag=None
    )
    return encode_message(PublicMessage(message=message, membership_tag=None))


def propose_as_external_sender(
    suite: CipherSuite,
    signer: Signer,
    proposal: Proposal,
    *,
    sender_index: int,
    group_id: bytes,
    epoch: int,
) -> bytes:
    """Return an MLSMessage by which a sender in ``external_senders`` proposes (12.1.8).

    Args:
        suite: The group's.
        signer: The key that stands in the extension.
        proposal: What is proposed.
        sender_index: The sender's place in the extension.
        group_id: The group.
        epoch: Its present epoch.
    """
    sender = Sender(SenderType.EXTERNAL, sender_index)
    return _public_proposal(suite, signer, proposal, sender=sender, to=(group_id, epoch))


def propose_own_add(own: KeyPackageSecrets, *, group_id: bytes, epoch: int) -> bytes:
    """Return an MLSMessage by which a client proposes to be added itself (12.1.8)."""
    sender = Sender(SenderType.NEW_MEMBER_PROPOSAL)
    proposal = Add(own.key_package)
    return _public_proposal(own.suite, own.signer, proposal, sender=sender, to=(group_id, epoch))


def join_by_external_commit(
    group_info: bytes,
    own: KeyPackageSecrets,
    *,
    authenticate: Authenticate,
    ratchet_tree: bytes | None = None,
    proposals: Sequence[Remove | PreSharedKey] = (),
    psks: PSKs | None = None,
    authenticated_data: bytes = b"",
) -> StagedCommit:
    """Return the Commit by which a client lets itself into a group, staged.

    Args:
        group_info: An MLSMessage(GroupInfo) with ``external_pub``.
        own: A key package, for its leaf; it needs not be published.
        authenticate: Judges every member's credential, and the joiner's own.
        ratchet_tree: The tree, where it is not inside ``group_info``.
        proposals: At most one Remove, of this client's earlier leaf, and pre-shared keys.
        psks: External pre-shared keys.
        authenticated_data: What everyone reads and nobody can change.

    Raises:
        InvalidError: A rule is broken.
        VerificationError: A signature does not verify.
        DecodeError: Something is malformed.

    Source: RFC 9420, section 12.4.3.2.
    """
    suite = own.suite
    info = decode_message(group_info)
    if not isinstance(info, GroupInfo):
        raise InvalidError("MLSMessage is no GroupInfo (6)")
    tree = verified_tree(suite, info, ratchet_tree, authenticate)
    kem_output, init_secret = external_init_send(suite, external_pub(info))
    context = info.group_context
    base = CommitBase(
        suite=suite,
        context=context,
        encoded_context=context.encode(),
        tree=tree,
        interim_transcript_hash=interim_transcript_hash(
            suite, context.confirmed_transcript_hash, info.confirmation_tag
        ),
        init_secret=init_secret,
    )
    sender = Sender(SenderType.NEW_MEMBER_COMMIT)
    by_value: tuple[Proposal, ...] = (ExternalInit(kem_output), *proposals)
    sent = tuple(SentProposal(proposal, sender) for proposal in by_value)
    check_external_proposal_list(sent)
    applied = apply_proposals(context, tree, sent, authenticate=authenticate)
    leaf_node = own.key_package.leaf_node
    plan = Plan(
        sender=sender,
        leaf=applied.tree.add(leaf_node),
        proposals=by_value,
        sent=sent,
        with_path=True,
        content=LeafContent(
            credential=leaf_node.credential,
            capabilities=leaf_node.capabilities,
            extensions=leaf_node.extensions,
        ),
        signer=own.signer,
        next_signer=own.signer,
        wire_format=WireFormat.PUBLIC_MESSAGE,
        authenticated_data=authenticated_data,
    )
    committed = make_commit(
        base,
        plan,
        applied,
        old_keys={},
        find_psk=lambda psk: external_psk(psk, psks or {}),
        authenticate=authenticate,
    )
    message = encode_message(PublicMessage(message=committed.message, membership_tag=None))
    return staged(committed, plan, message=message)
